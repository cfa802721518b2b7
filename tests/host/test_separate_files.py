"""Flux as users have it: the diffusion model, CLIP-L, T5-XXL and the VAE in four files. Text encoders of full size, random weights.

UNHYPE_FULL_SIZE=1 python dev.py test tests/host/test_separate_files.py          by hand: minutes, 12 GB of memory, 6 GB of disk
"""

import pytest
import torch
from safetensors.torch import save_file

FP8 = torch.float8_e4m3fn
PROMPT, OTHER = "a cat on a wooden table in the morning", "a boat"
VAE = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}
VAE |= {"num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}


@pytest.fixture(scope="module")
def files(comfy, m, tmp_path_factory):
    """Names of the four files, in folders that ComfyUI looks in."""
    import comfy.text_encoders.flux
    import folder_paths
    from comfy.ldm.models.autoencoder import AutoencoderKL

    shapes = lambda module: {key: value.shape for key, value in module.state_dict().items() if "quant_conv" not in key}
    encoders = comfy.text_encoders.flux.FluxClipModel(dtype_t5=FP8, device="meta", dtype=torch.float16)
    with torch.device("meta"):
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=16)
    folder = tmp_path_factory.mktemp("flux")
    for kind, name, wanted, dtype in (
        ("diffusion_models", "flux", m.wide_shapes(), FP8),
        ("text_encoders", "clip_l", shapes(encoders.clip_l.transformer), torch.float16),
        ("text_encoders", "t5xxl", shapes(encoders.t5xxl.transformer), FP8),
        ("vae", "ae", shapes(vae), torch.bfloat16),
    ):
        (folder / kind).mkdir(exist_ok=True)
        save_file(m.filled(wanted, dtype), folder / kind / f"{name}.safetensors")
        folder_paths.add_model_folder_path(kind, str(folder / kind))
    return ["flux.safetensors", "clip_l.safetensors", "t5xxl.safetensors", "ae.safetensors"]


@torch.inference_mode()
def test_through_the_hosts_own_loaders(m, pack, files):
    """UNETLoader, DualCLIPLoader and CLIPTextEncode before our node: the adapter is the prompt's, the weights stay."""
    import nodes

    flux, clip_l, t5, _ = files
    (model,) = nodes.UNETLoader().load_unet(flux, "fp8_e4m3fn")
    (clip,) = nodes.DualCLIPLoader().load_clip(clip_l, t5, "flux")
    positive, other = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, OTHER))
    tokens, pooled = positive[0][0], positive[0][1]["pooled_output"]
    assert tokens.shape == (1, 256, 4096) and pooled.shape == (1, 768)
    assert tokens.isfinite().all() and m.distance(tokens, other[0][0]) > 0.01
    before, eraser = m.weights(model), m.make_eraser("wide", model)
    erased = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    draw = lambda model, prompt: m.sample(model, prompt, other, m.noise("wide"), cfg=1.0, steps=1)
    for prompt in (positive, other):
        plain = draw(model, prompt)
        assert plain.isfinite().all() and m.distance(draw(erased, prompt), plain) > 0.01
    ours, others = (m.factors_of(eraser, prompt)[0] for prompt in (positive, other))
    assert m.distance(ours.up @ ours.down, others.up @ others.down) > 0.01
    assert FP8 in {v.dtype for v in before.values()} and m.unchanged(model, before)


def test_the_trainer_reads_them(m, files):
    """By their names: the pooled embedding and T5's states of a prompt, a picture, and gradients to the hypernetwork."""
    from host.load import load_backbone, load_text
    from trainer import dry_run
    from unhype.adapter import Term, adapter

    flux, *encoders, vae = files
    backbone = load_backbone(flux, encoders, vae)
    text = backbone.encode([PROMPT, OTHER])
    assert text.tokens.shape == (2, 256, 4096) and text.pooled.shape == (2, 768) and text.tokens.isfinite().all()
    alone = load_text(flux, encoders, dry_run.meta_model(flux, torch.bfloat16)[0])
    assert torch.equal(alone.encode([PROMPT]).tokens, backbone.encode([PROMPT]).tokens)
    with torch.inference_mode():
        latents = backbone.sample(text.rows([0]).conditioning(), text.rows([1]).conditioning(), (64, 64), seed=0, steps=1, cfg=1.0)
        assert backbone.decode(latents).shape == (1, 64, 64, 3)
    network = m.make_eraser("wide", backbone.model).network.requires_grad_(True)
    factors = network(text.condition(), torch.ones(2))
    with adapter(backbone.diffusion_model, [Term(torch.arange(2), network.shape.layers, factors)], 2):
        loss = backbone.predict(torch.randn(2, 16, 8, 8), torch.full((2,), 0.5), text.tokens.float(), text.pooled).square().mean()
        loss.backward()
    assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in network.heads.parameters())
