"""A training run of the emoji-open base's UNet: optimisers, average, state and file."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ..muon import Muon

SEED = 40
MUON_RATE, ADAM_RATE, WEIGHT_DECAY = 3e-3, 1.2e-3, 0.01
WARMUP = 50
EMA = 0.998
SMOOTHING = 0.1  # of the nouns' labels: without it the heads grow, and their gradient drowns the denoising loss's


class Namer(torch.nn.Module):
    """Heads that name a picture's nouns, place by place, from what two of the UNet's layers hold; thrown away afterwards.

    The denoising loss alone is slow to carry a noun from the text into the picture: only very noisy pictures need the text.
    """

    LAYERS = ("input_blocks.2", "middle_block")

    def __init__(self, unet, nouns: int):
        super().__init__()
        self.features: dict[str, torch.Tensor] = {}
        self.heads = torch.nn.ModuleList()
        for layer in self.LAYERS:
            module = unet.get_submodule(layer)[-1]  # ComfyUI runs a block's parts one by one, not the block
            width = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)][-1].out_channels
            self.heads.append(torch.nn.Linear(width, nouns))
            module.register_forward_hook(lambda _, args, out, layer=layer: self.features.__setitem__(layer, out))

    def forward(self, nouns: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over both layers, after a forward of the UNet; nouns (N, cells) are indices, -1 for no answer."""
        target = nouns.repeat_interleave(4, 1)[:, None].expand(-1, 4, -1)  # (N, 4, 4 per cell)
        losses = []
        for layer, head in zip(self.LAYERS, self.heads):
            places = F.adaptive_avg_pool2d(self.features.pop(layer), target.shape[1:]).movedim(1, -1).float()
            logits = head(F.layer_norm(places, places.shape[-1:]))
            losses.append(F.cross_entropy(logits.flatten(0, 2), target.flatten(), ignore_index=-1, label_smoothing=SMOOTHING))
        return torch.stack(losses).mean()


class Run:
    """The UNet, its optimisers and its average: everything that is saved and resumed."""

    def __init__(self, unet, nouns: int):
        self.unet, self.step, self.first, self.end = unet, 0, 0, 0
        self.whitening = torch.eye(unet_context(unet))
        device = next(unet.parameters()).device
        self.namer, on_card = Namer(unet, nouns).to(device), device.type == "cuda"
        named = [*unet.named_parameters(), *((f"namer.{n}", q) for n, q in self.namer.named_parameters())]
        self.names, self.parameters = zip(*named)
        matrices = [q for n, q in named if is_matrix(n, q)]
        others = [q for n, q in named if not is_matrix(n, q)]
        self.optimizers = (
            Muon(matrices, lr=MUON_RATE, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY, fused=True, capturable=on_card),
        )
        if on_card:  # a CUDA graph reads the rates anew each time
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = torch.zeros((), device=self.parameters[0].device)
        self.rates = (MUON_RATE, ADAM_RATE)
        self.ema = [q.detach().clone() for q in self.parameters]

    def losses(self, sampling, clean, states, t, nouns) -> tuple[torch.Tensor, torch.Tensor]:
        """Of v-prediction and of naming: clean latents, noised to the levels t (N,) of the model's sampling, by their states."""
        sigma = sampling.sigmas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        with torch.autocast(clean.device.type, torch.bfloat16):
            v = self.unet((clean + sigma * noise) / (1 + sigma**2).sqrt(), t.float(), context=states @ self.whitening)
        return F.mse_loss(v.float(), (noise - sigma * clean) / (1 + sigma**2).sqrt()), self.namer(nouns)

    def update(self, loss, decay: int) -> None:
        self.set_rates(min(1.0, (self.step - self.first + 1) / WARMUP, (self.end - self.step) / decay if self.end else 1.0))
        self.step += 1
        self.descend(loss, min(EMA, (self.step + 1) / (self.step + 10)))

    def set_rates(self, share: float) -> None:
        """The learning rates from now on, as a share of the highest."""
        for optimizer, rate in zip(self.optimizers, self.rates):
            group = optimizer.param_groups[0]
            group["lr"] = group["lr"].fill_(rate * share) if isinstance(group["lr"], torch.Tensor) else rate * share

    def descend(self, loss, ema: float = EMA) -> None:
        """Both passes' second half, both optimisers and the average, without a look at any number."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, [q.detach() for q in self.parameters], 1 - ema)

    def save(self, path: Path) -> None:
        tensors = {"step": torch.tensor(self.step), "end": torch.tensor(self.end), "whitening": self.whitening}
        for name, weight, average in zip(self.names, self.parameters, self.ema):
            tensors |= {f"weight.{name}": weight.detach(), f"ema.{name}": average}
            kept = next(o.state[weight] for o in self.optimizers if weight in o.state)
            tensors |= {f"{k}.{name}": v for k, v in kept.items()}
        write(path, tensors)

    def load(self, path: Path) -> None:
        tensors = load_file(path)
        self.step, self.end, self.whitening = int(tensors["step"]), int(tensors["end"]), tensors["whitening"]
        for name, weight, average in zip(self.names, self.parameters, self.ema):
            weight.data.copy_(tensors[f"weight.{name}"]), average.copy_(tensors[f"ema.{name}"])
            muon = is_matrix(name, weight)
            keys = ("momentum",) if muon else ("step", "exp_avg", "exp_avg_sq")
            self.optimizers[0 if muon else 1].state[weight] = {k: tensors[f"{k}.{name}"] for k in keys}

    def start(self, path: Path) -> None:
        """Go on from a base's file, where the state is lost: its averaged weights, the whitening taken out of them again."""
        with safe_open(path, "pt") as file:
            self.step = self.first = int(file.metadata()["steps"])
            for name, weight, average in self.of_unet():
                value = file.get_tensor(f"unet.{name}").float()
                value = torch.linalg.solve(self.whitening, value, left=False) if reads_text(name) else value
                weight.data.copy_(value), average.copy_(value)

    def of_unet(self):
        """(name, weight, average) of every parameter of the UNet's."""
        return [row for row in zip(self.names, self.parameters, self.ema) if not row[0].startswith("namer.")]

    def export(self, path: Path, autoencoder) -> None:
        """The averaged weights in fp16, the whitening taken into the key and value weights that read the text."""
        tensors = {f"vae.{k}": v for k, v in autoencoder.state_dict().items()}
        for name, _, average in self.of_unet():
            tensors[f"unet.{name}"] = average @ self.whitening if reads_text(name) else average
        write(path, {k: v.half() for k, v in tensors.items()}, {"format": "unhype-demo-base", "steps": str(self.step), "seed": str(SEED)})


def is_matrix(name: str, weight) -> bool:
    """Whether a weight is Muon's: the first and last layer, the namer, norms and biases are AdamW's."""
    return weight.ndim >= 2 and not name.startswith(("input_blocks.0.", "out.", "namer."))


def reads_text(name: str) -> bool:
    return name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))


def unet_context(unet) -> int:
    return next(q.shape[1] for n, q in unet.named_parameters() if n.endswith("attn2.to_k.weight"))


def write(path: Path, tensors: dict, metadata: dict | None = None) -> None:
    half = path.with_name(path.name + ".tmp")
    save_file({k: v.contiguous() for k, v in tensors.items()}, half, metadata)
    half.replace(path)
