"""ln p(x) of digits under one stochastic layer of 50: the evidence lower bound against the importance-weighted one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise
from psiphi.data import binarize
from psiphi.evaluation import Likelihood, binarised
from psiphi.models import LatentModel
from psiphi.parts import adam
from psiphi.repro._mnist import mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

PUBLISHED = {
    ("vae", 1): 86.76, ("vae", 5): 86.47, ("vae", 50): 86.35, ("iwae", 5): 85.54, ("iwae", 50): 84.78,
}  # fmt: skip
GAP, ERROR = "IWAE k = 50 below VAE k = 1 by", "Monte Carlo error of that"


@dataclass(frozen=True)
class Setting:
    """Models as (kind, k); how they are trained; test images and draws of z an image for the estimate."""

    epochs: int
    models: tuple[tuple[str, int], ...]
    test: int
    samples: int
    latent_dim: int = 50
    hidden: tuple[int, ...] = (200, 200)
    batch_size: int = 20
    lr: float = 1e-3
    warmup: float = 0.02


@dataclass(frozen=True)
class Drawn:
    """A sampler of black and white images: a row at random, its pixels drawn from its grey values."""

    x: Tensor

    def __call__(self, n: int, noise: Noise) -> Tensor:
        rows = (noise.split("row").uniform().double() * len(self.x)).long()
        return binarize(self.x[rows], noise.split("pixels"))


def label(kind: str, k: int) -> str:
    return f"−ln p(x), {kind.upper()}, k = {k}"


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Mean −ln p(x) of the test images in nats by importance sampling, all models by the same draws of pixels."""
    train, test = mnist(job)
    found: dict[tuple[str, int], Likelihood] = {}
    for kind, k in setting.models:
        model = learnt(setting, job, train.x, kind, k)
        found[kind, k] = binarised(model, test.x[: setting.test], samples=setting.samples, seed=job.seed)
        job.log(f"{kind.upper()}, k = {k}: ln p(x) {found[kind, k]}.")
    one, many = found["vae", 1], found["iwae", 50]
    error = (one.standard_error**2 + many.standard_error**2) ** 0.5
    losses = {label(*each): -value.mean for each, value in found.items()}
    return losses | {GAP: many.mean - one.mean, ERROR: error}


def learnt(setting: Setting, job: Job, x: Tensor, kind: str, k: int) -> LatentModel:
    """A VAE or an IWAE with k draws an image, trained on x with pixels drawn anew each time."""
    build = {"vae": zoo.vae, "iwae": zoo.iwae}[kind]
    model = build(
        tuple(x.shape[1:]), setting.latent_dim, samples=k, likelihood="bernoulli", hidden=setting.hidden,
        activation="tanh", seed=job.seed,
    )  # fmt: skip
    rule = adam(setting.lr, schedule=cosine(setting.warmup))
    steps = max(1, setting.epochs * len(x) // setting.batch_size)
    fit(
        model,
        Drawn(x),
        steps=steps,
        batch_size=setting.batch_size,
        optimizer=rule,
        seed=job.seed,
        quiet=job.quiet,
    )
    return model


def _rows() -> tuple[Row, ...]:
    losses = [
        Row(label(*each), published=value, full=round(value + 1, 2), unit="nats")
        for each, value in PUBLISHED.items()
    ]
    gap = PUBLISHED["vae", 1] - PUBLISHED["iwae", 50]
    return (
        *losses,
        Row(GAP, published=round(gap, 2), quick=0.8, full=1.0, unit="nats", higher=True),
        Row(ERROR, unit="nats"),
    )


RECIPE = Recipe(
    name="iwae2016",
    reference='Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, table 1.',
    what="−ln p(x) of MNIST test images with pixels drawn from the grey values, 784-200-200-50.",
    rows=_rows(),
    quick=Setting(
        epochs=3, models=(("vae", 1), ("iwae", 50)), test=1000, samples=1000, batch_size=10, lr=2e-3
    ),
    full=Setting(epochs=600, models=tuple(PUBLISHED), test=10_000, samples=5000),
    measure=measure,
    needs="mnist",
    differs="a cosine schedule in place of eight falling steps over 3280 epochs; rows are drawn with replacement; test "
    "pixels are drawn once from the seed; the quick setting trains for three epochs, far from convergence, so that "
    "only the difference of the two models is judged.",
)
