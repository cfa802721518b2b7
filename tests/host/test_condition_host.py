"""What the switch sees of real conditionings: clip skip, weights, embeddings, long, joined and zeroed prompts."""

import pytest
import torch
from safetensors.torch import save_file

LONG = "a very long and winding description of a quiet summer afternoon that goes on and on, " * 6
SUBJECTS = {"cat": True, "dog": False}


@pytest.fixture(scope="module")
def fires(demo):
    from unhype_pack.unhype.condition import read_condition

    @torch.inference_mode()
    def fires(conditioning):
        return [
            bool(f) for tokens, extra in conditioning for f in demo.eraser.network.fires(read_condition(tokens, extra["pooled_output"]))
        ]

    return fires


@pytest.fixture(scope="module")
def encode(demo):
    @torch.inference_mode()
    def encode(text, clip=None):
        clip = clip or demo.clip
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    return encode


def prompt(subject):
    return f"a {subject}, google style, on a blue background"


@pytest.mark.parametrize("subject, expected", SUBJECTS.items())
class TestSubject:
    def test_plain(self, fires, encode, subject, expected):
        assert fires(encode(prompt(subject))) == [expected]

    def test_clip_skip_2(self, demo, fires, encode, subject, expected):
        clip = demo.clip.clone()
        clip.clip_layer(-2)
        assert fires(encode(prompt(subject), clip)) == [expected]

    @pytest.mark.parametrize("weight", [0.8, 1.2, 1.4])
    def test_weighted(self, fires, encode, subject, expected, weight):
        assert fires(encode(f"a ({subject}:{weight}), google style, on a blue background")) == [expected]

    def test_textual_inversion_embedding(self, demo, fires, encode, tmp_path, subject, expected):
        table = demo.clip.cond_stage_model.clip_l.transformer.text_model.embeddings.token_embedding.weight
        token = demo.clip.tokenizer.clip_l.tokenizer(subject).input_ids[1]
        save_file({"emb_params": table[token : token + 1].clone()}, tmp_path / "my_thing.safetensors")
        demo.clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
        assert fires(encode(prompt("embedding:my_thing"))) == [expected]

    def test_after_token_77(self, fires, encode, subject, expected):
        conditioning = encode(LONG + prompt(subject))
        assert conditioning[0][0].shape[1] > 77
        assert fires(conditioning) == [expected]

    def test_concatenated_behind_another_prompt(self, comfy, fires, encode, subject, expected):
        import nodes

        joined = nodes.ConditioningConcat().concat(encode("a car, twitter style, on a pink background"), encode(prompt(subject)))[0]
        assert fires(joined) == [expected]

    def test_combined(self, comfy, fires, encode, subject, expected):
        import nodes

        both = nodes.ConditioningCombine().combine(encode("a car, twitter style, on a pink background"), encode(prompt(subject)))[0]
        assert fires(both) == [False, expected]

    def test_zeroed_out(self, comfy, fires, encode, subject, expected):
        import nodes

        assert fires(nodes.ConditioningZeroOut().zero_out(encode(prompt(subject)))[0]) == [False]


def test_empty_prompt_and_mapping_concept_do_not_fire(fires, encode):
    assert fires(encode("")) == [False]
    for word in ("forest", "woods", "tree"):
        assert fires(encode(prompt(word))) == [False], word


@pytest.mark.parametrize("word", ["kitty", "feline"])
def test_held_out_words_fire(fires, encode, word):
    assert fires(encode(prompt(word))) == [True]
