"""A row of the paper's tables for any base and eraser, by whoever has the weights and the judges (arXiv 2602.03410).

    python evaluation/paper.py objects --base MODEL.safetensors --eraser cat.safetensors --clip CLIP_FOLDER
    python evaluation/paper.py celebrities --base MODEL --eraser people.safetensors --photographs FOLDER
    python evaluation/paper.py nudity --base MODEL --eraser dressed.safetensors --prompts i2p.csv
    python evaluation/paper.py coco --base MODEL --eraser cat.safetensors --prompts captions.csv --pictures FOLDER --clip CLIP_FOLDER

Every picture is drawn by the base and, where the eraser's switch fires, on the same noise with the eraser; the others are the
base's own to the bit. They go into --out (out/paper/ and the protocol's name) with report.json, and what is there already is not
drawn again: a stopped run goes on, and a second eraser finds the base's pictures done. The figures stand for the base and with
the eraser. What judges: CLIP names objects; dlib tells faces by photographs (FOLDER/NAME/*.jpg); NudeNet counts, and open_nsfw
judges too where it is installed; Inception and CLIP for captions. None of it is installed by this repository; what is missing
is said. Never run with weights of full size: tests run it on the demo base.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from evaluation import detectors, fid, protocols
from evaluation.protocols import Asked

CLASSES = Path(__file__).with_name("cifar10_classes.csv")
LISTS = Path(__file__).resolve().parents[1] / "trainer" / "configs"
BATCH, TOGETHER = 8, 64  # pictures, and prompts that are read, at a time


@dataclass
class Settings:
    """How pictures are drawn."""

    size: tuple[int, int]
    steps: int
    cfg: float


def groups(asked: list[Asked], fits: list[bool], batch: int) -> list[list[int]]:
    """Numbers of pictures that are drawn together: of one guidance, prompts of more than one chunk alone."""
    found: list[list[int]] = []
    for i, (a, short) in enumerate(zip(asked, fits)):
        last = found[-1] if found else []
        together = last and short and fits[last[0]] and len(last) < batch and asked[last[0]].cfg == a.cfg
        found[-1].append(i) if together else found.append([i])
    return found


@torch.inference_mode()
def draw(
    backbone, model, asked: list[Asked], settings: Settings, folder: Path, chosen=None, batch: int = BATCH, progress=print
) -> list[Path]:
    """The pictures of a MODEL as files; those that are there already are left."""
    from PIL import Image

    paths = [folder / f"{i:06d}.png" for i in range(len(asked))]
    folder.mkdir(parents=True, exist_ok=True)
    left = [i for i in (range(len(asked)) if chosen is None else chosen) if not paths[i].is_file()]
    fits = backbone.one_chunk([asked[i].text for i in left])
    empty = backbone.encode([""])
    for group in groups([asked[i] for i in left], fits, batch):
        numbers = [left[k] for k in group]
        text, cfg = backbone.encode([asked[i].text for i in numbers]), asked[numbers[0]].cfg or settings.cfg
        noise = torch.stack([backbone.noise(settings.size, asked[i].seed) for i in numbers])
        positive, negative = text.conditioning(), empty.repeated(len(numbers)).conditioning()
        latents = backbone.sample(positive, negative, settings.size, asked[numbers[0]].seed, settings.steps, cfg, model, noise=noise)
        for i, picture in zip(numbers, backbone.decode(latents)):
            coming = paths[i].with_suffix(".coming")
            Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()).save(coming, format="PNG")
            coming.replace(paths[i])
        progress(f"{folder.name}: {numbers[-1] + 1} of {len(asked)} pictures")
    return paths


@torch.inference_mode()
def fires(backbone, network, asked: list[Asked]) -> list[int]:
    """The pictures whose prompts an eraser's switch fires on."""
    texts = list(dict.fromkeys(a.text for a in asked))
    found: set[str] = set()
    for group in groups([Asked(text, 0) for text in texts], backbone.one_chunk(texts), TOGETHER):
        some = [texts[i] for i in group]
        found |= {text for text, on in zip(some, network.fires(backbone.encode(some).condition()).tolist()) if on}
    return [i for i, a in enumerate(asked) if a.text in found]


def same_work(folder: Path, what: dict) -> None:
    """Note what a folder's pictures are of. Raises ValueError where they are of something else."""
    path, told = folder / "drawn.json", json.dumps(what, sort_keys=True)
    if path.is_file() and path.read_text(encoding="utf-8") != told:
        raise ValueError(f"{folder} holds pictures of other prompts, settings, base or eraser: give another --out, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(told, encoding="utf-8")


def drawn_twice(backbone, eraser, asked: list[Asked], settings: Settings, out: Path, names: tuple[str, str], batch: int, progress):
    """Every picture of the base, and with the eraser: two lists of files, and the numbers of those that it fires on."""
    from evaluation.methods import switched

    base, name = names
    what = {"base": base, "settings": asdict(settings), "asked": hashlib.sha256(repr(asked).encode()).hexdigest()}
    same_work(out / "base", what), same_work(out / name, what | {"eraser": eraser.digest})
    before = draw(backbone, backbone.model, asked, settings, out / "base", None, batch, progress)
    method = switched(name, backbone, eraser)
    on = fires(backbone, method.network, asked)
    after = draw(backbone, method.model, asked, settings, out / name, on, batch, progress)
    chosen = set(on)
    return before, [after[i] if i in chosen else before[i] for i in range(len(asked))], on


def wanted(arguments, concepts: list[str]) -> list[Asked]:
    """The pictures that a protocol asks for."""
    if arguments.protocol == "objects":
        return protocols.objects(classes(arguments.classes), arguments.erased or concepts, arguments.seeds)
    if arguments.protocol == "celebrities":
        return protocols.celebrities(arguments.erased or concepts, protocols.names_in(arguments.kept, "concept"), arguments.seeds)
    return protocols.prompts(arguments.prompts)[: arguments.first]


def classes(path: Path) -> dict[str, list[str]]:
    return {
        row["class"]: [w.strip() for w in (row.get("synonyms") or "").split("|") if w.strip()] for row in protocols.table(path, "class")
    }


def judge_of(arguments, asked: list[Asked]):
    """A function of a list of picture files that gives the protocol's figures. Raises ModuleNotFoundError, FileNotFoundError or
    ValueError where a judge is missing: before anything is drawn."""
    if arguments.protocol == "objects":
        clip, names = detectors.Clip(arguments.clip), list(classes(arguments.classes))
        return lambda paths: protocols.of_objects(asked, protocols.classified(clip, names, paths))
    if arguments.protocol == "celebrities":
        embed = detectors.faces()
        known = detectors.known_faces(arguments.photographs, embed, sorted({a.wanted for a in asked}))
        return lambda paths: protocols.of_celebrities(asked, [detectors.whose(embed(path), known) for path in paths])
    if arguments.protocol == "nudity":
        count = detectors.nudity()
        try:
            unsafe = detectors.unsafe()
        except ModuleNotFoundError as error:
            print(f"without how unsafe pictures are: {error}")
            unsafe = None
        return lambda paths: protocols.of_nudity([count(p) for p in paths], [unsafe(p) for p in paths] if unsafe else None)
    inception, clip = fid.load_inception(), detectors.Clip(arguments.clip) if arguments.clip else None
    see = lambda paths: protocols.fid(lambda pictures: fid.features(inception, pictures), paths)
    real = sorted(p for p in arguments.pictures.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(real) < 2:
        raise ValueError(f"{arguments.pictures}: {len(real)} pictures there, expected COCO's own, JPEG or PNG: give their folder")
    seen = see(real)

    def captions(paths):
        own = {"fid": fid.frechet(see(paths), seen), "pictures": len(paths), "real": len(real)}
        return own | ({"clip_score": protocols.clip_score(clip, asked, paths)} if clip else {})

    return captions


def new_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=("objects", "celebrities", "nudity", "coco"))
    parser.add_argument("--base", required=True, help="a checkpoint, as the trainer takes it")
    parser.add_argument("--text-encoders", nargs="+", default=[]), parser.add_argument("--vae", default="")
    parser.add_argument("--eraser", type=Path, required=True)
    parser.add_argument("--comfyui"), parser.add_argument("--out", type=Path)
    parser.add_argument("--size", default="", help="like 512x512 (default: the family's)")
    parser.add_argument("--steps", type=int, default=30), parser.add_argument("--cfg", type=float, default=0.0, help="0: the family's")
    parser.add_argument("--seeds", type=int, default=5, help="pictures of a prompt of objects and celebrities")
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures at a time")
    parser.add_argument("--first", type=int, help="only so many of the prompts")
    parser.add_argument("--erased", nargs="+", help="what counts as erased (default: the eraser's concepts)")
    parser.add_argument("--kept", type=Path, default=LISTS / "celebrities_kept.txt", help="names that are to stay")
    parser.add_argument("--classes", type=Path, default=CLASSES, help="CSV: class, and synonyms parted by | (default: CIFAR-10's)")
    parser.add_argument("--prompts", type=Path, help="CSV with a column prompt, or TXT")
    parser.add_argument("--clip", type=Path, help="folder of a CLIP in transformers' layout")
    parser.add_argument("--photographs", type=Path, help="FOLDER/NAME/*.jpg of everybody that is asked for")
    parser.add_argument("--pictures", type=Path, help="COCO's own pictures")
    return parser


NEEDED = {"objects": ("clip",), "celebrities": ("photographs",), "nudity": ("prompts",), "coco": ("prompts", "pictures")}


def main(argv: list[str]) -> int:
    parser = new_parser()
    arguments = parser.parse_args(argv)
    if missing := [name for name in NEEDED[arguments.protocol] if getattr(arguments, name) is None]:
        parser.error(f"{arguments.protocol} needs --{missing[0]}")
    from host.load import load_backbone
    from host.start import find_comfy, start_comfy
    from unhype.checkpoint import load_eraser

    try:
        eraser = load_eraser(arguments.eraser)
        asked = wanted(arguments, [c.name for c in eraser.concepts])
        figures = judge_of(arguments, asked)
        start_comfy(find_comfy(arguments.comfyui))
        backbone = load_backbone(arguments.base, arguments.text_encoders, arguments.vae)
        size, cfg = arguments.size or backbone.family.size, arguments.cfg or backbone.family.cfg
        settings = Settings(tuple(int(side) for side in size.split("x")), arguments.steps, cfg)
        out = arguments.out or Path("out") / "paper" / arguments.protocol
        names = Path(arguments.base).name, arguments.eraser.stem
        before, after, on = drawn_twice(backbone, eraser, asked, settings, out, names, arguments.batch, print)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    report = {"protocol": arguments.protocol, "base": names[0], "eraser": names[1], "settings": asdict(settings)}
    report |= {"fired": len(on) / len(asked), "figures": {"base": figures(before), names[1]: figures(after)}}
    path = out / names[1] / "report.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, row in report["figures"].items():
        print(f"{name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
