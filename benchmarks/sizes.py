"""What a user downloads: a clone, one without history, one without what only developers need, and the registry's archive.

    python benchmarks/sizes.py        into benchmarks/results/sizes.json

Clones this repository as it is committed, in a temporary folder, and zips what .comfyignore leaves. MB are of 10^6 bytes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.archive import git, megabytes, published, write_archive

RESULT = ROOT / "benchmarks/results/sizes.json"
# What a sparse clone checks out (docs/troubleshooting.md): every folder of which something is published.
FOLDERS = "demo docs host locales nodes trainer unhype web workflows"
SERVER = "[uploadpack]\nallowFilter = true\nallowAnySHA1InWant = true\n"  # what git servers on the net allow by themselves


def clone(folder: Path, *how: str, sparse: bool = False) -> dict:
    """The size of what is downloaded, and of what then lies on the disk."""
    server = folder.with_suffix(".gitconfig")
    server.write_text(SERVER)
    git("clone", "--quiet", "--single-branch", *how, f"file://{ROOT}", str(folder), GIT_CONFIG_GLOBAL=str(server))
    if sparse:
        git("sparse-checkout", "set", *FOLDERS.split(), cwd=folder, GIT_CONFIG_GLOBAL=str(server))
    return {"download_mb": megabytes(*folder.glob(".git/objects/pack/*.pack")), "disk_mb": megabytes(*folder.rglob("*"))}


def packed(folder: Path, pattern: str) -> float:
    """The part of a clone's download that these files are."""
    names = "\n".join(f"HEAD:{name}" for name in git("ls-files", pattern, cwd=folder).splitlines())
    found = git("cat-file", "--batch-check=%(objectsize:disk)", cwd=folder, given=names)
    return round(sum(map(int, found.split())) / 1e6, 1)


def measure() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        report = {"clone": clone(folder / "whole"), "shallow_clone": clone(folder / "shallow", "--depth", "1")}
        report["sparse_clone"] = clone(folder / "sparse", "--depth", "1", "--filter=blob:none", "--sparse", sparse=True)
        write_archive(folder / "archive.zip")
        files = [ROOT / name for name in published()]
        report["archive"] = {"download_mb": megabytes(folder / "archive.zip"), "disk_mb": megabytes(*files), "files": len(files)}
        report["cifar10_mb"] = packed(folder / "shallow", "benchmarks/cifar10/*.safetensors")
    return report | {"command": "python benchmarks/sizes.py"}


def main() -> int:
    from benchmarks import pages

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    pages.wrote(RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
