"""What an artist feels of the node: the host's start, a new prompt, a sampling step with the adapter on, and one where nothing fires.

    python dev.py bench --speed        writes out/bench/speed.json

On the demo model and on models of Stable Diffusion 1.5's and Flux's shapes (benchmarks/speed_shapes.py). Each figure is the median
of interleaved pairs, and between `low` and `high` lie 95 % of such medians (bootstrap of the pairs). Times are the process's own
on one thread, so that other work of the machine is not in them.

    import_seconds         by how much importing the pack is longer than importing an empty one, in a host started anew for every pair
    prompt_switch_ratio    all that a new prompt takes before the first step, divided by what core's LoRA loader and the host take to
                           put a LoRA of the same layers and rank into the weights in place of another
    step_overhead          by which fraction a step is longer than without the node; of 0, that is; `nothing_fires` likewise
"""

import asyncio
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import speed_shapes
from host import trials
from host.start import find_comfy, start_comfy

IMPORTS, SWITCHES, DRAWS = 7, 15, 10_000
STEPS = {"demo": 100, "sd15": 20, "flux": 5}  # pairs


def load_pack():
    spec = importlib.util.spec_from_file_location("unhype_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["unhype_pack"] = module
    spec.loader.exec_module(module)
    asyncio.run(module.comfy_entrypoint())
    return (
        sys.modules["unhype_pack.nodes.patching"],
        sys.modules["unhype_pack.unhype.checkpoint"],
        sys.modules["unhype_pack.unhype.hypernetwork"],
    )


def spent(work: Callable[[], object]) -> float:
    """Seconds of the process's own."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, torch.Tensor]:
    """Seconds of every work in every round, each first in its turn."""
    names = list(works)
    times: dict[str, list[float]] = {name: [] for name in names}
    for work in works.values():
        work()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(spent(works[name]))
    return {name: torch.tensor(some, dtype=torch.float64) for name, some in times.items()}


def figure(pairs: torch.Tensor) -> dict[str, float]:
    """The median of pairs, and where 95 % of the medians of as many pairs drawn from them lie."""
    pairs = pairs.double()
    drawn = pairs[torch.randint(len(pairs), (DRAWS, len(pairs)), generator=torch.Generator().manual_seed(0))].quantile(0.5, dim=1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"median": pairs.quantile(0.5).item(), "low": low, "high": high, "pairs": len(pairs)}


def imports() -> torch.Tensor:
    """By how many seconds the pack's import is longer than an empty pack's, once for each host that is started."""
    command = [sys.executable, __file__, "--import"]
    return torch.tensor([float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()[-1]) for _ in range(IMPORTS)])


async def one_import() -> float:
    """The same in this process, in which a host's own nodes are imported first, as at its start."""
    start_comfy(find_comfy(None))
    import utils.extra_config  # noqa: F401  as main.py does, before a folder of that name is found elsewhere

    sys.path.remove(str(ROOT))  # as in a host
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        seconds = await trials.import_packs(folder, str(ROOT))
    return seconds[1] - seconds[0]


class Held:
    """A sampler that takes no steps, and hands over what would take one."""

    def __init__(self, then: Callable[[Callable[[], torch.Tensor]], None]):
        self.then = then

    def sample(self, model_wrap: Any, sigmas: torch.Tensor, extra_args: dict, callback: Any, noise: torch.Tensor, *_: Any, **__: Any):
        sigma = sigmas[:1].expand(len(noise))
        self.then(lambda: model_wrap(noise, sigma, **extra_args))
        return noise


def guider_of(case: speed_shapes.Case, model: Any) -> Any:
    return trials.guider_of(model, case.positive, case.negative, case.cfg)


def steps(case: speed_shapes.Case, models: dict[str, Any], rounds: int) -> dict[str, torch.Tensor]:
    """Seconds of a step with each of the models, all in the midst of a sampling of their own."""
    held: dict[str, Callable[[], object]] = {}
    times: dict[str, torch.Tensor] = {}
    noise = torch.randn(case.latents)

    def enter(left: list[str]) -> None:
        if not left:
            times.update(interleaved(held, rounds))
            return

        def then(step: Callable[[], object]) -> None:
            held[left[0]] = step
            enter(left[1:])

        guider_of(case, models[left[0]]).sample(noise, torch.zeros_like(noise), Held(then), torch.tensor([0.7, 0.0]), disable_pbar=True)

    enter(list(models))
    return times


def switches(case: speed_shapes.Case, erased: Any) -> dict[str, torch.Tensor]:
    """Seconds of a new prompt, and of another LoRA of the same layers and rank by core's loader."""
    lora, hypernetwork = speed_shapes.part("unhype.lora"), speed_shapes.part("unhype.hypernetwork")
    network = case.eraser.network
    condition = speed_shapes.part("nodes.patching").read_conditioning(case.positive, "the prompt", case.eraser)
    factors = hypernetwork.at_strength(network, condition.rows([0]), 1.0)
    loras = [lora.as_lora(dict(zip(network.shape.layers, factors)), case.keys) for _ in range(2)]
    turn = 0

    def core() -> None:
        nonlocal turn
        turn += 1
        trials.put_lora(case.model, loras[turn % 2])

    guider = guider_of(case, erased)
    guider.inner_model, guider.conds = case.model.model, {}
    (wrapper,) = erased.get_wrappers("outer_sample", "unhype")

    def ours() -> None:
        guider.conds = {role: [dict(c, model_conds={}) for c in conds] for role, conds in guider.original_conds.items()}
        wrapper(Executor(guider), None)

    return interleaved({"ours": ours, "core": core}, SWITCHES)


class Executor(SimpleNamespace):
    """What calls a wrapper around a sampling, here around none."""

    def __init__(self, guider: Any):
        super().__init__(class_obj=guider)

    def __call__(self, *_: Any) -> None:
        return None


def forced(eraser: Any, fires: bool) -> Any:
    """The eraser with a switch that always or never fires."""
    import copy

    network = copy.deepcopy(eraser.network)
    network.switch.threshold.fill_(-1e9 if fires else 1e9)
    return speed_shapes.part("unhype.checkpoint").Eraser(network, eraser.family, eraser.concepts, source=eraser.source)


@torch.inference_mode()
def measure(name: str) -> dict[str, dict]:
    """The figures of one shape."""
    case = speed_shapes.demo() if name == "demo" else speed_shapes.random(name)
    patching = speed_shapes.part("nodes.patching")
    on, off = (patching.erase(case.model, forced(case.eraser, fires), 1.0) for fires in (True, False))
    times = steps(case, {"without": case.model, "on": on, "off": off}, STEPS[name])
    switch = switches(case, on)
    milliseconds = {what: 1000 * t.quantile(0.5).item() for what, t in (times | switch).items()}
    return {
        "step_overhead": figure(times["on"] / times["without"] - 1),
        "nothing_fires": figure(times["off"] / times["without"] - 1),
        "prompt_switch_ratio": figure(switch["ours"] / switch["core"]),
        "milliseconds": milliseconds,
    }


def write(started: dict[str, float], found: dict[str, dict]) -> None:
    """The report, of the shapes that are measured so far; what importing takes is the same for all, since no model is loaded."""
    report: dict[str, Any] = {"import_seconds": dict.fromkeys(found, started)}
    report |= {what: {name: found[name][what] for name in found} for what in next(iter(found.values()))}
    report |= {"threads": 1, "clock": "process time", "command": "python dev.py bench --speed"}
    out = ROOT / "out/bench/speed.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    torch.set_num_threads(1)
    if "--import" in sys.argv:
        print(asyncio.run(one_import()))
        return 0
    if "--shape" in sys.argv:
        start_comfy(find_comfy(None))
        load_pack()
        print(json.dumps(measure(sys.argv[-1])))
        return 0
    started = figure(imports())
    print("import", json.dumps(started), flush=True)
    found: dict[str, dict] = {}
    for name in STEPS:
        done = subprocess.run([sys.executable, __file__, "--shape", name], stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, json.dumps(found[name]), flush=True)
        write(started, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
