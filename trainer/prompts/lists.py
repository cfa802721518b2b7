"""Lists that lie in files: a TXT with an entry a line, a CSV with a column of them, in the place of an entry."""

import csv
import io
import os
import re
from pathlib import Path

from unhype.text import shown

from ..settings.fields import ConfigError, refuse
from ..settings.paths import expanded
from .entries import fault, plain, split_entry, unquoted

# setting -> its columns in a CSV, the first one found being read
COLUMNS = {
    "erase": ("concept", "words", "target", "erase"),
    "remove": ("concept", "words", "remove"),
    "retain": ("concept", "words", "retain"),
    "retain_prompts": ("prompt", "retain_prompts"),
    "templates": ("template", "templates"),
}
MAPPING = "mapping"  # the column of `erase` beside it
TABLES, TEXTS = (".csv", ".tsv"), (".txt", "")
LARGEST = 16 << 20
ENDINGS = (
    r"\.(txt|csv|tsv|md|ya?ml|jsonl?|ini|toml|log|rtf|docx?|odt|xlsx?|ods|pdf|html?|safetensors|ckpt|pth?|bin|gguf|zip|png|jpe?g|webp|gif)$"
)
BEGINNINGS = r"(~|\.{1,2})?[/\\]|[A-Za-z]:[/\\]|(file|https?)://"


def looks_like_a_file(text: str) -> bool:
    """Whether a person would call it a path or a file's name, whatever is there."""
    inside = re.search(r"\w\\\w", text) or ("/" in text and os.path.isdir(os.path.dirname(text)))
    return bool(re.search(ENDINGS, text, re.IGNORECASE) or re.match(BEGINNINGS, text) or inside)


def file_of(entry: str) -> Path | None:
    """The file that an entry names; None where it is an entry of its own."""
    text = expanded(unquoted(entry))
    return Path(text) if looks_like_a_file(text) and split_entry(text)[1] is None else None


def read_lists(values: dict, source: str) -> dict:
    """The settings with every file in a list replaced by what it holds.

    Raises ConfigError for what looks like a file and is none that can be read, naming it and the line.
    """
    read = dict(values)
    for name in COLUMNS.keys() & values.keys():
        read[name] = []
        for entry in values[name]:
            path = file_of(entry)
            read[name] += entries_of(path, name, source) if path else [checked(entry, name, source)]
    return read


def files_in(values: dict) -> list[Path]:
    """The files that read_lists reads."""
    return [path for name in COLUMNS.keys() & values.keys() for entry in values[name] if (path := file_of(entry))]


def checked(entry: str, name: str, source: str) -> str:
    """An entry that stands for itself: none of its parts names a file, and nothing in it cannot be typed."""
    words, mapping = split_entry(entry) if name == "erase" else ([], None)
    if any(looks_like_a_file(part) for part in (*words, mapping or "")):
        refuse(source, name, entry, "words. A file of entries stands alone: a TXT with one a line, or a CSV")
    if any(not c.isprintable() and not c.isspace() and ord(c) < 0xA0 for c in entry):
        refuse(source, name, entry, "a text without control characters")
    return entry


def entries_of(path: Path, name: str, source: str) -> list[str]:
    there = os.path.isfile(path)
    if not there or path.suffix.lower() not in (*TEXTS, *TABLES):
        what = "a text, or a TXT or CSV file" + ("" if there else f" that is there (looked for {path.absolute()})")
        refuse(source, name, str(path), what)
    text = decoded(path)
    found = from_table(path, text, name) if path.suffix.lower() in TABLES else from_lines(text)
    for number, entry in found:
        where = f"{path}, line {number}"
        if file_of(entry):
            refuse(where, name, entry, "an entry: a file that names others is not followed")
        checked(entry, name, where)
        if name == "erase" and (expected := fault(entry)):
            refuse(where, name, entry, expected)
    if not found:
        raise ConfigError(f"{path}: holds no entries for {name}: write one a line")
    return [entry for _, entry in found]


def decoded(path: Path) -> str:
    """A text file's text: UTF-8, or UTF-16 where it says so in its first bytes."""
    if path.stat().st_size > LARGEST:
        raise ConfigError(f"{path}: has {path.stat().st_size / 1e6:.0f} MB, expected a list of at most {LARGEST / 1e6:.0f}")
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: is no UTF-8 text. Save it as UTF-8 in your editor") from None
    if "\0" in text:
        raise ConfigError(f"{path}: is no text. Give a TXT or CSV file")
    return text


def from_lines(text: str) -> list[tuple[int, str]]:
    """(line number, entry) of a TXT; # begins a comment, on a line of its own or behind a blank."""
    lines = [(n, unquoted(plain(re.sub(r"(^|\s)#(\s.*)?$|^\s*#.*$", "", line)))) for n, line in enumerate(text.splitlines(), 1)]
    return [(n, line) for n, line in lines if line]


def from_table(path: Path, text: str, name: str) -> list[tuple[int, str]]:
    """(line number, entry) of a CSV, its columns named in the first line, parted by commas, semicolons or tabs."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        rows = [(reader.line_num, [plain(cell) for cell in row]) for row in reader]
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: cannot be read as CSV ({shown(error)})") from None
    rows = [(number, row) for number, row in rows if any(row)]
    head = [cell.lower() for cell in rows[0][1]] if rows else []
    column = next((head.index(c) for c in COLUMNS[name] if c in head), None)
    if column is None:
        wanted = f'"{COLUMNS[name][0]}"' + f' and "{MAPPING}"' * (name == "erase")
        raise ConfigError(
            f"{path}: its first line names the columns {shown(', '.join(head), 200) or '(none)'}, expected {wanted} for {name}"
        )
    beside = head.index(MAPPING) if name == "erase" and MAPPING in head else None
    cell = lambda row, index: row[index] if index is not None and index < len(row) else ""
    found = [(n, cell(row, column), cell(row, beside)) for n, row in rows[1:]]
    return [(n, f"{entry} -> {mapping}" if mapping else entry) for n, entry, mapping in found if entry or mapping]
