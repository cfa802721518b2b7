"""The denoiser and text encoder, loaded through ComfyUI itself: what is trained on is exactly what is patched later."""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from unhype.condition import Condition, read_condition
from unhype.layers import Family, family_of

ROOT = Path(__file__).resolve().parents[1]
DEMOS = {"demo": "demo.base", "demo-flux": "demo.flux"}
TOGETHER = 32  # prompts in one forward of the text encoder
WIDE = 2**19  # numbers of one prompt's token states, above which they are kept in bf16
_kept_alive = []


def find_comfy(given: str | None) -> Path:
    """The folder of a ComfyUI install: as given, or COMFYUI_PATH, or the one that this pack lies in."""
    candidates = [given] if given else [os.environ.get("COMFYUI_PATH"), ROOT.parents[1] if ROOT.parent.name == "custom_nodes" else None]
    candidates = [Path(c).expanduser().resolve() for c in candidates if c]
    for folder in candidates:
        if (folder / "comfy" / "sd.py").is_file():
            return folder
    looked = ", ".join(map(str, candidates)) or "nowhere: --comfyui and COMFYUI_PATH are empty, and the pack does not lie in custom_nodes"
    raise FileNotFoundError(f"no ComfyUI found (looked in {looked}): pass --comfyui FOLDER, the one that holds main.py")


def start_comfy(folder: Path) -> None:
    """Make `comfy` importable from that install, on the CPU where there is no GPU."""
    folder = str(Path(folder).resolve())
    if folder in sys.path:
        return
    sys.path.insert(0, folder)
    declare_torchvision_operators()
    argv, sys.argv = sys.argv, [sys.argv[0]] + ([] if torch.cuda.is_available() else ["--cpu"])
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401  reads sys.argv once
    finally:
        sys.argv = argv
    import comfy.sample  # noqa: F401  the bulk of its import, here and not at the first use
    import comfy.sd  # noqa: F401


def comfy_version() -> str:
    import comfyui_version

    return comfyui_version.__version__


def declare_torchvision_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a CPU torch: it asks for two operators that are not there."""
    try:
        found = importlib.util.find_spec("torchvision") is not None
        if found:
            import torchvision  # noqa: F401
    except RuntimeError:
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept_alive.append(library)


def allow_gradients(module: torch.nn.Module) -> None:
    """Let gradients through blocks that add to their input in place after a norm has read it (Flux, T5)."""

    def apart(_, args):
        return tuple(a.clone() if torch.is_grad_enabled() and a.requires_grad else a for a in args)

    for m in module.modules():
        if "LayerNorm" in type(m).__name__:
            m.register_forward_pre_hook(apart)


@dataclass
class Text:
    """Prompts encoded: what the denoiser attends to, and what the hypernetwork reads."""

    tokens: torch.Tensor  # (N, T, D)
    pooled: torch.Tensor  # (N, P)

    def condition(self) -> Condition:
        return read_condition(self.tokens, self.pooled)

    def conditioning(self) -> list:
        """As a ComfyUI CONDITIONING of N rows."""
        return [[self.tokens, {"pooled_output": self.pooled}]]

    def repeated(self, count: int) -> "Text":
        """The only row, `count` times."""
        return Text(self.tokens.expand(count, -1, -1), self.pooled.expand(count, -1))

    def rows(self, index) -> "Text":
        return Text(self.tokens[index], self.pooled[index])

    def to(self, device) -> "Text":
        return Text(self.tokens.to(device), self.pooled.to(device))


@dataclass
class Backbone:
    """A base model that the trainer samples from, predicts with and takes gradients through."""

    model: object  # comfy ModelPatcher
    clip: object
    vae: object
    rows: int = 0  # of a training batch in one forward; 0: all

    @property
    def diffusion_model(self):
        return self.model.model.diffusion_model

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.load_device)

    @property
    def family(self) -> Family:
        return family_of(self.diffusion_model)

    @property
    def flow(self) -> bool:
        """Whether the model predicts a velocity between picture and noise, not the noise."""
        import comfy.model_sampling

        return isinstance(self.model.get_model_object("model_sampling"), comfy.model_sampling.CONST)

    def load(self, model=None) -> None:
        """The base's own weights in place, or a clone's: what one was patched with stays in until another is loaded."""
        import comfy.model_management

        comfy.model_management.load_models_gpu([model or self.model], force_full_load=True)

    def load_again(self, needed: int | None) -> None:
        """Everything off the device, then the base's own weights on it: all, or as many as leave `needed` bytes free there,
        the others following when they are used."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        if needed is None:
            self.load()
        else:
            comfy.model_management.load_models_gpu([self.model], memory_required=needed)

    def shapes(self) -> tuple[torch.nn.Module, torch.dtype]:
        """The diffusion model again on the meta device, and the type that it computes in."""
        model = self.model.model
        again = model.model_config.get_model({}, "", torch.device("meta")).diffusion_model
        return again.requires_grad_(False), model.manual_cast_dtype or model.get_dtype()

    def encode(self, prompts: list[str], clip_skip: int = 1) -> Text:
        """Encode prompts that take as many chunks as the first of them, clip_skip 1 being the layer of an untouched graph.

        Where the encoder takes any number of tokens, all are padded to the longest prompt's.
        """
        clip = self.clip.clone()
        if clip_skip > 1:
            clip.clip_layer(-clip_skip)
        tokens = tokenize(clip, prompts)
        pairs = encode_together(clip, tokens) or [clip.encode_from_tokens(t, return_pooled=True) for t in tokens]
        longer = [p for p, (tokens, _) in zip(prompts, pairs) if tokens.shape[1] != pairs[0][0].shape[1]]
        if longer:
            raise ValueError(f"prompt {longer[0][:60]!r}... takes more tokens than one chunk of the text encoder: shorten it")
        # T5's states are half as large in bf16, and no less exact: it computes them so.
        kind = torch.bfloat16 if pairs[0][0][0].numel() > WIDE else torch.float32
        return Text(torch.cat([t.to(kind) for t, _ in pairs]), torch.cat([p for _, p in pairs]).float())

    def vocabulary(self) -> list[str]:
        """The words that are one token each of the text encoder's."""
        tables = [t.inv_vocab for t in vars(self.clip.tokenizer).values() if hasattr(t, "inv_vocab")]
        words = (w.removesuffix("</w>") for w in tables[0].values() if w.endswith("</w>"))
        return sorted(w for w in words if w.isascii() and w.isalpha())  # the table's own order differs from run to run

    def sigmas(self, steps: int) -> torch.Tensor:
        import comfy.samplers

        return comfy.samplers.calculate_sigmas(self.model.get_model_object("model_sampling"), "normal", steps)

    def sample(
        self,
        positive,
        negative,
        size: tuple[int, int],
        seed: int,
        steps: int,
        cfg: float,
        model=None,
        keep: list[int] | None = None,
        noise=None,
    ):
        """Latents (N, C, H/8, W/8) by Euler's method, as a KSampler with the "normal" schedule makes them.

        Args:
            positive, negative: ComfyUI conditionings; N is positive's rows.
            size: width and height in pixels.
            noise: (N, C, H/8, W/8) in place of the seed's.
            keep: steps whose noisy latents are wanted; then (x, sigma) pairs in model space are returned instead.
        """
        import comfy.sample
        import comfy.samplers

        model = model or self.model
        width, height = size
        empty = torch.zeros(len(positive[0][0]), 4, height // 8, width // 8)
        empty = comfy.sample.fix_empty_latent_channels(model, empty)
        noise = comfy.sample.prepare_noise(empty, seed) if noise is None else noise
        sigmas, kept = self.sigmas(steps), []

        def callback(step, denoised, x, total):
            if keep is not None and step in keep:
                kept.append((x.detach().clone(), float(sigmas[step])))

        latents = comfy.sample.sample_custom(
            model,
            noise,
            cfg,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            positive,
            negative,
            empty,
            callback=callback,
            disable_pbar=True,
            seed=seed,
        )
        return latents if keep is None else kept

    def noise(self, size: tuple[int, int], seed: int) -> torch.Tensor:
        """The noise that a KSampler starts a single picture from: (C, H/8, W/8)."""
        channels = self.model.get_model_object("latent_format").latent_channels
        return torch.randn(1, channels, size[1] // 8, size[0] // 8, generator=torch.manual_seed(seed))[0]

    def decode(self, latents) -> torch.Tensor:
        """Pictures (N, H, W, 3) in 0..1."""
        return self.vae.decode(latents)

    def predict(self, x, sigma, context, pooled=None) -> torch.Tensor:
        """The noise prediction (the velocity of a flow model) at latents x (N, C, H, W), sigma (N,).

        Args:
            context: token states (N, T, D). pooled: (N, P), for families whose denoiser reads it.
        """
        size = {"height": 8 * x.shape[2], "width": 8 * x.shape[3]}
        conds = self.model.model.extra_conds(cross_attn=context, pooled_output=pooled, noise=x, device=x.device, **size)
        extra = {name: c.process_cond(batch_size=len(x), device=x.device).cond for name, c in conds.items()}
        denoised = self.model.model.apply_model(x, sigma, **extra)
        return (x - denoised) / sigma.view(-1, 1, 1, 1)


def tokenize(clip, prompts: list[str]) -> list[dict]:
    """The prompts' tokens, by encoder; an open-ended encoder's (T5) padded to the longest prompt's length."""
    tokens = [clip.tokenize(p) for p in prompts]
    lengths = {key: {len(t[key][0]) for t in tokens} for key in tokens[0]}
    options = {f"{key}_min_length": max(found) for key, found in lengths.items() if len(found) > 1}
    return [clip.tokenize(p, tokenizer_options=options) for p in prompts] if options else tokens


def encode_together(clip, tokens: list[dict]) -> list[tuple] | None:
    """(states, pooled) of every prompt, many to a forward, as encode_from_tokens makes them one by one.

    None where that is not so simple: more than one text encoder, chunk or weight.
    """
    encoder = getattr(clip.cond_stage_model, getattr(clip.cond_stage_model, "clip", ""), None)
    if encoder is None or any(len(t) != 1 for t in tokens):
        return None
    chunks = [c for t in tokens for c in next(iter(t.values()))]
    if len(chunks) != len(tokens) or any(weight != 1 for c in chunks for _, weight in c):
        return None
    clip.encode_from_tokens(tokens[0])  # loads the encoder and sets its layer
    pairs = []
    for start in range(0, len(chunks), TOGETHER):
        states, pooled = encoder.encode([[token for token, _ in c] for c in chunks[start : start + TOGETHER]])[:2]
        pairs += [(s[None].cpu(), p[None].cpu()) for s, p in zip(states, pooled)]
    return pairs


def device_memory() -> tuple[torch.device, int]:
    """The device that ComfyUI computes on, and its memory in bytes."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    return device, comfy.model_management.get_total_memory(device)


def shapes_of(tensors: dict[str, torch.Tensor], base: str, compute: torch.dtype) -> torch.nn.Module:
    """The diffusion model of a checkpoint whose tensors are on the meta device, its weights as most of them are stored.

    Raises ValueError, naming the base, where ComfyUI knows none like it.
    """
    import comfy.model_detection

    prefix = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    if not any(name.startswith(prefix) for name in tensors):
        prefix = ""
    config = comfy.model_detection.model_config_from_unet(tensors, prefix)
    if config is None:
        raise ValueError(f"base model {base} holds no diffusion model that ComfyUI knows: choose another file")
    kinds = [t.dtype for name, t in tensors.items() if name.startswith(prefix) and t.is_floating_point() and len(t.shape) == 2]
    stored = max(set(kinds), key=kinds.count)
    config.set_inference_dtype(stored, None if stored == compute else compute)
    return config.get_model({}, prefix, torch.device("meta")).diffusion_model.requires_grad_(False)


def find_base(base: str) -> str:
    """The path of a base model's file, as given or by its name in ComfyUI's folders."""
    return find_file(base, ("checkpoints", "diffusion_models"), "base model")


def find_file(name: str, folders: tuple[str, ...], what: str) -> str:
    import folder_paths

    if Path(name).is_file():
        return name
    for folder in folders:
        if path := folder_paths.get_full_path(folder, name):
            return path
    looked = ", ".join(p for folder in folders for p in folder_paths.get_folder_paths(folder))
    raise FileNotFoundError(f"{what} {name!r}: no such file, and not in {looked}. Give the path of one")


def load_backbone(base: str, text_encoders: list[str] = (), vae: str = "") -> Backbone:
    """A demo base, a checkpoint, or a diffusion model with its text encoders and VAE in files of their own."""
    backbone = Backbone(*importlib.import_module(DEMOS[base]).load()) if base in DEMOS else load_files(base, text_encoders, vae)
    return ready(backbone)


def load_files(base: str, text_encoders: list[str], vae: str) -> Backbone:
    """Files by path, or by name in ComfyUI's model folders."""
    import comfy.sd
    import comfy.utils

    path = find_base(base)
    if not text_encoders:
        backbone = Backbone(*comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=True)[:3])
        if backbone.clip is None:
            raise ValueError(f"base model {path} holds no text encoder: choose a full checkpoint, or give text_encoders and vae")
    else:
        backbone = Backbone(comfy.sd.load_diffusion_model(path), None, None)
        files = [find_file(f, ("text_encoders",), "text encoder") for f in text_encoders]
        kind = getattr(comfy.sd.CLIPType, backbone.family.encoders)
        backbone.clip = comfy.sd.load_clip(files, clip_type=kind)
    if vae:
        backbone.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(find_file(vae, ("vae",), "VAE")))
    if backbone.vae is None:
        raise ValueError(f"base model {path} holds no VAE, which draws the previews: give one as vae")
    return backbone


def ready(backbone: Backbone) -> Backbone:
    """The backbone with its own weights in place, frozen, gradients passing through it."""
    backbone.load()
    backbone.diffusion_model.requires_grad_(False)
    allow_gradients(backbone.diffusion_model)
    return backbone
