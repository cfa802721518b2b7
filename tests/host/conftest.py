"""What the host tests share: the sampling helpers, a few prompts encoded, the demo model with its eraser."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

# Tests by hand: collected only where the variable that they need is set, so that a run skips nothing.
BY_HAND = {"test_packs.py": "UNHYPE_PACKS", "test_separate_files.py": "UNHYPE_FULL_SIZE"}
collect_ignore = [name for name, variable in BY_HAND.items() if not os.environ.get(variable)]


@pytest.fixture(scope="session")
def s(comfy):
    import studio

    return studio


@pytest.fixture(scope="session")
def m(pack):
    """Small models of every family, and what is done with them."""
    import models

    return models


@pytest.fixture(scope="session")
def server(comfy, tmp_path_factory):
    """One running server for all tests that ask one."""
    from server import Server

    import dev

    base = tmp_path_factory.mktemp("comfyui")
    dev.install_pack(base)
    with Server(comfy, base) as running:
        yield running


@pytest.fixture(scope="session")
def info(server):
    return server.get("/object_info")


@pytest.fixture
def prompts(s, demo):
    with torch.inference_mode():
        return {
            name: s.encode(demo.clip, text)
            for name, text in {"erased": s.ERASED, "erased2": s.OTHER_ERASED, "safe": s.SAFE, "empty": ""}.items()
        }


@pytest.fixture
def erased_model(pack, demo):
    return pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0).result[0]
