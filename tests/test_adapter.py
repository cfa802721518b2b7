"""LoRA factors on activations: the same as merged weights, per row, and nothing left behind."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from unhype.adapter import Constant, Term, adapter, low_rank
from unhype.hypernetwork import Factors
from unhype.layers import Layer

LAYERS = (Layer("first", 6, 4), Layer("inner.second", 4, 5))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.inner = nn.ModuleDict({"second": nn.Linear(4, 5, bias=False)})

    def forward(self, x):
        return self.inner["second"](self.first(x).tanh())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().requires_grad_(False)


def some_factors(rows: int, rank: int = 2, requires_grad: bool = False) -> list[Factors]:
    return [
        Factors(
            torch.randn(rows, rank, n.inputs).requires_grad_(requires_grad),
            torch.randn(rows, n.outputs, rank).requires_grad_(requires_grad),
        )
        for n in LAYERS
    ]


def merged(model, x, factors):
    """One row through the weights W + up @ down."""
    first, second = (m.weight + f.up @ f.down for m, f in zip((model.first, model.inner["second"]), factors))
    return (x @ first.T + model.first.bias).tanh() @ second.T


def pair(factors, n):
    return [Factors(f.down[n], f.up[n]) for f in factors]


@pytest.mark.parametrize("shape", [(3, 6), (3, 7, 6), (3, 2, 5, 6)])
def test_every_row_gets_its_own_merged_weight(model, shape):
    x, factors = torch.randn(shape), some_factors(3)
    with adapter(model, [Term(torch.arange(3), LAYERS, factors)], 3):
        y = model(x)
    torch.testing.assert_close(y, torch.stack([merged(model, x[n], pair(factors, n)) for n in range(3)]))


@pytest.mark.parametrize("rows", [[1, 3], [3, 1], [2], [3, 0, 2, 1]])
def test_rows_pick_their_pair_and_the_others_stay_bit_equal(model, rows):
    x, factors = torch.randn(4, 7, 6), some_factors(len(rows))
    plain = model(x)
    with adapter(model, [Term(torch.tensor(rows), LAYERS, factors)], 4):
        y = model(x)
    for n in range(4):
        if n in rows:
            torch.testing.assert_close(y[n], merged(model, x[n], pair(factors, rows.index(n))))
        else:
            assert torch.equal(y[n], plain[n])


class Copies(TorchDispatchMode):
    """Counts tensors that are moved to another device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.count += func is torch.ops.aten._to_copy.default and out.device != args[0].device
        return out


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]])
def test_factors_go_to_the_device_that_a_row_is_computed_on(rows):
    """Work split over several devices: the factors lie on the sampler's, and are moved once however often a layer runs."""
    there, x, factors = Model().to("meta"), torch.randn(3, 7, 6, device="meta"), some_factors(len(rows))
    with Copies() as copies, adapter(there, [Term(torch.tensor(rows), LAYERS, factors)], 3):
        assert there(x).shape == there(x).shape == (3, 7, 5) and there(x).is_meta
    assert copies.count == len(LAYERS) * (2 if len(rows) == 3 else 3)
    assert all(t.device.type == "cpu" for f in factors for t in f[:2])


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2]])
def test_under_autocast_it_is_the_same_with_and_without_gradients(model, rows):
    """There a product is of 8 bits of mantissa, whatever its factors are."""
    x, factors = torch.randn(3, 7, 6), pair(some_factors(3), rows)
    found = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), torch.autocast("cpu", torch.bfloat16):
            with adapter(model, [Term(torch.tensor(rows), LAYERS, factors)], 3):
                found.append(model(x))
    assert found[0].dtype == torch.bfloat16
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.1)
    with adapter(model, [Term(torch.tensor(rows), LAYERS, factors)], 3):
        torch.testing.assert_close(found[1].float(), model(x), rtol=0.05, atol=0.1)


def test_terms_on_the_same_row_add_up(model):
    x, one, other = torch.randn(3, 7, 6), some_factors(3), some_factors(2)
    with adapter(model, [Term(torch.arange(3), LAYERS, one), Term(torch.tensor([0, 2]), LAYERS, other)], 3):
        y = model(x)
    both = [Factors(torch.cat([f.down[[0, 2]], g.down], 1), torch.cat([f.up[[0, 2]], g.up], 2)) for f, g in zip(one, other)]
    for n, expected in ((0, pair(both, 0)), (1, pair(one, 1)), (2, pair(both, 1))):
        torch.testing.assert_close(y[n], merged(model, x[n], expected))


def test_terms_may_name_different_layers(model):
    x, factors = torch.randn(2, 6), some_factors(2)
    terms = [Term(torch.arange(2), LAYERS[:1], factors[:1]), Term(torch.arange(2), LAYERS[1:], factors[1:])]
    with adapter(model, terms, 2):
        y = model(x)
    torch.testing.assert_close(y, torch.stack([merged(model, x[n], pair(factors, n)) for n in range(2)]))


def test_a_half_precision_model_keeps_its_type(model):
    model, x, factors = model.bfloat16(), torch.randn(2, 7, 6).bfloat16(), some_factors(2)
    with adapter(model, [Term(torch.arange(2), LAYERS[:1], factors[:1])], 2):
        y = model.first(x)
    exact = nn.functional.linear(x, model.first.weight, model.first.bias) + low_rank(x.float(), factors[0]).bfloat16()
    assert y.dtype == torch.bfloat16 and torch.equal(y, exact)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_of_a_fused_layer_only_some_columns_change(rows, start):
    torch.manual_seed(0)
    fused, x = nn.Linear(6, 7).requires_grad_(False), torch.randn(3, 5, 6)
    layer = Layer("0", 6, 4, start)
    factors = Factors(torch.randn(len(rows), 2, 6), torch.randn(len(rows), 4, 2))
    plain = fused(x)
    with adapter(nn.ModuleList([fused]), [Term(torch.tensor(rows), (layer,), [factors])], 3):
        y = fused(x)
    own = slice(start, start + 4)
    outside = torch.ones(7, dtype=torch.bool)
    outside[own] = False
    assert torch.equal(y[..., outside], plain[..., outside])
    for n in range(3):
        weight = fused.weight.clone()
        if n in rows:
            weight[own] += factors.up[rows.index(n)] @ factors.down[rows.index(n)]
            torch.testing.assert_close(y[n], x[n] @ weight.T + fused.bias)
        else:
            assert torch.equal(y[n], plain[n])


def hooks(model):
    return [h for m in model.modules() for h in m._forward_hooks]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(model, fails):
    x = torch.randn(2, 6)
    plain, weights = model(x), {k: v.clone() for k, v in model.state_dict().items()}
    try:
        with adapter(model, [Term(torch.arange(2), LAYERS, some_factors(2))], 2):
            assert len(hooks(model)) == 2 and not torch.equal(model(x), plain)
            if fails:
                raise KeyError("inside")
    except KeyError:
        assert fails
    assert not hooks(model) and torch.equal(model(x), plain)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_another_number_of_rows_is_refused(model):
    with pytest.raises(RuntimeError, match="layer first was called with 4 rows where the sampler announced 2"):
        with adapter(model, [Term(torch.arange(2), LAYERS, some_factors(2))], 2):
            model(torch.randn(4, 6))
    assert not hooks(model)


def test_a_layer_that_never_ran_is_refused(model):
    with pytest.raises(RuntimeError, match="1 of 2 layers never ran"):
        with adapter(model, [Term(torch.arange(2), LAYERS, some_factors(2))], 2):
            model.first(torch.randn(2, 6))
    assert not hooks(model)


def test_an_unknown_layer_leaves_no_hook(model):
    with pytest.raises(AttributeError, match="nowhere"):
        with adapter(model, [Term(torch.arange(2), (LAYERS[0], Layer("nowhere", 6, 4)), some_factors(2))], 2):
            pass
    assert not hooks(model)


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2]])
def test_gradients_are_those_of_a_merged_weight(model, rows):
    x, factors, wanted = torch.randn(3, 7, 6), some_factors(len(rows), requires_grad=True), torch.randn(3, 7, 5)
    leaves = [t for f in factors for t in f[:2]]
    with adapter(model, [Term(torch.tensor(rows), LAYERS, factors)], 3):
        got = torch.autograd.grad((model(x) - wanted).square().sum(), leaves)
    loss = sum((merged(model, x[n], pair(factors, i)) - wanted[n]).square().sum() for i, n in enumerate(rows))
    expected = torch.autograd.grad(loss, leaves)
    for g, e in zip(got, expected):
        assert g.abs().max() > 0
        torch.testing.assert_close(g, e)


@pytest.mark.parametrize("rows", [[1, 2], [3, 1], [0, 1, 2, 3], [2]])
@pytest.mark.parametrize("alike", [[0, 1, 2, 3], [5, 7, 7, 5]])
def test_what_layers_read_again_is_changed_as_before(model, rows, alike):
    """The rows of one number are equal, and have equal pairs."""
    states, pairs = torch.randn(8, 7, 6)[alike], [Factors(f.down[alike][rows], f.up[alike][rows]) for f in some_factors(8)]
    terms = [Term(torch.tensor(rows), LAYERS[:1], pairs[:1])]
    with torch.no_grad(), adapter(model, terms, 4):
        expected = model.first(states)
    constant, seen = Constant(states, alike), []
    for _ in range(3):
        with torch.no_grad(), adapter(model, terms, 4, constant):
            seen.append(model.first(constant.tensor))
    for y in seen:
        torch.testing.assert_close(y, expected)
        assert all(torch.equal(y[n], model.first(states)[n]) for n in range(4) if n not in rows)
    assert len(constant.kept) == 1


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm_.default)
        return func(*args, **(kwargs or {}))


def test_a_change_is_made_once_for_one_input_and_one_pair(model):
    states, terms = torch.randn(2, 7, 6), [Term(torch.arange(2), LAYERS[:1], some_factors(2)[:1])]
    constant = Constant(states, [0, 1])

    def products(x: torch.Tensor, some: list[Term]) -> int:
        with torch.no_grad(), adapter(model, some, 2, constant), Products() as counted:
            y = model.first(x)
        (term,) = some
        merged_weights = [model.first.weight + f @ g for f, g in zip(term.factors[0].up, term.factors[0].down)]
        torch.testing.assert_close(y, torch.stack([row @ w.T + model.first.bias for row, w in zip(x, merged_weights)]))
        return counted.count

    assert products(states, terms) == 2 and products(states, terms) == 0
    assert products(states.clone(), terms) == 2  # equal, but not the very same
    assert products(states * 2, terms) == 2 and products(states, terms) == 0
    others = [terms[0]._replace(factors=some_factors(2)[:1])]
    assert products(states, others) == 2 and products(states, others) == 0 and products(states, terms) == 2


def test_no_more_is_kept_than_there_is_room_for(model, monkeypatch):
    monkeypatch.setattr("unhype.adapter.MOST", 2 * 7 * 4)
    states = torch.randn(2, 7, 6)
    terms = [Term(torch.arange(2), LAYERS[:1], some_factors(2)[:1]) for _ in range(3)]
    constant = Constant(states, [0, 1])
    with torch.no_grad():
        with adapter(model, terms, 2):
            expected = model.first(states)
        for _ in range(2):
            with adapter(model, terms, 2, constant):
                torch.testing.assert_close(model.first(states), expected)
    assert len(constant.kept) == 1


def test_a_gradient_is_taken_as_without(model):
    states, factors = torch.randn(2, 7, 6), some_factors(2, requires_grad=True)
    constant = Constant(states, [0, 1])
    for _ in range(2):
        with adapter(model, [Term(torch.arange(2), LAYERS, factors)], 2, constant):
            got = torch.autograd.grad(model(states).square().sum(), [t for f in factors for t in f[:2]])
        assert all(g.abs().max() > 0 for g in got)
    assert not constant.kept
