"""The registry's archive: every tracked file that no line of .comfyignore names.

python dev.py pack            into out/unhype-VERSION.zip; its size is said
python dev.py pack --ready    and whether pyproject.toml holds all that the registry asks for; if not, exit code 1
"""

import argparse
import os
import subprocess
import sys
import zipfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 60  # MB
OWNERS = "only its owner can fill these, at the head of pyproject.toml"
CHANGES = ROOT / "CHANGELOG.md"


def git(*arguments: str, cwd: Path = ROOT, given: str | None = None, **environment) -> str:
    environment = os.environ | environment
    return subprocess.run(["git", *arguments], cwd=cwd, input=given, env=environment, capture_output=True, text=True, check=True).stdout


def published(root: Path = ROOT) -> list[str]:
    """The files that the registry's archive holds."""
    left_out = git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore", cwd=root).splitlines()
    return sorted(set(git("ls-files", cwd=root).splitlines()) - set(left_out))


def write_archive(path: Path, root: Path = ROOT) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in published(root):
            archive.write(root / name, name)


def megabytes(*paths: Path) -> float:
    return round(sum(p.stat().st_size for p in paths if p.is_file()) / 1e6, 1)


def missing(project: dict, changes: str) -> list[str]:
    """What a publishing would lack, a line each."""
    comfy, urls = project.get("tool", {}).get("comfy", {}), project["project"].get("urls", {})
    asked = {
        "[project.urls] Repository": urls.get("Repository"),
        "[tool.comfy] PublisherId": comfy.get("PublisherId"),
        "[tool.comfy] Icon (the address of docs/icon.png)": comfy.get("Icon"),
        "[tool.comfy] Banner (the address of docs/banner.png)": comfy.get("Banner"),
    }
    lines = [f"{name} is empty: {OWNERS}" for name, value in asked.items() if not value]
    version = project["project"]["version"]
    return lines + ([] if f"## {version}\n" in changes else [f"CHANGELOG.md has no section {version!r}: say what is new in it"])


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ready", action="store_true", help="refuse where something is missing that the registry asks for")
    args = p.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    path = ROOT / "out" / f"unhype-{project['project']['version']}.zip"
    path.parent.mkdir(exist_ok=True)
    write_archive(path)
    size = megabytes(path)
    print(f"{path.relative_to(ROOT)}: {len(published())} files, {size} MB")
    faults = [f"it has {size} MB, at most {LARGEST} are allowed"] if size > LARGEST else []
    if args.ready:
        faults += missing(project, CHANGES.read_text(encoding="utf-8"))
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
