"""Whether a training will do, said beforehand: versions, card, memory and disk; with settings each of them with its line, the concepts
as the text encoder reads them, and what it takes.

    python trainer/doctor.py                               (the machine)
    python trainer/doctor.py --config my.yaml              (and a training; options as trainer/train.py has them)

Of the base only the text encoders are loaded. Nothing is written. The exit code is 1 where the training would be refused.
"""

import sys
from dataclasses import fields
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from host.inputs import check_files
from host.load import load_text
from host.start import find_comfy, start_comfy
from trainer import dry_run
from trainer.config import Config, ConfigError, options, settings_of
from trainer.prompts import doubts
from trainer.prompts.neighbours import resolve
from trainer.run.lock import Busy
from trainer.run.progress import never_refuse, say
from trainer.settings.before import GB, bytes_written, check_reader, prepare
from trainer.settings.fields import DEFAULT
from trainer.settings.machine import disk, machine
from trainer.settings.strict_yaml import lines_of
from unhype.layers import family_of
from unhype.text import shown


def settings_with_lines(config: Config, given: dict, path: str | None) -> list[str]:
    """Every setting that is given, with where it is given; how many are left at their defaults."""
    lines = lines_of(path) if path else {}
    said = []
    for f in fields(Config):
        where = "option" if f.name in given else f"line {lines[f.name]}" if f.name in lines else None
        if where:
            value = getattr(config, f.name)
            same = " (the default)" if value == getattr(DEFAULT, f.name) else ""
            said.append(f"  {where:>8}  {f.name}: {brief(value)}{same}")
    return [*said, f"  the other {len(fields(Config)) - len(said)} settings are at their defaults"]


def brief(value) -> str:
    """A value in a line; of a long list how many there are."""
    if isinstance(value, (list, dict)) and len(value) > 3:
        return f"{len(value)}, {shown(', '.join(map(str, list(value)[:3])), 80)}, ..."
    return shown(str(value), 120)


def concepts(config: Config) -> list[str]:
    """What is erased, by what and in how many sentences."""
    return [f"  {', '.join(e.words)} -> {e.mapping}, in {len(e.templates)} sentences" for e in config.erased()]


def words(config: Config) -> list[str]:
    """What the text encoder makes of the concepts: suggested mappings, mappings near their targets, words that it hardly knows,
    neighbours, synonyms."""
    model, _, _ = dry_run.meta_model(config.base, torch.float32)
    heard: list[str] = []
    backbone = load_text(config.base, config.text_encoders, model)
    resolve(config.for_family(family_of(model)), backbone, heard.append)
    return [f"  {line}" for line in heard]


def on_disk(config: Config) -> list[str]:
    """What is written, and how much room there is for it; nothing where the base's header does not tell its family."""
    found = check_files(config.base, config.text_encoders, config.vae)
    if not found.family:
        return []
    needed = bytes_written(config, found, check_reader(config, found.denoiser, found.family))
    return [f"written: about {needed / GB:.2f} GB; {disk(Path(config.out).parent, 'it')}"]


def diagnosis(config: Config, given: dict, path: str | None, progress=say) -> None:
    """All that is said of a training, a part after the other."""
    progress("settings")
    for line in settings_with_lines(config, given, path):
        progress(line)
    progress("what is erased")
    for line in [*concepts(config), *(f"  warning: {line}" for line in doubts.on_both_sides(config))]:
        progress(line)
    progress("as the text encoder reads it")
    for line in words(config):
        progress(line)
    progress("what it takes")
    for line in [*dry_run.takes(config), *on_disk(config)]:
        progress(f"  {line}")


def main(argv: list[str]) -> int:
    never_refuse()
    try:
        given, arguments = options(argv, __doc__)
        if arguments.init:
            raise ConfigError("--init: a file of settings is written by trainer/train.py; give it here as --config")
        about = arguments.config or given
        start_comfy(find_comfy(arguments.comfyui))
        for line in machine():
            say(line)
        if about:
            config, arguments = settings_of(given, arguments)
            arguments.dry_run = True
            diagnosis(prepare(config, arguments), given, arguments.config)
    except (ConfigError, Busy, FileNotFoundError, ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
