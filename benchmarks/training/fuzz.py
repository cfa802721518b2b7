"""Hostile files of every kind that a training reads: each is refused with a clear error, or loads as what it is.

Files are read in a fork of this process, which may take SECONDS of processor time and address space for twice the file and ROOM
for each, and in which everything that Python reports of code being run, programs being started and files being written is counted.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch

from host.encode import Text
from trainer.config import Config, from_mapping
from trainer.optimizer import new_optimizer
from trainer.prompts.lists import read_lists
from trainer.run.sealed import Damaged, write_sealed
from trainer.samples import Samples, read_samples
from trainer.settings.fields import ConfigError
from trainer.settings.strict_yaml import read_yaml
from trainer.state import read_state, save_state
from trainer.states import cached
from unhype.checkpoint import CheckpointError, Concept, Eraser, load_eraser, save_eraser
from unhype.condition import read_condition
from unhype.hypernetwork import Hypernetwork, Shape, at_strength
from unhype.layers import Layer

from .hostile import list_file, settings_file, tensor_file
from .kills import SETTINGS

SECONDS, ROOM, LONGEST = 5, 64 << 20, 500
BATCH = 1000  # files that one process reads
UNASKED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pickle.find_class", "exec", "compile"}
UNASKED |= {"ctypes.dlopen", "socket.connect", "socket.getaddrinfo", "os.remove", "os.rename", "shutil.rmtree"}
SHAPE = Shape((Layer("a.attn2.to_k", 3, 2), Layer("b", 2, 3)), rank=1, steps=10, hidden=3, queries=1, pooled_dim=2, token_dim=2, concepts=2)
PROMPTS = ["a cat in a garden", "a dog on a boat, watercolor", "the sea at night"]


class Kind(NamedTuple):
    """A kind of file: one as a training writes or reads it, how it is changed, and who reads it."""

    name: str  # of the file
    valid: object
    change: Callable[[object, random.Random], bytes]
    load: Callable[[Path], None]  # raises `refusals`, or AssertionError where it loaded what it should not have
    refusals: tuple[type[Exception], ...]


class Letters:
    """A text encoder of a state a letter."""

    def encode(self, prompts: list[str], clip_skip: int) -> Text:
        tokens = torch.zeros(len(prompts), max(map(len, prompts)), 2)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor([[ord(c) % 128, clip_skip] for c in prompt]).float()
        return Text(tokens, torch.zeros(len(prompts), 1))


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind of file, the valid ones made in `folder`."""
    torch.manual_seed(0)
    network = Hypernetwork(SHAPE)
    concepts = [Concept("cat", "forest", {"threshold": 0.5}), Concept("👩‍🚀 Zoë's dog", "moon")]
    sketch = [0.5, -0.25, 1.5, -2.0, 0.0, 1.0, 0.5, -0.5]
    eraser = Eraser(network, "sd1", concepts, {"rank": 1}, {"seconds": 1.5}, {"name": "b.safetensors", "sketch": sketch})
    save_eraser(eraser, folder / "valid.safetensors")
    config = from_mapping(SETTINGS | {"out": str(folder / "valid.safetensors")}, "valid")
    optimizer, rng = new_optimizer(network, config), torch.Generator().manual_seed(0)
    sum(p.square().sum() for p in network.parameters()).backward()
    optimizer.step()
    save_state(config, 2, network, optimizer, rng)
    x = torch.ones(2, 1, 2, 2)
    samples = Samples(x, torch.ones(2), torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), x, x, torch.ones(2))
    write_sealed({f"0.{k}": v.clone() for k, v in vars(samples).items()}, folder / "valid.cache", {"key": "k"})
    cached(Letters(), PROMPTS, [1], folder / "valid.text", print)
    raw = lambda name: (folder / name).read_bytes()

    def state(path: Path) -> None:
        read_state(path, config, network, optimizer, rng)

    return {
        "eraser": Kind("cat.safetensors", raw("valid.safetensors"), tensor_file, load_whole, (CheckpointError,)),
        "state": Kind("cat.state", raw("valid.state"), tensor_file, state, (Damaged, ConfigError)),
        "cache": Kind("cat.cache", raw("valid.cache"), tensor_file, load_samples, (Damaged,)),
        "text": Kind("written-text.cache", raw("valid.text"), tensor_file, read_text, (Damaged,)),
        "config": Kind("cat.yaml", SETTINGS | {"out": "cat.safetensors"}, settings_file, read_settings, (ConfigError,)),
        "prompts": Kind("keep.txt", PROMPTS, list_file, read_prompts, (ConfigError,)),
        "table": Kind("erase.csv", ["concept,mapping", "cat,forest", '"dog, puppy",sea'], list_file, read_table, (ConfigError,)),
    }


def load_whole(path: Path) -> None:
    """An eraser that loads gives finite adapters."""
    network = load_eraser(path).network
    if network.shape == SHAPE:
        condition = read_condition(torch.ones(1, 5, 2), torch.ones(1, 2))
        assert all(t.isfinite().all() for f in at_strength(network, condition, 1.0) for t in f[:2]), "an adapter that is not finite"


def load_samples(path: Path) -> None:
    """Samples that load can be drawn from, and are of the prompts that there are."""
    for found in read_samples(path, "k", len(PROMPTS)):
        rows = found.balanced(4, torch.Generator().manual_seed(0))
        assert all(len(values[rows]) == 4 for values in vars(found).values()), "samples that do not fit together"
        assert (torch.tensor([0, 1, 2])[found.prompt] == found.prompt).all() and found.x.shape == found.eps.shape == found.eps_star.shape, (
            "other samples"
        )


def read_text(path: Path) -> None:
    """A text cache that is not whole is said to be so, and read again from the encoder."""
    said: list[str] = []
    found = cached(Letters(), PROMPTS, [1], path, said.append)
    assert found.flat.isfinite().all() and len(found) == len(PROMPTS), "other states"
    if said:
        raise Damaged(said[0])


def read_settings(path: Path) -> None:
    """Settings that are taken are taken again as they are."""
    config = from_mapping(read_yaml(path), str(path))
    assert from_mapping(asdict(config), str(path)) == config, "settings that change"


def read_prompts(path: Path) -> None:
    found = read_lists({"retain_prompts": [str(path)]}, "command line")["retain_prompts"]
    assert found and all(text.strip() and "\0" not in text for text in found), "an empty prompt"


def read_table(path: Path) -> None:
    Config(erase=read_lists({"erase": [str(path)]}, "command line")["erase"])


def outcome(kind: Kind, path: Path) -> tuple[str, str]:
    """("load", ""), ("error", "") or ("fault", what)."""
    try:
        kind.load(path)
    except kind.refusals as error:
        says = str(error)
        if len(says) > LONGEST:
            return "fault", f"an error of {len(says)} letters: {says[:100]}"
        if not says.isprintable() or path.name not in says:
            return "fault", f"an error that does not name the file, or moves a cursor: {ascii(says[:200])}"
        return "error", ""
    except BaseException as error:
        return "fault", f"{type(error).__name__}: {ascii(str(error)[:200])}"
    return "load", ""


def address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def watched(watch: list[str]) -> None:
    """From now on what Python reports of code, programs and files that are written is kept in `watch`."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "exec" and getattr(arguments[0], "co_filename", "").startswith(sysconfig.get_path("stdlib")):
            return  # a module of Python's own, such as a codec, imported when it is first needed
        if event in UNASKED or event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            watch.append(f"{event} {ascii(arguments)[:100]}")

    sys.addaudithook(hook)


def read_one(kind: Kind, path: Path, watch: list[str] | None) -> tuple[str, str]:
    """A file's outcome under the limits."""
    limit = address_space() + 2 * path.stat().st_size + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # which ends the process
    if watch is not None:
        watch.clear()
    try:
        found = outcome(kind, path)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return ("fault", f"not asked for: {watch[0]}") if watch else found


def made(every: dict[str, Kind], number: int) -> tuple[str, bytes]:
    """The kind and the content of a hostile file."""
    rng = random.Random(number)
    name = sorted(every)[number % len(every)]
    return name, every[name].change(every[name].valid, rng)


def reads(every: dict[str, Kind], folder: Path, numbers: range, write: int) -> None:
    """In a process of its own: a line for each file, into a pipe, before and after it is read."""
    watch: list[str] = []
    said = os.open(os.devnull, os.O_WRONLY)
    os.dup2(said, 1), os.dup2(said, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        name, data = made(every, number)
        path = folder / every[name].name
        path.write_bytes(data)
        os.write(write, f"{number}\n".encode())
        found = read_one(every[name], path, watch if name != "text" else None)  # that one is written anew
        if found[0] == "fault":
            shutil.copyfile(path, kept_as(folder, number, path.name))
        os.write(write, json.dumps([number, name, *found]).encode() + b"\n")
        if number == numbers[0]:
            watched(watch)


def kept_as(folder: Path, number: int, name: str) -> Path:
    """Where a file that was at fault is kept."""
    path = folder / "wrong" / f"{number}-{name}"
    path.parent.mkdir(exist_ok=True)
    return path


def fuzz(folder: Path, count: int, keep: Callable[[dict], None], known: dict, every: dict[str, Kind] | None = None) -> dict:
    """`count` hostile files; those that were at fault are kept in wrong/."""
    (folder / "valid").mkdir(parents=True, exist_ok=True)
    every = every or kinds(folder / "valid")
    own = {"n": 0, "clean_errors": 0, "loads": 0, "faults": 0, "kinds": {}, "wrong": []} | known
    for name in sorted(every) * 3:  # whatever is imported late is imported now
        path = folder / every[name].name
        path.write_bytes(made({name: every[name]}, len(name))[1])
        outcome(every[name], path)
    while own["n"] < count:
        numbers = range(own["n"], min(count, own["n"] + BATCH))
        for number, name, found, why in results(every, folder, numbers):
            counted = {"error": "clean_errors", "load": "loads", "fault": "faults"}[found]
            own["n"], own[counted] = number + 1, own[counted] + 1
            by_kind = own["kinds"].setdefault(name, {"error": 0, "load": 0, "fault": 0})
            by_kind[found] += 1
            if why:
                own["wrong"].append({"number": number, "kind": name, "why": why})
        keep(own)
    shutil.rmtree(folder / "valid")
    return own


def results(every: dict[str, Kind], folder: Path, numbers: range) -> list[tuple[int, str, str, str]]:
    """What a process found of these files; where it ended, the file that it was reading is at fault, and the last one."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(read)
            reads(every, folder, numbers, write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as lines:
        said = [json.loads(line) for line in lines]
    _, status = os.waitpid(process, 0)
    found = [tuple(line) for line in said if isinstance(line, list)]
    if len(found) < len(numbers):
        number = numbers[len(found)]
        code = os.waitstatus_to_exitcode(status)
        why = f"took more than {SECONDS} s" if code == -signal.SIGVTALRM else f"the process ended with {code}"
        name = sorted(every)[number % len(every)]
        shutil.copyfile(folder / every[name].name, kept_as(folder, number, every[name].name))
        found.append((number, name, "fault", why))
    return found


def missed(found: dict) -> list[str]:
    return [f"{found['faults']} of {found['n']} files"] * bool(found["faults"])
