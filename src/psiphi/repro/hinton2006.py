"""A deep autoencoder against principal component analysis, both with codes of 30 numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from psiphi import zoo
from psiphi.basis.noise import forked
from psiphi.evaluation import reconstruction
from psiphi.parts import adam
from psiphi.repro._mnist import mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

PCA, DEEP = "squared error a test image, PCA", "squared error a test image, deep autoencoder"


@dataclass(frozen=True)
class Setting:
    """How the deep autoencoder is built and trained."""

    epochs: int
    hidden: tuple[int, ...] = (1000, 500, 250)
    latent_dim: int = 30
    activation: str = "gelu"
    batch_size: int = 256
    lr: float = 2e-3
    warmup: float = 0.02


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Σ (x − x̂)² over the pixels, mean over the test images, of both."""
    train, test = mnist(job)
    shape = tuple(train.x.shape[1:])
    pca = zoo.pca(shape, setting.latent_dim)
    fit(pca, train.x, quiet=job.quiet)
    linear = reconstruction(pca, test.x)
    job.log(f"PCA: {linear}.")
    deep = zoo.ae(
        shape, setting.latent_dim, loss="bernoulli", hidden=setting.hidden, activation=setting.activation,
        seed=job.seed,
    )  # fmt: skip
    spread(deep, job.seed)
    rule = adam(setting.lr, schedule=cosine(setting.warmup))
    fit(
        deep, train.x, epochs=setting.epochs, batch_size=setting.batch_size, optimizer=rule, seed=job.seed,
        quiet=job.quiet,
    )  # fmt: skip
    found = reconstruction(deep, test.x)
    job.log(f"deep autoencoder: {found}.")
    return {PCA: linear.squared_error, DEEP: found.squared_error}


def spread(model: nn.Module, seed: int) -> None:
    """Initial weights that keep a signal's size through eight layers: N(0, 2/inputs), biases 0.

    Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015, eq. 10.
    """
    with forked(seed, "weights"):
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)


RECIPE = Recipe(
    name="hinton2006",
    reference='Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006.',
    what="A deep autoencoder 784-1000-500-250-30 against PCA with 30 components, MNIST.",
    rows=(
        Row(PCA, published=13.87, quick=13.9, full=13.9),
        Row(DEEP, published=3.00, quick=4.5, full=3.00),
    ),
    quick=Setting(epochs=10),
    full=Setting(epochs=100),
    measure=measure,
    needs="mnist",
    differs="He's random weights, Adam and a cosine schedule in place of layer-wise pretraining by restricted "
    "Boltzmann machines and conjugate gradients; GELU units in place of logistic ones.",
)
