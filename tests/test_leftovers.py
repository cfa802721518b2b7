"""Saving: permissions, and the temporary files of writers that were killed."""

import os
import subprocess
import sys
import time

import pytest
import torch

from unhype.checkpoint import write_atomically
from unhype.leftovers import is_running

posix = os.name == "posix"
TENSORS = {"a": torch.ones(3)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cat.safetensors"


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_is_as_open_as_any_other(path):
    other = path.with_name("other.txt")
    for mask in (0o022, 0o002, 0o077):
        former = os.umask(mask)
        try:
            other.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            other.write_text("as any program writes it")
            write_atomically(TENSORS, path, {})
        finally:
            os.umask(former)
        assert mode(path) == mode(other)


def test_a_file_that_is_replaced_keeps_its_permissions(path):
    write_atomically(TENSORS, path, {})
    path.chmod(0o640)
    write_atomically(TENSORS, path, {})
    assert mode(path) == (0o640 if posix else 0o666)


def test_the_folder_is_flushed_after_the_file_has_its_name(path, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (flushed.append((os.path.isdir(f"/dev/fd/{number}"), path.exists())), fsync(number)))
    write_atomically(TENSORS, path, {})
    assert flushed[0][1] is False and (len(flushed) == 2 and flushed[1][1] or not posix)


def ended() -> int:
    """The number of a process that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_what_a_killed_writer_left_is_removed_at_the_next_save(path):
    dead, alive = ended(), os.getppid()
    names = [f".cat.safetensors.{dead}.tmp", f".dog.cache.safetensors.{dead}.tmp"]
    kept = [
        f".dog.safetensors.{alive}.tmp",
        f".notes.{dead}.tmp",
        f"cat.safetensors.{dead}.tmp",
        f".cat.safetensors.{dead}.tmp.png",
        "cat.jsonl",
    ]
    for name in names + kept:
        path.with_name(name).write_bytes(b"half")
    write_atomically(TENSORS, path, {})
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([*kept, "cat.safetensors"])


def test_nobody_writes_for_two_days(path):
    old = path.with_name(f".cat.safetensors.{os.getppid()}.tmp")
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    write_atomically(TENSORS, path, {})
    assert list(path.parent.iterdir()) == [path]


def test_one_who_is_killed_while_saving_leaves_nothing_for_ever(path):
    """The real thing: a writer ended in the middle of its save."""
    code = (
        "import os, sys, torch, unhype.checkpoint as c\n"
        "c.os.replace = lambda *a: os._exit(9)\n"
        "c.write_atomically({'a': torch.ones(3)}, sys.argv[1], {})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=os.path.dirname(os.path.dirname(__file__))).returncode == 9
    assert [p.suffix for p in path.parent.iterdir()] == [".tmp"]
    write_atomically(TENSORS, path, {})
    assert list(path.parent.iterdir()) == [path]


def test_one_who_is_killed_while_safetensors_writes_leaves_nothing_for_ever(path):
    """It writes under a name of its own making, which nobody would know later."""
    code = (
        "import os, signal, sys, torch, unhype.checkpoint as c\n"
        "def killed(tensors, name, metadata):\n"
        "    name.with_name('.tmpX1y2Z3').write_bytes(b'half')\n"
        "    os._exit(9)\n"
        "c.save_file = killed\n"
        "c.write_atomically({'a': torch.ones(3)}, sys.argv[1], {})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=os.path.dirname(os.path.dirname(__file__))).returncode == 9
    (left,) = path.parent.iterdir()
    assert left.name.startswith(".cat.safetensors.") and not list(path.parent.rglob("*.safetensors"))
    write_atomically(TENSORS, path, {})
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_run_are_told_from_those_that_do_not():
    assert is_running(os.getpid()) and is_running(1)
    assert not posix or not (is_running(ended()) or is_running(10**30))
