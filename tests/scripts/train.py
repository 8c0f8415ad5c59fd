"""Trains the model of the resume tests into a folder: `train.py OUT`; run again it goes on."""

import sys

import torch

import psiphi as pp


class Dropped(torch.nn.Module):
    """A network with a random state of its own to get wrong."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(12, 16),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(16, 6),
        )

    def forward(self, x):
        return self.layers(x)


def build():
    torch.manual_seed(0)
    return pp.zoo.vae(
        12, latent_dim=3, likelihood="gaussian:optimal", hidden=(16,), encoder=Dropped(), warmup=2.0
    )


def data() -> torch.Tensor:
    return torch.rand(70, 12, generator=torch.Generator().manual_seed(0))


def train(model, out=None, epochs: int = 4, **options):
    x = data()
    options = (
        dict(batch_size=16, seed=5, quiet=True, ema=0.9, validation=x[:20], checkpoint_every=0.0) | options
    )
    return pp.fit(model, x, epochs=epochs, out=out, resume=out is not None, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(build(), sys.argv[1], epochs=int(sys.argv[2]) if len(sys.argv) > 2 else 4)
