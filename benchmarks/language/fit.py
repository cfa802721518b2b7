"""The switch of a file of concepts, made as a training makes it: its settings, prompts, fit and calibration, and no denoiser."""

import time
from dataclasses import dataclass
from pathlib import Path

from trainer.config import from_mapping
from trainer.data import Texts
from trainer.prompts.neighbours import resolve
from trainer.train import fit_switch
from unhype.hypernetwork import Hypernetwork

from .concepts import Concept


@dataclass
class Fitted:
    concepts: list[Concept]
    network: Hypernetwork
    prompts: dict[str, int]  # that the switch was fitted on
    seconds: float  # of the fit


def fitted(backbone, concepts: list[Concept], entries: list[str], settings: dict, folder: Path, progress) -> Fitted:
    """A file of `entries`, one of each concept, by a training's defaults but for `settings`; `folder` is where it would lie."""
    settings = {"base": "MiniLM", "out": str(folder / "language.safetensors"), "erase": entries, "clip_skips": [1]} | settings
    config = resolve(from_mapping(settings, "the language benchmark"), backbone, progress)
    texts = Texts(config, backbone, progress)
    started = time.process_time()
    condition = texts.conditions[0]
    network = Hypernetwork(config.shape((), condition.pooled.shape[1], condition.tokens.shape[2]))
    network.standardise.fit(*texts.conditions)
    fit_switch(config, network, texts)
    prompts = {"targets": len(texts.target_texts), "safe": len(texts.safe_texts), "written": len(texts.text_read.texts)}
    return Fitted(concepts, network, prompts, round(time.process_time() - started, 1))
