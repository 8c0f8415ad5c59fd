"""Distributions in the plane and in space whose truth is known: reference distributions for laws and tests.

Each toy is a frozen value that draws, `toy(n, noise) -> (n, d)`, row i a function of the noise's row i alone.
Mixtures and the Gaussian have their exact `log_prob`. `toy.draw` also gives the label (the mode).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.registry import Registry
from psiphi.formulas.distributions import FullNormal
from psiphi.formulas.mixtures import log_density

Points = Float[Tensor, "rows dimension"]
Labels = Int[Tensor, "rows"]

toys = Registry("toy data set", "psiphi.data.toys")


@dataclass(frozen=True, eq=False)
class Mixture:
    """Equal parts of isotropic normals: p(x) = (1/K) Σ_k N(x; means_k, sigma² I)."""

    name: str
    means: Float[Tensor, "modes dimension"]
    sigma: float

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.means.shape[1],)

    def draw(self, n: int, noise: Noise) -> tuple[Points, Labels]:
        """n points and the modes they come from."""
        _check(n, noise)
        modes = len(self.means)
        mode = noise.split("mode").integers(modes)
        means = self.means.to(noise.device, noise.dtype)
        return means[mode] + self.sigma * noise.split("point").normal(self.shape), mode

    def __call__(self, n: int, noise: Noise) -> Points:
        return self.draw(n, noise)[0]

    def log_prob(self, x: Points) -> Float[Tensor, "rows"]:
        """ln p(x), in nats."""
        modes = len(self.means)
        return log_density(
            x, x.new_full((modes,), -log(modes)), self.means.to(x), x.new_full((1, 1), self.sigma)
        )

    @property
    def covariance(self) -> Float[Tensor, "dimension dimension"]:
        """Of the whole mixture: cov(means) + sigma² I, float64."""
        centred = self.means.double() - self.means.double().mean(0)
        return centred.T @ centred / len(self.means) + self.sigma**2 * torch.eye(
            *self.shape, dtype=torch.float64
        )

    def smoothed(self, sigma: float) -> Mixture:
        """The distribution of x + sigma ξ, ξ standard normal: exact again."""
        return replace(self, sigma=(self.sigma**2 + sigma**2) ** 0.5)

    def __repr__(self) -> str:
        return f"{self.name}({len(self.means)} modes in {self.means.shape[1]}-D, sigma={self.sigma:g})"


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, covariance), drawn as mean + L ε with L the Cholesky factor."""

    name: str
    mean: Float[Tensor, "dimension"]
    covariance: Float[Tensor, "dimension dimension"]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape)

    @property
    def means(self) -> Float[Tensor, "1 dimension"]:
        return self.mean[None]

    def __call__(self, n: int, noise: Noise) -> Points:
        _check(n, noise)
        factor = torch.linalg.cholesky(self.covariance).to(noise.device, noise.dtype)
        # Row by row: a matrix product may round a row differently with the number of rows.
        spread = (noise.normal(self.shape)[:, None, :] * factor).sum(2)
        return self.mean.to(noise.device, noise.dtype) + spread

    def log_prob(self, x: Points) -> Float[Tensor, "rows"]:
        """ln p(x), in nats."""
        return FullNormal(self.mean.to(x), torch.linalg.cholesky(self.covariance).to(x)).log_prob(x)

    def smoothed(self, sigma: float) -> Gaussian:
        """The distribution of x + sigma ξ, ξ standard normal."""
        return replace(
            self, covariance=self.covariance + sigma**2 * torch.eye(len(self.mean)).to(self.covariance)
        )

    def __repr__(self) -> str:
        return f"{self.name}({len(self.mean)}-D)"


@dataclass(frozen=True, eq=False)
class Moons:
    """Two interleaved half circles of radius 1, with normal noise of sigma."""

    name: str
    sigma: float
    shape = (2,)

    def draw(self, n: int, noise: Noise) -> tuple[Points, Labels]:
        """n points and the half circle (0 or 1) that they lie on."""
        _check(n, noise)
        lower = noise.split("moon").uniform() >= 0.5
        angle = pi * noise.split("angle").uniform()
        x = torch.where(lower, 1 - angle.cos(), angle.cos())
        y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
        return torch.stack((x, y), 1) + self.sigma * noise.split("point").normal((2,)), lower.long()

    def __call__(self, n: int, noise: Noise) -> Points:
        return self.draw(n, noise)[0]


@dataclass(frozen=True, eq=False)
class SwissRoll:
    """The spiral t (cos t, sin t), t = 1.5π (1 + 2u), over 10; in 3-D rolled along a width in [−1, 1]."""

    name: str
    dimension: int
    sigma: float

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dimension,)

    def __call__(self, n: int, noise: Noise) -> Points:
        _check(n, noise)
        t = 1.5 * pi * (1 + 2 * noise.split("angle").uniform())
        axes = [t * t.cos() / 10, t * t.sin() / 10]
        if self.dimension == 3:
            axes.insert(1, 2 * noise.split("width").uniform() - 1)
        return torch.stack(axes, 1) + self.sigma * noise.split("point").normal(self.shape)


@toys.register
def ring(modes: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """Normals evenly on a circle: 8 of σ 0.01 on radius 1 (Lin et al., "PacGAN", 2018, section 4.1)."""
    _positive(modes=modes, radius=radius, sigma=sigma)
    angle = 2 * pi * torch.arange(modes, dtype=torch.float64) / modes
    return Mixture("ring", radius * torch.stack((angle.cos(), angle.sin()), 1), sigma)


@toys.register
def grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """Normals on a square grid: {−4, −2, 0, 2, 4}², σ 0.05 (Lin et al., "PacGAN", 2018, section 4.1)."""
    _positive(side=side, spacing=spacing, sigma=sigma)
    axis = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    return Mixture("grid", torch.cartesian_prod(axis, axis), sigma)


@toys.register
def moons(sigma: float = 0.05) -> Moons:
    """Two interleaved half moons; labelled."""
    _positive(sigma=sigma + 1)
    return Moons("moons", sigma)


@toys.register
def swiss_roll(dimension: int = 2, sigma: float = 0.02) -> SwissRoll:
    """A spiral, in 3-D rolled up along a third axis."""
    if dimension not in (2, 3):
        raise ArgumentError(f"a swiss roll has dimension 2 or 3; got {dimension}.")
    _positive(sigma=sigma + 1)
    return SwissRoll("swiss_roll", dimension, sigma)


@toys.register
def gaussian(dimension: int = 2, correlation: float = 0.8, scale: float = 1.0, mean: float = 0.0) -> Gaussian:
    """N(mean·1, scale² R), R with ones on the diagonal and `correlation`^|i−j| off it.

    For another covariance: `Gaussian("name", mean, covariance)`.
    """
    _positive(dimension=dimension, scale=scale)
    if not -1 < correlation < 1:
        raise ArgumentError(f"a correlation lies between -1 and 1; got {correlation}.")
    place = torch.arange(dimension, dtype=torch.float64)
    lag = (place[:, None] - place).abs()
    covariance = scale**2 * torch.tensor(correlation, dtype=torch.float64) ** lag
    return Gaussian("gaussian", torch.full((dimension,), float(mean), dtype=torch.float64), covariance)


def _check(n: int, noise: Noise) -> None:
    if n != len(noise):
        raise ArgumentError(
            f"{n} draws were asked for with noise of {len(noise)} rows: give Noise.of(seed, {n})."
        )


def _positive(**values: float) -> None:
    for name, value in values.items():
        if (
            isinstance(value, str)
            or not value > 0
            or (name in ("modes", "side", "dimension") and value != int(value))
        ):
            raise ArgumentError(f"{name} is {value!r}; a positive number is needed.")
