"""Questions about the attack: does more of it find more, and is it as strong as it can be?"""

from __future__ import annotations

from dataclasses import fields, replace
from numbers import Real
from typing import Any

import torch

from psiphi.attacks import Attack, Battery, fgsm
from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._model import constant, one_label
from psiphi.evaluation._honest._subject import Subject, climbs, right
from psiphi.evaluation._honest._verdict import FEW, Verdict, graded, skipped

RADII = (0.25, 0.5, 1.0, 2.0)  # of ε
SLACK = 0.02  # by how much chance may let a larger radius break fewer rows, or one step more
REACHED = 0.95  # at the box's full width less is a wall that the attack does not pass
CONVERGED = 0.005  # half a point
_DIMENSION = {"Linf": 0.0, "L2": 0.5, "L1": 1.0}  # p: the box measures its width times d^p in the norm


def growing(s: Subject) -> Notes:
    """The first attack that climbs, by itself, at several radii: whether each row stands, (n, radii)."""
    s.bounded()
    found = {f"radius {factor:g} ε": s.run(scaled(s.lead, factor)) for factor in RADII}
    columns = {"radii": torch.stack([right(each) for each in found.values()], 1)}
    return Notes(columns, results={name: found[name] for name, factor in zip(found, RADII) if factor <= 1})


def unbounded(s: Subject) -> Notes:
    """The same attack in a ball that holds the whole box."""
    norm = getattr(s.threat, "norm", None)
    if s.battery.kind == "minimum-norm":
        return Notes({"full width": right(s.result)})
    if norm not in _DIMENSION:
        raise ArgumentError(f"{s.threat!r} is no ball of a norm that could hold the whole box")
    lo, hi = s.access.box
    width = float((torch.as_tensor(hi) - torch.as_tensor(lo)).max()) * s.points[0].numel() ** _DIMENSION[norm]
    eps = torch.as_tensor(s.threat.eps).double()
    if not bool((eps > 0).all()):
        raise ArgumentError(f"{s.threat!r} has no extent to enlarge")
    return Notes({"full width": right(s.run(scaled(s.lead, width / eps)))})


def one_step(s: Subject) -> Notes:
    """One step as long as the radius."""
    s.bounded()
    found = s.run(fgsm(s.threat))
    return Notes({"one step": right(found), "many steps": s.right}, results={"one step": found})


def doubled(s: Subject) -> Notes:
    """Every attack that climbs with twice the steps, on the rows that stand."""
    s.bounded()
    longer = [_longer(each) for each in s.members if climbs(each) or not climbs(s.lead)]
    if not (longer := [each for each in longer if each is not None]):
        raise ArgumentError("no attack of this evaluation has a number of steps")
    if not len(rest := s.rest()):
        return Notes({"doubled": torch.zeros(len(s.x))})
    found = s.run(Battery(longer, threat=s.threat), rest)
    return Notes({"doubled": s.gained(found, rest)}, results={"twice the steps": found})


def grows(e: Evidence) -> Verdict:
    """Success grows with the radius, over independent runs.

    Source: Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    name, stands = "success grows with ε", e.measured("radii")
    if stands is None:
        return skipped(name, e.refused(name))
    shares = stands.mean(0)
    worst = float((shares[1:] - shares[:-1]).max())
    told = ", ".join(f"{share:.1%} at {factor:g} ε" for share, factor in zip(shares.tolist(), RADII))
    status = graded(e.beyond_chance(worst * len(stands), len(stands)), len(stands), SLACK)
    advice = "A larger ball holds the smaller, yet the attack finds less: give it more steps, restarts, another goal."
    return Verdict(name, status, worst, SLACK, f"robust accuracy {told}.", advice)


def reaches(e: Evidence) -> Verdict:
    """Nothing stands where everything is allowed, unless the classifier is constant; a random one has fallen where
    more than half of its draws err. Where one label is all that was seen, nothing tells a wall from the whole: a WARN.

    Source: Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    name, stands = "everything breaks at full width", e.measured("full width")
    if stands is None:
        return skipped(name, e.refused(name))
    if constant(e):
        return skipped(name, "the classifier gives one answer everywhere: nothing can change it.")
    n, left = len(stands), int((stands >= 0.5).sum())
    sure = int((stands >= 0.5 + e.chance(1)).sum())
    broken = 1 - left / n
    walls = sure >= FEW and sure > (1 - REACHED) * n and not one_label(e)
    status = "FAIL" if walls else "WARN" if left else "OK"
    told = f"{broken:.1%} of {len(stands)} rows are broken in a ball that holds the whole box."
    advice = (
        "The attack fails where it cannot: look for masked gradients, or give it more steps and restarts."
    )
    return Verdict(name, status, broken, 1.0, told, advice)


def iterates(e: Evidence) -> Verdict:
    """Many steps are at least as good as one.

    Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 3.1.
    """
    name, one, many = "iterative ≥ one step", e.measured("one step"), e.measured("many steps")
    if one is None or many is None:
        return skipped(name, e.refused(name))
    ahead = float(many.sum() - one.sum())
    told = f"robust accuracy {float(many.mean()):.1%} under the attacks, {float(one.mean()):.1%} under fgsm."
    advice = "Smaller or more steps, and more restarts; one step should never win."
    return Verdict(
        name, graded(e.beyond_chance(ahead, len(one)), len(one), SLACK), ahead / len(one), SLACK, told, advice
    )


def converges(e: Evidence) -> Verdict:
    """Twice the steps break no further row.

    Source: Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    name, gain = "twice the steps", e.measured("doubled")
    if gain is None:
        return skipped(name, e.refused(name))
    share = float(gain.mean())
    told = (
        f"they lower the robust accuracy by {100 * share:.1f} points ({int(gain.sum())} of {len(gain)} rows)."
    )
    advice = "Give the attack more steps, until more no longer matter."
    return Verdict(name, graded(float(gain.sum()), len(gain), CONVERGED), share, CONVERGED, told, advice)


def scaled(attack: Attack, factor: Any) -> Attack:
    """The attack with a radius, and a step that is in the data's units, so many times as large."""
    threat: Any = attack.threat
    given, search = getattr(attack.search, "step", None), attack.search
    least = float(torch.as_tensor(factor).min())
    if isinstance(given, Real) and any(f.name == "step" for f in fields(search)):  # pyright: ignore[reportArgumentType]
        search = replace(search, step=float(given) * least)  # pyright: ignore[reportArgumentType, reportCallIssue]
    eps = threat.eps * factor if isinstance(threat.eps, torch.Tensor) else threat.eps * least
    return replace(attack, threat=replace(threat, eps=eps), search=search)


def _longer(attack: Attack) -> Attack | None:
    """The attack with twice the steps, queries or generations; None where it has no such number."""
    for name in ("steps", "queries", "generations"):
        if isinstance(count := getattr(attack.search, name, None), int):
            return replace(attack, search=replace(attack.search, **{name: 2 * count}))  # pyright: ignore[reportArgumentType]
    return None
