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
    found = text_task.missing(Layer("to_k", 6, 4), backbone, own, x, x, y, answered, answered.float(), torch.ones(1))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_places_that_do_not_count():
    linear, x = nn.Linear(3, 2, bias=False), torch.randn(1, 2, 3)
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    nothing = Factors(torch.zeros(1, 1, 3), torch.zeros(1, 2, 1))
    exchanged, counts = torch.tensor([[True, False]]), torch.tensor([[1.0, 0.0]])
    y = x + torch.tensor([[[1.0, 0, 0], [9.0, 9, 9]]])
    asked = lambda own, n=2: text_task.missing(
        Layer("to_k", 3, 2), backbone, own, x[:, :n], x[:, :n], y[:, :n], exchanged[:, :n], counts[:, :n], torch.ones(1)
    )
    assert asked(nothing).item() == pytest.approx(1.0)
    moved = nothing._replace(down=torch.ones(1, 1, 3), up=torch.ones(1, 2, 1))
    torch.testing.assert_close(asked(moved), asked(moved, 1))


def test_a_place_that_counts_more():
    linear, x = nn.Linear(3, 2, bias=False), torch.randn(1, 2, 3)
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    y = x.clone()
    y[0, 0] += 1
    moved = Factors(x[:, 1:] / x[0, 1].square().sum(), 0.1 * torch.ones(1, 2, 1))
    asked = lambda *counts: text_task.missing(
        Layer("to_k", 3, 2), backbone, moved, x, x, y, torch.tensor([[True, False]]), torch.tensor([counts]), torch.ones(1)
    ).item()
    assert asked(1.0, 3.0) - asked(1.0, 0.0) == pytest.approx(3 * (asked(1.0, 1.0) - asked(1.0, 0.0)), rel=1e-4)


def test_nothing_is_missing_where_rewriting_does_it_all():
    linear, x = nn.Linear(3, 2, bias=False), torch.randn(1, 2, 3)
    backbone = SimpleNamespace(diffusion_model=nn.ModuleDict({"to_k": linear}), compute_type=torch.float32)
    nothing, y, every = Factors(torch.zeros(1, 1, 3), torch.zeros(1, 2, 1)), x + 1, torch.ones(1, 2)
    asked = lambda read: text_task.missing(Layer("to_k", 3, 2), backbone, nothing, x, read, y, every > 0, every, torch.ones(1)).item()
    assert asked(x) == pytest.approx(1.0) and asked(y) == pytest.approx(0.0) and asked(x + 0.5) == pytest.approx(0.25)


def test_every_third_pair_stands_among_words_and_the_other_thing_is_wanted_as_the_mapped_prompt_has_it(comfy):
    from host.load import load_backbone

    demo = load_backbone("demo")
    beyond = torch.tensor([0.0, 0.0, 1.0])
    task = text_task.TextTask(demo, [PAIR] * 3, labels_of([PAIR] * 3, 1), beyond, ["house", "fish"], seed=0)
    text = demo.encode([PAIR.prompt.text, PAIR.mapped])
    places, its = answering(token_ids(demo, PAIR.prompt.text), token_ids(demo, PAIR.mapped), text.tokens.shape[1])
    for row in (1, 2):
        torch.testing.assert_close(task.text.tokens[row], text.tokens[0])
        assert task.answers.answered[row].nonzero().flatten().tolist() == places.tolist()
        ids, stays = token_ids(demo, PAIR.prompt.text), task.answers.stays[row].tolist()
        assert [i for i, stay in zip(ids, stays) if not stay] == token_ids(demo, "cat")[1:-1] and not any(stays[len(ids) :])
        torch.testing.assert_close(task.answers.change[row, places], text.tokens[1, its] - text.tokens[0, places])
    assert torch.equal(task.beyond, beyond)
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
    assert task.text.tokens.shape[:2] == (12, 77) and task.answers.change.isfinite().all()
