"""A digit's label from a hundred examples: M2 on pixels, and M2 on the codes of a variational autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise, forked, mix
from psiphi.data import binarize, known
from psiphi.models import LabelledModel
from psiphi.networks import ConvEncoder
from psiphi.parts import adam
from psiphi.repro._labels import Mixture
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

ALONE, ON_CODES = "test accuracy, M2", "test accuracy, M1+M2"
SPREAD = "standard error over draws of the labels"


@dataclass(frozen=True)
class Fit:
    """How a model is built and trained; share: of a batch, rows whose label is known; alpha: α of such a row.

    filters: q(y|x) is a convolutional network of these, in place of an MLP as wide as the others.
    """

    steps: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_size: int = 200
    lr: float = 3e-3
    alpha: float = 0.0
    share: float = 0.0
    filters: tuple[int, ...] = ()


@dataclass(frozen=True)
class Images:
    """What a model sees of grey images (n, 1, h, w): moved at random, smaller, their pixels drawn anew.

    pool: pixels that become one, each way; shift: pixels by which an image is moved at most, each way.
    """

    pool: int = 1
    shift: int = 0

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        moved = self.moved(x, noise.split("shift")) if self.shift else x
        return binarize(self.smaller(moved), noise.split("pixels"))

    def smaller(self, x: Tensor) -> Tensor:
        """Means of pool × pool pixels."""
        return F.avg_pool2d(x, self.pool) if self.pool > 1 else x

    def moved(self, x: Tensor, noise: Noise) -> Tensor:
        """Every image moved by up to `shift` pixels each way, round the edges, which are blank in MNIST."""
        by = (noise.uniform((2,)) * (2 * self.shift + 1)).long() - self.shift
        down, right = (
            (torch.arange(x.shape[2 + i], device=x.device) + by[:, i, None]) % x.shape[2 + i]
            for i in range(2)
        )
        row = torch.arange(len(x), device=x.device)[:, None, None]
        return x[row, 0, down[:, :, None], right[:, None, :]][:, None]


@dataclass(frozen=True)
class Setting:
    """M2 on pixels as `images` shows them, M1, and M2 on M1's codes; labels: known ones, as many of every class."""

    alone: Fit
    m1: Fit
    m2: Fit
    images: Images
    labels: int = 100
    draws: int = 5


def posterior(codes: Tensor, noise: Noise) -> Tensor:
    """What M2 sees above M1: draws of z ~ N(μ, diag σ²), codes (n, 2 d) = (μ, σ)."""
    mean, scale = codes.chunk(2, 1)
    return mean + scale * noise.normal(mean.shape[1:])


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Accuracies on the test images in %, mean over draws of the labelled rows."""
    train, test = mnist(job)
    codes, test_codes = encoded(setting.m1, job, train, test)
    job.log(f"M1 is trained: codes of {setting.m1.latent_dim} numbers.")
    small = Rows(setting.images.smaller(test.x), test.y)
    found: dict[str, list[float]] = {ALONE: [], ON_CODES: []}
    for draw in range(setting.draws):
        rows = known(train.y, setting.labels, mix(job.seed, "labels", draw))
        for what, how, x, fresh, part in (
            (ALONE, setting.alone, train.x, setting.images, small),
            (ON_CODES, setting.m2, codes, posterior, test_codes),
        ):
            model = labelled(how, job, Mixture(x, rows, train.y[rows], how.share, fresh), part)
            found[what].append(100 * float((model.predict(part.x) == part.y).float().mean()))
        job.log(f"labels {draw}: " + ", ".join(f"{what} {each[-1]:.2f} %" for what, each in found.items()))
    result = {}
    for what, each in found.items():
        values = torch.tensor(each)
        error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
        result |= {what: float(values.mean()), f"{what}, {SPREAD}": error}
    return result


def encoded(how: Fit, job: Job, train: Rows, test: Rows) -> tuple[Tensor, Rows]:
    """(μ, σ) of M1's posterior of every training image, (n, 2 d), and the means of the test images' with their labels.

    M1 is a VAE of pixels drawn anew each time; codes are those of the grey values.
    """
    m1 = zoo.vae(
        tuple(train.x.shape[1:]), how.latent_dim, likelihood="bernoulli", hidden=how.hidden,
        activation=how.activation, seed=job.seed,
    )  # fmt: skip
    rows = Mixture(train.x, torch.zeros(1).long(), torch.zeros(1).long(), 0.0, Images())
    _train(m1, how, job, lambda n, noise: rows(n, noise)[0])
    with torch.no_grad():
        q = m1.eval().posterior(train.x)
        return torch.cat([q.mean, q.log_scale.exp()], 1), Rows(m1.encode(test.x), test.y)


def labelled(how: Fit, job: Job, rows: Mixture, like: Rows) -> LabelledModel:
    """M2 on rows such as those of `like`: of pixels, where they are images, else of codes."""
    model = zoo.semi_supervised_vae(
        tuple(like.x.shape[1:]), how.latent_dim, int(like.y.max()) + 1, alpha=how.alpha,
        likelihood="bernoulli" if like.x.ndim > 2 else "gaussian", hidden=how.hidden, activation=how.activation,
        seed=job.seed,
    )  # fmt: skip
    if how.filters:
        with forked(job.seed, "classifier"):
            model.classifier = ConvEncoder(model.shape, (model.classes,), how.filters)
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


RECIPE = Recipe(
    name="m2",
    reference='Kingma, Rezende, Mohamed, Welling, "Semi-supervised learning with deep generative models", 2014.',
    what="Test accuracy from 100 labels, MNIST, by M2 on pixels and on the codes of M1; mean of draws of the labels.",
    rows=(
        Row(ALONE, published=88.03, quick=88.0, full=93.2, unit="%", higher=True),
        Row(ON_CODES, published=96.67, quick=88.0, full=95.0, unit="%", higher=True),
        *(Row(f"{what}, {SPREAD}", unit="%") for what in (ALONE, ON_CODES)),
    ),
    quick=Setting(
        alone=Fit(1500, 10, (256,), batch_size=128, alpha=50.0, share=0.08, filters=(32, 64)),
        m1=Fit(3000, 50, (500,), "softplus", batch_size=100, lr=1e-3),
        m2=Fit(4000, 10, (256,), alpha=50.0, share=0.04),
        images=Images(pool=2, shift=2),
    ),
    full=Setting(
        alone=Fit(100_000, 50, (500,), batch_size=250, lr=1e-3, alpha=100.0, share=0.04, filters=(32, 64)),
        m1=Fit(100_000, 50, (500, 500), "softplus", batch_size=100, lr=5e-4),
        m2=Fit(100_000, 50, (500,), batch_size=500, lr=1e-3, alpha=100.0, share=0.02),
        images=Images(shift=2),
    ),
    measure=measure,
    needs="mnist",
    differs="labelled rows are a share s of every batch instead of as rare as they are, so that α s/(1 − s) stands "
    "where the paper has 0.1; pixels, and codes z ~ q(z|x), are drawn anew each time; Adam with a cosine schedule. M2 "
    "on pixels: images moved by up to two pixels each way, a convolutional q(y|x), and, in the quick setting, 14 x 14 "
    "pixels and ten latent numbers.",
)
