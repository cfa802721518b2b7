"""Closed forms that preserve by construction: the null space and the rotation, by their equations and on the demo base."""

import pytest
import torch

from evaluation import closed_forms
from trainer.prompts.concepts import Prompt, Target
from trainer.prompts.templates import fill

TEMPLATES = ["a {}, google style, on a blue background", "a drawing of a {}, yellow background, twitter style"]
KEPT = ["dog", "pig", "bear", "rabbit", "frog", "horse", "bird", "car", "house", "pizza", "apple", "ghost", "forest"]


def problem(kept=4, seed=0):
    """W (5, 9), C and C* of three states, K of `kept`, one state that never moves."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((5, 9), (3, 9), (3, 9), (kept, 9), (1, 9))]


def test_null_space_leaves_what_is_kept_and_maps_what_is_erased():
    weight, c, c_star, kept, invariant = problem()
    kept = kept[:1].repeat(4, 1)  # all of one influence, so that none is filtered away
    change = closed_forms.null_space(weight, c, c_star, torch.cat([kept, 1e-9 * kept]), invariant, 1e-6, 1e-9)
    assert (change @ kept.T).abs().max() < 1e-4 and (change @ invariant.T).abs().max() < 1e-4
    assert torch.allclose((weight + change) @ c.T, weight @ c_star.T, atol=1e-4)


def test_null_space_has_no_lower_neighbour_in_its_space():
    weight, c, c_star, kept, invariant = problem(kept=3)
    ridge = 0.3
    change = closed_forms.null_space(weight, c, c_star, kept, invariant, 1e-9, ridge).requires_grad_()
    loss = ((weight + change) @ c.T - weight @ c_star.T).square().sum() + ridge * change.square().sum()
    (gradient,) = torch.autograd.grad(loss, change)
    moved = (kept @ (weight @ (c_star - c).T @ c @ torch.linalg.inv(c.T @ c + ridge * torch.eye(9, dtype=c.dtype))).T).square().sum(1)
    free = closed_forms.free_directions(kept[moved > moved.mean()], invariant, 1e-9)
    assert free.shape[1] >= 5 and (gradient @ free).abs().max() < 1e-8 and gradient.abs().max() > 1e-2
    assert torch.allclose(change @ free @ free.T, change)


def test_nothing_free_changes_nothing():
    weight, c, c_star, kept, invariant = problem(kept=40)
    assert closed_forms.free_directions(kept, invariant, 1e-9).shape == (9, 0)
    assert not closed_forms.null_space(weight, c, c_star, kept[:1].repeat(3, 1), torch.eye(9), 1e-6, 0.1).any()


def test_rotation_is_orthogonal_and_none_is_better():
    weight, c, c_star, kept, _ = problem(kept=6)
    weight = weight[:, :5] @ torch.eye(5, 9, dtype=weight.dtype) + 0.1 * weight
    turned = weight + closed_forms.procrustes(weight, c, c_star, kept, 1.0, 2.0, 0.1)
    assert torch.allclose(turned.T @ turned, weight.T @ weight, atol=1e-10)  # lengths and angles of its columns

    def objective(q):
        erased, stays, rest = q @ weight @ c.T - weight @ c_star.T, (q @ weight - weight) @ kept.T, q @ weight - weight
        return erased.square().sum() + 2.0 * stays.square().sum() + 0.1 * rest.square().sum()

    q = turned @ torch.linalg.pinv(weight)
    least = objective(q)
    rng = torch.Generator().manual_seed(3)
    for size in (0.01, 0.1, 1.0):
        skew = torch.randn(5, 5, generator=rng, dtype=weight.dtype) * size
        assert objective(torch.matrix_exp(skew - skew.T) @ q) > least


def test_what_becomes_itself_does_not_turn():
    weight, c, _, kept, _ = problem()
    assert closed_forms.procrustes(weight, c, c, kept, 1.0, 1.0, 0.1).abs().max() < 1e-8


@pytest.mark.parametrize("edit", [closed_forms.speed, closed_forms.oce])
def test_they_erase_the_cat_and_keep_the_dog(comfy, edit):
    from demo.judge import NAMES, load_judge
    from evaluation.methods import edited
    from host.load import load_backbone

    backbone, judge = load_backbone("demo"), load_judge()
    targets = [Target(Prompt(fill(t, "cat"), False), fill(t, "forest"), (0,)) for t in TEMPLATES]
    method = edited("edit", backbone, edit(backbone, targets, [Prompt(fill(t, n), False) for t in TEMPLATES for n in KEPT]))
    texts = [fill(TEMPLATES[0], n) for n in ("cat", "cat", "dog", "dog")]
    noise = torch.stack([backbone.noise((64, 64), i) for i in range(4)])
    negative = backbone.encode([""]).repeated(4).conditioning()
    latents = backbone.sample(backbone.encode(texts).conditioning(), negative, (64, 64), 0, 8, 3.0, model=method.model, noise=noise)
    named = [NAMES[i] for i in judge.scores(backbone.decode(latents)).argmax(-1)]
    assert "cat" not in named and named[2:] == ["dog", "dog"]


def test_a_target_prompt_that_is_longer_than_its_mapped_one_where_prompts_are_padded_to_the_longest(comfy):
    from evaluation.baselines import editing_states
    from host.load import load_backbone

    backbone = load_backbone("demo-open")
    targets = [Target(Prompt("a drawing of a fire engine, on a blue background", False), "a drawing of a pine, on a blue background", (0,))]
    c, c_star, kept = editing_states(backbone, targets, [Prompt("a dog", False)], 77)
    assert c.shape == c_star.shape and len(c) > 5 and kept.shape[1] == c.shape[1] and not torch.allclose(c, c_star)
