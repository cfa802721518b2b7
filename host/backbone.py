"""A base model loaded by ComfyUI: what is trained on is exactly what is patched later."""

from dataclasses import dataclass
from typing import Any

import torch

from unhype.layers import Family, family_of

from . import versions, words
from .encode import Conditioning, Text, Watch, encode_alone, encode_together, tokenize
from .inference import allow_autograd

WHOLE = 0.8  # share of a device's memory that weights may fill altogether
WIDE = 2**19  # numbers of one prompt's token states, above which they are kept in bf16


@dataclass
class Backbone:
    """A base model that the trainer samples from, predicts with and takes gradients through."""

    model: Any  # a ModelPatcher of ComfyUI's, whose classes have no types
    clip: Any
    vae: Any
    rows: int = 0  # of a training batch in one forward; 0: all
    watch: Watch | None = None  # told, while prompts are encoded, how many more are done

    @property
    def diffusion_model(self) -> torch.nn.Module:
        module: torch.nn.Module = self.model.model.diffusion_model
        return module

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

    @property
    def compute_type(self) -> torch.dtype:
        """The type that the model computes in."""
        kind: torch.dtype = self.model.model.manual_cast_dtype or self.model.model.get_dtype()
        return kind

    def load(self, model: Any = None) -> None:
        """The base's own weights in place, or a clone's: what one was patched with stays in until another is loaded.

        All of them on the device where it has room for them, else as many as ComfyUI puts there.
        """
        import comfy.model_management

        model = model or self.model
        whole = model.model_size() <= WHOLE * comfy.model_management.get_total_memory(model.load_device)
        comfy.model_management.load_models_gpu([model], force_full_load=whole)
        allow_autograd(self.model.model)

    def load_again(self, needed: int | None) -> None:
        """Everything off the device, then the base's own weights on it: all, or as many as leave `needed` bytes free there,
        the others following when they are used."""
        import comfy.model_management

        comfy.model_management.unload_all_models()
        if needed is None:
            self.load()
        else:
            comfy.model_management.load_models_gpu([self.model], memory_required=needed)
            allow_autograd(self.model.model)

    def stored_weight(self, name: str) -> tuple[torch.nn.Module, torch.Tensor | None]:
        """A layer of the diffusion model, and its weight without the LoRAs that are merged into it at the moment."""
        layer = self.diffusion_model.get_submodule(name)
        backup = self.model.backup.get(f"diffusion_model.{name}.weight")
        return layer, backup.weight if backup else getattr(layer, "weight", None)

    def shapes(self) -> tuple[torch.nn.Module, torch.dtype, int]:
        """The diffusion model again on the meta device, the type that it computes in, and the bytes of its weights as stored."""
        import comfy.model_management

        model, compute = self.model.model, self.compute_type
        again = versions.plain_config(model.model_config, compute).get_model({}, "", torch.device("meta")).diffusion_model
        return again.requires_grad_(False), compute, comfy.model_management.module_size(model.diffusion_model)

    def encode(self, prompts: list[str], clip_skip: int = 1) -> Text:
        """Encode prompts that take as many chunks as the first of them, clip_skip 1 being the layer of an untouched graph.

        Where the encoder takes any number of tokens, all are padded to the longest prompt's. Of a pooled embedding and an
        attention_mask what the family reads is kept. Raises ValueError where the encoder does not give it.
        """
        clip = self.clip.clone()
        if clip_skip > 1:
            clip.clip_layer(-clip_skip)
        tokens = tokenize(clip, prompts)
        every = encode_together(clip, tokens, self.watch) or [encode_alone(clip, t, self.watch) for t in tokens]
        states, pooled, masks = zip(*every)
        longer = [p for p, s in zip(prompts, states) if s.shape[1] != states[0].shape[1]]
        if longer:
            raise ValueError(f"prompt {longer[0][:60]!r}... takes more tokens than one chunk of the text encoder: shorten it")
        family = self.family
        for kept, what, found in ((family.pooled, "pooled embedding", pooled[0]), (family.masked, "attention_mask", masks[0])):
            if kept and found is None:
                raise ValueError(f"the text encoder gives no {what}, which a {family.title} model reads: choose its own text encoder")
        # T5's states are half as large in bf16, and no less exact: it computes them so.
        kind = torch.bfloat16 if states[0][0].numel() > WIDE else torch.float32
        return Text(
            torch.cat([s.to(kind) for s in states]),
            torch.cat(pooled).float() if family.pooled else torch.zeros(len(prompts), 0),
            torch.cat(masks).long() if family.masked else None,
        )

    def one_chunk(self, prompts: list[str]) -> list[bool]:
        """Which prompts have room in one chunk of every text encoder."""
        return [all(len(chunks) == 1 for chunks in self.clip.tokenize(p).values()) for p in prompts]

    def vocabulary(self) -> list[str]:
        """The words that are one token each of the text encoder's."""
        tables = [t.inv_vocab for t in vars(self.clip.tokenizer).values() if hasattr(t, "inv_vocab")]
        return words.whole(tables[0].values())

    def near_words(self, names: list[str], count: int, among: list[str] | None = None) -> dict[str, list[str]]:
        """For each name the `count` words, of the vocabulary where no others are given, whose tokens are nearest to its own."""
        return words.near(self.clip, names, among or self.vocabulary(), count)

    def pieces(self, name: str) -> list[str | None]:
        """What the text encoder reads a name in, None for what it has no sign for."""
        return words.split(self.clip, name)

    def goes_on(self, prompts: list[str]) -> list[list[bool]]:
        """Of every token of each prompt whether it goes on with the word of the token before it."""
        return words.goes_on(self.clip, prompts)

    def sigmas(self, steps: int) -> torch.Tensor:
        import comfy.samplers

        sigmas: torch.Tensor = comfy.samplers.calculate_sigmas(self.model.get_model_object("model_sampling"), "normal", steps)
        return sigmas

    def sample(
        self,
        positive: Conditioning,
        negative: Conditioning,
        size: tuple[int, int],
        seed: int,
        steps: int,
        cfg: float,
        model: Any = None,
        keep: list[int] | None = None,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor | list[tuple[torch.Tensor, float]]:
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
        sigmas = self.sigmas(steps)
        kept: list[tuple[torch.Tensor, float]] = []

        def callback(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
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

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (N, H, W, 3) in 0..1."""
        pictures: torch.Tensor = self.vae.decode(latents)
        return pictures

    def predict(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The noise prediction (the velocity of a flow model) at latents x (N, C, H, W), sigma (N,).

        Args:
            context: token states (N, T, D). pooled: (N, P) and mask: (N, T), for families whose denoiser reads them.
        """
        given = {"height": 8 * x.shape[2], "width": 8 * x.shape[3]} | ({} if mask is None else {"attention_mask": mask})
        conds = self.model.model.extra_conds(cross_attn=context, pooled_output=pooled, noise=x, device=x.device, **given)
        extra = {name: c.process_cond(batch_size=len(x), device=x.device).cond for name, c in conds.items()}
        denoised: torch.Tensor = self.model.model.apply_model(x, sigma, **extra)
        return (x - denoised) / sigma.view(-1, 1, 1, 1)
