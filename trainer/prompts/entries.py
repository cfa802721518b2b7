"""An entry of `erase` as people type it: every arrow, quotes, wide characters, and what a shell leaves of it."""

import re
import unicodedata

NARROW = {wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)} | {ord("、"): ","}
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f\u2060\u00ad"))
TYPED = re.compile(r"[-=~\u2010-\u2015\u2212]+\s*>+|>+")
BACKWARD = re.compile(r"<+\s*[-=~\u2010-\u2015\u2212]+")
DANGLING = re.compile(r"(->|[-=~>\u2010-\u2015\u2212])$")
ALMOST = re.compile(r"\s[-~\u2010-\u2015\u2212]\s|[|=]")  # typed where an arrow was meant
QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "‘": "’", "‚": "‘’", "«": "»", "»": "«", "‹": "›", "`": "`", "「": "」"}
LIKE = 'a target and a mapping concept, like "cat -> forest", or "cat, kitty -> forest"'
SHELL = (
    ". A shell takes what follows > for a file to write: put the entry in quotes, and delete the file of that name if it has written one"
)


def plain(text: str) -> str:
    """Without invisible characters, white space of every kind as one blank."""
    return " ".join(text.translate(INVISIBLE).split())


def unquoted(text: str) -> str:
    """Without the pair of quotes around it, straight or typographic, if there is one."""
    text = text.strip()
    while len(text) > 1 and text[-1] in QUOTES.get(text[0], "") and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def is_arrow(character: str, way: str) -> bool:
    """By its Unicode name; an emoji with an arrow on it is none."""
    name = unicodedata.name(character, "")
    return bool(re.match(rf"(?!.*WITH .*ARROW).*\b{way}(WARDS\b.*ARROW|-POINTING .*(TRIANGLE|POINTER))", name))


def with_plain_arrows(entry: str) -> str:
    """The entry on one line, wide characters narrow and every arrow as "->" or "<-"."""
    text = unquoted(plain(entry.translate(NARROW)))
    text = "".join("->" if is_arrow(c, "RIGHT") else "<-" if is_arrow(c, "LEFT") else c for c in text).replace(">\ufe0f", ">")
    return TYPED.sub("->", BACKWARD.sub("<-", text)).strip()


def split_entry(entry: str) -> tuple[list[str], str | None]:
    """Words and mapping concept of an entry; None where it has no arrow."""
    words, arrow, mapping = with_plain_arrows(entry).partition("->")
    return [unquoted(w) for w in unquoted(words).split(",")], unquoted(mapping) if arrow else None


def fault(entry: str) -> str:
    """What was expected in place of an entry that is none; empty where it is one."""
    text, (words, mapping) = with_plain_arrows(entry), split_entry(entry)
    if DANGLING.search(text):
        return LIKE + SHELL
    if "<-" in text:
        return LIKE + ": what is erased stands first, and the arrow points to what is drawn instead"
    if mapping is None and ALMOST.search(text):
        return LIKE + ": an arrow stands between the two"
    if not all(w.strip("".join(QUOTES)) for w in words) or mapping == "" or mapping and ("->" in mapping or mapping.strip(",") != mapping):
        return LIKE
    return ""
