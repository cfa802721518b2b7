"""Sampling for the host tests: prompts, conditionings, and a look at every row that the denoiser returns."""

import comfy.sample
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

ERASED = "a cat, google style, on a blue background"
OTHER_ERASED = "a drawing of a cat, yellow background, twitter style"
SAFE = "a dog, google style, on a blue background"
STEPS = 4


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def run(node, *args):
    """A core node's outputs; some were of the older kind of class before 0.3.76."""
    return node.execute(*args).result if hasattr(node, "execute") else getattr(node(), node.FUNCTION)(*args)


def two_rows(*conditionings):
    """Conditionings of one row each as one of several rows."""
    return [[torch.cat([c[0][0] for c in conditionings]), {"pooled_output": torch.cat([c[0][1]["pooled_output"] for c in conditionings])}]]


def noise(rows=1, seed=3, width=8):
    return torch.randn(rows, 32, 8, width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def sample(model, positive, negative, noise, cfg=3.0, callback=None, steps=STEPS):
    latent = torch.zeros_like(noise)
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", "normal", positive, negative, latent, disable_pbar=True, callback=callback, seed=0
    )


@torch.inference_mode()
def sample_with(guider, noise, steps=STEPS):
    """Sample with a guider whose conditionings are set."""
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "normal", steps)
    return guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=0)


def watch(model):
    """A clone that records what the denoiser returns, and the list: one entry per call, {prompt's index in the guider: rows}."""
    calls = []

    def wrapper(executor, x, *args, **kwargs):
        out = executor(x, *args, **kwargs)
        order = args[4]["cond_or_uncond"]  # after t, c_concat, c_crossattn and control
        calls.append({})
        for index, part in zip(order, out.chunk(len(order))):
            calls[-1].setdefault(index, []).append(part.clone())
        return out

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", wrapper)
    return clone, calls


def first_step(calls):
    """The recorded rows of the first step, by index of the guider's conditioning list."""
    rows = {}
    for call in calls:
        for index in call:
            if index in rows:
                return rows
        for index, parts in call.items():
            rows[index] = parts
    return rows


def weights(model):
    return {k: v.clone() for k, v in model.model.state_dict().items()}


def unchanged(model, before):
    """Whether every weight has the bits it had, and no hook is left."""
    bits = lambda t: t.view(torch.uint8) if t.element_size() == 1 else t
    same = all(torch.equal(bits(v), bits(before[k])) for k, v in model.model.state_dict().items())
    return same and not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())
