"""Questions about the points that attacks returned: allowed, and as claimed?"""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.attacks import Result
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, skipped
from psiphi.formulas import goals
from psiphi.formulas.intervals import wilson

ROUNDED = 1e-5  # of the radius, or of the box: what single precision may leave
TIES = 0.01  # share of rows that hang on rounding


def returned(s: Subject) -> Notes:
    """How far points lie outside ball and box, in double precision, and whether the classifier still errs there."""
    notes = Notes({"outside": outside(s, s.result, torch.arange(len(s.x)))})
    claimed = (s.result.broken & ~s.result.undecided).cpu()
    if s.random or s.battery.kind == "minimum-norm" or not len(mine := claimed.nonzero().squeeze(1)):
        return notes
    points = s.access.points(s.result.x)[mine.to(s.points.device)]
    with s.session(points, "claims"):
        said = s.verdicts(points)[0]
    y = s.label[mine.to(s.label.device)].to(said.device)
    holds = (said != y) if said.ndim == 1 else goals.margin(said, y) > 0
    false = torch.zeros(len(s.x), dtype=torch.double)
    false[mine] = (~holds).double().cpu()
    notes.columns["false claim"] = false
    return notes


def outside(s: Subject, found: Result, mine: Tensor) -> Tensor:
    """How far (n,) the points of rows `mine` are outside the box, as a share of it, or the ball, as a share of ε."""
    x = s.points.double().cpu()[mine]
    points, far = found.x.double().cpu(), torch.zeros(len(s.x), dtype=torch.double)
    lo, hi = (torch.as_tensor(wall).double().cpu() for wall in s.access.box)
    beyond = (torch.maximum(lo - points, points - hi) / (hi - lo)).flatten(1).amax(1).clamp_min(0)
    if s.battery.kind != "minimum-norm" and not s.threat.charted and hasattr(s.threat, "norm"):
        threat = s.threat.expand(s.points.double().cpu())
        eps = threat.eps[mine].double()
        excess = threat.distance(points, x) - eps
        beyond = torch.maximum(beyond, (excess / eps.clamp_min(torch.finfo(torch.float32).tiny)).clamp_min(0))
    far[mine] = beyond.round(decimals=6)  # what lies below depends on the batch
    return far


def allowed(e: Evidence) -> Verdict:
    """Every point of every attack and probe is within ball and box."""
    name, far = "ball and box", e.measured("outside")
    if far is None:
        return skipped(name, e.refused("ball and box"))
    worst, false = float(far.max()), e.measured("false claim")
    if worst > ROUNDED:
        rows = int((far > ROUNDED).sum())
        told = (
            f"points of {rows} of {len(far)} rows lie outside, by up to {worst:.2g} of the radius or the box."
        )
        advice = "Project onto ball and box together, as the last step of the attack."
        return Verdict(name, "FAIL", worst, ROUNDED, told, advice)
    if false is not None and (wrong := int(false.sum())):
        told = f"{wrong} points said to be misclassified are not, when asked again."
        advice = "The answer depends on more than the input: see 'randomness' and 'rows apart'."
        return Verdict(name, "FAIL", float(wrong), 0.0, told, advice)
    told = f"recomputed in double precision, at most {worst:.1g} outside; every claim holds again."
    return Verdict(name, "OK", worst, ROUNDED, told)


def undecided(e: Evidence) -> Verdict:
    """Rows whose two best logits tie up to rounding: counted as broken."""
    name, n, ties = "undecided", e.counts.get("rows", 0), e.counts.get("undecided", 0)
    if not n:
        return skipped(name, e.refused(name))
    told = f"{int(ties)} of {int(n)} rows hang on rounding, and count as broken."
    advice = "Use double precision, or logits of a smaller size."
    return Verdict(name, "WARN" if ties > TIES * n else "OK", ties / n, TIES, told, advice)


def enough(e: Evidence) -> Verdict:
    """The interval of the robust accuracy is narrow enough to compare with others."""
    name, n, most = "enough rows", int(e.counts.get("rows", 0)), 0.1
    if not n:
        return skipped(name, e.refused(name))
    low, high = wilson(round(e.counts["stood"]), n)
    told = f"{n} rows leave the robust accuracy anywhere in [{low:.1%}, {high:.1%}]."
    advice = "About 400 rows make it ten points wide, 1 000 six."
    return Verdict(name, "OK" if high - low <= most else "WARN", high - low, most, told, advice)
