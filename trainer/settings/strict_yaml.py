"""A YAML file of settings, read without what only goes wrong in one: aliases, tags, depth, keys given twice, dates."""

from pathlib import Path

import yaml

from unhype.text import shown

from .fields import ConfigError

LARGEST = 16 << 20
DEEPEST = 8  # settings have three levels
PLAIN = {tag: f"tag:yaml.org,2002:{tag}" for tag in ("timestamp", "merge", "value")}  # kinds of text that are taken for text


class Strict(yaml.SafeLoader):
    """Dates stay texts, and a key that is given twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in kinds if tag not in PLAIN.values()]
        for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        lines: dict = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, key.value if isinstance(key.value, str) else "a list"
            if name in lines:
                raise ConfigError(f"line {line}: {shown(name)} is given twice, first on line {lines[name]}. Take one of them out")
            lines[name] = line
        return super().construct_mapping(node, deep)


def refuse_tricks(text: str) -> None:
    """Raise ConfigError, naming the line, for what no settings need and what can hang a reader: looked for in the stream of
    events, before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, Strict):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"line {line}: holds an anchor or alias (& or *), expected every value written out. Put quotes around a text")
        if getattr(event, "tag", None):
            raise ConfigError(f"line {line}: holds a tag ({shown(event.tag)}), expected plain values. Quote a text that begins with !")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"line {line}: is nested {depth} levels deep, expected at most {DEEPEST}")


def read_yaml(path: str | Path) -> dict:
    """The settings of a file. Raises ConfigError, in one line that names it, for anything else."""
    try:
        if (size := Path(path).stat().st_size) > LARGEST:
            raise ConfigError(f"has {size / 1e6:.0f} MB, expected a YAML file of settings")
        text = Path(path).read_text(encoding="utf-8-sig")
        refuse_tricks(text)
        values = yaml.load(text, Strict)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if not str(error).startswith("line") else f"{path}, {error}") from None
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        why = shown(" ".join(str(error).split()), 300)
        hint = ". Write a path in single quotes" if "escape" in why or "start any token" in why else ""
        raise ConfigError(f"{path}: cannot be read as YAML ({why}){hint}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings like 'base: demo', found {type(values).__name__}")
    return values


def lines_of(path: str | Path) -> dict[str, int]:
    """The line of every setting in a file that `read_yaml` takes."""
    node = yaml.compose(Path(path).read_text(encoding="utf-8-sig"), Strict)
    return {key.value: key.start_mark.line + 1 for key, _ in node.value}
