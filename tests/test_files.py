"""Files that are something else: each is called what it is, and what a file says is quoted so that it can be read."""

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from unhype.checkpoint import CheckpointError, load_eraser
from unhype.files import BARE, CUT, DAMAGED, EMPTY, ERASER, OTHER, UNKNOWN, what_is
from unhype.text import shown

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def tensors(*names: str) -> bytes:
    return save({name: torch.zeros(1) for name in names}, {"format": "pt"})


BYTES = {
    "empty file": b"",
    "text file": b"Put this file into models/unhype and press R.\n",
    "text file ": "Zoë's Katze, 猫\n".encode() * 300,
    "text file  ": "notes of Windows\r\n".encode("utf-16"),
    "web page": b"\n <!DOCTYPE html>\n<html><head><title>Log in</title>",
    "web page ": b"<html lang='en'>" + bytes(range(32, 127)) * 60,
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "workflow": b'{"last_node_id": 9, "nodes": []}',
    "GGUF": b"GGUF\x03\0\0\0" + bytes(64),
    "picture": PNG,
    "picture ": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(40),
    "picture  ": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
    "film": b"\0\0\0\x18ftypmp42" + bytes(40),
    "PDF": b"%PDF-1.7\n" + bytes(40),
    "archive": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "PyTorch": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(40),
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 132\n",
    "zeros": bytes(5000),
    "program": b"MZ\x90\0\x03" + bytes(40),
    "ordinary LoRA": tensors("lora_unet_down_blocks_0.lora_down.weight", "lora_unet_down_blocks_0.alpha"),
    "ordinary LoRA ": tensors("diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight"),
    "ordinary LoRA  ": tensors("lycoris_blocks_0.hada_w1_a"),
    "ordinary LoRA   ": tensors("diffusion_model.double_blocks.0.img_attn.proj.diff"),
    "full checkpoint": tensors("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x", "first_stage_model.y"),
    "diffusion model": tensors("double_blocks.0.img_attn.qkv.weight", "txt_in.weight"),
    "diffusion model ": tensors("model.diffusion_model.input_blocks.0.0.weight"),
    "diffusion model  ": tensors("model.double_blocks.0.img_attn.qkv.weight"),
    "diffusion model alone in diffusers' layout": tensors("down_blocks.0.attentions.0.x", "conv_in.weight"),
    "embedding": tensors("emb_params"),
    "embedding ": tensors("clip_g", "clip_l"),
    "ControlNet": tensors("control_model.input_blocks.0.0.weight"),
    "ControlNet ": tensors("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.attentions.0.x"),
    "ControlNet  ": tensors("lora_controlnet", "input_blocks.0.0.weight"),
    "IP-Adapter": tensors("image_proj.latents", "ip_adapter.1.to_k_ip.weight"),
    "a VAE": tensors("decoder.conv_in.weight", "encoder.conv_in.weight"),
    "a VAE ": tensors("taesd_decoder.1.weight", "taesd_encoder.0.weight"),
    "a VAE  ": save({"decoder.conv1.weight": torch.zeros(1, 1, 1, 1, 1)}),
    "TAESD": tensors("1.weight", "3.conv.0.weight"),
    "text encoder": tensors("text_model.encoder.layers.0.mlp.fc1.weight"),
    "text encoder ": tensors("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
    "text encoder  ": tensors("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"),
    "without a tensor": save({}, {"format": "pt"}),
    "cut off": tensors("a", "b")[:-1],
    "stopped training": tensors("network.least", "optimizer.least.exp_avg", "rng"),
    "samples": tensors("0.eps_star", "0.x"),
}


@pytest.mark.parametrize("what", BYTES)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, what):
    path = tmp_path / "cat.safetensors"
    path.write_bytes(BYTES[what])
    assert what.strip() in what_is(path).what
    with pytest.raises(CheckpointError) as error:
        load_eraser(path)
    said = str(error.value).removeprefix(str(path))
    assert what.strip() in said and "header would" not in said and len(said) < 300 and "\n" not in said


def test_packed_files_are_told_apart(tmp_path):
    for inside, what in (("archive/data.pkl", "PyTorch"), ("cat/readme.txt", "packed archive")):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr(inside, b"0" * 100)
        assert what in what_is(tmp_path / "x.zip").what
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    assert "PyTorch" in what_is(tmp_path / "x.pt").what


def test_erasers_and_demo_bases_are_known():
    assert what_is(ROOT / "demo/erasers/demo_cat.safetensors") == what_is(ROOT / "tests/files/demo_cat_format_1.safetensors") == ERASER
    for file, name in (("emoji-sd", "demo"), ("emoji-flux", "demo-flux")):
        kind = what_is(ROOT / f"demo/{file}.safetensors")
        assert "UnHype's demo" in kind.what and f'"{name}" to train' in kind.advice


def test_what_cannot_be_told_is_not_guessed(tmp_path):
    path = tmp_path / "x"
    whole = tensors("a")
    for content, kind in (
        (b"", EMPTY),
        (bytes(range(256)) * 9, UNKNOWN),
        (whole, OTHER),
        (whole[:20], CUT),
        (struct.pack("<Q", 9) + b"{" + 99 * b"\xff", DAMAGED),
        (struct.pack("<Q", 9000) + 9000 * b"{", DAMAGED),
        (struct.pack("<Q", 26) + b'{"a": {"data_offsets": 0}}', DAMAGED),
        (struct.pack("<Q", 2) + b"{}", BARE),
    ):
        path.write_bytes(content)
        assert what_is(path) == kind, content[:20]
    assert what_is(tmp_path).what == "a folder"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "cat.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="a folder"):
        load_eraser(tmp_path / "cat.safetensors")


@pytest.mark.parametrize(
    "text", ["\x1b[31mred\x07", "a\nb\r", "\u202egnp.exe", "\u2066x", "\ud800", "\u200b\xa0", 200_000 * "cat ", ["x"] * 9999]
)
def test_a_quote_is_one_short_printable_line(text):
    assert shown(text).isprintable() and 3 <= len(shown(text)) <= 80


def test_a_quote_of_ordinary_text_is_the_text():
    assert shown("Zoë's 猫 🐱") == "Zoë's 猫 🐱" and shown("x" * 80) == "x" * 80 and shown("x" * 81) == "x" * 77 + "..."


def test_a_name_of_control_characters_does_not_reach_the_message(tmp_path):
    path = tmp_path / "cat.safetensors"
    save_file({"\x1b[2J\n" + "y" * 5000: torch.zeros(1, dtype=torch.int8)}, path, {"unhype": "{}"})
    with pytest.raises(CheckpointError) as error:
        load_eraser(path)
    assert str(error.value).isprintable() and "\\x1b[2J" in str(error.value) and len(str(error.value)) < 600
