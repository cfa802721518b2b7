"""The demo base through ComfyUI's own classes: an SD-layout UNet, a small CLIP text encoder, an autoencoder."""

from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from .autoencoder import LATENT_CHANNELS, Autoencoder, PatchBasis

WEIGHTS = Path(__file__).with_name("emoji-sd.safetensors")
TEXT_WIDTH = 128
UNET = {
    "image_size": 8,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 96,
    "channel_mult": (1, 2),
    "num_res_blocks": [2, 1],
    "transformer_depth": [1] * 3,
    "transformer_depth_output": [1] * 5,
    "transformer_depth_middle": 1,
    "context_dim": TEXT_WIDTH,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "legacy": False,
}
CLIP = {"hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}


class EmojiLatents(comfy.latent_formats.LatentFormat):
    latent_channels = LATENT_CHANNELS


def new_unet(sizes: dict = UNET) -> comfy.model_base.BaseModel:
    """An SD 1.x model of these sizes, v-prediction, weights at random, fp32."""
    config = comfy.supported_models.SD15(dict(sizes))
    config.unet_config["num_heads"] = 4
    config.latent_format = EmojiLatents()
    config.set_inference_dtype(torch.float32, None)
    device = comfy.model_management.unet_offload_device()
    return comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.V_PREDICTION, device=device)


def new_clip() -> comfy.sd.CLIP:
    """SD 1.x's tokenizer and text encoder, 128 wide and 3 layers deep, weights uninitialised, fp32."""
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    return comfy.sd.CLIP(target, model_options={"clip_l_model_config": CLIP, "dtype": torch.float32})


def new_vae(autoencoder: PatchBasis) -> comfy.sd.VAE:
    """A VAE as VAEDecode and VAEEncode expect it, around the demo's own autoencoder."""
    # ComfyUI has no way to hand in a module, so a tiny VAE of its own is built and its inside replaced.
    tiny = {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True,
            "z_channels": 4,
            "resolution": 8,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,
            "ch_mult": [1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
    }
    vae = comfy.sd.VAE(sd=AutoencoderKL(**tiny).state_dict(), config={"params": tiny}, dtype=torch.float32)
    vae.first_stage_model = autoencoder.eval().requires_grad_(False)
    vae.patcher = comfy.model_patcher.ModelPatcher(autoencoder, load_device=vae.device, offload_device=vae.patcher.offload_device)
    vae.latent_channels = LATENT_CHANNELS
    vae.memory_used_decode = vae.memory_used_encode = lambda shape, dtype: 64 * 1024 * shape[2] * shape[3]
    return vae


def read(weights: Path) -> dict[str, torch.Tensor]:
    return {name: t.float() for name, t in comfy.utils.load_torch_file(str(weights), safe_load=True).items()}


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of one part of a base's file, under their own names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_text(transformer, tensors: dict[str, torch.Tensor]) -> None:
    """A base's CLIP text weights into ComfyUI's CLIPTextModel, its projection the identity."""
    own = {f"text_model.{name}": tensor for name, tensor in part(tensors, "text.").items()}
    transformer.load_state_dict(own | {"text_projection.weight": torch.eye(TEXT_WIDTH)})


def patcher(model: comfy.model_base.BaseModel, settings: str | None = None) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as ComfyUI's loaders make it, and of trainer/configs the settings that the Train node takes for it, if any."""
    management = comfy.model_management
    made = comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )
    if settings:
        made.set_attachments("unhype_settings", settings)
    return made


def load(
    weights: Path = WEIGHTS, autoencoder: PatchBasis | None = None
) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE of the demo base, from one file of about 36 MB; with another autoencoder, of a base made alike."""
    tensors = read(weights)
    unet, clip, autoencoder = new_unet(), new_clip(), autoencoder or Autoencoder()
    unet.diffusion_model.load_state_dict(part(tensors, "unet."))
    load_text(clip.cond_stage_model.clip_l.transformer, tensors)
    autoencoder.load_state_dict(part(tensors, "vae."))
    unet.requires_grad_(False), clip.cond_stage_model.requires_grad_(False)
    return patcher(unet, "demo_cat.yaml"), clip, new_vae(autoencoder)
