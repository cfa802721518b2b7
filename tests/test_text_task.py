"""The task on what layers read: answering states, and a loss from 1 before training to 0 where layers read the mapped prompt."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainer import text_task
from trainer.data import labels_of
from trainer.prompts.answering import answering, token_ids
from trainer.prompts.concepts import Prompt, Target
from unhype.hypernetwork import Factors
from unhype.layers import Layer

PAIR = Target(Prompt("a cat and a dog", True), "a forest and a dog", (0,))


def test_places_answer_from_the_front_to_the_first_difference_and_from_there_by_the_end():
    own, its = answering([1, 5, 6, 9, 2], [1, 5, 7, 8, 9, 2], 8)
    assert dict(zip(own.tolist(), its.tolist())) == {0: 0, 1: 1, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7}  # 6 for 8, 9 for 9, ends and padding


@pytest.mark.parametrize("share, expected", [(0.0, 1.0), (0.5, 0.25), (1.0, 0.0)])
def test_what_is_missing_goes_from_one_to_nothing(share, expected):
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 4, bias=False), torch.randn(1, 5, 6)
    direction = torch.randn(6)
    direction /= direction.norm()
    size = x @ direction
    y = x + size[..., None] * torch.randn(6)  # what changes lies along one direction, so that one pair can make it
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    up = (linear(y) - linear(x))[0, 0] / size[0, 0]
    own = Factors(direction[None, None], share * up[None, :, None].detach())
    answered = torch.ones(1, 5, dtype=torch.bool)
    found = text_task.missing(Layer("to_k", 6, 4), backbone, own, x, y, answered, ~answered, torch.ones(1))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_places_without_an_answer_do_not_count():
    linear, x = nn.Linear(3, 2, bias=False), torch.randn(1, 2, 3)
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    nothing = Factors(torch.zeros(1, 1, 3), torch.zeros(1, 2, 1))
    answered, stays = torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.bool)
    y = x + torch.tensor([[[1.0, 0, 0], [9.0, 9, 9]]])
    some = text_task.missing(Layer("to_k", 3, 2), backbone, nothing, x, y, answered, stays, torch.ones(1))
    assert some.item() == pytest.approx(1.0)
    moved = nothing._replace(down=torch.ones(1, 1, 3), up=torch.ones(1, 2, 1))
    alone = text_task.missing(Layer("to_k", 3, 2), backbone, moved, x[:, :1], y[:, :1], answered[:, :1], stays[:, :1], torch.ones(1))
    torch.testing.assert_close(text_task.missing(Layer("to_k", 3, 2), backbone, moved, x, y, answered, stays, torch.ones(1)), alone)


def test_what_stays_counts_more():
    linear, x = nn.Linear(3, 2, bias=False), torch.randn(1, 2, 3)
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    y = x.clone()
    y[0, 0] += 1
    moved = Factors(x[:, 1:] / x[0, 1].square().sum(), 0.1 * torch.ones(1, 2, 1))
    answered, exchanged = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])
    asked = lambda *places: text_task.missing(Layer("to_k", 3, 2), backbone, moved, x, y, *places, torch.ones(1)).item()
    first, both = asked(exchanged, answered & False), asked(answered, answered & False)
    assert asked(answered, ~exchanged) - first == pytest.approx(text_task.STAYS * (both - first), rel=1e-4)


def test_every_third_pair_stands_among_words_and_the_other_thing_is_wanted_as_the_mapped_prompt_has_it(comfy):
    from host.load import load_backbone

    demo = load_backbone("demo")
    beyond = torch.tensor([0.0, 0.0, 1.0])
    task = text_task.TextTask(demo, [PAIR] * 3, labels_of([PAIR] * 3, 1), beyond, ["house", "fish"], seed=0)
    text = demo.encode([PAIR.prompt.text, PAIR.mapped])
    places, answers = answering(token_ids(demo, PAIR.prompt.text), token_ids(demo, PAIR.mapped), text.tokens.shape[1])
    for row in (1, 2):
        torch.testing.assert_close(task.text.tokens[row], text.tokens[0])
        assert task.answered[row].nonzero().flatten().tolist() == places.tolist()
        ids, stays = token_ids(demo, PAIR.prompt.text), task.stays[row].tolist()
        assert [i for i, stay in zip(ids, stays) if not stay] == token_ids(demo, "cat")[1:-1] and not any(stays[len(ids) :])
        change = text.tokens[1, answers] - text.tokens[0, places]
        torch.testing.assert_close(task.wanted[row, places], text.tokens[0, places] + (1 + beyond[row]) * change)
    assert not torch.allclose(task.text.tokens[0], text.tokens[0])


def test_as_many_pairs_of_each_concept_as_there_is_room_for():
    narrow, wide = 77 * 768, 77 * 2048
    assert text_task.room_for(1, narrow) == text_task.EACH
    assert text_task.room_for(100, narrow) == text_task.MOST // 100
    assert text_task.room_for(10, wide) == text_task.ROOM // wide // 10
    assert text_task.room_for(10**6, wide) == 1


def test_a_long_mapping_concept_among_words_is_read_without_them(comfy):
    from host.load import load_backbone

    long = Target(Prompt("a cat and a dog", True), f"a {'forest and a ' * 12}dog", (0,))
    words = ["house", "fish", "bear"]
    task = text_task.TextTask(load_backbone("demo"), [long] * 12, labels_of([long] * 12, 1), torch.zeros(12), words, seed=0)
    assert task.text.tokens.shape[:2] == (12, 77) and task.wanted.isfinite().all()
