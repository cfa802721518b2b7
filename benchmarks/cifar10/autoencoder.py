"""The CIFAR-10 base's autoencoder: 4x4 patches on their first 32 principal components, and linearly back."""

from demo.autoencoder import PatchBasis

PATCH = 4


class Autoencoder(PatchBasis):
    def __init__(self):
        super().__init__(PATCH)

    def decode(self, latents, **_):
        return self.decode_linear(latents)
