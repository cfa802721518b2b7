"""The settings that every method was tried with, as many for each, and the names of files by settings.

The best on nouns of its own is taken (bench.py). Of trials that tie the first is: where one has the trainer's default,
that one.
"""

import hashlib

VERSION = 2  # of what a cell holds; another one makes all of them anew

TUNING_NOUNS, TUNING_SEED = ("dog", "boat"), 100

HYPERNETWORK = {"batch": 8, "iterations": 200, "retain_weight": 3.0, "retain_batch": 64, "autocast": "none"}
EDIT = {"batch": 8, "iterations": 240, "guidance": 1.0, "autocast": "none"}
TRIALS = {
    "lora-esd": [EDIT | {"learning_rate": rate} for rate in (3e-3, 1e-3)],
    "esd-full": [EDIT | {"learning_rate": rate} for rate in (5e-4, 1e-3)],
    "uce": [{"preserve_scale": scale} for scale in (10.0, 1.0)],
    "speed": [{"share": share} for share in (1e-3, 3e-4)],
    "oce": [{"preserve_scale": scale} for scale in (0.1, 0.01)],
    "unhype": [HYPERNETWORK | {"learning_rate": 3e-3, "guidance": gamma} for gamma in (1.0, 0.5)],
    "unhype-trajectory": [HYPERNETWORK | {"learning_rate": 3e-3, "eta": eta} for eta in (0.05, 0.02)],
    "unhype-authors": [HYPERNETWORK | {"learning_rate": 3e-3, "eta": eta} for eta in (0.05, 0.02)],
}

# What makes a quick run quick.
SMALL = {"iterations": 60, "pictures": 8, "sampling_steps": 8, "kept_steps": 4}
QUICK = {"every": SMALL, "uce": {}, "speed": {}, "oce": {}}


def key_of(*what) -> str:
    """A short name of what a file was made by."""
    return hashlib.sha256(repr((VERSION, *what)).encode()).hexdigest()[:12]
