"""Laws of what is promised: radii of randomised smoothing, rates of false alarms."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from psiphi.access import white_box
from psiphi.attacks import L2, pgd
from psiphi.basis.noise import generator
from psiphi.defenses import detect, smooth
from psiphi.formulas import conformal, intervals, smoothing
from psiphi.laws._law import Measured, at_most, law

F64 = torch.float64


def _drawn(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator("law 28", key), dtype=F64)


def _plane(dims: int) -> nn.Linear:
    """Logits (0, aᵀx + b)."""
    net = nn.Linear(dims, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.stack([torch.zeros(dims, dtype=F64), _drawn(dims, key="a")]))
        net.bias.copy_(torch.tensor([0.0, 0.3]))
    return net.requires_grad_(False).eval()


@law("28", "smoothing: the radius is the distance to a plane, and certified does not exceed empirical")
def smoothed() -> list[Measured]:
    """Two classes and a plane, in closed form; then a curved network, attacked within its own radii."""
    return _linear() + _curved()


def _linear(rows: int = 120, n: int = 640, alpha: float = 0.05, sigma: float = 0.4) -> list[Measured]:
    """p = Φ(m/(σ‖a‖)), m = |aᵀx + b|, so R = σ Φ⁻¹(p) = m/‖a‖; certified radii exceed it as often as Bin(n, p) says."""
    from scipy.special import bdtrc

    net, x = _plane(5), _drawn(rows, 5, key="x") * 0.4
    reach = (net(x)[:, 1] / net.weight[1].norm()).abs()
    p = torch.special.ndtr(reach / sigma)
    off = float((smoothing.radius(p, sigma) - reach).abs().max())
    shown = smooth(net, sigma, draws=16, seed=28)
    found, y = shown.certify(x, 100, n, alpha, seed=28), net(x).argmax(1)
    hits = torch.arange(n + 1)
    lowest = intervals.at_least(hits, n, alpha)
    over = torch.as_tensor(bdtrc(torch.searchsorted(lowest, p, right=True).numpy() - 1.0, n, p.numpy()))
    too_far = int(((found.radius > reach) & (found.prediction == y)).sum())
    error = sqrt(float((over * (1 - over)).sum()))
    beyond = white_box(shown, bounds=(-9.0, 9.0))
    near, far = (
        pgd(L2(eps), steps=3, random_start=False)(beyond, x, y, stop_early=False).x
        for eps in ((reach - 0.2 * sigma).clamp_min(0), reach + 0.5 * sigma)
    )
    held, broken = (shown.outcome(each, y, 400, seed=281).wrong for each in (near, far))
    return [
        Measured("largest |σ Φ⁻¹(p) − margin/‖a‖|, exact p", 0, off, 1e-9),
        Measured("certified radii beyond it, of all rows", float(over.sum()), too_far, 4 * error),
        at_most("their expected number, bound α a row", alpha * rows, float(over.sum())),
        at_most(
            "median shortfall of the radius, in σ", 0.25, float(((reach - found.radius) / sigma).median())
        ),
        at_most(
            "rows wrong for certain 0.2 σ before the plane", 0.001 * rows, held.hits, 4 * sqrt(0.001 * rows)
        ),
        at_most("rows not wrong for certain 0.5 σ behind it, the control", 0.05 * rows, rows - broken.hits),
    ]


def _curved(rows: int = 48, alpha: float = 0.001, sigma: float = 0.25) -> list[Measured]:
    """Certified rows attacked to 0.999 of their own radius, and all rows at one radius."""
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double().requires_grad_(False)
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(_drawn(*value.shape, key=name) * (1.5 if name == "0.weight" else 0.7))
    x = _drawn(rows, 6, key="curved") * 0.6
    shown = smooth(net, sigma, draws=16, seed=28)
    found = shown.certify(x, 64, 640, alpha, seed=28)
    y, kept = found.prediction.clamp_min(0), (~found.abstained).nonzero().squeeze(1)
    beyond = white_box(shown, bounds=(-9.0, 9.0))

    def wrong(eps: Tensor, some: Tensor) -> int:
        climbed = pgd(L2(eps), steps=8)(beyond, x[some], y[some], seed=28, stop_early=False).x
        return shown.outcome(climbed, y[some], 400, alpha, seed=281).wrong.hits

    own, every = wrong(0.999 * found.radius[kept], kept), torch.arange(rows)
    radius = float(found.radius.median())
    certified = int(found.certified(y, radius).sum())
    standing = rows - wrong(torch.full((rows,), radius, dtype=F64), every)
    slack = 4 * sqrt(rows * 2 * alpha * (1 - 2 * alpha))
    broken = wrong(8 * found.radius[kept], kept)
    return [
        at_most("certified rows wrong for certain within their radius", 2 * alpha * len(kept), own, slack),
        at_most(
            f"rows certified at {radius:.3f}, those that stand there",
            standing,
            certified,
            slack + 2 * alpha * rows,
        ),
        at_most("rows not broken at 8 radii, the control", len(kept) / 2, len(kept) - broken),
    ]


@law("28b", "conformal threshold: the rate of false alarms is at most the stated one, and its law is Beta")
def alarms() -> list[Measured]:
    """Scores uniform on [0, 1], so that a threshold τ has the rate 1 − τ; scores with ties; a detector."""
    measured = []
    draw = generator("law 28b")
    for n, alarm, repeats in ((19, 0.05, 3000), (99, 0.1, 3000), (200, 0.07, 3000)):
        scores = torch.rand(repeats, n, generator=draw, dtype=F64)
        rates = 1 - torch.tensor([conformal.threshold(each, alarm) for each in scores], dtype=F64)
        theory = conformal.rate(n, alarm)
        low, high = theory.interval(0.9)
        inside = float(((rates > low) & (rates < high)).double().mean())
        what = f"{n} rows, rate {alarm:g}"
        measured += [
            Measured(f"{what}: mean", theory.mean, float(rates.mean()), 4 * sqrt(theory.variance / repeats)),
            Measured(f"{what}: within the law's 90 %", 0.9, inside, 4 * sqrt(0.09 / repeats)),
            at_most(f"{what}: stated, and reached but for 1/(n + 1)", alarm, theory.mean),
            at_most(f"{what}: what it falls short of it", 1 / (n + 1), alarm - theory.mean),
        ]
    n, alarm, repeats = 60, 0.1, 2000
    tied = torch.randint(12, (repeats, n + 1), generator=draw).to(F64)
    flagged = torch.tensor([float(each[-1]) > conformal.threshold(each[:-1], alarm) for each in tied]).to(F64)
    by_p = torch.stack([conformal.p_values(each[-1:], each[:-1])[0] <= alarm for each in tied]).to(F64)
    measured.append(at_most("with ties: rate", alarm, float(flagged.mean()), 4 * sqrt(alarm * 0.9 / repeats)))
    measured.append(Measured("flags off those of p-values ≤ α", 0, float((flagged - by_p).abs().sum()), 0))
    return measured + _normal_rows()


def _normal_rows(rows: int = 99, fresh: int = 400, repeats: int = 60, alarm: float = 0.1) -> list[Measured]:
    """Score ‖x‖² of N(0, I): the rate over detectors and fresh rows."""
    caught = []
    for repeat in range(repeats):
        x = torch.randn(rows + fresh, 3, generator=generator("law 28b", repeat), dtype=F64)
        found = detect(nn.Identity(), x[:rows], lambda model, x: x.square().sum(1), alarm=alarm)
        caught.append(float(found.flags(x[rows:]).double().mean()))
    theory = conformal.rate(rows, alarm)
    spread = theory.variance + theory.mean * (1 - theory.mean) / fresh
    mean = sum(caught) / repeats
    return [Measured("detectors of normal rows: mean rate", theory.mean, mean, 4 * sqrt(spread / repeats))]
