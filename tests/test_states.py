"""Token states of prompts of any length: laid one behind the other, drawn by prompt, read from an encoder."""

import torch

from host.encode import Text
from trainer import states
from trainer.states import States, cached, read
from unhype.condition import Condition


def condition(lengths: list[int], width: int = 3) -> Condition:
    """Prompt n's states are n + 1; behind them stand masked ones."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.arange(1.0, len(lengths) + 1)[:, None, None].expand(-1, max(lengths), width)
    return Condition(torch.zeros(len(lengths), 1), tokens, mask)


def test_prompts_are_laid_one_behind_the_other_without_what_is_masked():
    found = States.of(condition([2, 0, 3]))
    assert found.flat.dtype == torch.float16 and found.flat[:, 0].tolist() == [1, 1, 3, 3, 3]
    assert len(found) == 3 and found.prompt().tolist() == [0, 0, 2, 2, 2]


def test_rows_are_drawn_in_any_order_and_again():
    found = States.together([States.of(condition([2, 1])), States.of(condition([1, 3, 1]))])
    some = found.rows(torch.tensor([3, 0, 3, 1]))
    assert some.length.tolist() == [3, 2, 3, 1] and some.flat[:, 0].tolist() == [2, 2, 2, 1, 1, 2, 2, 2, 2]
    assert len(found.rows(torch.tensor([], dtype=torch.long))) == 0


def test_parts_are_all_of_it_in_order(monkeypatch):
    found = States.of(condition([2, 1, 3, 1, 2]))
    monkeypatch.setattr(states, "TOGETHER", 2 * 3 * 3)
    parts = list(found.parts())
    assert [len(p) for p in parts] == [2, 2, 1] and torch.equal(torch.cat([p.flat for p in parts]), found.flat)


def test_bf16_stays_and_what_half_precision_cannot_hold_is_held_at_its_limit():
    wide = condition([1])._replace(tokens=torch.full((1, 1, 3), 1e6))
    assert States.of(wide).flat.isfinite().all()
    assert States.of(wide._replace(tokens=wide.tokens.bfloat16())).flat.dtype == torch.bfloat16


class Lettered:
    """A state per letter, by its number, padded to the longest prompt; pooled holds the clip skip."""

    def __init__(self):
        self.groups = []

    def encode(self, prompts, clip_skip):
        self.groups.append((clip_skip, [len(p) for p in prompts]))
        tokens = torch.zeros(len(prompts), max(map(len, prompts)), 2)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor([[ord(c), clip_skip] for c in prompt]).float()
        return Text(tokens, torch.zeros(len(prompts), 1))


def test_prompts_are_read_by_length_those_with_weights_apart_and_the_clip_skips_in_turn(monkeypatch):
    monkeypatch.setattr(states, "GROUP", 2)
    encoder, prompts = Lettered(), ["aaaa", "b", "cc", "ddddd", "e", "ffffff", "g", "(h)"]
    found = read(encoder, prompts, [1, 2])
    rows = found.flat.split(found.length.tolist())
    assert ["".join(chr(int(c)) for c in row[:, 0]) for row in rows] == prompts
    assert [int(row[0, 1]) for row in rows] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert encoder.groups == [(1, [1, 1]), (1, [2, 4]), (2, [1, 5]), (2, [6]), (2, [3])]


def test_what_an_encoder_made_of_a_text_is_read_from_the_file_by_that_encoder_alone(tmp_path, monkeypatch):
    path, said = tmp_path / "written-text.cache", []
    prompts = [chr(97 + i) * (1 + i % 5) for i in range(20)]
    whole = lambda encoder: sum(len(group) for _, group in encoder.groups)

    def found(prompts=prompts, scale=1):
        encoder = Lettered()
        own = encoder.encode
        encoder.encode = lambda texts, skip: Text((t := own(texts, skip)).tokens * scale, t.pooled)
        states = cached(encoder, prompts, [1, 2], path, said.append)
        assert torch.equal(states.flat, read(encoder, prompts, [1, 2]).flat)
        return whole(encoder) - len(prompts)

    probes = found() - len(prompts)
    assert 0 < probes < len(prompts) and found() == probes and not said
    assert found(scale=2) > len(prompts) and found(prompts[1:], 2) > len(prompts) - 1
    assert all(str(path) in line and "another text encoder or other text: encoding again" in line for line in said) and len(said) == 2
    path.write_bytes(path.read_bytes()[:-3])
    assert found(prompts[1:], 2) > len(prompts) - 1 and "encoding again" in said[-1]
    monkeypatch.setattr(states, "KEPT", 10)
    path.unlink()
    found()
    assert not path.exists()
