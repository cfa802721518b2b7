"""Fitting and calibrating the switch on synthetic prompts, and the state that --resume continues from."""

import errno
import math
import random
import struct

import pytest
import torch
from safetensors.torch import load_file

from trainer.config import Config, ConfigError
from trainer.run.sealed import Damaged, read_sealed, write_sealed
from trainer.state import load_state, refuse_other_settings, save_state, state_path
from trainer.states import States
from trainer.switch import MARGIN, SELDOM, TAIL, UNKNOWN, calibrate, fit_switch, scores
from unhype import checkpoint
from unhype.condition import Condition, read_condition
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

K, T, D, P = 2, 8, 12, 4


def new_network(concepts: int = K, look: int = 0) -> Hypernetwork:
    torch.manual_seed(0)
    sizes = {"rank": 1, "steps": 10, "hidden": 4, "queries": 1, "pooled_dim": P, "token_dim": D}
    return Hypernetwork(Shape((Layer("a", 3, 3),), **sizes, concepts=concepts, look=look))


def prompts(count: int, seed: int) -> tuple[Condition, torch.Tensor]:
    """Token states around 1; concept k's word, somewhere in its prompts, stands out along its own direction."""
    rng = torch.Generator().manual_seed(seed)
    tokens = 1 + torch.randn(count, T, D, generator=rng)
    labels = torch.zeros(count, K)
    for n in range(count):
        if (k := n % (K + 1)) < K:
            labels[n, k] = 1
            tokens[n, int(torch.randint(T - 3, (), generator=rng))] += 12 * torch.eye(D)[k]
        tokens[n, T - int(torch.randint(3, (), generator=rng)) :] = 0  # shorter than the longest
    return read_condition(tokens, torch.randn(count, P, generator=rng)), labels


def fitted(look: int = 0):
    network, (seen, labels) = new_network(look=look), prompts(90, seed=1)
    network.standardise.fit(seen)
    fit_switch(network, States.of(seen), labels, seed=0)
    return network


@pytest.mark.parametrize("look", [0, 16])
def test_separable_concepts_are_told_apart_on_held_out_prompts(look):
    network, (held_out, labels) = fitted(look), prompts(60, seed=2)
    for k, report in enumerate(calibrate(network, States.of(held_out), labels)):
        assert (report["misses"], report["false_alarms"], report["targets"], report["safe"]) == (0, 0, 20, 40)
        assert report["highest_safe"] < report["threshold"] < report["lowest_target"]
        found = network.scores(held_out)[:, k]  # of the states as they are, not in half precision
        assert found[labels[:, k] == 1].quantile(TAIL).item() == pytest.approx(report["lowest_target"], abs=0.02)
        assert found[labels[:, k] == 0].quantile(1 - TAIL).item() == pytest.approx(report["highest_safe"], abs=0.02)
    fresh, labels = prompts(60, seed=3)
    assert torch.equal(network.scores(fresh) > network.switch.threshold, labels == 1)
    assert torch.equal(network.fires(fresh), labels.any(1))


def test_a_hidden_layer_tells_apart_what_no_line_parts():
    """Of a state's first two numbers neither alone is the concept, nor none: both together or both missing are not."""
    rng = torch.Generator().manual_seed(0)
    tokens = 1 + 0.1 * torch.randn(400, 1, D, generator=rng)
    one, other = (torch.rand(400, generator=rng) < 0.5 for _ in range(2))
    tokens[:, 0, 0] += 4 * one
    tokens[:, 0, 1] += 4 * other
    condition, labels = read_condition(tokens, torch.zeros(400, P)), (one ^ other)[:, None].float()
    right = {}
    for look in (0, 16):
        network = new_network(1, look)
        network.standardise.fit(condition)
        fit_switch(network, States.of(condition), labels, seed=0)
        right[look] = ((network.scores(condition) > 0) == (labels == 1)).float().mean().item()
    assert right[16] == 1 and right[0] < 0.9


def test_a_prompt_of_two_concepts_reaches_both_and_fires_while_one_of_them_is_on():
    network, (held_out, labels) = fitted(), prompts(60, seed=2)
    calibrate(network, States.of(held_out), labels)
    tokens = torch.ones(1, T, D)
    tokens[0, 1] += 12 * torch.eye(D)[0]
    tokens[0, 4] += 12 * torch.eye(D)[1]
    both = read_condition(tokens, torch.zeros(1, P))
    assert (network.scores(both) > network.switch.threshold).all()
    off = torch.tensor([[False, False], [False, True], [True, False], [True, True]])
    assert network.fires(both.rows([0] * 4), off).tolist() == [True, True, True, False]


def many(concepts: int, seed: int) -> tuple[States, torch.Tensor]:
    """Three hundred safe prompts, and twenty of each concept: its word, and in every fifth of them that of the next one as well."""
    rng = torch.Generator().manual_seed(seed)
    of = [*[-1] * 300, *(k for k in range(concepts) for _ in range(20))]
    tokens, labels = torch.randn(len(of), T, D, generator=rng), torch.zeros(len(of), concepts)
    for n, k in enumerate(of):
        for concept in [] if k < 0 else [k, (k + 1) % D] if n % 5 == 0 else [k]:
            tokens[n, int(torch.randint(T, (), generator=rng))] += 12 * torch.eye(D)[concept]
            if concept < concepts:
                labels[n, concept] = 1
    return States.of(read_condition(tokens, torch.zeros(len(of), P))), labels


def test_a_threshold_does_not_move_with_the_number_of_concepts():
    report = {}
    for concepts in (1, D):
        network = new_network(concepts)
        fit_switch(network, *many(concepts, seed=1), seed=0)
        report[concepts] = calibrate(network, *many(concepts, seed=2))[0]
    alone, among = report[1], report[D]
    assert (among["misses"], among["false_alarms"]) == (alone["misses"], alone["false_alarms"]) == (0, 0)
    gap = alone["lowest_target"] - alone["highest_safe"]
    assert abs(among["threshold"] - alone["threshold"]) < 0.3 * gap
    assert among["lowest_target"] - among["highest_safe"] > 0.5 * gap


def test_a_prompt_that_may_mean_a_concept_is_neither_fitted_nor_judged():
    (states, labels), found = many(2, seed=1), []
    labels[:5] = UNKNOWN
    for strange in (0, 30):
        states.flat[: 5 * T] = strange
        network = new_network()
        fit_switch(network, states, labels, seed=0)
        report = calibrate(network, states, labels)
        assert [r["safe"] for r in report] == [int((labels[:, k] == 0).sum()) for k in range(K)]
        found.append((scores(network, states)[5:], report))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def calibrated(target: list[float], safe: list[float]) -> dict:
    """The report of a switch whose scores are the tokens themselves."""
    network = new_network()
    network.switch.weight.data[:, 0] = 1
    tokens = torch.ones(len(target) + len(safe), 1, D)
    tokens[:, 0, 0] = torch.tensor([*target, *safe])
    labels = torch.tensor([1.0] * len(target) + [0] * len(safe))[:, None].repeat(1, K)
    first, second = calibrate(network, States.of(read_condition(tokens, torch.zeros(len(tokens), P))), labels)
    assert first == second
    return first


def test_a_safe_prompt_that_scores_like_a_target_is_an_error_and_does_not_lift_the_threshold():
    report = calibrated([7, 8, 9], [0, -1, -2, -3, 8.5])
    assert (report["lowest_target"], report["highest_safe"]) == (pytest.approx(7 + 2 * TAIL), pytest.approx(-3 * TAIL, abs=1e-6))
    assert report["threshold"] == pytest.approx(MARGIN * report["lowest_target"] + (1 - MARGIN) * report["highest_safe"])
    assert (report["misses"], report["false_alarms"]) == (0, pytest.approx(0.2))


def test_the_threshold_lies_where_safe_scores_have_thinned_out_not_farther_from_them_than_it_must():
    safe = (-torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.double).log()).tolist()  # exponential
    far, near = calibrated([90, 91, 92], safe), calibrated([9.5, 9.6, 9.7], safe)
    assert far["threshold"] == pytest.approx(-math.log(SELDOM), rel=0.1)
    assert far["highest_safe"] < far["threshold"] < MARGIN * far["lowest_target"]
    assert near["threshold"] == pytest.approx(MARGIN * near["lowest_target"] + (1 - MARGIN) * near["highest_safe"], rel=1e-3)


def test_a_target_that_scores_like_a_safe_prompt_is_missed():
    report = calibrated([7, 8, 9, -1], [0, -1, -2, -3])
    assert report["highest_safe"] < report["threshold"] < 7
    assert (report["misses"], report["false_alarms"]) == (0.25, 0)


def test_what_overlaps_is_counted():
    report = calibrated([1, 2, 3, 4], [0, 0, 0, 3])
    assert 0 < report["threshold"] < 1
    assert (report["misses"], report["false_alarms"]) == (0, 0.25)


@pytest.mark.parametrize("target, safe", [([1, 2], [3, 4]), ([1, 1], [1, 1])])
def test_a_switch_that_tells_nothing_apart_is_reported_as_such(target, safe):
    report = calibrated(target, safe)
    assert report["misses"] == 1 or report["false_alarms"] == 1


@pytest.mark.parametrize("label, says", [(0, "0 name it and 6 do not"), (1, "6 name it and 0 do not")])
def test_a_concept_without_held_out_prompts_cannot_be_calibrated(label, says):
    with pytest.raises(ValueError, match=f"concept 1 cannot be calibrated.*{says}.*more templates"):
        calibrate(new_network(), States.of(prompts(6, seed=0)[0]), torch.full((6, K), label))


# The state of a training


def training(config: Config):
    network = new_network()
    return network, torch.optim.Adam(network.parameters(), lr=0.01), torch.Generator().manual_seed(config.seed)


def steps(network, optimizer, rng, count: int) -> None:
    for _ in range(count):
        condition = read_condition(torch.randn(3, T, D, generator=rng), torch.randn(3, P, generator=rng))
        factors = network(condition, 10 * torch.rand(3, generator=rng))
        loss = sum((f.up @ f.down - 1).square().mean() for f in factors) + network.scores(condition).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture
def config(tmp_path):
    return Config(base="demo", erase=["cat -> forest"], out=str(tmp_path / "cat.safetensors"))


def test_a_resumed_training_continues_bit_for_bit(config):
    whole = training(config)
    steps(*whole, 3)
    save_state(config, 3, *whole)
    steps(*whole, 4)
    resumed = training(config)
    config.iterations, config.preview_every = 999, 0  # may change
    assert load_state(config, *resumed) == 3
    state_path(config).unlink()  # nothing is read from it any more
    steps(*resumed, 4)
    for (name, a), b in zip(whole[0].state_dict().items(), resumed[0].state_dict().values()):
        assert torch.equal(a, b), name
    assert torch.equal(whole[2].get_state(), resumed[2].get_state())


def test_loaded_state_does_not_depend_on_its_file(config):
    steps(*(run := training(config)), 2)
    save_state(config, 2, *run)
    expected = load_file(state_path(config))
    expected = {k: v.clone() for k, v in expected.items()}
    network, optimizer, rng = training(config)
    load_state(config, network, optimizer, rng)
    with open(state_path(config), "r+b") as f:
        f.write(bytes(state_path(config).stat().st_size))
    for name, p in network.named_parameters():
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, expected[f"optimizer.{name}.{key}"])


def test_a_state_of_other_settings_is_refused(config):
    save_state(config, 1, *training(config))
    config.learning_rate = 2e-4
    with pytest.raises(ConfigError) as error:
        load_state(config, *training(config))
    assert str(state_path(config)) in str(error.value) and "other settings" in str(error.value)


def test_no_state_is_named(config):
    with pytest.raises(FileNotFoundError) as error:
        load_state(config, *training(config))
    assert str(state_path(config)) in str(error.value) and "without --resume" in str(error.value)


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """A file with one to three bytes changed, some cut out or put in, or cut off; half of them in the header."""
    (length,) = struct.unpack("<Q", whole[:8])
    place = rng.randrange(8 + length if rng.random() < 0.5 else len(whole))
    kind = rng.randrange(4)
    if kind == 0:
        return whole[:place]
    if kind == 1:
        return whole[:place] + whole[place + rng.randrange(1, 20) :]
    if kind == 2:
        return whole[:place] + rng.randbytes(rng.randrange(1, 20)) + whole[place:]
    changed = bytearray(whole)
    for at in (place, *(rng.randrange(len(whole)) for _ in range(rng.randrange(3)))):
        changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), rng.randrange(256), ord("9")))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_state_is_one_line_that_names_the_file_or_changes_nothing(config, seed):
    steps(*(run := training(config)), 2)
    save_state(config, 2, *run)
    path, rng, refused = state_path(config), random.Random(seed), 0
    whole = path.read_bytes()
    network, optimizer, generator = training(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for _ in range(250):
        path.write_bytes(mutated(whole, rng))
        try:
            assert load_state(config, network, optimizer, generator, lambda text: None) == 2
        except (Damaged, ConfigError) as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()) and not optimizer.state
        else:
            assert all(torch.equal(value, run[0].state_dict()[name]) for name, value in network.state_dict().items())
            assert torch.equal(generator.get_state(), run[2].get_state())
            network, optimizer, generator = training(config)
            before = {name: value.clone() for name, value in network.state_dict().items()}
    assert refused > 200


@pytest.mark.parametrize(
    "change, says",
    [
        ({"iteration": "999999999"}, "at iteration 999999999, and these settings make at most 1000: give at least as many"),
        ({"iteration": "-1"}, "no whole number"),
        ({"iteration": "2.5"}, "no whole number"),
        ({"config": ""}, "nothing of its settings"),
        ({"network.concept": torch.zeros(K, 5)}, "tensor network.concept is missing, not of this training or of another size"),
        ({"network.concept": torch.zeros(K, 4, dtype=torch.int64)}, "tensor network.concept is missing"),
        ({"network.concept": None}, "tensor network.concept is missing"),
        ({"network.more": torch.zeros(1)}, "tensor network.more is missing, not of this training"),
        ({"optimizer.concept.exp_avg": None}, "tensor optimizer.concept.exp_avg is missing"),
        ({"optimizer.concept.step": torch.tensor(torch.nan)}, "optimizer.concept.step holds NaN"),
        ({"rng": torch.zeros(5056, dtype=torch.uint8)}, "its random state is none"),
        ({"rng": torch.zeros(5055, dtype=torch.uint8)}, "tensor rng is missing, not of this training or of another size"),
    ],
)
def test_a_state_is_judged_as_strictly_as_an_eraser(config, change, says):
    """Also where whoever made it sealed it."""
    steps(*(run := training(config)), 2)
    save_state(config, 2, *run)
    path = state_path(config)
    tensors, metadata = read_sealed(path, lambda *_: None)
    texts = {k: v for k, v in change.items() if isinstance(v, str)}
    values = {k: v for k, v in (tensors | change).items() if isinstance(v, torch.Tensor)}
    write_sealed(values, path, metadata | texts)
    with pytest.raises((Damaged, ConfigError)) as error:
        load_state(config, *training(config))
    assert str(path) in str(error.value) and says in str(error.value) and "start without --resume" in str(error.value)


@pytest.mark.parametrize("left", [0, 7, 500, -1])
def test_a_newest_state_that_is_cut_off_falls_back_to_the_one_before(config, left):
    steps(*(run := training(config)), 1)
    save_state(config, 1, *run)
    expected = {name: value.clone() for name, value in run[0].state_dict().items()}
    steps(*run, 1)
    save_state(config, 2, *run)
    path, said = state_path(config), []
    path.write_bytes(path.read_bytes()[:left])
    resumed = training(config)
    assert load_state(config, *resumed, said.append) == 1
    assert all(torch.equal(value, expected[name]) for name, value in resumed[0].state_dict().items())
    assert said[0].startswith(f"warning: {path} is damaged") and "the state before it is taken" in said[0] and "iteration 1" in said[1]
    path.unlink()  # as a kill between the two renamings leaves it
    assert load_state(config, *training(config), said.append) == 1


def test_other_settings_are_refused_before_anything_is_written(config):
    save_state(config, 1, *training(config))
    refuse_other_settings(config)
    config.vae, config.most_misses = "other.safetensors", 0.5  # may change
    refuse_other_settings(config)
    config.rank += 1
    with pytest.raises(ConfigError, match="made with other settings"):
        refuse_other_settings(config)


def test_a_full_disk_keeps_the_former_state(config, monkeypatch):
    run = training(config)
    save_state(config, 1, *run)
    path = state_path(config)
    former = path.read_bytes()

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    steps(*run, 1)
    with pytest.raises(OSError, match="No space left") as error:
        save_state(config, 2, *run)
    assert str(path) in str(error.value) and path.read_bytes() == former and list(path.parent.iterdir()) == [path]
