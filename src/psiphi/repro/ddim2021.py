"""Quality of a diffusion model's samples against the number of steps, with and without noise on the way."""

from __future__ import annotations

from dataclasses import dataclass

from psiphi import zoo
from psiphi.evaluation import frechet
from psiphi.models import Classifier, DenoiserModel
from psiphi.parts import adam
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

LARGE = "σ̂"
DISTANCE, FLOOR = "Fréchet distance, η = {eta}, {steps} steps", "Fréchet distance, training images"
NOISE, FEW = (
    "10 steps: distance of η = 1 over that of η = 0",
    "η = 0: distance of 50 steps over that of the most",
)
COUNTS = (10, 20, 50, 100, 200, 1000)
PUBLISHED = {  # table 1 of the source: CIFAR-10, Inception features
    "0": {10: 13.36, 20: 6.84, 50: 4.67, 100: 4.16, 1000: 4.04},
    "0.2": {10: 14.04, 20: 7.11, 50: 4.77, 100: 4.25, 1000: 4.09},
    "0.5": {10: 16.66, 20: 8.35, 50: 5.25, 100: 4.46, 1000: 4.29},
    "1": {10: 41.07, 20: 18.36, 50: 8.01, 100: 5.78, 1000: 4.73},
    LARGE: {10: 367.43, 20: 133.37, 50: 32.72, 100: 9.99, 1000: 3.17},
}


@dataclass(frozen=True)
class Setting:
    """How the model is built and trained, and what is sampled: η by name, the source's σ̂ among them."""

    steps: int
    samples: int
    counts: tuple[int, ...]
    etas: tuple[str, ...] = tuple(PUBLISHED)
    net: str = "unet"
    hidden: tuple[int, ...] = (32, 64, 64)
    parametrisation: str = "noise"
    weighting: str = "simple"
    batch_size: int = 128
    lr: float = 1e-3
    classifier: tuple[int, ...] = (256, 64)
    epochs: int = 4


def plan(steps: int, eta: str) -> str:
    """`ddim` with this η, or the reverse chain with the variance of β, σ̂, on levels evenly spaced in time."""
    return f"ancestral:{steps},variance=large" if eta == LARGE else f"ddim:{steps},eta={eta}"


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Fréchet distances to the test images in a classifier's features, and the two ratios of them."""
    train, test = mnist(job)
    judge = classifier(setting, job, train)
    model = trained(setting, job, train)
    found = {FLOOR: frechet(train.x[: setting.samples], test.x, judge, "test").value}
    for eta in setting.etas:
        for steps in setting.counts:
            drawn = model.sample(setting.samples, seed=job.seed, plan=plan(steps, eta))
            value = frechet(drawn, test.x, judge, "test").value
            found[DISTANCE.format(eta=eta, steps=steps)] = value
            job.log(f"η = {eta}, {steps} steps: Fréchet distance {value:.4g}.")
    most = max(setting.counts)
    found[NOISE] = found[DISTANCE.format(eta="1", steps=10)] / found[DISTANCE.format(eta="0", steps=10)]
    found[FEW] = found[DISTANCE.format(eta="0", steps=50)] / found[DISTANCE.format(eta="0", steps=most)]
    return found


def classifier(setting: Setting, job: Job, train: Rows) -> Classifier:
    """A perceptron whose last hidden layer gives the features."""
    model = zoo.classifier(
        tuple(train.x.shape[1:]), int(train.y.max()) + 1, hidden=setting.classifier, seed=job.seed
    )
    fit(model, train.x, train.y, epochs=setting.epochs, seed=job.seed, quiet=job.quiet)
    return model


def trained(setting: Setting, job: Job, train: Rows) -> DenoiserModel:
    """The diffusion model, of a thousand levels as published."""
    model = zoo.ddpm(
        tuple(train.x.shape[1:]), parametrisation=setting.parametrisation, weighting=setting.weighting,
        net=setting.net, hidden=setting.hidden, seed=job.seed,
    )  # fmt: skip
    rule = adam(setting.lr, schedule=cosine(0.02))
    fit(
        model, train.x, steps=setting.steps, batch_size=setting.batch_size, optimizer=rule, seed=job.seed,
        quiet=job.quiet,
    )  # fmt: skip
    return model


RECIPE = Recipe(
    name="ddim2021",
    reference='Song, Meng, Ermon, "Denoising diffusion implicit models", 2021, table 1.',
    what="Fréchet distance of a diffusion model's samples after 10 to 1000 steps, η from 0 to 1.",
    rows=(
        Row(NOISE, PUBLISHED["1"][10] / PUBLISHED["0"][10], quick=1.1, full=1.15, higher=True),
        Row(FEW, PUBLISHED["0"][50] / PUBLISHED["0"][1000], quick=1.3, full=1.2),
        Row(FLOOR),
        *(Row(DISTANCE.format(eta=eta, steps=steps)) for eta in PUBLISHED for steps in COUNTS),
    ),
    quick=Setting(
        steps=4000, samples=2000, counts=(10, 20, 50, 200), etas=("0", "1", LARGE), net="mlp", hidden=(512, 512),
        parametrisation="velocity", weighting="edm",
    ),
    full=Setting(steps=20_000, samples=5000, counts=(10, 20, 50, 100, 1000)),
    measure=measure,
    needs="mnist",
    differs="MNIST in place of CIFAR-10, features of a perceptron's last hidden layer in place of Inception's, so that "
    "distances differ in scale and only ratios of them are judged; levels evenly spaced in time, which the source has "
    "for its other data; in the quick setting a perceptron that predicts the velocity in place of a U-Net that "
    "predicts the noise, and 200 steps at most.",
)  # fmt: skip
