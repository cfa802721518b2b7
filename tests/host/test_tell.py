"""The Eraser tells on its node what it did: to the browser that runs the graph, and in the log."""

import asyncio
import json
import struct
import sys
import uuid
from types import SimpleNamespace

import aiohttp
import pytest
import torch
from test_server import ERASED, SAFE, graph

TEXT = 3  # the kind of a binary message that carries progress text


@pytest.fixture(scope="module")
def account(pack):
    return sys.modules[f"{pack.module.__name__}.nodes.tell"].account


def told(account, scores, names=("cat", "dog", "bus", "car"), off=(), taken=()):
    scores = torch.tensor(scores)
    count = scores.shape[1]
    named = lambda which: torch.tensor([name in which for name in names[:count]])
    return account(list(names[:count]), scores, torch.full((count,), 1.5), named(off), named(taken).expand(len(scores), -1))


def test_what_fired_is_said_with_its_score_and_threshold(account):
    assert told(account, [[5.75], [-3.0]]) == "cat: fired on 1 of 2 prompts (5.8, threshold 1.5)"
    assert told(account, [[5.75]]) == "cat: fired on 1 of 1 prompt (5.8, threshold 1.5)"


def test_where_nothing_fires_the_nearest_that_is_on_is_said(account):
    assert told(account, [[-2.1, -4.0], [-3.0, 1.0]]) == "nothing fired; nearest: dog at 1.0 (threshold 1.5)"
    assert told(account, [[-2.1, 4.0]], off=("dog",)) == "nothing fired; nearest: cat at -2.1 (threshold 1.5)"
    assert told(account, [[-torch.inf]]) == "nothing fired: the prompt is empty"


def test_many_concepts_stay_within_two_lines(account):
    text = told(account, [[2.0, 3.0, 9.0, 1.6], [0.0, 4.0, 0.0, 0.0]])
    assert text == "bus: fired on 1 of 2 prompts (9.0, threshold 1.5)\nalso fired: dog on 2, cat on 1, car on 1"
    names = [f"a concept with quite a long name, number {i}" for i in range(100)]
    long = account(names, torch.full((1, 100), 3.0), torch.zeros(100), torch.zeros(100, dtype=torch.bool), torch.zeros(1, 100).bool())
    assert long.count("\n") == 1 and len(long) < 400


def test_what_is_left_to_another_eraser_is_said(account):
    assert told(account, [[2.0, 3.0]], taken=("cat", "dog")) == "left to another UnHype Eraser: dog, cat"
    text = told(account, [[2.0, 3.0]], taken=("dog",))
    assert text == "cat: fired on 1 of 1 prompt (2.0, threshold 1.5)\nleft to another UnHype Eraser: dog"


@pytest.fixture
def shown(monkeypatch):
    """Texts by node, as a server would send them."""
    texts = {}
    instance = SimpleNamespace(client_id="mine", send_progress_text=lambda text, node, sid: texts.setdefault(node, []).append((sid, text)))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    return texts


def test_two_erasers_of_one_file_say_what_they_left(pack, s, demo, prompts, shown):
    erase = sys.modules[f"{pack.module.__name__}.nodes.patching"].erase
    model = erase(erase(demo.model, demo.eraser, 1.0, node="1"), demo.eraser, 2.0, node="2")
    s.sample(model, prompts["erased"], prompts["empty"], s.noise())
    assert shown["2"][0][0] == "mine" and shown["2"][0][1].startswith("cat: fired on 1 of 1 prompt (")
    assert shown["1"][0][1] == "left to another UnHype Eraser: cat"


def test_a_connected_conditioning_is_said_to_decide(pack, s, demo, prompts, shown):
    erase = sys.modules[f"{pack.module.__name__}.nodes.patching"].erase
    s.sample(erase(demo.model, demo.eraser, 1.0, prompts["erased"], node="7"), prompts["safe"], prompts["empty"], s.noise())
    assert shown["7"][0][1].startswith("the connected conditioning decides: cat: fired on 1 of 1 prompt (")
    assert erase(demo.model, demo.eraser, 0.0, node="8") is demo.model
    assert shown["8"][0][1] == "strength 0: nothing is erased"


async def texts_of(server, prompt) -> list[tuple[str, str]]:
    """(node, text) of every progress text that a browser gets while a prompt runs."""
    me, found = uuid.uuid4().hex, []
    address = f"127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{address}/ws?clientId={me}") as socket:
        await session.post(f"http://{address}/prompt", json={"prompt": prompt, "client_id": me})
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY and struct.unpack(">I", message.data[:4])[0] == TEXT:
                length = struct.unpack(">I", message.data[4:8])[0]
                found.append((message.data[8 : 8 + length].decode(), message.data[8 + length :].decode()))
            elif message.type == aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                return found


def test_a_browser_gets_the_line_for_the_erasers_node_at_every_run(server):
    run = lambda text, seed: dict(asyncio.run(texts_of(server, graph(text, 1.0, seed))))
    assert run(ERASED, 1)["eraser"].startswith("cat: fired on 1 of 1 prompt (")
    assert run(SAFE, 2)["eraser"].startswith("nothing fired; nearest: cat at -")
    assert run(SAFE, 3)["eraser"].startswith("nothing fired; nearest: cat at -")
