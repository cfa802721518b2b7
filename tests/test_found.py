"""Settings that are found: the learning rate by a short test, the steps by looks at held-out prompts, the best weights kept."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from trainer import train as training
from trainer.config import Config, from_mapping
from trainer.found import finder as finding
from trainer.found.course import Course
from trainer.found.finder import Finder
from trainer.found.look import Look, Seen
from trainer.found.rate import BETWEEN, STEPS, chosen, find_rate
from trainer.optimizer import new_optimizer, rate, update
from trainer.prompts.written import written
from trainer.run.beside import former_state_path, log_path, page_path, state_path
from trainer.run.divergence import Diverged
from trainer.run.sealed import Damaged
from trainer.run.stop import StopRequest
from trainer.settings.fields import MOST_STEPS

OPEN = Config(erase=["cat -> forest"], least_erased=0.5, most_leaked=0.1, learning_rate=1e-3)
EVERY = 20


class Shown:
    """A look that finds what it is told, by how often it was asked."""

    every = EVERY

    def __init__(self, found):
        self.found, self.asked = found, 0

    def at(self, network) -> Seen:
        self.asked += 1
        return self.found(self.asked)


def followed(monkeypatch, found, config=OPEN, most=MOST_STEPS):
    """A training whose n-th look finds found(n), and whose weight is its step's number; the finder, network and how long it was."""
    monkeypatch.setattr(finding, "Look", lambda *_: Shown(found))
    said = []
    finder, network, done = Finder(config, None, set(), said.append), nn.Linear(1, 1), 0
    current = finder.begin(network, None)
    while done < current.iterations:
        done += 1
        nn.init.constant_(network.weight, done)
        finder.passed(done, network)
        current = finder.config()
    return finder, network, done, said


def reached(looks: int, share: float = 0.8, leaked: float = 0.01):
    """Shares that rise evenly to one and stay there."""
    return lambda n: Seen([share * min(1.0, n / looks)], leaked)


def test_it_ends_when_bars_hold_and_nothing_is_gained(monkeypatch):
    finder, network, done, said = followed(monkeypatch, reached(10))
    full = 200 + 80  # the last gain, and the looks that are a quarter of all steps
    assert done == math.ceil(full / 0.6) and f"at step {done}" in said[0] and len(said) == 1
    assert finder.metrics() == {"learning_rate": 1e-3, "iterations": done, "look_every": EVERY, "best": 0.8, "best_at": 200}
    assert network.weight.item() == done


def test_it_waits_for_three_looks_and_a_quarter_of_its_steps(monkeypatch):
    assert followed(monkeypatch, reached(5))[2] == math.ceil((100 + 60) / 0.6)
    assert followed(monkeypatch, reached(20))[2] == math.ceil((400 + 140) / 0.6)


@pytest.mark.parametrize(
    "found, changes",
    [
        (reached(10, 0.4), {}),  # least_erased
        (reached(10, leaked=0.2), {}),  # most_leaked
        (lambda n: Seen([0.9, 0.3 if n < 60 else 0.2], 0.0), {}),  # one concept is left
        (lambda n: Seen([0.8], 0.2 if n % 3 else 0.0), {}),  # lucky looks
        (lambda n: Seen([0.02 * n], 0.0), {}),  # gains
        (reached(10, 0.8), {"least_erased": 0.9}),
        (lambda n: Seen([math.nan], math.nan), {}),
    ],
)
def test_it_goes_on_to_its_cap(monkeypatch, found, changes):
    assert followed(monkeypatch, found, replace(OPEN, **changes))[2] == MOST_STEPS


def test_steps_that_are_given_are_made(monkeypatch):
    finder, _, done, said = followed(monkeypatch, reached(1), replace(OPEN, iterations=333, look_every=7))
    assert done == 333 and not said and not finder.weights and finder.look.asked == 333 // 7 + 1


def test_the_rate_comes_down_from_where_it_is_to_zero():
    half_way = replace(OPEN, iterations=1000)
    for done in (100, 260, 600):
        rest = replace(OPEN, iterations=math.ceil(done / 0.6))
        assert rate(half_way, done) == 1e-3 == pytest.approx(rate(rest, done), rel=0.01)
        assert rate(rest, rest.iterations - 1) < 0.02e-3


def test_the_best_weights_are_kept_where_the_last_are_worse(monkeypatch):
    finder, network, done, said = followed(monkeypatch, lambda n: Seen([0.8 if n == 5 else 0.6], 0.0))
    assert network.weight.item() == 5 * EVERY and "back to the weights of step 100" in said[-1] and done < MOST_STEPS
    _, network, done, said = followed(monkeypatch, lambda n: Seen([0.605 if n == 5 else 0.6], 0.0))
    assert network.weight.item() == done and "back" not in said[-1]  # by no more than looks differ


def test_what_is_found_is_read_back_and_nothing_else():
    course = Course(3e-3, 434, 260, 0.79, 0.8, 240)
    assert Course.read(course.written(), "x") == course and Course.read(Course(0.1, 5).written(), "x") == Course(0.1, 5)
    assert "Infinity" not in Course(0.1, 5).written()
    for wrong in ("", "[]", "{}", "null", "[1", "[0.1, 5, 0, null, null]", '["a", 5, 0, null, null, 0]', "[0.1, 5.5, 0, null, null, 0]"):
        with pytest.raises(Damaged, match="^x is damaged"):
            Course.read(wrong, "x")
    for wrong in ("[2.0, 5, 0, 0, 0, 0]", "[NaN, 5, 0, 0, 0, 0]", "[0.1, 5, -1, 0, 0, 0]", "[0.1, 5, 0, 3, 0, 0]", "[" * 100_000):
        with pytest.raises(Damaged):
            Course.read(wrong, "x")


class Slope(nn.Module):
    """Weights that are to come to `aim`: far more are wanted of some bases than of others."""

    def __init__(self, aim: float):
        super().__init__()
        self.heads, self.aim = nn.Parameter(torch.zeros(50)), aim * torch.linspace(0.5, 1.5, 50)
        self.concept = nn.Parameter(torch.zeros(1))

    def missing(self) -> torch.Tensor:
        return (self.heads - self.aim).square().mean() / self.aim.square().mean()


def step_of(network):
    def step(config, optimizer, rng, iteration):
        network.zero_grad()
        loss = network.missing() + 0 * network.concept.sum()
        if not loss < 1e3:
            raise Diverged("no numbers")
        loss.backward()
        update(optimizer, config, iteration)

    return step


class Sloped:
    def at(self, network):
        return Seen([1 - network.missing().item()], 0.0)


@pytest.mark.parametrize("aim", [0.01, 0.1, 1.0])
def test_the_rate_fits_the_base(aim):
    """With the rate that is found 150 steps are enough, however large the wanted weights are; the test itself leaves no trace."""
    network, config = Slope(aim), replace(OPEN, learning_rate=0.0, iterations=150)
    state = torch.get_rng_state()
    found = find_rate(network, config, Sloped(), step_of(network), lambda text: None)
    assert not network.heads.any() and network.heads.grad is None and (torch.get_rng_state() == state).all()
    config = replace(config, learning_rate=found)
    optimizer, step = new_optimizer(network, config), step_of(network)
    for i in range(150):
        step(config, optimizer, None, i)
    assert network.missing() < 0.02


LADDER = [1e-5 * 10 ** (k / 5) for k in range(20)]


@pytest.mark.parametrize(
    "shares, at",
    [
        ([0.8 * min(1, 2.0 ** (k - 10)) for k in range(20)], 10),  # all that can be reached is, and nothing is spoilt
        ([0.8 * min(1, 2.0 ** (k - 10)) if k < 15 else -1.0 for k in range(20)], 10),
        ([0.8 * min(1, 2.0 ** (k - 10)) if k != 12 else 0.1 for k in range(20)], 10),  # one step too far
        ([0.8 * min(1, 2.0 ** (k - 10)) if k < 18 else math.nan for k in range(20)], 10),
    ],
)
def test_the_lowest_rate_that_comes_near_the_best_is_taken(shares, at):
    assert chosen(list(zip(LADDER, shares))) == pytest.approx(LADDER[at], rel=0.6)  # medians are a look off at a bend


def test_a_rate_at_the_edge_is_not_taken():
    """Where it gets the better the faster it goes until it diverges: half of the last good rate."""
    looks = list(zip(LADDER[:13], [0.01 * 1.3**k for k in range(13)]))
    assert chosen(looks) == pytest.approx(LADDER[12] / 2, rel=0.4) and chosen([]) == chosen([(1e-5, 0.3)]) == 1e-5


def test_a_rate_that_diverges_is_not_taken():
    network, calls = Slope(1.0), []

    def step(config, optimizer, rng, iteration):
        calls.append(config.learning_rate)
        if config.learning_rate > 1e-3:
            raise Diverged("no numbers")
        step_of(network)(config, optimizer, rng, iteration)

    assert 1e-5 < find_rate(network, OPEN, Sloped(), step, lambda text: None) < 1e-3 < calls[-1] and len(calls) < STEPS
    assert BETWEEN < STEPS


# --- a training ---

OWN = {
    "least_erased": 0.0,
    "most_leaked": 1.0,
    "look_every": 1,
    "save_every": 2,
}


WRITTEN = "".join(f"# kind {kind}\na {{house}} of kind {kind} in the rain\nno {kind} today, only a {{dog}}\n" for kind in "abcde")


class StopAt(StopRequest):
    """Asks to stop when it is told to."""

    def __enter__(self):
        self.asked = False
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(scope="module")
def trained(comfy, tiny, tmp_path_factory):
    """A function: train an eraser of this name, stopped after so many steps; its path and what was said."""
    from host.load import load_backbone

    backbone, folder, texts = load_backbone("demo"), tmp_path_factory.mktemp("found"), tmp_path_factory.mktemp("texts")
    (texts / "some.txt").write_text(WRITTEN, encoding="utf-8")
    written.cache_clear()

    def run(name: str, stop_at: int = 0, resume: bool = False, **changes):
        out, said, stop = folder / f"{name}.safetensors", [], StopAt()
        config = from_mapping({**tiny, **OWN, "out": str(out), **changes}, "here")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("trainer.settings.fields.MOST_STEPS", 30)
            patched.setattr("trainer.found.rate.STEPS", 8)
            patched.setattr("trainer.switch.ITERATIONS", 50)  # what is read and fitted beside is none of these tests' business
            patched.setattr("trainer.reading.STATES", 4096)
            patched.setattr("trainer.data.VOCABULARY", 60)
            patched.setattr("trainer.prompts.written.FOLDER", texts)
            patched.setattr(training, "measured_onset", lambda *_: ())
            looked = Finder.passed

            def passed(self, done, network):
                stop.asked = done == stop_at
                return looked(self, done, network)

            patched.setattr(Finder, "passed", passed)
            try:
                training.train(config, backbone, resume, progress=said.append, judged=False, stop=stop)
            except KeyboardInterrupt:
                said.append("stopped")
        return out, said

    yield run
    written.cache_clear()


def lines(out) -> list[dict]:
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def same(a, b) -> bool:
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)


def test_a_resumed_training_finds_what_one_that_ran_through_does(trained):
    whole, said = trained("whole")
    assert any("found by a test of" in line for line in said)
    part, said = trained("part", stop_at=5)
    assert said[-1] == "stopped" and not part.exists()
    with safe_open(state_path(part), framework="pt") as file:
        assert any(name.startswith("best.") for name in file.keys()) and "found" in file.metadata()
    _, said = trained("part", resume=True)
    assert not any("found by a test of" in line for line in said) and same(whole, part)
    figures = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(out)] for out in (whole, part)]
    assert figures[0] == figures[1] and all({"erased", "least_erased", "leaked"} <= line.keys() for line in figures[0])
    with safe_open(whole, framework="pt") as file:
        found = json.loads(file.metadata()["unhype"])["metrics"]["found"]
    assert found["iterations"] == len(figures[0]) <= 30 and 0 < found["learning_rate"] < 0.1
    assert "What is reached on held-out prompts" in page_path(whole).read_text(encoding="utf-8")


def test_given_settings_train_as_they_did_and_looks_change_nothing(trained, monkeypatch):
    given = {"iterations": 6, "learning_rate": 1e-3}
    looked, _ = trained("looked", **given)
    assert "erased" in lines(looked)[0]
    monkeypatch.setattr(training, "Finder", None)  # nothing of it runs
    plain, _ = trained("plain", **given, look_every=0)
    assert same(looked, plain) and "erased" not in lines(plain)[0]


def test_a_state_without_its_best_weights_is_damaged(trained):
    from trainer.run.sealed import read_sealed, write_sealed

    out, _ = trained("damaged", stop_at=3)
    tensors, metadata = read_sealed(state_path(out), lambda *_: None)
    cut = {k: v for k, v in tensors.items() if not k.startswith("best.")}
    write_sealed(cut, state_path(out), metadata)
    former_state_path(out).unlink()
    with pytest.raises(Damaged, match="best"):
        trained("damaged", resume=True)


def test_looks_are_no_prompts_of_the_training_or_the_verdict(comfy, tiny):
    from host.load import load_backbone
    from trainer.prompts import held_out

    config = from_mapping({**tiny, **OWN, "erase": ["cat -> forest", "pizza -> cake"], "sampling_steps": 4, "out": "x"}, "here")
    backbone = load_backbone("demo")
    backbone.load()
    look = Look(config, backbone, set())
    texts = {t.prompt.text for t in held_out.targets(config.erased(), set(), held_out.ON_THE_WAY)}
    verdict = {t.prompt.text for t in held_out.targets(config.erased(), set())}
    assert texts and not texts & verdict
    assert len(look.drawn.x) == 2 * 4 * 2 and set(look.drawn.concept.tolist()) == {0, 1} and len(look.stays.x) == 4 * 2
    assert look.every == max(20, round(24 / (0.03 * 2 * config.batch)))
