"""A Stable Diffusion 1.5 checkpoint as users have it, one file with random weights: trained on, erased from, through ComfyUI's loader.

CLIP-L and the VAE are of full size; the UNet has SD 1.5's widths on two of its four levels.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """--base {base} --out {out} --size 64x64 --pictures 2 --sampling-steps 2 --kept-steps 1 --iterations 3 --batch 1 --preview-every 0
 --learning-rate 0.0005 --least-erased 0 --most-misses 1 --most-false-alarms 1
 --retain dog house --templates|a {{}}|a photo of a {{}}|a painting of a {{}}|a {{}} and a {{other}}"""
PROMPT = "a cat in the park"
# With a little of everything that is read: CLIP-L of full size takes minutes of a processor for all of it.
LAUNCH = """
import sys

sys.path[:0] = sys.argv[1:3]
from few import few_texts
from trainer import slider
from trainer.prompts import neighbours, unfamiliar

few_texts(setattr)
neighbours.PROBES, unfamiliar.NEAREST, slider.PICTURES = 1, 4, 2
from trainer.train import main

sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def checkpoint(comfy, tmp_path_factory):
    import comfy.model_base
    import comfy.sd1_clip
    import comfy.supported_models
    from comfy.ldm.models.autoencoder import AutoencoderKL

    from demo.base import UNET
    from demo.make_base import initialise

    torch.manual_seed(0)
    shape = {"in_channels": 4, "out_channels": 4, "model_channels": 320, "context_dim": 768}
    shape |= {"num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
    config = comfy.supported_models.SD15(UNET | shape)
    config.set_inference_dtype(torch.float32, None)
    vae = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}
    vae |= {"num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    parts = {
        "model.diffusion_model.": comfy.model_base.BaseModel(config, device="cpu").diffusion_model,
        "cond_stage_model.transformer.text_model.": comfy.sd1_clip.SD1ClipModel(dtype=torch.float32).clip_l.transformer.text_model,
        "first_stage_model.": AutoencoderKL(ddconfig=vae, embed_dim=4),
    }
    tensors = {}
    for prefix, module in parts.items():
        initialise(module)
        if prefix.startswith("model"):
            torch.nn.init.normal_(module.out[2].weight, std=0.02)
            for name, m in module.named_modules():
                if name.endswith("proj_out"):
                    torch.nn.init.normal_(m.weight, std=0.05)
        tensors |= {prefix + k: v.half().contiguous().clone() for k, v in module.state_dict().items()}
    path = tmp_path_factory.mktemp("sd15") / "random_sd15.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def eraser_file(checkpoint):
    out = checkpoint.with_name("cat.safetensors")
    options, *templates = TRAIN.format(base=checkpoint, out=out).split("|")
    command = [sys.executable, "-c", LAUNCH, str(ROOT), str(ROOT / "tests/files")]
    command += ["--erase", "cat -> forest", "--neighbours", "0", *options.split(), *templates]
    done = subprocess.run(command, cwd=checkpoint.parent, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_file_is_small_and_names_its_layers(eraser_file):
    from unhype.checkpoint import load_eraser

    eraser = load_eraser(eraser_file)
    shape = eraser.network.shape
    assert (shape.pooled_dim, shape.token_dim) == (768, 768) and {n.inputs for n in shape.layers} == {768}
    assert eraser.family == "sd1" and all(n.name.endswith(("attn2.to_k", "attn2.to_v")) for n in shape.layers)


@torch.inference_mode()
def test_node_acts_on_the_loaded_checkpoint(pack, checkpoint, eraser_file):
    import comfy.sample
    import comfy.sd
    from unhype_pack.unhype.checkpoint import load_eraser

    model, clip, vae = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=True, output_clip=True)[:3]
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    encode = lambda text: clip.encode_from_tokens_scheduled(clip.tokenize(text))
    eraser = load_eraser(eraser_file)

    def draw(model, text):
        noise = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(1))
        empty = torch.zeros_like(noise)
        return comfy.sample.sample(model, noise, 2, 5.0, "euler", "normal", encode(text), encode(""), empty, disable_pbar=True, seed=1)

    erased = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    assert not torch.equal(draw(model, PROMPT), draw(erased, PROMPT))
    assert torch.equal(draw(model, "a dog"), draw(erased, "a dog"))
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())
    assert vae.decode(draw(erased, PROMPT)).shape == (1, 64, 64, 3)


def test_a_dry_run_reads_its_header(checkpoint):
    command = [sys.executable, ROOT / "trainer/train.py", "--base", checkpoint, "--erase", "cat -> forest", "--out", "x.safetensors"]
    done = subprocess.run([*command, "--dry-run"], cwd=checkpoint.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Stable Diffusion 1.x, 14 layers" in done.stdout and "a card of 8 GB: " in done.stdout
    assert not (checkpoint.parent / "x.safetensors").exists()


@torch.inference_mode()
def test_its_text_encoder_is_read_alone(checkpoint):
    """As trainer/doctor.py does: to the bit what the whole file gives, and no denoiser beside it."""
    from host.load import load_backbone, load_text
    from trainer import dry_run

    shapes, _, _ = dry_run.meta_model(str(checkpoint), torch.float32)
    alone, whole = load_text(str(checkpoint), [], shapes), load_backbone(str(checkpoint))
    assert {p.device.type for p in alone.diffusion_model.parameters()} == {"meta"} and alone.family == whole.family
    for got, wanted in zip(vars(alone.encode([PROMPT])).values(), vars(whole.encode([PROMPT])).values()):
        assert got is wanted is None or torch.equal(got, wanted)
