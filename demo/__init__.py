"""The demo base: a small text-to-image model of emoji, so that everything runs with nothing downloaded."""

from importlib import import_module

# This folder is `demo` to the trainer and `PACK.demo` to the pack's node: the file beside it is found from either name.
versions = import_module(__name__.removesuffix("demo") + "host.versions")
