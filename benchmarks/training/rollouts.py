"""Training data as the paper has it: for every step a guided rollout of the base up to a step drawn by lot, used once."""

import torch

from trainer.config import Config
from trainer.data import Data, Texts
from trainer.objectives import guided_target
from trainer.samples import Batch
from trainer.slider import predict

STEPS = 50  # of a whole rollout


class Rollouts(Data):
    """Prompts of one concept alone, and latents that are drawn when they are asked for.

    Every noise level counts alike in the paper's plain square; so that the task's loss begins near 1, as the other's does, it is divided
    by the mean change so far.
    """

    def __init__(self, config: Config, backbone, progress=print):
        backbone.load()
        Texts.__init__(self, config, backbone, progress)
        self.config, self.backbone, self.text_task = config, backbone, None
        self.alone = torch.tensor([i for i, t in enumerate(self.targets) if not t.prompt.pair])
        self.text, self.mapped, self.nothing = (
            backbone.encode(texts) for texts in ([t.prompt.text for t in self.targets], [t.mapped for t in self.targets], [""])
        )
        self.change, self.seen = 0.0, 0

    @torch.no_grad()
    def turn(self, iteration: int, size: int, total_steps: int, rng: torch.Generator) -> tuple[str, Batch]:
        prompts = self.alone[torch.randint(len(self.alone), (size,), generator=rng)]
        step = int(torch.randint(STEPS, (), generator=rng))
        text, mapped = self.text.rows(prompts), self.mapped.rows(prompts)
        x, sigma = self.rolled(text, step, rng)
        eps, eps_mapped = (predict(self.backbone, x, sigma, some) for some in (text, mapped))
        eps_star = guided_target(eps_mapped, eps, self.config.guidance)
        self.change += (eps_star - eps).square().mean((1, 2, 3)).sum().item()
        self.seen += size
        scale = torch.full((size,), max(self.change / self.seen, 1e-12))
        s = torch.rand(size, generator=rng) * total_steps
        off = torch.zeros(size, self.named.shape[1], dtype=torch.bool)
        return "task", Batch(x, sigma, text.tokens, text.pooled, text.condition(), off, s, eps, eps_star, scale, text.mask)

    def rolled(self, text, until: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents (N, C, H, W) that a guided sampling has after so many of STEPS steps by Euler's method, and their sigma (N,)."""
        count, (width, height) = len(text.tokens), self.config.size_of(False)
        sampling = self.backbone.model.get_model_object("model_sampling")
        channels = self.backbone.model.get_model_object("latent_format").latent_channels
        sigmas = self.backbone.sigmas(STEPS)
        noise = torch.randn(count, channels, height // 8, width // 8, generator=rng)
        x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), True)
        shown = text.beside(self.nothing.repeated(count))
        for i in range(until):
            sigma = sigmas[i].expand(2 * count)
            with_text, without = predict(self.backbone, x.repeat(2, 1, 1, 1), sigma, shown).split(count)
            x = x + (sigmas[i + 1] - sigmas[i]) * (without + self.config.cfg * (with_text - without))
        return x, sigmas[until].expand(count)
