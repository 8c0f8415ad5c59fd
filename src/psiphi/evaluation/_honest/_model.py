"""Questions about the classifier itself: its answers."""

from __future__ import annotations

import torch
from torch import Tensor

from psiphi.basis.noise import Noise
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, skipped

DRAWS = (
    100  # fresh draws of a random classifier: the share that errs then has a standard error of at most 0.05
)
# what tells of each row whether it stands something, and whether something breaks what the attacks left
STAND = ("stands", "one step", "noise", "transfer", "radii", "full width")
GAINS = ("doubled", "square", "another loss")
ALONE = 4  # rows that are asked about by themselves
ELSEWHERE = 4  # points of the whole box for each row
_ROUNDED = 1e3  # rounding units by which the same answer may differ


def answers(s: Subject) -> Notes:
    """What is said of the rows, twice, alone, and of points anywhere in the box."""
    x, notes = s.points, Notes()
    lo, hi = (torch.as_tensor(wall, dtype=x.dtype, device=x.device) for wall in s.access.box)
    with s.session(x, "answers"):
        said = s.verdicts(x)
        again = said if s.random else s.verdicts(x)
        gap = (again - said[:1]).abs() if again.is_floating_point() else (again != said[:1]).double()
        notes.columns["gap"] = relative(gap, said)
        if not s.random:
            beside = torch.full((len(x),), torch.nan, dtype=torch.double)
            for place in (s.row < ALONE).nonzero().squeeze(1).tolist() if len(x) > 1 else ():
                one = s.verdicts(x[place : place + 1], torch.tensor([place], device=x.device))
                lone = said[:, place : place + 1]
                gap = (one - lone).abs() if one.is_floating_point() else (one != lone).double()
                beside[place] = relative(gap, lone)[0]
            notes.columns["beside"] = beside
    notes.columns.update(_elsewhere(s, said, lo, hi))
    if said.ndim == 3:
        inside = ((said >= 0) & (said <= 1)).all(2).all(0)
        sums = (said.double().sum(2) - 1).abs().amax(0)
        slack = 100 * torch.finfo(said.dtype).eps * said.shape[2]
        notes.columns["squashed"] = inside.double()
        notes.columns["probabilities"] = (inside & (sums <= slack)).double()
    if s.result is not None:
        wrong = s.result.already_wrong if s.result.clean_share is None else s.result.clean_share
        notes.columns["clean"] = 1 - wrong.double()
    if s.result is not None and s.result.share is not None:
        wrong = (
            s.result.share
            if s.result.clean_share is None
            else torch.maximum(s.result.share, s.result.clean_share)
        )
        notes.columns["any draw"] = (wrong > 0).double()
        notes.columns["draws"] = torch.full((len(x),), float(s.access.judging))
    return notes


def _elsewhere(s: Subject, said: Tensor, lo: Tensor, hi: Tensor) -> dict[str, Tensor]:
    """Labels (n, 5) of the rows and of points anywhere in the box, by the same draws, and by how much answers differ
    over the points of a row, (n,)."""
    noise = Noise.of(s.seed, s.row, s.points.device, s.points.dtype).split("honesty box")
    labels, least, most = [_labels(said)], said, said
    for place in range(ELSEWHERE):
        points = lo + (hi - lo) * noise.at(place).uniform(tuple(s.points.shape[1:]))
        with s.session(points, "answers"):
            other = s.verdicts(points)
        labels.append(_labels(other))
        least, most = torch.minimum(least, other), torch.maximum(most, other)
    return {"labels": torch.stack(labels, 1).double(), "spread": _spread(least, most)}


def _spread(least: Tensor, most: Tensor) -> Tensor:
    """The largest difference (n,) as a share of a row's own largest answer; 0 where rounding explains it."""
    if not most.is_floating_point():
        return (most != least).any(0).double()
    kind, top = torch.finfo(most.dtype), torch.maximum(most.abs(), least.abs()).amax((0, 2))
    spread = (most - least).amax((0, 2)) / top.clamp_min(kind.tiny)
    return torch.where(spread > _ROUNDED * kind.eps, spread, 0).double()


def constant(e: Evidence) -> bool:
    """Whether every point asked about has the same answer (the same label, where no scores are shown), and nothing
    broke a row."""
    spread = e.measured("spread")
    return spread is not None and not bool(spread.any()) and one_label(e)


def one_label(e: Evidence) -> bool:
    """Whether every point asked about has the same label, and no attack or probe broke a row."""
    labels = e.measured("labels")
    return labels is not None and len(labels.unique()) == 1 and not _broke(e)


def _broke(e: Evidence) -> bool:
    """Whether a row that is right at the data falls to anything that was tried, by more than draws explain."""
    clean = e.columns.get("clean")
    if clean is None:
        return False
    slack = e.chance(1) or 0.5
    stand = [e.columns[name] for name in STAND if name in e.columns]
    tried = torch.cat([each.view(len(clean), -1) for each in stand], 1) if stand else clean[:, None]
    fell = (clean[:, None] >= 0.5) & (tried < 0.5) & (clean[:, None] - tried >= slack)
    return bool(fell.any()) or any(bool((e.columns[name] > 0).any()) for name in GAINS if name in e.columns)


def logits(e: Evidence) -> Verdict:
    """Logits rather than probabilities, which cross-entropy would squash a second time."""
    name, given, squashed = "logits", e.measured("probabilities"), e.measured("squashed")
    if given is None or squashed is None:
        return skipped(name, "scores are not shown" if e.columns else e.refused("answers"))
    if given.mean() == 1:
        told = "every row lies in [0, 1] and sums to 1: these are probabilities."
        return Verdict(
            name, "FAIL", 1.0, 0.0, told, "Return logits: drop the last softmax, or take its logarithm."
        )
    if squashed.mean() == 1:
        told = "every score lies in [0, 1]: the last layer squashes them."
        return Verdict(
            name, "WARN", 1.0, 0.0, told, "Return what comes before the squashing: its slope is larger."
        )
    advice = f"{float(given.mean()):.0%} of the rows look like probabilities."
    return Verdict(name, "OK", float(given.mean()), 0.0, advice)


def randomness(e: Evidence) -> Verdict:
    """The same answer twice, or the mean over draws and fresh draws to judge by.

    Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 3.1.
    """
    name, gap, draws = "randomness", e.measured("gap"), e.measured("draws")
    if gap is None:
        return skipped(name, e.refused("answers"))
    differ = float((gap > 0).double().mean())
    if draws is None:
        if not differ:
            return Verdict(name, "OK", 0.0, 0.0, "the same rows get the same answer twice.")
        told = f"{differ:.0%} of the rows get another answer when asked again, by up to {float(gap.max()):.2g} of it."
        advice = (
            "Attack the mean over draws, access.expectation(model, draws=16, verify=100), or fix the noise."
        )
        return Verdict(name, "FAIL", differ, 0.0, told, advice)
    fresh, least = int(draws.min()), e.measured("any draw")
    if not differ:
        told = f"{fresh} draws of each row agree: the classifier is not random."
        return Verdict(
            name, "WARN", 0.0, 0.0, told, "white_box(model) finds the same at a fraction of the cost."
        )
    stand = 1 - float(least.mean()) if least is not None else float("nan")
    told = f"by expectation, judged on {fresh} fresh draws a row; any of these (another question) leaves {stand:.1%}."
    status = "OK" if fresh >= DRAWS else "FAIL"
    advice = f"Judge by at least {DRAWS}: expectation(model, verify={DRAWS})."
    return Verdict(name, status, float(fresh), float(DRAWS), told, advice)


def independence(e: Evidence) -> Verdict:
    """A row's answer is its own, whatever stands beside it."""
    name, beside, gap = "rows apart", e.measured("beside"), e.measured("gap")
    if gap is None:
        return skipped(name, e.refused("answers"))
    if "beside" not in e.columns or bool((gap > 0).any()):
        return skipped(name, "answers are random.")
    if beside is None:
        return skipped(name, f"none of the rows 0 to {ALONE - 1} was probed beside another.")
    worst = float(beside.max())
    if worst:
        told = f"a row asked about alone gets another answer than in a batch, by up to {worst:.2g} of the logits."
        return Verdict(
            name, "FAIL", worst, 0.0, told, "Put batch normalisation into eval mode; let no row see another."
        )
    return Verdict(name, "OK", 0.0, 0.0, f"{len(beside)} rows get the same answer alone as in the batch.")


def _labels(said: Tensor) -> Tensor:
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)


def relative(gap: Tensor, said: Tensor) -> Tensor:
    """The largest difference (n,) as a share of the largest answer; 0 where rounding explains it."""
    if not said.is_floating_point():
        return gap.amax(0).double()
    most = gap.amax((0, 2)) / said.abs().amax().clamp_min(torch.finfo(said.dtype).tiny)
    return torch.where(most > _ROUNDED * torch.finfo(said.dtype).eps, most, 0).double()
