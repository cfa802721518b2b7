"""What people would use instead, from their papers' equations on the same backbone.

They return weight changes, {name in the diffusion model: (out, in) float32 on the CPU}, to be patched into a MODEL as a
LoRA file is: on every row and prompt, with no switch. The base's own weights are never written.
"""

import re
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from host.backbone import Backbone
from trainer.config import Config
from trainer.objectives import task_loss
from trainer.prompts.answering import aligned, token_ids
from trainer.prompts.concepts import Prompt, Target

from .controls import Lora

CROSS_ATTENTION = r".*\.attn2\.(to_q|to_k|to_v|to_out\.0)"  # ESD-x
KEY_VALUE = r".*\.attn2\.to_[kv]"  # UCE


def lora_weights(lora: Lora) -> dict[str, torch.Tensor]:
    """An ordinary LoRA at full strength, s = S, as changes of its layers' weights: dW = B A.

    LoRA (Hu et al. 2021, arXiv 2106.09685). A: (rank, in), B: (out, rank).
    """
    with torch.no_grad():
        return {f"{n.name}.weight": (u @ d).float().cpu() for n, d, u in zip(lora.shape.layers, lora.down, lora.up)}


def stack(loras: list[Lora]) -> dict[str, torch.Tensor]:
    """One LoRA per concept, all loaded at strength 1: their changes add up, dW = sum_k B_k A_k.

    LECO (https://github.com/p1atdev/LECO), SPM (Lyu et al. 2023, arXiv 2312.16145).
    """
    changes = [lora_weights(lora) for lora in loras]
    return {name: sum(c[name] for c in changes if name in c) for name in dict.fromkeys(n for c in changes for n in c)}


def own_layers(backbone: Backbone, pattern: str) -> dict[str, nn.Module]:
    """The base's linear layers whose whole name matches, with the base's own weights in them."""
    backbone.load()
    every = backbone.diffusion_model.named_modules()
    return {n: m for n, m in every if re.fullmatch(pattern, n) and getattr(getattr(m, "weight", None), "ndim", 0) == 2}


@contextmanager
def changed(layers: dict[str, nn.Module], changes):
    """Inside, layer i computes W x + dW_i x, with gradients to dW_i: (out, in)."""

    hook = lambda change: lambda module, args, output: output + F.linear(args[0].to(change.dtype), change).to(output.dtype)
    handles = [layer.register_forward_hook(hook(change)) for layer, change in zip(layers.values(), changes)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def train_full(config: Config, backbone: Backbone, data) -> dict[str, torch.Tensor]:
    """ESD-x: every cross-attention weight fine-tuned whole, with the eraser's samples, task loss, optimizer, schedule and steps.

        min over dW of E || eps_{W + dW}(z_t, t, c) - eps* ||^2 / scale(t),   dW = 0 at first

    ESD (Gandikota et al. 2023, arXiv 2303.07345). Trained as a change beside the frozen weights, which has W's own
    gradient: the base stays as it is, to the bit, and may be stored in half precision. eps* is that of data, a data.Data:
    `unconditional` the paper's own, otherwise the mapping concept's.
    """
    from trainer.optimizer import new_optimizer, update
    from trainer.run.divergence import Diverged

    device = backbone.device
    layers = own_layers(backbone, CROSS_ATTENTION)
    changes = nn.ParameterList(torch.zeros(layer.weight.shape, device=device) for layer in layers.values())
    optimizer = new_optimizer(changes, config)
    rng = torch.Generator().manual_seed(config.seed)
    for iteration in range(config.iterations):
        batch = data.turn(iteration, config.batch, config.steps, rng)[1].to(device)
        with changed(layers, changes), torch.autocast(device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
            predicted = backbone.predict(batch.x, batch.sigma, batch.context, batch.pooled, batch.mask).float()
        loss = task_loss(predicted, batch.eps, batch.eps_star, torch.ones_like(batch.s), batch.scale)
        if not loss.isfinite() or loss > 1e3:
            raise Diverged(f"full fine-tuning diverged at iteration {iteration} (task loss {loss:.3g}): lower learning_rate or guidance")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        update(optimizer, config, iteration)
    return {f"{name}.weight": change.detach().cpu() for name, change in zip(layers, changes)}


def closed_form(weight, c, c_star, kept, erase_scale: float, preserve_scale: float, ridge: float) -> torch.Tensor:
    """UCE's editing problem solved: the change W' - W, (out, in), of the W' that minimises

        e sum_i || W' c_i - W c*_i ||^2 + p sum_j || W' k_j - W k_j ||^2 + r || W' - W ||_F^2
        W' - W = e W (C* - C)^T C (e C^T C + p K^T K + r I)^-1

    which is the paper's W' = (e W C*^T C + p W K^T K + r W) (e C^T C + p K^T K + r I)^-1 less W, and 0 to the bit at e = 0.
    UCE (Gandikota et al. 2024, arXiv 2308.14761).

    weight: (out, in). c, c_star: rows C and C*, (n, in). kept: rows K, (m, in). All taken as float64.
    """
    weight, c, c_star, kept = (t.double() for t in (weight, c, c_star, kept))
    gram = erase_scale * c.T @ c + preserve_scale * kept.T @ kept + ridge * torch.eye(c.shape[1], dtype=c.dtype, device=c.device)
    return weight @ torch.linalg.solve(gram, erase_scale * (c_star - c).T @ c, left=False)


def editing_states(
    backbone: Backbone, targets: list[Target], retain: list[Prompt], padding: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a closed form edits by: rows C and C*, the aligned states of target prompts and of their mapped ones, and all states K of
    the retain prompts, (n, in), (n, in), (m, in).

    Both reach `padding` states past the end token: SD 1.x attends to the padding, whose states carry the prompt's meaning.
    They are weighted so that sums are means, over concepts and each one's states and over the kept states: neither the
    number of prompts nor of concepts is a hidden scale.
    """
    targets = [t for t in targets if not t.off]
    here, there = [t.prompt.text for t in targets], [t.mapped for t in targets]
    # Together, so that an encoder that takes any number of tokens pads both to one length.
    states, mapped = backbone.encode([*here, *there]).tokens.cpu().split(len(here))
    kept = backbone.encode([p.text for p in retain]).tokens.cpu()
    spans = [aligned(token_ids(backbone, a), token_ids(backbone, b), padding, states.shape[1]) for a, b in zip(here, there)]
    erased, wanted, concepts = [], [], sorted({t.concept for t in targets})
    for concept in concepts:
        rows = [i for i, t in enumerate(targets) if t.concept == concept]
        c, c_star = torch.cat([states[i, spans[i][0]] for i in rows]), torch.cat([mapped[i, spans[i][1]] for i in rows])
        there_is = c.abs().amax(1) > 0  # an encoder may pad with zeros, which are no states
        c, c_star = c[there_is], c_star[there_is]
        share = (len(concepts) * len(c)) ** -0.5
        erased.append(share * c), wanted.append(share * c_star)
    kept = torch.cat([k[: len(token_ids(backbone, p.text)) + padding] for k, p in zip(kept, retain)])
    kept = kept[kept.abs().amax(1) > 0]
    return torch.cat(erased), torch.cat(wanted), kept / len(kept) ** 0.5


def each_layer(layers: dict[str, nn.Module], change: torch.Tensor) -> dict[str, torch.Tensor]:
    """A change of all layers' weights, one under the other, by the weights' names."""
    parts = change.float().split([len(layer.weight) for layer in layers.values()])
    return {f"{name}.weight": part.clone() for name, part in zip(layers, parts)}


def uce(
    backbone: Backbone, targets: list[Target], retain: list[Prompt], erase_scale=1.0, preserve_scale=10.0, ridge=0.1, padding=77
) -> dict[str, torch.Tensor]:
    """Unified Concept Editing: `closed_form` for every cross-attention key and value, on the prompts' token states.

    UCE (Gandikota et al. 2024, arXiv 2308.14761). All padding is edited by, as in the authors' code.
    """
    states = editing_states(backbone, targets, retain, padding)
    layers = own_layers(backbone, KEY_VALUE)
    # All layers at once: they read the same states, so that the matrix to solve with is one.
    weights = torch.cat([layer.weight.cpu() for layer in layers.values()])
    return each_layer(layers, closed_form(weights, *states, erase_scale, preserve_scale, ridge))
