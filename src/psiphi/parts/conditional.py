"""Conditionals: modules c -> distribution. Encoders, decoders and priors are nothing else.

A conditional holds its network and refers to the model's `Statistics`, which the model alone registers,
so that a file holds them once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.shapes import Shape
from psiphi.formulas import distortions
from psiphi.formulas.distributions import (
    Bernoulli,
    Delta,
    DiagonalNormal,
    Distorted,
    Distribution,
    Likelihood,
    Measure,
    StandardNormal,
)
from psiphi.parts.statistics import Statistics

LOG_SIGMA_FLOOR = log(1e-3)


class Conditional(Protocol):
    """A module c -> distribution."""

    def __call__(self, c: Tensor, /) -> Distribution: ...


class Decoder(Protocol):
    """A conditional z -> p(x|z) that knows where its likelihood has support, and what it measures."""

    measure: Measure

    def __call__(self, z: Tensor, /) -> Likelihood: ...

    def fitted(self, p: Any, x: Tensor, /) -> Likelihood:
        """p with what is estimated from x itself, in training."""
        ...

    def check_support(self, low: float, high: float, /) -> None: ...


def refer(module: nn.Module, statistics: Statistics) -> None:
    """Hold the statistics without registering them a second time."""
    module.__dict__["statistics"] = statistics


class Dirac(nn.Module):
    """q(z|x) = δ(z − φ(x)): the encoder of an autoencoder."""

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics):
        super().__init__()
        self.network = network
        refer(self, statistics)

    def forward(self, x: Tensor) -> Delta:
        return Delta(self.network(self.statistics(x)))


class RecordedDirac(Dirac):
    """A `Dirac` whose code comes with the activations of every layer on the way, the code itself last.

    Layers are the network's activation functions: its modules without parameters or children, in order of use.
    """

    SHAPING = (nn.Flatten, nn.Unflatten, nn.Dropout, nn.Identity)

    def __init__(self, network: nn.Module, statistics: Statistics):
        super().__init__(network, statistics)
        self.__dict__["activations"] = activations = [
            module
            for module in network.modules()
            if not any(True for _ in module.children())
            and not any(True for _ in module.parameters())
            and not isinstance(module, self.SHAPING)
        ]
        ends = isinstance(network, nn.Sequential) and network[-1] in activations
        self.count = len(activations) + (0 if ends else 1)

    def forward(self, x: Tensor) -> Delta:
        seen: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda module, given, out: seen.append(out))
            for module in self.__dict__["activations"]
        ]
        try:
            code = self.network(self.statistics(x))
        finally:
            for hook in hooks:
                hook.remove()
        return Delta(code, layers=tuple(seen) if len(seen) == self.count else (*seen, code))


class OneHotDirac(Dirac):
    """A `Dirac` at (softmax ℓ(x), z(x)): the network gives (B, k + d), ℓ of k classes, then z.

    Its one layer is ln softmax ℓ.
    """

    def __init__(self, network: nn.Module, statistics: Statistics, classes: int):
        super().__init__(network, statistics)
        self.classes = classes

    def forward(self, x: Tensor) -> Delta:
        logits, z = self.network(self.statistics(x)).tensor_split((self.classes,), 1)
        return Delta(torch.cat([logits.softmax(1), z], 1), layers=(logits.log_softmax(1),))


class NormalEncoder(nn.Module):
    """q(z|x) = N(μ(x), diag σ²(x)); the network gives (B, 2d): μ, then ln σ."""

    statistics: Statistics

    def __init__(self, network: nn.Module, statistics: Statistics):
        super().__init__()
        self.network = network
        refer(self, statistics)

    def forward(self, x: Tensor) -> DiagonalNormal:
        mean, log_scale = self.network(self.statistics(x)).chunk(2, 1)
        return DiagonalNormal(mean, log_scale)


class StandardPrior(nn.Module):
    """p(z) = N(0, I) in d dimensions: () -> (1, d), which broadcasts over a batch."""

    mean: Tensor

    def __init__(self, latent_dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, latent_dim))

    def forward(self) -> StandardNormal:
        return StandardNormal(self.mean)


class BernoulliDecoder(nn.Module):
    """p(x|z) = Bernoulli(σ(ψ(z))); on grey values a loss, on {0, 1} a probability."""

    measure: Measure = "discrete"

    def __init__(self, network: nn.Module, shape: Shape):
        super().__init__()
        self.network, self.event = network, len(shape)

    def forward(self, z: Tensor) -> Bernoulli:
        return Bernoulli(self.network(z), self.event)

    def fitted(self, p: Bernoulli, x: Tensor) -> Bernoulli:
        return p

    def check_support(self, low: float, high: float) -> None:
        if low < 0 or high > 1:
            raise DataError(
                f"a Bernoulli likelihood needs values in [0, 1]; yours span {low:g} to {high:g}: scale them, or "
                f"choose likelihood='gaussian'."
            )


class DistortionDecoder(nn.Module):
    """x̂ = mean + σ_data ψ(z), judged by a distortion d: the decoder of an autoencoder."""

    measure: Measure = "loss-only"
    statistics: Statistics

    def __init__(
        self,
        network: nn.Module,
        shape: Shape,
        statistics: Statistics,
        distortion: Callable[[Tensor, Tensor], Tensor] = distortions.squared,
    ):
        super().__init__()
        self.network, self.event, self.distortion = network, len(shape), distortion
        refer(self, statistics)

    def forward(self, z: Tensor) -> Distorted:
        return Distorted(self.statistics.inverse(self.network(z)), self.distortion, self.event)

    def fitted(self, p: Distorted, x: Tensor) -> Distorted:
        return p

    def check_support(self, low: float, high: float) -> None:
        """Any real value will do."""


class FixedScale(nn.Module):
    """A given σ, in the units of the data."""

    log_scale: Tensor

    def __init__(self, sigma: float):
        super().__init__()
        if not 0 < sigma < inf:
            raise ArgumentError(f"a Gaussian likelihood needs a finite σ > 0; got {sigma:g}.")
        self.register_buffer("log_scale", torch.tensor(log(sigma)))

    def forward(self, statistics: Statistics) -> Tensor:
        return self.log_scale

    def fitted(self, mean: Tensor, x: Tensor, statistics: Statistics) -> Tensor:
        return self.log_scale


def floored(sigma: Tensor, raw: Tensor) -> Tensor:
    """ln σ = ln σ_data + floor + softplus(a − floor), never below 10⁻³ σ_data; a = 0 is about σ_data."""
    return sigma.log() + LOG_SIGMA_FLOOR + F.softplus(raw - LOG_SIGMA_FLOOR)


class LearnedScale(nn.Module):
    """One σ learned by gradient, `floored`."""

    def __init__(self):
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(()))

    def forward(self, statistics: Statistics) -> Tensor:
        return floored(statistics.sigma, self.raw)

    def fitted(self, mean: Tensor, x: Tensor, statistics: Statistics) -> Tensor:
        return self(statistics)


class OptimalScale(nn.Module):
    """σ² = the mean squared error: of the batch in training, its running mean afterwards; floor 10⁻³ σ_data.

    Source: Rybkin, Daniilidis, Levine, "Simple and effective VAE training with calibrated decoders", 2021.
    """

    mean_square: Tensor
    batches: Tensor

    def __init__(self, memory: int = 100):
        super().__init__()
        self.memory = memory
        self.register_buffer("mean_square", torch.ones(()))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, statistics: Statistics) -> Tensor:
        """ln σ; the running mean is kept in units of σ_data²."""
        return statistics.sigma.log() + (0.5 * self.mean_square.log()).clamp(min=LOG_SIGMA_FLOOR)

    def fitted(self, mean: Tensor, x: Tensor, statistics: Statistics) -> Tensor:
        if not self.training:
            return self(statistics)
        with torch.no_grad():
            now = ((x - mean) / statistics.sigma).square().mean()
            self.batches += 1
            self.mean_square.lerp_(now, 1 / self.batches.clamp(max=self.memory))
            return statistics.sigma.log() + (0.5 * now.log()).clamp(min=LOG_SIGMA_FLOOR)


class GaussianDecoder(nn.Module):
    """p(x|z) = N(mean + σ_data ψ(z), σ²) with σ fixed, learned or optimal."""

    measure: Measure = "continuous"
    statistics: Statistics

    def __init__(self, network: nn.Module, shape: Shape, statistics: Statistics, scale: nn.Module):
        super().__init__()
        self.network, self.event, self.scale = network, len(shape), scale
        refer(self, statistics)

    def forward(self, z: Tensor) -> DiagonalNormal:
        mean = self.statistics.inverse(self.network(z))
        return DiagonalNormal(mean, self.scale(self.statistics), self.event)

    def fitted(self, p: DiagonalNormal, x: Tensor) -> DiagonalNormal:
        log_scale: Tensor = self.scale.fitted(p.mean, x, self.statistics)  # pyright: ignore[reportCallIssue]
        return DiagonalNormal(p.mean, log_scale, self.event)

    def check_support(self, low: float, high: float) -> None:
        """Any real value will do."""


def _scale(text: str) -> nn.Module:
    known: dict[str, Callable[[], nn.Module]] = {
        "": LearnedScale,
        "learned": LearnedScale,
        "optimal": OptimalScale,
    }
    if text in known:
        return known[text]()
    try:
        sigma = float(text)
    except ValueError:
        raise ArgumentError(
            f"a Gaussian likelihood's σ is a number, 'learned' or 'optimal'; got {text!r}: write e.g. 'gaussian:0.1'."
        ) from None
    return FixedScale(sigma)


DISTORTIONS = {"squared": distortions.squared, "absolute": distortions.absolute, "huber": distortions.huber}


def likelihood(
    name: str | Callable[[Tensor, Tensor], Tensor], network: nn.Module, shape: Shape, statistics: Statistics
) -> Decoder:
    """The decoder a name stands for.

    `bernoulli`; `gaussian` (σ learned), `gaussian:0.1`, `gaussian:optimal`; and, as losses that are no
    densities, `squared`, `absolute`, `huber` or a function d(x, x̂) of each coordinate.
    """
    if callable(name):
        return DistortionDecoder(network, shape, statistics, name)
    kind, _, rest = name.partition(":")
    makers: dict[str, Callable[[], Decoder]] = {
        "bernoulli": lambda: BernoulliDecoder(network, shape),
        "gaussian": lambda: GaussianDecoder(network, shape, statistics, _scale(rest)),
        **{
            key: (lambda d=d: DistortionDecoder(network, shape, statistics, d))
            for key, d in DISTORTIONS.items()
        },
    }
    if kind not in makers or (rest and kind != "gaussian"):
        raise ArgumentError(
            f"no likelihood is called {name!r}; use bernoulli, gaussian, gaussian:0.1, gaussian:optimal, "
            f"{', '.join(DISTORTIONS)}, or a function d(x, x̂)."
        )
    return makers[kind]()
