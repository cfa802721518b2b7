"""MiniLM as a CLIP object: the tokens, states and pooled output of transformers' own, through ComfyUI's nodes."""

import pytest
import torch

TEXTS = (
    "a cat",
    "A man with a surfboard walking on the shore near an ocean.",
    "Café naïve ÅNGSTRÖM, don't: photo-realistic 8 k, trending on artstation!!! 日本",
    "portrait of a zebra-striped antidisestablishmentarian, intricate, highly detailed, smooth, sharp focus, oil on canvas",
    "",
)


@pytest.fixture(scope="module")
def minilm(comfy):
    from demo import minilm

    return minilm


@pytest.fixture(scope="module")
def clip(minilm):
    return minilm.load_clip()


@pytest.fixture(scope="module")
def reference(minilm):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(minilm.FOLDER).eval(), AutoTokenizer.from_pretrained(minilm.FOLDER)

    @torch.no_grad()
    def states(text):
        tokens = tokenizer(text, return_tensors="pt")
        return tokens["input_ids"][0].tolist(), model(**tokens, output_hidden_states=True).hidden_states

    return states


def encode(clip, text):
    """States and pooled output that the stock CLIPTextEncode gives."""
    import nodes

    with torch.inference_mode():
        ((states, extra),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return states, extra["pooled_output"]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_states_are_those_of_transformers(clip, reference, text):
    ids, expected = reference(text)
    (chunk,) = clip.tokenize(text)["minilm"]
    assert [token for token, _ in chunk] == ids
    states, pooled = encode(clip, text)
    assert states.shape == (1, len(ids), 384)
    assert (states - expected[-1]).abs().max() < 5e-6 and (pooled - expected[-1].mean(1)).abs().max() < 2e-6


def test_clip_skip_takes_an_earlier_layer(clip, reference):
    import nodes

    skipped = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
    states, _ = encode(skipped, TEXTS[1])
    assert (states - reference(TEXTS[1])[1][-2]).abs().max() < 5e-6


def test_padding_changes_nothing_and_is_zero(clip):
    states, pooled = encode(clip, TEXTS[1])
    padded = clip.clone()
    padded.set_tokenizer_option("minilm_min_length", 77)
    longer, same = encode(padded, TEXTS[1])
    assert longer.shape == (1, 77, 384) and not longer[:, states.shape[1] :].any()
    assert (longer[:, : states.shape[1]] - states).abs().max() < 5e-6 and (same - pooled).abs().max() < 2e-6


def test_weights_scale_a_words_states(clip):
    plain, pooled = encode(clip, "a cat and a dog")
    weighted, same = encode(clip, "a (cat:1.4) and a dog")
    moved = (plain - weighted).abs().amax(2)[0] > 1e-3
    assert moved.tolist() == [False, False, True, False, False, False, False]
    assert torch.equal(pooled, same)


def test_a_prompt_beyond_the_longest_goes_on_in_another_chunk(minilm, clip):
    text = "a cat sits on a mat, " * 60
    chunks = clip.tokenize(text)["minilm"]
    assert [len(c) for c in chunks] == [minilm.LONGEST] * 2
    assert encode(clip, text)[0].shape == (1, 2 * minilm.LONGEST, 384)


def test_the_trainer_encodes_with_it_without_a_denoiser(clip):
    """Many prompts in one forward are each as alone, and the switch sees their real tokens only."""
    from host.backbone import Backbone

    backbone = Backbone(None, clip, None)
    text = backbone.encode(list(TEXTS))
    condition = text.condition()
    for row, prompt in enumerate(TEXTS):
        states, pooled = encode(clip, prompt)
        assert condition.mask[row].sum() == states.shape[1]
        assert (text.tokens[row, : states.shape[1]] - states[0]).abs().max() < 5e-6 and (text.pooled[row] - pooled[0]).abs().max() < 2e-6
    words = backbone.vocabulary()
    assert {"cat", "kitten", "forest"} <= set(words) and len(words) > 20_000
    assert all(w.isascii() and w.isalpha() for w in words)


def test_missing_weights_are_an_error_that_names_the_command(minilm, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is not in .*: run python dev\.py"):
        (tmp_path / "config.json").write_text("{}")
        minilm.load_clip(tmp_path)
