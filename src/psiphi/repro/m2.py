"""A digit's label from a hundred examples: M2 on pixels, and M2 on the codes of a variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise, mix
from psiphi.data import binarize
from psiphi.parts import adam
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

ALONE, ON_CODES = "test accuracy, M2", "test accuracy, M1+M2"


@dataclass(frozen=True)
class Fit:
    """How a model is built and trained; share: of a batch, rows whose label is known; alpha: α of such a row."""

    steps: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: str = "softplus"
    batch_size: int = 200
    lr: float = 1e-3
    alpha: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Setting:
    """M2 on pixels, M1, and M2 on M1's codes; labels: how many are known, as many of every class."""

    alone: Fit
    m1: Fit
    m2: Fit
    labels: int = 100
    draws: int = 5


@dataclass(frozen=True)
class Mixture:
    """A sampler of rows with and without their label, −1: a share of known ones, values drawn anew each time."""

    rows: Tensor
    known: Tensor
    y: Tensor
    share: float
    fresh: Callable[[Tensor, Noise], Tensor]

    def __call__(self, n: int, noise: Noise) -> tuple[Tensor, Tensor]:
        told = noise.split("told").uniform() < self.share
        where = noise.split("row").uniform()
        some = (where * len(self.known)).long()
        row = torch.where(told, self.known[some], (where * len(self.rows)).long())
        x = self.fresh(self.rows[row], noise.split("fresh"))
        return x, torch.where(told, self.y[some], -1)


def posterior(rows: Tensor, noise: Noise) -> Tensor:
    """Draws of z ~ N(μ, diag σ²) from rows (μ, σ): (n, 2 d) -> (n, d)."""
    mean, scale = rows.chunk(2, 1)
    return mean + scale * noise.normal(mean.shape[1:])


def known(y: Tensor, labels: int, seed: int) -> Tensor:
    """Rows whose label is told: drawn at random, as many of every class."""
    order = Noise.of(seed, len(y)).uniform().argsort()
    classes = int(y.max()) + 1
    return torch.cat([order[y[order] == k][: labels // classes] for k in range(classes)])


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Accuracies on the test images in %, mean over draws of the labelled rows."""
    train, test = mnist(job)
    codes, test_codes = encoded(setting.m1, job, train, test)
    found: dict[str, list[float]] = {ALONE: [], ON_CODES: []}
    for draw in range(setting.draws):
        rows = known(train.y, setting.labels, mix(job.seed, "labels", draw))
        for what, how, x, part, fresh in (
            (ALONE, setting.alone, train.x, test, binarize),
            (ON_CODES, setting.m2, codes, test_codes, posterior),
        ):
            model = learnt(how, job, Mixture(x, rows, train.y[rows], how.share, fresh), part)
            found[what].append(accuracy(model, part))
        job.log(
            f"labels {draw}: " + ", ".join(f"{what} {values[-1]:.2f} %" for what, values in found.items())
        )
    return {what: sum(values) / len(values) for what, values in found.items()}


def encoded(how: Fit, job: Job, train: Rows, test: Rows) -> tuple[Tensor, Rows]:
    """(μ, σ) of M1's posterior of every training image, (n, 2 d), and the test images' means with their labels."""
    shape = tuple(train.x.shape[1:])
    m1 = zoo.vae(
        shape,
        how.latent_dim,
        likelihood="bernoulli",
        hidden=how.hidden,
        activation=how.activation,
        seed=job.seed,
    )
    images = Mixture(train.x, torch.zeros(1).long(), torch.zeros(1).long(), 0.0, binarize)
    train_on(m1, how, job, lambda n, noise: images(n, noise)[0])
    with torch.no_grad():
        q = m1.posterior(train.x)
        return torch.cat([q.mean, q.log_scale.exp()], 1), Rows(m1.encode(test.x), test.y)


def learnt(how: Fit, job: Job, rows: Mixture, like: Rows) -> Any:
    """M2, trained on the rows."""
    pixels = like.x.ndim > 2
    model = zoo.semi_supervised_vae(
        tuple(like.x.shape[1:]), how.latent_dim, int(like.y.max()) + 1, alpha=how.alpha,
        likelihood="bernoulli" if pixels else "gaussian", hidden=how.hidden, activation=how.activation,
        seed=job.seed,
    )  # fmt: skip
    train_on(model, how, job, rows)
    return model


def train_on(model: Any, how: Fit, job: Job, rows: Any) -> None:
    rule = adam(how.lr, schedule=cosine(0.02))
    fit(
        model,
        rows,
        steps=how.steps,
        batch_size=how.batch_size,
        optimizer=rule,
        seed=job.seed,
        quiet=job.quiet,
    )


def accuracy(model: Any, rows: Rows) -> float:
    return 100 * float((model.predict(rows.x) == rows.y).float().mean())


RECIPE = Recipe(
    name="m2",
    reference='Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative models", 2014, table 1.',
    what="Test accuracy from 100 labels, MNIST, by M2 on pixels and on the codes of M1; mean of draws of the labels.",
    rows=(
        Row(ALONE, published=88.03, quick=88.0, full=93.2, unit="%", higher=True),
        Row(ON_CODES, published=96.67, quick=88.0, full=95.0, unit="%", higher=True),
    ),
    quick=Setting(
        alone=Fit(steps=2500, latent_dim=10, hidden=(256,), alpha=20.0, share=0.2),
        m1=Fit(steps=3000, latent_dim=50, hidden=(500,)),
        m2=Fit(steps=2500, latent_dim=10, hidden=(256,), alpha=20.0, share=0.2),
    ),
    full=Setting(
        alone=Fit(steps=2500, latent_dim=10, hidden=(256,), alpha=20.0, share=0.2),
        m1=Fit(steps=3000, latent_dim=50, hidden=(500,)),
        m2=Fit(steps=2500, latent_dim=10, hidden=(256,), alpha=20.0, share=0.2),
    ),
    measure=measure,
    needs="mnist",
    differs="",
)
