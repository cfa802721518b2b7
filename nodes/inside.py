"""The trainer inside the pack: its rooms import each other by absolute names, which in the host mean the pack's own.

On the command line the root is on the path, and `trainer`, `host` and `unhype` are at the top. In the host they must not be:
its own modules and those of other packs have names like these, and `unhype` would be there twice.
"""

import ast
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

PACK = __name__.removesuffix(".nodes.inside")
ROOMS = ("trainer", "host", "unhype")


class InPack(SourceFileLoader):
    """Reads `from host.load import ready` as if it began with the pack's name."""

    def path_stats(self, path: Any) -> Any:
        """No compiled file is read or written: that is the command line's."""
        raise OSError

    def source_to_code(self, data: Any, path: Any = "", *args: Any, **options: Any) -> Any:  # type: ignore[override]  # static in one of two
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module and node.module.split(".")[0] in ROOMS:
                node.module = f"{PACK}.{node.module}"
        return super().source_to_code(tree, path, *args, **options)


class Rooms(MetaPathFinder):
    """Finds the pack's trainer and host, and leaves everything else to others."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not name.startswith((f"{PACK}.trainer.", f"{PACK}.host.")):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = InPack(name, spec.loader.path)
        return spec


def trainer_module(name: str) -> Any:
    """A module of the trainer, or of what it is built on, by its name on the command line."""
    if not any(isinstance(finder, Rooms) for finder in sys.meta_path):
        sys.meta_path.insert(0, Rooms())
    return import_module(f"{PACK}.{name}")
