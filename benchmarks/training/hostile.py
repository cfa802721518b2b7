"""Hostile files: valid ones of a training, each changed as accidents and strangers change files."""

import copy
import json
import random
import struct

import torch
from safetensors.torch import load, save

from trainer.run.sealed import SEAL, seal_of

NUMBERS = [0, -1, 1, 2**31, 2**40, 2**63, 10**39, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")]
TEXTS = [
    "",
    " ",
    "cat",
    "x" * 5000,
    "\0",
    "\x1b[2J",
    "\u202egnp.tac",
    "\ud800",
    "../../etc/passwd",
    "/dev/zero",
    "NaN",
    "__import__('os').system('touch hostile')",
    "$(touch hostile)",
    "{}",
    "{other}",
    "cat -> ",
    "猫 → 森",
]
OTHERS = [None, True, False, [], {}, [[]], [1, 2], {"a": 1}, ["cat"], [["cat"]]]
YAML = [
    "!!python/object/apply:os.system ['touch hostile']",
    "!!python/name:os.system",
    "&a [*a, *a]",
    "*a",
    "<<: {a: 1}",
    "? [a, b]\n: c",
    "{" * 3000,
    "[" * 3000,
    "- " * 3000,
    "9" * 6000,
    "1e999",
    ".inf",
    ".nan",
    "0x7fffffffffffffffffff",
    "2026-01-01",
    "!!binary aGVsbG8=",
    "'unclosed",
    '"\\ud800"',
    "|\n  cat\n  dog",
    "\t",
    "---\n---",
    "%YAML 9.9",
    "a: b: c",
    "\ufeff",
]
LINES = [
    "#",
    '"',
    '"cat',
    "cat,,,,,,",
    ",",
    ";;;",
    "\t",
    "cat -> forest -> sea",
    "-> forest",
    "cat <- forest",
    "other.txt",
    "/etc/passwd",
    "~/x.csv",
    "file:///x",
    "a" * 100_000,
    "\x00",
    "\x1b]0;x\x07",
    "\u2028",
    "concept,mapping",
    "prompt",
    "= cat",
    "猫",
    "é" * 300,
]


def hostile_value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(5 if depth < 3 else 3)
    if kind < 3:
        return copy.deepcopy(rng.choice((NUMBERS, TEXTS, OTHERS)[kind]))  # what is changed next may lie in it
    inner = [hostile_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.05:
        for _ in range(rng.choice((40, 900, 3000))):
            inner = [inner]
    return inner if kind == 3 else {rng.choice(TEXTS) or "a": value for value in inner}


def places(tree, way=()) -> list[tuple]:
    """Ways to every part of a tree of lists and dicts."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [(*way, key) for key, _ in inside] + [place for key, value in inside for place in places(value, (*way, key))]


def changed_tree(tree, rng: random.Random):
    """A tree with one to three of its parts replaced, taken out, or given another name."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.randint(1, 3)):
        every = places(tree)
        if not every:
            break
        *way, key = rng.choice(every)
        inside = tree
        for step in way:
            inside = inside[step]
        how = rng.randrange(6)
        if how == 0:
            del inside[key]
        elif how == 1 and isinstance(inside, dict):
            inside[rng.choice(TEXTS)] = inside.pop(key)
        elif how == 2 and isinstance(inside[key], (int, float)):
            inside[key] = rng.choice((inside[key] + 1, inside[key] * 2, -inside[key], *NUMBERS))
        else:
            inside[key] = hostile_value(rng)
    return tree


def dumped(tree, rng: random.Random) -> str:
    """JSON, now and then with what is no JSON in it."""
    text = as_text(tree)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["1" * 5000, "[" * 100_000, '"', "}", ',"a":1,"a":2', "\\u0000"]) + text[at:]
    return text


def as_text(tree) -> str:
    try:
        return json.dumps(tree)
    except RecursionError:
        return "[" * 3000


def changed_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Cut off, overwritten, with something put in, taken out, moved or doubled; often in the first bytes, where the header is."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 30))):
        at = rng.randrange(min(len(data), rng.choice((16, 4096, 1 << 30))) or 1)
        size = rng.choice((1, 1, 2, 8, 100, 4000))
        how = rng.randrange(7)
        if how == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at : at + size] = rng.randbytes(len(data[at : at + size]))
        elif how == 2:
            data[at:at] = rng.choice((bytes(size), rng.randbytes(size), b"9" * size, b"{" * size))
        elif how == 3:
            del data[at : at + size]
        elif how == 4:
            del data[at:]
        elif how == 5:
            data += data[at : at + size]
        elif len(data) >= 8:
            data[:8] = struct.pack("<Q", rng.choice((0, 1, 2, 2**20, 2**32, 2**63, len(data), len(data) - 8, max(0, len(data) - 9))))
    return bytes(data)


def with_header(raw: bytes, rng: random.Random) -> bytes:
    """A .safetensors file whose table promises other things than its bytes hold."""
    length = struct.unpack("<Q", raw[:8])[0]
    header = dumped(changed_tree(json.loads(raw[8 : 8 + length]), rng), rng).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(header)) + header + raw[8 + length :]


def metadata_of(raw: bytes) -> dict:
    return json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]


def with_tensors(raw: bytes, rng: random.Random) -> bytes:
    """Well-formed throughout, with other values, types, sizes or names of tensors, and sealed anew where it was."""
    tensors, metadata = {name: t.clone() for name, t in load(raw).items()}, metadata_of(raw)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(sorted(tensors))
        how = rng.randrange(6)
        if how == 0 and tensors[name].numel() and tensors[name].dtype != torch.uint8:
            tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = (
                rng.choice([0, -1, 1e4, 6e4, float("nan"), float("inf")])
                if (tensors[name].is_floating_point())
                else rng.choice([-1, 10**6])
            )
        elif how == 1:
            tensors[name] = tensors[name].to(rng.choice([torch.float64, torch.float16, torch.float32, torch.int64, torch.uint8]))
        elif how == 2:
            tensors[name] = torch.zeros(rng.choice([(0,), (1,), (3, 0), (1,) * 9, (1000,)]))
        elif how == 3 and len(tensors) > 1:
            del tensors[name]
        elif how == 4:
            tensors[rng.choice(["x", "a\nb", "../x", "x" * 3000, name + "."])] = tensors[name].clone()
        else:
            key = rng.choice(sorted(metadata))
            metadata[key] = rng.choice([*TEXTS, "9" * 12, "-1", "0" * 64]).replace("\ud800", "?")
    if SEAL in metadata:
        metadata[SEAL] = seal_of(tensors, metadata)
    return save(tensors, metadata)


def with_description(raw: bytes, rng: random.Random) -> bytes:
    """An eraser that is well-formed but for what it says of itself."""
    metadata = metadata_of(raw)
    if "unhype" not in metadata:
        return with_tensors(raw, rng)
    text = dumped(changed_tree(json.loads(metadata["unhype"]), rng), rng).encode("utf-8", "replace").decode()
    return save(load(raw), {**metadata, "unhype": text})


def changed_settings(settings: dict, rng: random.Random) -> bytes:
    """A file of settings with parts replaced, as JSON, which is YAML, or as lines of YAML with traps in them."""
    if rng.random() < 0.5:
        return dumped(changed_tree(settings, rng), rng).encode("utf-8", "surrogatepass")
    lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        name = lines[at].partition(":")[0]
        trap = rng.choice(YAML)
        lines[at : at + rng.randint(0, 1)] = [
            rng.choice((f"{name}: {trap}", trap, f"{trap}: 1", lines[at] + trap, lines[at], lines[at] * 2))
        ]
    return rng.choice(("\n", "\r\n", "\r")).join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-16", "utf-32", "latin-1")), "replace")


def changed_list(lines: list[str], rng: random.Random) -> bytes:
    lines = list(lines)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(lines) + 1)
        lines[at : at + rng.randint(0, 2)] = [rng.choice(LINES) * rng.choice((1, 1, 2))] * rng.choice((1, 1, 1, 300))
    return rng.choice(("\n", "\r\n")).join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")


def tensor_file(raw: bytes, rng: random.Random) -> bytes:
    return rng.choice((changed_bytes, with_header, with_tensors, with_description))(raw, rng)


def settings_file(settings: dict, rng: random.Random) -> bytes:
    made = changed_settings(settings, rng)
    return changed_bytes(made, rng) if rng.random() < 0.3 else made


def list_file(lines: list[str], rng: random.Random) -> bytes:
    made = changed_list(lines, rng)
    return changed_bytes(made, rng) if rng.random() < 0.3 else made
