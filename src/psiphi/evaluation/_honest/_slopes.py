"""Questions about the gradient: is there one, and is it that of the classifier?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, Expectation, GrayBox, WhiteBox
from psiphi.access._bpda import _Swapped
from psiphi.access._pipe import Pipe
from psiphi.basis.errors import AccessError, ArgumentError
from psiphi.basis.noise import Noise, mix
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._model import constant
from psiphi.evaluation._honest._subject import Subject, climbs
from psiphi.evaluation._honest._verdict import Verdict, graded, skipped
from psiphi.formulas.goals import Relative

MASKED = 0.05  # share of rows without a gradient: the attack stands still there, and the accuracy is off by so much
APART = 0.1  # share of rows whose gradient is not the slope: kinks explain a few
WRONG = 0.05  # relative error of a slope; at an interior point in double precision it is about 1e-6
_WIDTHS = (1e-5, 1e-4, 1e-3)  # of the box: lengths of the differences
_DIRECTIONS = 4
_INWARD, _JITTER = 0.9, 0.04  # where slopes are measured: off the walls and off ties
_MOVED = 1e-3  # of the largest logit: more than a margin changes by rounding


def gradients(s: Subject) -> Notes:
    """The largest |∂goal/∂x_i| of each row at the data, over the goals of the attacks that climb."""
    goals = list(dict.fromkeys(each.goal for each in s.members if climbs(each)))
    goals = [goal for goal in goals if not isinstance(goal, Relative)]  # flat at the data, where it is least
    if not goals:
        raise ArgumentError("no attack of this evaluation asks for a gradient at the data")
    x, label = s.points, s.label.to(s.points.device)
    rows, steepest = torch.arange(len(x), device=x.device), x.new_zeros(len(x))
    size = max(1, 128 // getattr(s.access, "draws", 1))
    with s.session(x, "gradients"):
        for goal in goals:
            for mine in rows.split(size):
                y = label[mine]
                reply = s.access.climb(x[mine], partial(_scored, goal, y), mine)
                assert reply.gradient is not None
                steepest[mine] = torch.maximum(steepest[mine], reply.gradient.abs().flatten(1).amax(1))
    kind = torch.finfo(x.dtype)
    right = ~s.result.already_wrong.cpu()
    zero = torch.where(right, (steepest == 0).double().cpu(), torch.nan)
    tiny = torch.where(right, (steepest < kind.tiny / kind.eps).double().cpu(), torch.nan)
    return Notes({"zero slope": zero, "tiny slope": tiny})


def differences(s: Subject) -> Notes:
    """Slopes of the margin to the nearest rival by central differences against its gradient, in double precision where
    the classifier can be copied into it; along random directions, at points drawn a little into the box."""
    if isinstance(s.access, GrayBox) or "gradient" not in s.access.sees:
        raise ArgumentError("the access shows no gradient of the classifier")
    access, x = _precise(s)
    noise = Noise.of(s.seed, s.row, x.device, x.dtype).split("honesty slopes")
    lo, hi = (torch.as_tensor(wall, dtype=x.dtype, device=x.device) for wall in access.box)
    width = hi - lo
    jitter = _JITTER * (noise.at(0).uniform(tuple(x.shape[1:])) * 2 - 1)
    x = lo + _INWARD * (x - lo) + ((1 - _INWARD) / 2 + jitter) * width
    y = s.label.to(x.device)
    logits = _said(s, access, x)
    rival, top = logits.scatter(1, y[:, None], -inf).argmax(1), logits.abs().amax(1)
    slope = _slope(s, access, x, y, rival)
    length, errors, flat = slope.flatten(1).norm(dim=1), [], []
    far = _reach(s, width)
    for turn in range(1, _DIRECTIONS + 1):
        u = (noise.at(turn).uniform(tuple(x.shape[1:])) < 0.5).to(x) * 2 - 1
        along = (slope * u * width).flatten(1).sum(1)
        least, still = torch.full_like(along, torch.nan), torch.ones_like(along, dtype=torch.bool)
        for h in _WIDTHS:
            up, down = (_margin(s, access, x + sign * h * width * u, y, rival) for sign in (1, -1))
            found = (up - down) / (2 * h)
            scale = torch.maximum(torch.maximum(found.abs(), along.abs()), 0.1 * length * width.max())
            sure = 64 * torch.finfo(x.dtype).eps * top / h < WRONG * scale
            error = torch.where(sure, (found - along).abs() / scale, torch.where(scale == 0, 0, torch.nan))
            least, still = least.fmin(error), still & (found == 0)
        moved = _margin(s, access, _inside(x + far * u, lo, hi), y, rival) - _gap(logits, y, rival)
        errors.append(least)
        flat.append((still & (length == 0) & (moved.abs() > _MOVED * top)).double())
    error = torch.stack(errors).nanmedian(0).values
    return Notes(
        {"slope error": torch.where(torch.stack(flat).amax(0) > 0, 1.0, error.double().round(decimals=6))},
        facts={"stand-ins": ["bpda"] if _stands_in(s) else []},
    )


def masking(e: Evidence) -> Verdict:
    """Share of rows whose gradient is zero, not a number, or too small for its digits to be kept.

    Source: Carlini, Wagner, "Towards evaluating the robustness of neural networks", 2017 (what a saturated softmax
    does); Athalye, Carlini, Wagner, 2018, section 3.1.
    """
    name, zero, tiny = "gradients", e.measured("zero slope"), e.measured("tiny slope")
    advice = "Let the gradient through: access.bpda for a step without one, another goal (dlr) for one that saturates."
    if zero is None or tiny is None:
        why = e.refused("gradients")
        if constant(e):
            return skipped(name, "the classifier gives one answer everywhere: no gradient leads anywhere.")
        broken = any(word in why for word in ("NaN", "differentiably"))
        return Verdict(name, "FAIL", None, 0.0, why, advice) if broken else skipped(name, why)
    if constant(e) and zero.mean() == 1:
        return skipped(name, "the classifier is constant, and so is every gradient.")
    share = float(tiny.mean())
    told = f"zero in {float(zero.mean()):.1%} of {len(tiny)} rows, lost to rounding or zero in {share:.1%}."
    return Verdict(name, graded(float(tiny.sum()), len(tiny), MASKED), share, MASKED, told, advice)


def slopes(e: Evidence) -> Verdict:
    """The gradient is the slope that the classifier has."""
    name, error = "finite differences", e.measured("slope error")
    if error is None:
        return skipped(name, e.refused(name))
    wrong = float((error > WRONG).double().mean())
    median = float(error.median())
    told = f"off by more than {WRONG:.0%} in {wrong:.1%} of {len(error)} rows, by {median:.1e} in the median."
    if e.facts.get("stand-ins"):
        return Verdict(name, "OK", wrong, APART, f"{told} A bpda stands in for a step, as it should.")
    advice = "A step rounds, cuts or redefines its derivative: put access.bpda in its place, and try without gradients."
    return Verdict(name, graded(float((error > WRONG).sum()), len(error), APART), wrong, APART, told, advice)


def _precise(s: Subject) -> tuple[Access, Tensor]:
    """The access of a double-precision copy, and its points; those of the classifier itself where there is none."""
    given: Any = s.access
    white = given.inner if isinstance(given, Expectation) else given
    try:
        if not isinstance(white, WhiteBox) or s.module is None or white.pipe.model is not s.module:
            return s.access, s.points
        with torch.random.fork_rng():
            pipe = Pipe(copy.deepcopy(s.module).double(), white.pipe.bounds, white.pipe.mean, white.pipe.std)
        made: Any = WhiteBox(pipe)
        made = Expectation(made, given.draws, given.fresh) if isinstance(given, Expectation) else made
        points = made.points(s.points.double())
        said, plain = _said(s, made, points), _said(s, s.access, s.points).double()
        if said.dtype == torch.float64 and torch.allclose(
            said, plain, rtol=1e-2, atol=1e-2 * float(plain.abs().max())
        ):
            return made, points
    except (AccessError, RuntimeError, TypeError, NotImplementedError):
        pass
    return s.access, s.points


def _said(s: Subject, access: Access, points: Tensor) -> Tensor:
    """Mean logits (n, K), of a random classifier with the same draws whenever it is asked."""
    size = max(1, 512 // getattr(access, "draws", 1))
    parts = []
    for mine in torch.arange(len(points), device=points.device).split(size):
        with access.session(points, mix(s.seed, "honesty", "slopes")):
            parts.append(access.look(points[mine]).said.mean(0))
        s.charge(len(mine) * getattr(access, "draws", 1))
    return torch.cat(parts)


def _margin(s: Subject, access: Access, points: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    return _gap(_said(s, access, points), y, rival)


def _slope(s: Subject, access: Access, x: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """The gradient of the margin, with the draws of `_said`."""
    size = max(1, 512 // getattr(access, "draws", 1))
    parts = []
    for mine in torch.arange(len(x), device=x.device).split(size):
        with access.session(x, mix(s.seed, "honesty", "slopes")):
            reply = access.climb(x[mine], lambda z, mine=mine: _gap(z, y[mine], rival[mine]))
        assert reply.gradient is not None
        parts.append(reply.gradient)
        s.charge(len(mine) * getattr(access, "draws", 1), len(mine) * getattr(access, "draws", 1))
    return torch.cat(parts)


def _scored(goal: Callable[..., Tensor], y: Tensor, logits: Tensor) -> Tensor:
    return goal(logits, y, None)


def _gap(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    return (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def _reach(s: Subject, width: Tensor) -> float:
    """How far an attack may move a coordinate, at least a tenth of the box."""
    eps = torch.as_tensor(getattr(s.threat, "eps", inf)).double().flatten().min().item()
    most = float(width.max())
    return min(most / 2, max(eps if getattr(s.threat, "norm", "") == "Linf" else 0.0, most / 10))


def _inside(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, lo), hi)


def _stands_in(s: Subject) -> bool:
    return s.module is not None and any(isinstance(each, _Swapped) for each in s.module.modules())
