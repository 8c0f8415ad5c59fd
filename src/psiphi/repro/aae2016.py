"""A digit's label from a hundred examples, and digits in clusters without any: an adversarial autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import mix
from psiphi.data import known
from psiphi.parts import adam
from psiphi.repro._labels import Mixture
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

LABELLED, CLUSTERED = "test error, 100 labels", "test error, 16 clusters without labels"
SPREAD = "standard error over draws of the labels"


@dataclass(frozen=True)
class Setting:
    """How the autoencoder is built and trained; share: of a batch, rows whose label is known; clusters: 0 for none."""

    steps: int
    draws: int
    hidden: tuple[int, ...] = (1000, 1000)
    latent_dim: int = 10
    labels: int = 100
    share: float = 0.25
    gamma: float = 10.0
    weight: float = 1.0
    clusters: int = 16
    batch_size: int = 200
    lr: float = 1e-3


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """% of the test images that get another class than their own."""
    train, test = mnist(job)
    errors = []
    for draw in range(setting.draws):
        rows = known(train.y, setting.labels, mix(job.seed, "labels", draw))
        data = Mixture(train.x, rows, train.y[rows], setting.share, lambda x, noise: x)
        found = trained(setting, job, data, train, int(train.y.max()) + 1).predict(test.x)
        errors.append(100 * float((found != test.y).float().mean()))
        job.log(f"labels {draw}: {errors[-1]:.2f} % of the test images are wrong.")
    values = torch.tensor(errors)
    spread = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    result = {LABELLED: float(values.mean()), f"{LABELLED}, {SPREAD}": spread}
    if setting.clusters:
        nothing = torch.zeros(1).long()
        data = Mixture(train.x, nothing, nothing, 0.0, lambda x, noise: x)
        model = trained(setting, job, data, train, setting.clusters)
        result[CLUSTERED] = by_majority(model.predict(test.x), test.y)
        job.log(f"{setting.clusters} clusters: {result[CLUSTERED]:.2f} % are wrong.")
    return result


def trained(setting: Setting, job: Job, data: Mixture, like: Rows, classes: int):
    """The semi-supervised adversarial autoencoder, its classes the labels or the clusters."""
    model = zoo.semi_supervised_aae(
        tuple(like.x.shape[1:]), setting.latent_dim, classes, weight=setting.weight, gamma=setting.gamma,
        hidden=setting.hidden, critic_hidden=setting.hidden, seed=job.seed,
    )  # fmt: skip
    rule = adam(setting.lr, betas=(0.5, 0.999), schedule=cosine(0.02))
    fit(
        model, data, steps=setting.steps, batch_size=setting.batch_size, optimizer=rule, seed=job.seed,
        quiet=job.quiet,
    )  # fmt: skip
    return model


def by_majority(cluster: Tensor, y: Tensor) -> float:
    """% of rows whose class is not the most frequent one of their cluster."""
    table = torch.zeros(int(cluster.max()) + 1, int(y.max()) + 1).index_put(
        (cluster, y), torch.ones(len(y)), accumulate=True
    )
    return 100 * (1 - float(table.amax(1).sum()) / len(y))


RECIPE = Recipe(
    name="aae2016",
    reference='Makhzani, Shlens, Jaitly, Goodfellow, Frey, "Adversarial autoencoders", 2016.',
    what="Test error of a semi-supervised adversarial autoencoder with 100 labels of MNIST, and of its clusters.",
    rows=(
        Row(LABELLED, published=1.90, quick=15.0, full=3.0, unit="%"),
        Row(f"{LABELLED}, {SPREAD}", published=0.10, unit="%"),
        Row(CLUSTERED, published=9.55, full=15.0, unit="%"),
    ),
    quick=Setting(steps=3000, draws=2, hidden=(500, 500), clusters=0),
    full=Setting(steps=60_000, draws=5),
    measure=measure,
    needs="mnist",
    differs="labelled rows are a share of every batch; one step moves encoder and decoder together, against both "
    "critics, in place of three phases; Adam with a cosine schedule; the weights are averaged.",
)
