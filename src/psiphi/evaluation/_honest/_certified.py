"""Whether a certificate holds: attacks within each row's own radius, judged by what the certificate is of."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from psiphi.attacks import L2, Result
from psiphi.attacks.searches import Steepest
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import mix
from psiphi.defenses import Smoothed
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, skipped
from psiphi.formulas.geometry import l2_norm

FAILURE = 0.001  # rate at which a certificate may be wrong, a row, where it does not say
_WITHIN = 0.999  # of the radius: rounding must not carry a point across it


def as_certificate(given: Any, n: int) -> Any:
    """`prediction` and `radius` of n rows, and `alpha`; None as it is. Raises `ArgumentError`."""
    if given is None:
        return None
    try:
        held = {name: torch.as_tensor(getattr(given, name)).cpu() for name in ("prediction", "radius")}
        alpha = float(getattr(given, "alpha", FAILURE))
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"certificate={given!r} is none: something with `prediction` and `radius`, each one a row of x, is needed, "
            "e.g. smooth(classifier, 0.25).certify(x)."
        ) from None
    for name, values in held.items():
        if tuple(values.shape) != (n,):
            raise ArgumentError(
                f"the certificate's {name} has shape {tuple(values.shape)}, and x has {n} rows: certify these rows."
            )
    return SimpleNamespace(**held, alpha=alpha)


def part_of(certificate: Any, mine: Tensor) -> Any:
    """The rows of a certificate that are probed."""
    if certificate is None:
        return None
    held = {name: getattr(certificate, name)[mine] for name in ("prediction", "radius")}
    return SimpleNamespace(**held, alpha=certificate.alpha)


def certificate(s: Subject) -> Notes:
    """Rows that a certificate says stand, and that an attack changed within the certified radius: the points that it
    returned, and those of the first attack that climbs within each row's own radius."""
    if s.certificate is None:
        raise ArgumentError("no certificate was handed in")
    if not isinstance(s.threat, L2):
        raise ArgumentError(f"the attack is of {s.threat!r}, and the certificate of an L2 ball")
    label, votes = s.label.cpu(), _votes(s)
    prediction, radius, rate = s.certificate.prediction, s.certificate.radius.double(), s.certificate.alpha
    held = (prediction == label) & (radius > 0)
    broken = torch.zeros(len(label), dtype=torch.bool)
    if len(mine := held.nonzero().squeeze(1)):
        broken[mine] = _broken(s, s.result, mine, radius, votes)
        if s.battery.kind != "minimum-norm":
            broken[mine] |= _broken(s, _within(s, mine, radius, votes is not None), mine, radius, votes)
    rate = rate if votes is None else 2 * rate  # the votes that contradict are wrong as often
    columns = {"certified": held.double(), "contradicted": broken.double()}
    return Notes(columns | {"failure rate": torch.full((len(label),), float(rate))})


def certified(e: Evidence) -> Verdict:
    """No more certified rows are broken within their radius than the certificate's failure rate explains.

    Of a smoothed classifier broken is a confident wrong vote; where the vote is open, the row counts as standing.

    Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019, section 3.2.
    """
    name, broken, rate = "certified ≤ empirical", e.measured("contradicted"), e.measured("failure rate")
    if broken is None or rate is None:
        return skipped(name, e.refused("certificate"))
    held = e.measured("certified")
    n = int(held.sum()) if held is not None else len(broken)
    if not n:
        return skipped(name, "no probed row is certified.")
    alpha, hits = float(rate.max()), float(broken.sum())
    most = n * alpha + 4 * (n * alpha * (1 - alpha)) ** 0.5
    told = f"{int(hits)} of {n} certified rows are broken within their radius; {most:.1f} may be, at a failure rate "
    told += f"of {alpha:g} a row."
    advice = "Certificate and attack must be of the same classifier, noise and norm: one of them is wrong."
    return Verdict(name, "FAIL" if hits > most else "OK", hits, most, told, advice)


def _votes(s: Subject) -> Smoothed | None:
    """Whose votes judge; None where a row has one answer. Raises `ArgumentError` where nothing tells what a row's
    answer is."""
    module, inner = s.module, getattr(s.access, "inner", s.access)
    if isinstance(module, Smoothed):
        pipe = getattr(inner, "pipe", None)
        if pipe is not None and not (pipe.mean is None and pipe.std is None):
            raise ArgumentError("the certificate is in the units of what the smoothed classifier is given: smooth "
                                "the scaled classifier")  # fmt: skip
        return module
    if s.random or (module is not None and any(isinstance(each, Smoothed) for each in module.modules())):
        raise ArgumentError("the certificate is of votes, which this classifier does not show: hand in the smoothed "
                            "classifier itself")  # fmt: skip
    return None


def _within(s: Subject, mine: Tensor, radius: Tensor, elsewhere: bool) -> Result:
    """The first attack that climbs within each row's own radius; with all its steps where it is judged elsewhere."""
    lo, hi = (torch.as_tensor(wall).double().cpu() for wall in s.access.box)
    across = float((hi - lo).max()) * s.points[0].numel() ** 0.5
    given: Any = s.lead
    search = given.search
    if isinstance(search, Steepest):
        search = replace(search, step=None)  # its default goes by the radius, a length of one's own does not
    eps = (_WITHIN * radius).clamp(torch.finfo(s.points.dtype).tiny, across)
    return s.run(replace(given, threat=L2(eps), search=search), mine, stop_early=not elsewhere)


def _broken(s: Subject, found: Result, mine: Tensor, radius: Tensor, votes: Smoothed | None) -> Tensor:
    """Of the rows `mine`, those whose point is nearer than the radius and gets another answer."""
    some = mine if len(found) == len(s.x) else torch.arange(len(mine))
    points = s.access.points(found.x)[some.to(s.points.device)]
    near = (l2_norm((points - s.points[mine.to(s.points.device)]).double()).cpu()) < radius[mine]
    if votes is None:
        return (found.success | found.already_wrong).cpu()[some] & near
    said = votes.predict(
        points, alpha=s.certificate.alpha, seed=mix(s.seed, "honesty", "votes"), rows=s.row[mine]
    ).cpu()
    return (said >= 0) & (said != s.label.cpu()[mine]) & near
