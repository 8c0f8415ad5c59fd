"""Law 14: codes of adversarial and Wasserstein autoencoders are distributed like the prior, by a test that can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from psiphi import zoo
from psiphi.basis.noise import Noise
from psiphi.data import load
from psiphi.evaluation import frechet, two_sample
from psiphi.laws._law import Measured, at_most, law
from psiphi.training import fit

SEEDS = (0, 1, 2)
LATENT, HIDDEN, PERMUTATIONS = 8, (256,), 20_000

MODELS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "adversarial": (zoo.aae, dict(weight=1.0), 100),
    "Wasserstein, MMD": (zoo.wae_mmd, dict(weight=30.0), 100),
    "Wasserstein, critic": (zoo.waae, dict(weight=1.0, steps=2), 150),
}


def against_prior(z: Tensor) -> Any:
    """MMD² of codes and as many draws of N(0, I); inverse multiquadratic kernel, scale: the median distance of both."""
    prior = Noise.of(14, len(z)).normal(z.shape[1:])
    return two_sample(z, prior, permutations=PERMUTATIONS, seed=14)


def _accepted(what: str, z: Tensor) -> Measured:
    found = against_prior(z)
    return at_most(f"MMD², {what}, at most the 99.9 % quantile", found.quantile_999, found.statistic)


def _rejected(what: str, z: Tensor) -> Measured:
    found = against_prior(z)
    return at_most(f"the 99.9 % quantile below MMD², {what}", found.statistic, found.quantile_999)


@law("14", "the test of codes against the prior accepts the prior, and rejects two that are not")
def controls() -> list[Measured]:
    """N(0, I) passes; N(0.3, I), and the codes of a plain autoencoder, do not."""
    digits = load("digits")
    plain = zoo.ae(digits.shape, LATENT, hidden=(64,))
    fit(plain, digits.train.x, epochs=5, quiet=True)
    drawn = Noise.of(0, len(digits.test.x)).normal((LATENT,))
    return [
        _accepted("draws of N(0, I)", drawn),
        _rejected("draws of N(0.3, I)", drawn + 0.3),
        _rejected("codes of a plain autoencoder", plain.encode(digits.test.x)),
    ]


@law("14a", "codes of adversarial and Wasserstein autoencoders pass that test", slow=True)
def codes_follow_the_prior() -> list[Measured]:
    """All test digits, three seeds of each model."""
    digits = load("digits")
    found = []
    for what, (build, arguments, epochs) in MODELS.items():
        for seed in SEEDS:
            model = build(digits.shape, LATENT, hidden=HIDDEN, seed=seed, **arguments)
            fit(model, digits.train.x, epochs=epochs, seed=seed, quiet=True)
            with torch.no_grad():
                found.append(_accepted(f"{what} autoencoder, seed {seed}", model.encode(digits.test.x)))
    return found


@law(
    "14b",
    "their samples are nearer to the data than an autoencoder's with a normal fitted to its codes",
    slow=True,
)
def samples_beat_a_fitted_normal() -> list[Measured]:
    """Fréchet distance in a digit classifier's features, to the test split; each seed beside the plain one's."""
    digits = load("digits")
    classifier = zoo.classifier(digits.shape, 10, hidden=(32,))
    fit(classifier, digits.train.x, digits.train.y, epochs=30, quiet=True)
    n = len(digits.test.x)

    def distance(x: Tensor) -> float:
        return frechet(x, digits.test.x, classifier, split="test").value

    found = []
    for seed in SEEDS:
        plain = zoo.ae(digits.shape, LATENT, hidden=HIDDEN, seed=seed)
        fit(plain, digits.train.x, epochs=100, seed=seed, quiet=True)
        with torch.no_grad():
            z = plain.encode(digits.train.x)
            tril = torch.linalg.cholesky(z.T.cov())
            bound = distance(plain.decode(z.mean(0) + Noise.of(14, n).normal((LATENT,)) @ tril.T))
        for what, (build, arguments, epochs) in MODELS.items():
            model = build(digits.shape, LATENT, hidden=HIDDEN, seed=seed, **arguments)
            fit(model, digits.train.x, epochs=epochs, seed=seed, quiet=True)
            with torch.no_grad():
                far = distance(model.sample(n, seed=14))
            found.append(at_most(f"Fréchet distance, {what} autoencoder, seed {seed}", bound, far))
    return found
