"""all-MiniLM-L6-v2, a real pretrained text encoder, as a CLIP object of ComfyUI's own classes.

Six layers of BERT, 384 wide, WordPiece, uncased (Wang et al. 2020, arXiv 2002.10957; trained on sentence pairs by
sentence-transformers). Its weights are no part of this repository: `python dev.py test` and `bench` fetch them.

What a prompt becomes, where BERT and ComfyUI leave a choice:
- a prompt takes as many tokens as it has, with [CLS] and [SEP], up to LONGEST, which the model was trained with (it has 512
  positions); what is longer goes on in further chunks, as with CLIP. `clip.set_tokenizer_option("minilm_min_length", n)` pads to n.
- padding is hidden from attention and its states are zeros, so that whoever reads the conditioning sees real tokens only.
- the pooled embedding is the mean of the real tokens' states, as the model's own pooling has it, not brought to unit length;
  of several chunks it is the first one's, and a prompt's weights do not change it.
"""

import json
from functools import partial
from pathlib import Path

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.text_encoders.bert import BertModel
from transformers import BertTokenizer

FOLDER = Path(__file__).resolve().parents[1] / ".host" / "minilm"
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
NAME = "minilm"
LONGEST = 256
SPECIAL = {"start": 101, "end": 102, "pad": 0}


class PooledBert(BertModel):
    """ComfyUI's BERT with a pooled output: the mean of the last layer's states under the attention mask."""

    def forward(self, tokens, attention_mask, **options):
        states, intermediate = super().forward(tokens, attention_mask, **options)
        mask = attention_mask[..., None].to(states)
        return states, intermediate, (states * mask).sum(1) / mask.sum(1)


class Encoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, config: dict, device="cpu", dtype=None, model_options={}):  # noqa: B006  as ComfyUI calls it
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=dict(config),
            model_class=PooledBert,
            max_length=LONGEST,
            special_tokens=SPECIAL,
            enable_attention_masks=True,
            zero_out_masked=True,
            model_options=model_options,
        )


class Tokenizer(comfy.sd1_clip.SDTokenizer):
    def __init__(self, folder: Path, width: int, embedding_directory=None, tokenizer_data={}):  # noqa: B006
        super().__init__(
            str(folder),
            max_length=LONGEST,
            pad_with_end=False,
            pad_to_max_length=False,
            embedding_directory=embedding_directory,
            embedding_size=width,
            embedding_key=NAME,
            tokenizer_class=BertTokenizer,
            tokenizer_data=tokenizer_data,
        )

    def tokenize_with_weights(self, text, return_word_ids=False, **options):
        """ComfyUI's chunks, all of one length, as its encoder needs them."""
        chunks = super().tokenize_with_weights(text, return_word_ids, **options)
        longest, padding = max(map(len, chunks)), (self.pad_token, 1.0, 0)[: 3 if return_word_ids else 2]
        return [chunk + [padding] * (longest - len(chunk)) for chunk in chunks]


def load_clip(folder: Path = FOLDER) -> comfy.sd.CLIP:
    """A CLIP of MiniLM in fp32, frozen: states (1, tokens, 384), pooled (1, 384).

    Raises FileNotFoundError where the folder lacks a file of it.
    """
    if lacking := [name for name in NEEDED if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"MiniLM's {lacking[0]} is not in {folder}: run python dev.py test, or python dev.py bench --language, which fetch it"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    target = comfy.supported_models_base.ClipTarget(
        partial(comfy.sd1_clip.SD1Tokenizer, name=NAME, tokenizer=partial(Tokenizer, folder, config["hidden_size"])),
        partial(comfy.sd1_clip.SD1ClipModel, name=NAME, clip_model=partial(Encoder, config)),
    )
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    weights = comfy.utils.load_torch_file(str(folder / "model.safetensors"), safe_load=True)
    own = {f"bert.{name}": w for name, w in weights.items() if not name.startswith("pooler.") and not name.endswith("position_ids")}
    clip.cond_stage_model.minilm.transformer.load_state_dict(own)
    clip.cond_stage_model.requires_grad_(False)
    return clip
