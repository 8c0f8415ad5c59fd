"""Divergences between densities: closed form, quadrature on the line, else Monte Carlo with a standard error."""

from __future__ import annotations

from math import inf, nan
from numbers import Integral

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.divergences._density import Density
from psiphi.divergences._estimate import Estimate
from psiphi.divergences._quadrature import DRAWS, edges_of, integrate
from psiphi.divergences._sides import count
from psiphi.formulas import divergences as formulas
from psiphi.formulas.distributions import FullNormal, has_kl
from psiphi.formulas.distributions import kl as kl_of_records
from psiphi.formulas.mixtures import Categorical

_MASS = 1e-5  # of a density that a quadrature may miss


def kl(p: Density, q: Density, draws: int, seed: int) -> Estimate:
    """KL(p ‖ q) in nats."""
    value = _closed_kl(p, q)
    if value is not None:
        return Estimate(
            value, 0.0, "closed form" if value < inf else f"closed form: {_why_infinite(p, q, seed)}"
        )
    x = _draws(p, draws, seed, "p")
    own, other = p.log_density(x), q.log_density(x)
    missed = int((other == -inf).sum())
    if missed:
        return Estimate(
            inf, nan, f"Monte Carlo: q has no density at {count(missed)} of {count(draws)} draws of p"
        )
    terms = own - other
    if not bool(terms.isfinite().all()):
        raise DataError(
            f"ln p or ln q is infinite at draws of p ({p.name}, {q.name}); use float64 parameters."
        )
    return Estimate(float(terms.mean()), _error(terms), f"Monte Carlo, {count(draws)} draws")


def _why_infinite(p: Density, q: Density, seed: int) -> str:
    if p.log_table is not None and q.log_table is not None:
        return (
            f"q has no mass where p has {float(p.log_table.exp()[q.log_table == -inf].sum()):.3g} of its mass"
        )
    missed = int((q.log_density(p.draws(DRAWS, seed, "p")) == -inf).sum())
    return f"q has no density where p has about {missed / DRAWS:.2%} of its mass" if missed else "infinite"


def _closed_kl(p: Density, q: Density) -> float | None:
    if p.gaussian and q.gaussian:
        return max(0.0, float(_normal(p).kl(_normal(q))))
    if p.log_table is not None and q.log_table is not None:
        return max(0.0, float(Categorical(p.log_table).kl(Categorical(q.log_table))))
    if has_kl(p.source, q.source):
        return float(kl_of_records(p.source, q.source).sum())
    one, other = p.source, q.source
    if isinstance(one, Categorical) and isinstance(other, Categorical):
        return float(one.kl(other).sum())
    if isinstance(one, torch.distributions.Distribution) and isinstance(
        other, torch.distributions.Distribution
    ):
        try:
            value = float(torch.distributions.kl_divergence(one, other).sum())
        except NotImplementedError:
            return None
        return None if value != value else value
    return None


def _normal(p: Density) -> FullNormal:
    assert p.gaussian
    mean, covariance = p.gaussian
    tril, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed):
        raise ArgumentError(f"the covariance of {p.name} is not positive definite, so it has no density.")
    return FullNormal(mean, tril)


def js(p: Density, q: Density, draws: int, seed: int) -> Estimate:
    """JS(p, q) in nats: in closed form of categories, by quadrature where both are continuous on the line."""
    if p.log_table is not None and q.log_table is not None:
        value = float(formulas.js_integrand(p.log_table, q.log_table).sum())
        return Estimate(min(max(value, 0.0), formulas.LOG_2), 0.0, "closed form")
    if p.dimension == 1 and not p.discrete and (found := _js_on_the_line(p, q, seed)):
        return found
    x, y = _draws(p, draws, seed, "p"), _draws(q, draws, seed, "q")
    at_p, at_q = formulas.js(p.log_density(x), q.log_density(x), p.log_density(y), q.log_density(y))
    error = (_error(at_p) ** 2 + _error(at_q) ** 2) ** 0.5
    return Estimate(float(at_p.mean() + at_q.mean()), error, f"Monte Carlo, {count(draws)} draws of each")


def _js_on_the_line(p: Density, q: Density, seed: int) -> Estimate | None:
    """None where the panels miss mass of p or q."""

    def integrands(x: Tensor) -> Tensor:
        log_p, log_q = p.log_density(x[:, None]), q.log_density(x[:, None])
        return torch.stack([formulas.js_integrand(log_p, log_q), log_p.exp(), log_q.exp()])

    both = [p.draws(DRAWS, seed, "p").cpu(), q.draws(DRAWS, seed, "q").cpu()]
    rough = torch.float32 in (p.like.dtype, q.like.dtype)
    (value, *masses), error = integrate(
        integrands, edges_of(both, (*p.bounds, *q.bounds)), 3e-8 if rough else 1e-11
    )
    if any(not abs(float(mass) - 1) < _MASS for mass in masses):
        return None
    return Estimate(min(max(float(value), 0.0), formulas.LOG_2), error, "quadrature")


def _draws(p: Density, draws: int, seed: int, side: str) -> Tensor:
    if not isinstance(draws, Integral) or draws < 2:
        raise ArgumentError(
            f"{draws!r} draws give no standard error; take a whole number of at least 2, e.g. 100_000."
        )
    return p.draws(draws, seed, side)


def _error(terms: Tensor) -> float:
    return float(terms.std() / len(terms) ** 0.5)


def together(one: Estimate, other: Estimate) -> Estimate:
    """The sum of two estimates on different draws."""
    how = one.how if one.how == other.how else f"{one.how}; {other.how}"
    return Estimate(one.value + other.value, (one.standard_error**2 + other.standard_error**2) ** 0.5, how)
