"""The named divergences. p and q are densities or samples: see the package."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DivergedError
from psiphi.basis.noise import Noise
from psiphi.divergences import _between as between
from psiphi.divergences._density import density
from psiphi.divergences._estimate import Estimate
from psiphi.divergences._sides import count, densities, is_density, pair, same_size
from psiphi.formulas import divergences as formulas
from psiphi.formulas import kernels
from psiphi.formulas.kernels import Kernel

DRAWS, COSTLY_DRAWS = 100_000, 2000
MOST_COSTS = 100_000_000  # entries of a transport problem's cost matrix
KERNELS = {"imq": kernels.inverse_multiquadratic, "rbf": kernels.rbf}


@torch.no_grad()
def kl(p: Any, q: Any, *, neighbours: int = 5, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """KL(p ‖ q) = E_p ln p/q, in nats; +inf where p has mass and q none.

    Densities: in closed form, or from `draws` of p. Samples: from distances to the k-th nearest `neighbours`, which
    is biased in many dimensions; its standard error is a jackknife and holds no bias.
    """
    if is_density(p) and is_density(q):
        return between.kl(*densities(p, q), draws, seed)
    x, y, note = pair(p, q, COSTLY_DRAWS, seed, least=2)
    return _neighbour_kl(x, y, neighbours, note)


@torch.no_grad()
def jeffreys(p: Any, q: Any, *, neighbours: int = 5, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """KL(p ‖ q) + KL(q ‖ p), in nats: what is often misprinted as Jensen and Shannon's divergence."""
    if is_density(p) and is_density(q):
        one, other = densities(p, q)
        return between.together(between.kl(one, other, draws, seed), between.kl(other, one, draws, seed + 1))
    x, y, note = pair(p, q, COSTLY_DRAWS, seed, least=2)
    there, back = _neighbour_kl(x, y, neighbours, note), _neighbour_kl(y, x, neighbours, note)
    return between.together(there, back)


@torch.no_grad()
def js(p: Any, q: Any, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½(p + q), in nats: from 0 to ln 2, and ln 2 exactly on disjoint supports.

    Densities: by quadrature on the line, else from `draws` of each. Samples have no estimate without a model of
    their ratio: `ArgumentError`.
    """
    if is_density(p) and is_density(q):
        return between.js(*densities(p, q), draws, seed)
    raise ArgumentError(
        "JS between samples needs the ratio of their densities, which a learnt critic gives: use "
        "divergences.by_critic; or kl, jeffreys, mmd or wasserstein, or give two densities."
    )


@torch.no_grad()
def wasserstein(p: Any, q: Any, *, order: float = 1, draws: int | None = None, seed: int = 0) -> Estimate:
    """W_p = (inf E‖x − y‖^p)^{1/p} over couplings, p = `order`, in units of the data.

    Gaussians at order 2: closed form (Bures). Samples: exact, by sorting on the line and by a linear programme of
    n × m costs elsewhere; densities through draws, 100 000 on the line and 2 000 elsewhere unless given. Of samples
    it is biased upwards, by O(n^{−1/d}).
    """
    _check_order(order)
    if is_density(p) and is_density(q):
        one, other = density(p, "p"), density(q, "q")
        same_size(one.dimension, other.dimension)
        if order == 2 and one.gaussian and other.gaussian:
            return Estimate(float(formulas.bures(*one.gaussian, *other.gaussian)), 0.0, "closed form")
        draws = draws or (DRAWS if one.dimension == 1 else COSTLY_DRAWS)
    x, y, note = pair(p, q, draws or COSTLY_DRAWS, seed)
    x, y = x.double(), y.double()
    if x.shape[1] == 1:
        power = formulas.transport_1d(x[:, 0], y[:, 0], order)
        return Estimate(float(power) ** (1 / order), nan, f"sorting{note}")
    return Estimate(_transported(x, y, order) ** (1 / order), nan, f"exact transport{note}")


@torch.no_grad()
def sliced_wasserstein(
    p: Any, q: Any, *, order: float = 1, directions: int = 256, draws: int | None = None, seed: int = 0
) -> Estimate:
    """(E_θ W_p^p(⟨θ, x⟩, ⟨θ, y⟩))^{1/p} over uniform directions θ, p = `order`, in units of the data.

    The standard error is over directions. At order 1 a shift Δ in d dimensions reads ‖Δ‖ Γ(d/2)/(√π Γ((d+1)/2)).
    """
    _check_order(order)
    if not isinstance(directions, Integral) or directions < 2:
        raise ArgumentError(
            f"{directions!r} directions give no standard error; take a whole number of at least 2, e.g. 256."
        )
    x, y, note = pair(p, q, draws or DRAWS // 10, seed)
    noise = Noise.of(seed, directions, x.device, x.dtype).split("directions")
    powers = formulas.sliced_transport(x, y, formulas.directions(noise, x.shape[1]), order).double()
    mean, error = float(powers.mean()), float(powers.std()) / directions**0.5
    value = mean ** (1 / order)
    slope = value / (order * mean) if mean > 0 else 0.0
    return Estimate(value, error * slope, f"sorting along {count(directions)} directions{note}")


@torch.no_grad()
def mmd(
    p: Any,
    q: Any,
    *,
    kernel: str | Kernel = "imq",
    scales: Sequence[float] | None = None,
    unbiased: bool = True,
    draws: int = COSTLY_DRAWS,
    seed: int = 0,
) -> Estimate:
    """MMD², squared: E k(x, x') + E k(y, y') − 2 E k(x, y); unbiased it can be negative, biased it is at least 0.

    kernel: `imq`, mean of s²/(s² + d²); `rbf`, mean of exp(−d²/2s²); or a function of squared distances. scales: its
    s, in units of the data; by default one, the median distance of at most 500 + 500 rows. The standard error is a
    jackknife over rows of the unbiased estimate, and too large where p = q.
    """
    x, y, note = pair(p, q, draws, seed, least=3)
    if callable(kernel):
        return _discrepancy(x, y, kernel, unbiased, f"given kernel{note}")
    if kernel not in KERNELS:
        raise ArgumentError(f"no kernel is called {kernel!r}; use {', '.join(KERNELS)}, or a function of d².")
    chosen = (kernels.median_scale(x, y),) if scales is None else tuple(scales)
    shown = ", ".join(f"{s:.3g}" for s in chosen)
    return _discrepancy(x, y, KERNELS[kernel](chosen), unbiased, f"{kernel} kernel, scales {shown}{note}")


@torch.no_grad()
def energy(p: Any, q: Any, *, unbiased: bool = True, draws: int = COSTLY_DRAWS, seed: int = 0) -> Estimate:
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, in units of the data; needs no bandwidth, but finite means.

    Unbiased it can be negative; the standard error is a jackknife over rows, as for `mmd`.
    """
    x, y, note = pair(p, q, draws, seed, least=3)
    return _discrepancy(x, y, kernels.negative_distance, unbiased, f"pairs of rows{note}")


def _check_order(order: float) -> None:
    if not isinstance(order, Real) or not 1 <= order < float("inf"):
        raise ArgumentError(f"order is {order!r}; transport has an order of at least 1: 1 or 2.")


def _neighbour_kl(x: Tensor, y: Tensor, neighbours: int, note: str) -> Estimate:
    if not isinstance(neighbours, Integral):
        raise ArgumentError(f"neighbours is {neighbours!r}; give a whole number of at least 1, e.g. 5.")
    terms, error = formulas.neighbour_kl(x.double(), y.double(), int(neighbours))
    return Estimate(float(terms.mean()), error, f"k nearest neighbours, k = {neighbours}{note}")


def _discrepancy(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool, how: str) -> Estimate:
    sums = kernels.pair_sums(x, y, kernel)
    value = float(kernels.squared_discrepancy(sums, None if unbiased else kernel))
    return Estimate(value, kernels.jackknife_error(sums), f"{how}, {'unbiased' if unbiased else 'biased'}")


def _transported(x: Tensor, y: Tensor, order: float) -> float:
    """min Σ π_ij ‖x_i − y_j‖^p over couplings of the two empirical measures, by POT's network simplex."""
    n, m = len(x), len(y)
    if n * m > MOST_COSTS:
        raise ArgumentError(
            f"exact transport of {n} against {m} samples needs {n * m:.2g} costs, more than {MOST_COSTS:.0g}: take "
            "fewer rows, or sliced_wasserstein."
        )
    import ot

    costs = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").pow_(order).cpu().numpy()
    found, log = ot.emd2([], [], costs, numItermax=100_000_000, log=True)
    if log["warning"]:
        raise DivergedError(f"exact transport stopped early ({log['warning']}); take fewer rows.")
    return max(float(found), 0.0)
