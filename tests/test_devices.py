"""Graphics cards, of which none is at hand: what is asked of torch for each kind, with stand-ins in its place."""

from types import SimpleNamespace

import pytest
import torch

from host import devices


@pytest.fixture
def cards(monkeypatch):
    """A function that lets torch find a card of some kinds."""
    monkeypatch.delenv(devices.CPU_ONLY, raising=False)

    def found(*kinds):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool({"cuda", "hip"} & {*kinds}))
        monkeypatch.setattr(torch.version, "hip", "7.0" if "hip" in kinds else None)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
        monkeypatch.setattr(torch.xpu, "is_available", lambda: "xpu" in kinds)

    return found


@pytest.mark.parametrize("kind", ["cuda", "hip", "mps", "xpu"])
def test_a_card_is_known_by_its_kind_unless_none_is_to_be_used(cards, monkeypatch, kind):
    cards(kind)
    assert devices.kind() == kind
    monkeypatch.setenv(devices.CPU_ONLY, "1")
    assert devices.kind() == "cpu"


def test_without_a_card_it_is_the_cpu(cards):
    cards()
    assert devices.kind() == "cpu"


@pytest.mark.parametrize("kind, asked", [("cuda", []), ("mps", []), ("cpu", ["--cpu"])])
def test_comfyui_is_started_for_the_card_that_is_there(cards, monkeypatch, tmp_path, kind, asked):
    import subprocess
    import sys

    (tmp_path / "comfy").mkdir()
    for name in ("__init__", "sample", "sd"):
        (tmp_path / "comfy" / f"{name}.py").write_text("")
    (tmp_path / "comfy" / "options.py").write_text("def enable_args_parsing():\n    pass\n")
    (tmp_path / "comfy" / "cli_args.py").write_text("import sys\nprint(sys.argv[1:])\n")
    code = f"import sys; from pathlib import Path; from host import devices, start; devices.kind = lambda: {kind!r}; "
    code += f"start.start_comfy(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=devices.__file__.rpartition("/host/")[0])
    assert done.stdout.strip() == str(asked), done.stderr


def test_peaks_are_asked_of_what_each_kind_has(monkeypatch):
    told = []
    cuda = SimpleNamespace(empty_cache=lambda: told.append("emptied"), reset_peak_memory_stats=lambda: told.append("reset"))
    cuda.max_memory_reserved, cuda.synchronize = lambda: 7, lambda: told.append("waited")
    apple = SimpleNamespace(empty_cache=lambda: told.append("emptied"), driver_allocated_memory=lambda: 5, synchronize=lambda: None)
    for kind, own, peak in (("cuda", cuda, 7), ("mps", apple, 5)):
        monkeypatch.setattr(torch, kind, own)
        device = torch.device(kind)
        devices.forget_peak(device), devices.wait(device)
        assert devices.peak(device) == peak
    assert told == ["emptied", "reset", "waited", "emptied"]
    cpu = torch.device("cpu")
    devices.forget_peak(cpu), devices.wait(cpu)
    assert devices.peak(cpu) > 1e7 and devices.title(cpu)


def test_types_and_errors_are_told():
    cpu = torch.device("cpu")
    assert devices.stores(cpu, torch.float8_e4m3fn) and not devices.stores(torch.device("mps"), torch.float8_e4m3fn)
    assert devices.out_of_memory(torch.OutOfMemoryError("x")) and devices.out_of_memory(RuntimeError("MPS backend out of memory (9 GB)"))
    assert not devices.out_of_memory(RuntimeError("shapes differ"))
