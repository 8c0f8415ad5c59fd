"""A digit's label from a hundred examples: M2 on pixels, and M2 on the codes of a variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise, mix
from psiphi.data import binarize
from psiphi.models import LabelledModel, LatentModel
from psiphi.parts import adam
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

ALONE, ON_CODES = "test accuracy, M2", "test accuracy, M1+M2"
SPREAD = "standard error over draws of the labels"


@dataclass(frozen=True)
class Fit:
    """How a model is built and trained; share: of a batch, rows whose label is known; alpha: α of such a row."""

    steps: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_size: int = 200
    lr: float = 3e-3
    alpha: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Setting:
    """M2 on pixels, M1, and M2 on M1's codes; labels: how many are known, as many of every class.

    pool: pixels that become one, each way; shift: pixels by which a training image is moved at most, each way.
    """

    alone: Fit
    m1: Fit
    m2: Fit
    pool: int = 1
    shift: int = 2
    labels: int = 100
    draws: int = 5


@dataclass(frozen=True)
class Images:
    """What the pixel models see of grey images (n, 1, h, w): moved at random, smaller, their pixels drawn anew."""

    pool: int
    shift: int

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        moved = self.moved(x, noise.split("shift")) if self.shift else x
        return binarize(self.smaller(moved), noise.split("pixels"))

    def smaller(self, x: Tensor) -> Tensor:
        """Means of pool × pool pixels."""
        return F.avg_pool2d(x, self.pool) if self.pool > 1 else x

    def moved(self, x: Tensor, noise: Noise) -> Tensor:
        """Every image moved by up to `shift` pixels each way, round the edges, which are blank in MNIST."""
        by = (noise.uniform((2,)) * (2 * self.shift + 1)).long() - self.shift
        down, right = ((torch.arange(x.shape[2 + i]) + by[:, i, None]) % x.shape[2 + i] for i in range(2))
        row = torch.arange(len(x))[:, None, None]
        return x[row, 0, down[:, :, None], right[:, None, :]][:, None]


@dataclass(frozen=True)
class Codes:
    """What M2 sees above M1: draws of z ~ q(z|x), x ~ images."""

    images: Images
    m1: LatentModel

    @torch.no_grad()
    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        return self.m1.posterior(self.images(x, noise)).rsample(noise.split("code"))[0]


@dataclass(frozen=True)
class Mixture:
    """A sampler of rows with and without their label, −1: a `share` of known ones; fresh: what is seen of a row."""

    x: Tensor
    known: Tensor
    y: Tensor
    share: float
    fresh: Callable[[Tensor, Noise], Tensor]

    def __call__(self, n: int, noise: Noise) -> tuple[Tensor, Tensor]:
        told = noise.split("told").uniform() < self.share
        place = noise.split("row").uniform().double()
        some = (place * len(self.known)).long()
        row = torch.where(told, self.known[some], (place * len(self.x)).long())
        return self.fresh(self.x[row], noise.split("fresh")), torch.where(told, self.y[some], -1)


def known(y: Tensor, labels: int, seed: int) -> Tensor:
    """Rows whose label is told: drawn at random, as many of every class."""
    order = Noise.of(seed, len(y)).uniform().argsort()
    classes = int(y.max()) + 1
    return torch.cat([order[y[order] == k][: labels // classes] for k in range(classes)])


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Accuracies on the test images in %, mean over draws of the labelled rows."""
    train, test = mnist(job)
    images = Images(setting.pool, setting.shift)
    test = Rows(images.smaller(test.x), test.y)
    m1 = unlabelled(setting.m1, job, Mixture(train.x, torch.zeros(1).long(), train.y[:1], 0.0, images), test)
    test_codes = Rows(m1.encode(test.x).detach(), test.y)
    job.log(f"M1 is trained: codes of {setting.m1.latent_dim} numbers.")
    found: dict[str, list[float]] = {ALONE: [], ON_CODES: []}
    for draw in range(setting.draws):
        rows = known(train.y, setting.labels, mix(job.seed, "labels", draw))
        for what, how, fresh, part in (
            (ALONE, setting.alone, images, test),
            (ON_CODES, setting.m2, Codes(images, m1), test_codes),
        ):
            model = labelled(how, job, Mixture(train.x, rows, train.y[rows], how.share, fresh), part)
            found[what].append(100 * float((model.predict(part.x) == part.y).float().mean()))
        job.log(f"labels {draw}: " + ", ".join(f"{what} {each[-1]:.2f} %" for what, each in found.items()))
    result = {}
    for what, each in found.items():
        values = torch.tensor(each)
        error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
        result |= {what: float(values.mean()), f"{what}, {SPREAD}": error}
    return result


def unlabelled(how: Fit, job: Job, rows: Mixture, like: Rows) -> LatentModel:
    """M1: a VAE of black and white pixels."""
    model = zoo.vae(
        tuple(like.x.shape[1:]), how.latent_dim, likelihood="bernoulli", hidden=how.hidden,
        activation=how.activation, seed=job.seed,
    )  # fmt: skip
    _train(model, how, job, lambda n, noise: rows(n, noise)[0])
    return model.eval()


def labelled(how: Fit, job: Job, rows: Mixture, like: Rows) -> LabelledModel:
    """M2 on rows such as those of `like`: of pixels, where they are images, else of codes."""
    model = zoo.semi_supervised_vae(
        tuple(like.x.shape[1:]), how.latent_dim, int(like.y.max()) + 1, alpha=how.alpha,
        likelihood="bernoulli" if like.x.ndim > 2 else "gaussian", hidden=how.hidden, activation=how.activation,
        seed=job.seed,
    )  # fmt: skip
    _train(model, how, job, rows)
    return model


def _train(model: Any, how: Fit, job: Job, rows: Any) -> None:
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


QUICK = Fit(steps=2000, latent_dim=16, hidden=(256,), alpha=50.0, share=0.04)
FULL = Fit(steps=200_000, latent_dim=50, hidden=(500,), lr=5e-4, alpha=100.0, share=0.02)

RECIPE = Recipe(
    name="m2",
    reference='Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative models", 2014.',
    what="Test accuracy from 100 labels, MNIST, by M2 on pixels and on the codes of M1; mean of draws of the labels.",
    rows=(
        Row(ALONE, published=88.03, quick=88.0, full=93.2, unit="%", higher=True),
        Row(ON_CODES, published=96.67, quick=88.0, full=95.0, unit="%", higher=True),
        *(Row(f"{what}, {SPREAD}", unit="%") for what in (ALONE, ON_CODES)),
    ),
    quick=Setting(alone=QUICK, m1=Fit(4000, 50, (500,), lr=2e-3), m2=QUICK, pool=2),
    full=Setting(alone=FULL, m1=Fit(100_000, 50, (500,), lr=1e-3), m2=FULL),
    measure=measure,
    needs="mnist",
    differs="",
)
