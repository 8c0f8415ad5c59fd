"""A softmax regression on the codes of a k-sparse autoencoder against one on raw pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from psiphi import zoo
from psiphi.networks import TopK
from psiphi.parts import adam
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

PIXELS, CODES = "test error, raw pixels", "test error, k-sparse codes"
ALPHA = "α of the codes, chosen on held-out training rows"


@dataclass(frozen=True)
class Setting:
    """How the autoencoder and the softmax regressions are trained; `hold`: the last k training rows choose α."""

    epochs: int
    latent_dim: int = 1000
    k: int = 25
    first_k: int = 100
    share: float = 0.5
    alphas: tuple[float, ...] = (1.0, 2.0, 3.0)
    batch_size: int = 256
    lr: float = 1e-2
    warmup: float = 0.02
    regression_epochs: int = 12
    regression_lr: float = 2e-3
    hold: int = 10_000


@dataclass(frozen=True)
class anneal:
    """A callback of `fit`: k falls linearly from `first` to `last` over the first `share` of training."""

    top: TopK
    first: int
    last: int
    share: float

    def __call__(self, moment: Any) -> None:
        done = min(1.0, moment.clock.step / moment.clock.steps / self.share)
        self.top.k = round(self.first + (self.last - self.first) * done)


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Errors on the test images in %, of the same regression on pixels and on codes."""
    train, test = mnist(job)
    pixels = error(setting, job, *(Rows(part.x.flatten(1), part.y) for part in (train, test)))
    job.log(f"raw pixels: {pixels:.2f} % of the test images are wrong.")
    model, top = sparse(setting, job, train.x)
    held = {alpha: _held_out(setting, job, codes(model, top, alpha, train)) for alpha in setting.alphas}
    job.log("held-out error: " + ", ".join(f"α = {alpha:g} {wrong:.2f} %" for alpha, wrong in held.items()))
    alpha = min(held, key=lambda each: held[each])
    found = error(setting, job, *(codes(model, top, alpha, part) for part in (train, test)))
    job.log(f"codes with α = {alpha:g}: {found:.2f} % of the test images are wrong.")
    return {PIXELS: pixels, CODES: found, ALPHA: alpha}


def sparse(setting: Setting, job: Job, x: Tensor) -> tuple[Any, TopK]:
    """The k-sparse autoencoder with tied weights, trained on x; and the layer that keeps the k largest."""
    model = zoo.k_sparse_ae(
        tuple(x.shape[1:]), setting.latent_dim, setting.k, signed=False, tied=True, seed=job.seed
    )
    top = next(part for part in model.modules() if isinstance(part, TopK))
    schedule = anneal(top, setting.first_k, setting.k, setting.share)
    top.k = setting.first_k
    rule = adam(setting.lr, schedule=cosine(setting.warmup))
    fit(
        model, x, epochs=setting.epochs, batch_size=setting.batch_size, optimizer=rule, seed=job.seed,
        callbacks=[schedule], quiet=job.quiet,
    )  # fmt: skip
    return model, top


def codes(model: Any, top: TopK, alpha: float, part: Rows) -> Rows:
    """The α k largest entries of h, zero elsewhere: (n, d), with the labels."""
    top.alpha = alpha
    return Rows(model.encode(part.x), part.y)


def error(setting: Setting, job: Job, train: Rows, test: Rows) -> float:
    """% of test rows that a softmax regression, trained on the training rows, gets wrong."""
    regression = zoo.classifier(train.x.shape[1], int(train.y.max()) + 1, hidden=(), seed=job.seed)
    rule = adam(setting.regression_lr, schedule=cosine())
    fit(
        regression, train.x, train.y, epochs=setting.regression_epochs, batch_size=setting.batch_size,
        optimizer=rule, seed=job.seed, quiet=job.quiet,
    )  # fmt: skip
    return 100 * float((regression.predict(test.x) != test.y).float().mean())


def _held_out(setting: Setting, job: Job, rows: Rows) -> float:
    x, y, n = rows.x, rows.y, len(rows.y) - setting.hold
    return error(setting, job, Rows(x[:n], y[:n]), Rows(x[n:], y[n:]))


RECIPE = Recipe(
    name="ksparse2013",
    reference='Makhzani & Frey, "k-sparse autoencoders", 2013.',
    what="Softmax regression on the codes of a k-sparse autoencoder, 1000 units, k = 25, against raw pixels, MNIST.",
    rows=(
        Row(PIXELS, published=7.20, quick=8.0, full=8.0, unit="%"),
        Row(CODES, published=1.35, quick=1.9, full=1.5, unit="%"),
        Row(ALPHA),
    ),
    quick=Setting(epochs=15),
    full=Setting(epochs=100),
    measure=measure,
    needs="mnist",
    differs="Adam with a cosine schedule in place of gradient descent with momentum; data are centred; α is chosen on "
    "10 000 training images.",
)
