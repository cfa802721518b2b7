"""A wrong file in the place of a base, a text encoder or a VAE: one line says what it is and what was expected."""

import io
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from host.inputs import check_channels, check_files
from host.start import ROOT
from trainer.config import from_mapping
from trainer.run.beside import cache_path, state_path
from trainer.run.sealed import write_sealed
from trainer.state import save_state
from unhype.files import OTHER, what_is

UNET, FLUX = "model.diffusion_model.", ""
CLIP = {"text_model.encoder.layers.0.mlp.fc1.weight": (4, 4)}
T5 = {"shared.weight": (8, 4), "encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4)}
LORA = {"lora_unet_down_blocks_0.lora_down.weight": (4, 8), "lora_unet_down_blocks_0.lora_up.weight": (8, 4)}


def unet(takes=4, makes=4, prefix=UNET) -> dict:
    """The tensors that tell a Stable Diffusion 1.x denoiser."""
    names = {
        "input_blocks.0.0.weight": (8, takes, 3, 3),
        "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 6),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight": (8, 6),
        "out.2.weight": (makes, 8, 3, 3),
    }
    return {prefix + name: shape for name, shape in names.items()}


def flux(takes=64, makes=64) -> dict:
    names = {"img_in.weight": (8, takes), "txt_in.weight": (8, 16), "vector_in.in_layer.weight": (8, 6)}
    names |= {"double_blocks.0.img_attn.qkv.weight": (24, 8), "double_blocks.0.img_attn.proj.weight": (8, 8)}
    return names | {"final_layer.linear.weight": (makes, 8)}


def vae(channels=4, prefix="first_stage_model.") -> dict:
    return {prefix + "encoder.conv_in.weight": (8, 3, 3, 3), prefix + "decoder.conv_in.weight": (8, channels, 3, 3)}


def text(shapes=CLIP) -> dict:
    return {"cond_stage_model.transformer." + name: shape for name, shape in shapes.items()}


@pytest.fixture
def write(tmp_path, comfy):
    def write(name: str, content) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file({n: torch.zeros(shape) for n, shape in content.items()}, path)
        return str(path)

    return write


WHOLE = unet() | text() | vae()


def zipped(shapes: dict) -> bytes:
    """As a .ckpt file of today holds it."""
    held = io.BytesIO()
    torch.save({"state_dict": {name: torch.zeros(shape) for name, shape in shapes.items()}}, held)
    return held.getvalue()


PICKLE = b"\x80\x02}q\x00."
WRONG = [
    ("a.safetensors", b"", "an empty file"),
    ("a.safetensors", b"<!DOCTYPE html><html>", "a web page"),
    ("a.safetensors", b"\n <html>" + b"x" * 5000, "a web page"),
    ("a.safetensors", "café, not a model".encode(), "a text file"),
    ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
    ("a.safetensors", b"GGUF\3\0\0\0" + b"\0" * 90, "a GGUF model"),
    ("a.ckpt", b"PK\3\4" + b"\0" * 90, "a packed archive"),
    ("a.ckpt", zipped(WHOLE), "a PyTorch file (.pt, .ckpt, .bin), which can hold a virus and is never opened"),
    ("a.safetensors", zipped(WHOLE), "a PyTorch file"),
    ("a.pt", PICKLE, "a PyTorch file"),
    ("a.safetensors", PICKLE, "a PyTorch file"),
    ("a.safetensors", b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "a picture"),
    ("a.safetensors", struct.pack("<Q", 500) + b'{"a": {"dtype"', "a .safetensors file that is cut off"),
    ("a.safetensors", struct.pack("<Q", 20) + b"{" + b" " * 19, "a damaged .safetensors file"),
    ("a.safetensors", struct.pack("<Q", 2) + b"{}", "a .safetensors file without a tensor"),
    ("a.safetensors", bytes(range(1, 250)), "no kind of file that UnHype knows"),
    ("a.safetensors", b"\1\2\3", "no kind of file that UnHype knows"),
    ("a.safetensors", LORA, "an ordinary LoRA"),
    ("a.safetensors", {"lora_te_x.hada_w1_a": (2, 2), "lora_te_x.alpha": (1,)}, "an ordinary LoRA"),
    ("a.safetensors", {"base_model.model.x.lora_A.weight": (2, 2)}, "an ordinary LoRA"),
    ("a.safetensors", {"control_model.input_blocks.0.0.weight": (8, 4, 3, 3)}, "a ControlNet"),
    ("a.safetensors", {"emb_params": (2, 8)}, "an embedding"),
    ("a.safetensors", vae(prefix=""), "a VAE"),
    ("a.safetensors", CLIP, "a text encoder"),
    ("a.safetensors", {"something": (2,)}, "a .safetensors file of another kind"),
    ("a.safetensors", {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (8, 8)} | text(), "a full checkpoint of no family"),
]


@pytest.mark.parametrize("name, content, says", WRONG, ids=range(len(WRONG)))
def test_a_file_that_is_no_base_is_named_for_what_it_is(write, name, content, says):
    path = write(name, content)
    with pytest.raises(ValueError) as error:
        check_files(path)
    message = str(error.value)
    assert message.startswith(f"base model {path} is {says}") and "\n" not in message
    if "checkpoint" not in says:
        assert "expected a .safetensors checkpoint" in message and message.endswith(f": {what_is(path).advice}")


OURS = {
    "erasers/demo_cat": "an UnHype eraser",
    "emoji-sd": """a base model of UnHype's demo, .*give its name in place of the file \\("demo" to train""",
    "emoji-flux": """a base model of UnHype's demo, .*give its name in place of the file \\("demo-flux" to train""",
    "judge": "another kind",
}


@pytest.mark.parametrize("file", OURS)
def test_our_own_files_are_no_bases(comfy, file):
    with pytest.raises(ValueError, match=OURS[file]):
        check_files(str(ROOT / f"demo/{file}.safetensors"))


def test_a_download_that_broke_off_is_truncated(write, tmp_path):
    path = write("a.safetensors", WHOLE)
    whole = (tmp_path / "a.safetensors").read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 300):
        (tmp_path / "a.safetensors").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="a.safetensors is a .safetensors file that is cut off"):
            check_files(path)


@pytest.mark.parametrize("low", [0x3C, 0x80, 0x47, 0x50])
def test_a_header_whose_length_looks_like_another_kind_is_still_safetensors(tmp_path, low):
    """Its first byte is that of a web page, a pickle, a GGUF or a ZIP file."""
    raw = json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in ("something",)}).encode()
    raw = raw.ljust((len(raw) + 255) // 256 * 256 + low)
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 4)
    assert what_is(tmp_path / "a") == OTHER


def test_a_folder_is_no_base(comfy, tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder. Give the path of a .safetensors file"):
        check_files(str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="a folder in diffusers' layout. Give the path of a .safetensors file"):
        check_files(str(tmp_path))


def test_good_files_are_told_by_family(write):
    assert check_files(write("whole.safetensors", WHOLE)).family.name == "sd1"
    encoders = [write("clip.safetensors", CLIP), write("t5.safetensors", T5)]
    ae = write("ae.safetensors", vae(16, ""))
    assert check_files(write("flux.safetensors", flux()), encoders, ae).family.name == "flux"
    assert check_files("demo").family.name == "sd1" and check_files("demo-flux").family.name == "flux"


DIFFUSERS = {"down_blocks.0.attentions.0.proj_in.weight": (8, 8, 1, 1), "conv_in.weight": (8, 4, 3, 3)}


def test_a_file_in_diffusers_layout_is_a_diffusion_model_alone(write):
    path = write("unet.safetensors", DIFFUSERS)
    with pytest.raises(ValueError, match="is a diffusion model alone in diffusers' layout and holds no text encoder"):
        check_files(path)
    assert check_files(path, [write("clip.safetensors", CLIP)], write("ae.safetensors", vae(prefix=""))).family is None


def test_a_vae_is_known_by_its_make(write):
    for shapes in ({"taesd_decoder.1.weight": (8, 4, 3, 3)}, vae(4, "vae."), vae(4)):
        check_files(write("whole.safetensors", unet() | text()), vae=write("ae.safetensors", shapes))
    for wide in ({"decoder.conv1.weight": (8, 16, 3, 3, 3)}, {"decoder.conv_in.conv.weight": (8, 16, 3, 3, 3)}):
        with pytest.raises(ValueError, match="is a VAE of video models, expected a .safetensors VAE of pictures"):
            check_files(write("flux.safetensors", flux()), [write("clip.safetensors", CLIP)], write("ae.safetensors", wide))
    small = write("small.safetensors", {"1.weight": (8, 4, 3, 3), "3.conv.0.weight": (8, 8, 3, 3)})
    with pytest.raises(ValueError, match="TAESD.*, expected a .safetensors VAE of pictures: it goes into models/vae_approx"):
        check_files(write("whole.safetensors", unet() | text()), vae=small)


def test_what_a_training_keeps_is_no_base(comfy, tmp_path):
    out = Path(tmp_path / "cat.safetensors")
    config = from_mapping({"base": "demo", "erase": ["cat -> forest"], "out": str(out)}, "a.yaml")
    layer = torch.nn.Linear(2, 2)
    save_state(config, 1, layer, torch.optim.Adam(layer.parameters()), torch.Generator())
    write_sealed({f"0.{name}": torch.zeros(2) for name in ("x", "eps", "eps_star")}, cache_path(out), {"key": "0" * 64})
    for path, says in ((state_path(out), "a stopped training"), (cache_path(out), "the samples that UnHype's trainer keeps")):
        with pytest.raises(ValueError, match=f"base model .*{path.name} is .*{says}, expected .*: .*the eraser beside it"):
            check_files(str(path))


def test_a_diffusion_model_alone_wants_its_other_files(write):
    with pytest.raises(ValueError, match="is a diffusion model alone and holds no text encoder: .* give text_encoders"):
        check_files(write("flux.safetensors", flux()))
    with pytest.raises(ValueError, match="holds no VAE.*give one as vae"):
        check_files(write("sd.safetensors", unet() | text()))


@pytest.mark.parametrize(
    "content, says", [(LORA, "an ordinary LoRA"), (WHOLE, "a full checkpoint"), (vae(prefix=""), "a VAE"), (b"<html>", "a web page")]
)
def test_a_file_that_is_no_text_encoder_is_named_for_what_it_is(write, content, says):
    wrong = write("t5.safetensors", content)
    with pytest.raises(ValueError, match=f"text encoder .*t5.safetensors is {says}.*, expected a .safetensors text encoder"):
        check_files(write("flux.safetensors", flux()), [wrong], write("ae.safetensors", vae(16, "")))


@pytest.mark.parametrize(
    "content, says",
    [
        (vae(4, ""), "is of 4 latent channels, expected 16 for this Flux.1 model"),
        (WHOLE, "is a full checkpoint, expected a .safetensors VAE of pictures: it goes into Load Checkpoint"),
        (b"PK\3\4" + b"\0" * 9, "is a packed archive"),
        (b"", "is an empty file"),
    ],
)
def test_a_wrong_vae_is_found_before_the_run(write, content, says):
    with pytest.raises(ValueError, match=f"VAE .*ae.safetensors {says}"):
        check_files(write("flux.safetensors", flux()), [write("clip.safetensors", CLIP)], write("ae.safetensors", content))


def test_a_wrong_vae_beside_a_checkpoint_is_found_before_the_run(write):
    with pytest.raises(ValueError, match="ae.safetensors is of 16 latent channels, expected 4 for this Stable Diffusion 1.x model"):
        check_files(write("whole.safetensors", WHOLE), vae=write("ae.safetensors", vae(16, "")))


@pytest.mark.parametrize("takes", [5, 8, 9])
def test_an_inpainting_depth_or_editing_unet_is_refused_at_once(write, takes):
    path = write("inpainting.safetensors", unet(takes) | text() | vae())
    with pytest.raises(ValueError, match=f"inpainting.safetensors takes {takes} latent channels and makes 4: it is for inpainting"):
        check_files(path)


@pytest.mark.parametrize("takes, channels", [(384, 96), (128, 32)])
def test_fill_canny_and_depth_of_flux_are_refused_at_once(write, takes, channels):
    with pytest.raises(ValueError, match=f"fill.safetensors takes {channels} latent channels and makes 16"):
        check_files(write("fill.safetensors", flux(takes)), [write("clip.safetensors", CLIP)], write("ae.safetensors", vae(16, "")))


def test_a_model_as_loaded_is_refused_for_its_channels_too(comfy):
    from demo.base import UNET, new_unet

    check_channels(new_unet().diffusion_model, "good")
    former = UNET["in_channels"]
    try:
        UNET["in_channels"] = former + 5
        with pytest.raises(ValueError, match=f"base model odd takes {former + 5} latent channels and makes {former}"):
            check_channels(new_unet().diffusion_model, "odd")
    finally:
        UNET["in_channels"] = former
