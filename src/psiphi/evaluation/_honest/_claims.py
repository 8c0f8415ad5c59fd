"""Questions about what is claimed beside the attacks: a purifier, a certificate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psiphi.access import WhiteBox
from psiphi.basis.errors import ArgumentError
from psiphi.defenses import Purified
from psiphi.evaluation._adaptive import adaptive
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, graded, skipped
from psiphi.evaluation._levels import LEVELS, TOGETHER
from psiphi.formulas.geometry import l2_norm

OVERSTATED = 0.02  # share of rows by which a level of the adaptive table may be lower than the attacks
FAILURE = 0.001  # rate at which a certificate may be wrong, a row, where it does not say


def purifier(s: Subject) -> Notes:
    """The adaptive table of a purifier, by the first attack that climbs."""
    if not isinstance(safe := s.module, Purified):
        raise ArgumentError("the classifier is no purifier")
    inner: Any = getattr(s.access, "inner", s.access)
    if (
        not isinstance(inner, WhiteBox)
        or (inner.pipe.mean, inner.pipe.std) != (None, None)
        or tuple(inner.box) != (0, 1)
    ):
        raise ArgumentError("the table of a purifier is of modules on data in [0, 1], bare or by expectation")
    table = adaptive(safe, s.points, s.label.to(s.points.device), s.lead, draws=s.draws, seed=s.seed)
    columns, left_out = {}, []
    for each in (*table.levels.values(), table.together):
        if each.right is None:
            left_out.append(f"{each.name}: {each.note}")
        else:
            columns[f"level: {each.name}"] = each.right
        s.charge(each.forwards, each.backwards)
    facts = {"levels left out": left_out, "levels by": [repr(s.lead)]}
    return Notes(columns | {"beside levels": s.right}, facts=facts)


def levels(e: Evidence) -> dict[str, Tensor]:
    """Of each level of a purifier's table the share of draws that stand, one a probed row, (n,)."""
    columns = {name: e.columns.get(f"level: {name}") for name in (*LEVELS, TOGETHER)}
    return {name: column for name, column in columns.items() if column is not None}


def certificate(s: Subject) -> Notes:
    """Rows that a certificate says stand, and that an attack changed within the certified radius."""
    if s.certificate is None:
        raise ArgumentError("no certificate was handed in")
    label, found = s.label.cpu(), s.result
    prediction, radius = (
        torch.as_tensor(getattr(s.certificate, name)).cpu() for name in ("prediction", "radius")
    )
    if prediction.shape != label.shape or radius.shape != label.shape:
        raise ArgumentError(f"the certificate has {len(prediction)} rows, and x has {len(label)}")
    far = l2_norm((s.access.points(found.x) - s.points).double()).cpu()
    right = prediction == label
    broken = (found.success | found.already_wrong).cpu() & (far < radius)
    if found.share is not None:  # a vote of few draws may go wrong by chance where it is close
        broken &= found.share.cpu() > 0.5 + 4 * 0.5 / s.access.judging**0.5
    rate = float(getattr(s.certificate, "alpha", FAILURE))
    columns = {"certified": (right & (radius > 0)).double(), "contradicted": (right & broken).double()}
    return Notes(columns | {"failure rate": torch.full((len(label),), rate)})


def adaptively(e: Evidence) -> Verdict:
    """A purifier is shown at every level, and the attacks are no weaker than the lowest.

    Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 4; Tramèr
    et al., "On adaptive attacks to adversarial example defenses", 2020; Croce et al., "Evaluating the adversarial
    robustness of adaptive test-time defenses", 2022.
    """
    name, found = "purifier at every level", levels(e)
    if not found:
        return skipped(name, e.refused("purifier"))
    left_out = e.facts.get("levels left out", [])
    missing = [
        each for each in LEVELS if each not in found and not any(told.startswith(each) for told in left_out)
    ]
    shares = {level: float(right.mean()) for level, right in found.items()}
    each = ", ".join(f"{level} {share:.1%}" for level, share in shares.items())
    told = f"robust accuracy {each}, by {e.said('levels by')}."
    told += f" Left out: {'; '.join(left_out)}." if left_out else ""
    n = len(e.columns["beside levels"])
    ahead = float(e.columns["beside levels"].mean()) - min(shares.values())
    if missing:
        return Verdict(
            name, "FAIL", ahead, OVERSTATED, f"{told} Missing: {', '.join(missing)}.", "Show every level."
        )
    advice = "Say the lowest level: the attacks that were handed in do not know the purifier well enough."
    return Verdict(name, graded(round(max(ahead, 0) * n, 6), n, OVERSTATED), ahead, OVERSTATED, told, advice)


def certified(e: Evidence) -> Verdict:
    """No more certified rows are broken within their radius than the certificate's failure rate explains.

    Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", 2019, section 3.2.
    """
    name, broken, rate = "certified ≤ empirical", e.measured("contradicted"), e.measured("failure rate")
    if broken is None or rate is None:
        return skipped(name, e.refused("certificate"))
    n, alpha, hits = len(broken), float(rate.max()), float(broken.sum())
    most = n * alpha + 4 * (n * alpha * (1 - alpha)) ** 0.5
    held = e.measured("certified")
    sure = int(held.sum()) if held is not None else n
    told = f"{int(hits)} of {sure} certified rows are broken within their radius; {most:.1f} may be, at α = {alpha:g}."
    advice = "Certificate and attack must be of the same classifier, noise and norm: one of them is wrong."
    return Verdict(name, "FAIL" if hits > most else "OK", hits, most, told, advice)
