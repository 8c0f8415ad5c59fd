"""Questions about the classifier itself: its mode, its state, its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access._frozen import trained_modules
from psiphi.basis.noise import Noise
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, skipped

DRAWS = (
    100  # fresh draws of a random classifier: the share that errs then has a standard error of at most 0.05
)
_ALONE = 4  # rows that are asked about by themselves
_ELSEWHERE = 4  # points of the whole box for each row
_ROUNDED = 1e3  # rounding units by which the same answer may differ


@dataclass(frozen=True)
class State:
    """What must be the same afterwards: parameters, buffers, modes, flags, and torch's random state."""

    tensors: dict[str, Tensor]
    modes: dict[str, bool]
    flags: dict[str, bool]
    random: Tensor

    @staticmethod
    def of(module: nn.Module | None) -> State:
        if module is None:
            return State({}, {}, {}, torch.get_rng_state())
        held: Any = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        return State(
            {name: tensor.detach().clone() for name, tensor in held.items()},
            {name: each.training for name, each in module.named_modules()},
            {name: p.requires_grad for name, p in module.named_parameters()},
            torch.get_rng_state(),
        )

    def changes(self, module: nn.Module | None) -> list[str]:
        """What is not as it was, in words."""
        now = State.of(module)
        found = [name for name, tensor in self.tensors.items() if not _same(tensor, now.tensors.get(name))]
        found += [
            f"mode of {name or 'the module'}"
            for name, mode in self.modes.items()
            if now.modes.get(name) != mode
        ]
        found += [
            f"requires_grad of {name}" for name, flag in self.flags.items() if now.flags.get(name) != flag
        ]
        return found + ([] if torch.equal(self.random, now.random) else ["torch's random state"])


def answers(s: Subject) -> Notes:
    """What is said of the rows, twice, alone, and of points anywhere in the box."""
    x, notes = s.points, Notes()
    noise = Noise.of(s.seed, s.row, x.device, x.dtype).split("honesty box")
    lo, hi = (torch.as_tensor(wall, dtype=x.dtype, device=x.device) for wall in s.access.box)
    with s.session(x, "answers"):
        said = s.verdicts(x)
        again = said if s.random else s.verdicts(x)
        labels = [_labels(said)]
        for place in range(_ELSEWHERE):
            labels.append(_labels(s.verdicts(lo + (hi - lo) * noise.at(place).uniform(tuple(x.shape[1:])))))
        gap = (again - said[:1]).abs() if again.is_floating_point() else (again != said[:1]).double()
        notes.columns["gap"] = _relative(gap, said)
        if not s.random:
            beside = torch.full((len(x),), torch.nan, dtype=torch.double)
            for place in (s.row < _ALONE).nonzero().squeeze(1).tolist() if len(x) > 1 else ():
                one = s.verdicts(x[place : place + 1], torch.tensor([place], device=x.device))
                lone = said[:, place : place + 1]
                gap = (one - lone).abs() if one.is_floating_point() else (one != lone).double()
                beside[place] = _relative(gap, lone)[0]
            notes.columns["beside"] = beside
    if said.ndim == 3:
        inside = ((said >= 0) & (said <= 1)).all(2).all(0)
        sums = (said.double().sum(2) - 1).abs().amax(0)
        slack = 100 * torch.finfo(said.dtype).eps * said.shape[2]
        notes.columns["squashed"] = inside.double()
        notes.columns["probabilities"] = (inside & (sums <= slack)).double()
    notes.columns["labels"] = torch.stack(labels, 1).double()
    if s.result is not None and s.result.share is not None:
        wrong = (
            s.result.share
            if s.result.clean_share is None
            else torch.maximum(s.result.share, s.result.clean_share)
        )
        notes.columns["any draw"] = (wrong > 0).double()
        notes.columns["draws"] = torch.full((len(x),), float(s.access.judging))
    return notes


def constant(e: Evidence) -> bool:
    """Whether every row and every point asked about has the same label."""
    labels = e.measured("labels")
    return labels is not None and len(labels.unique()) == 1


def mode(e: Evidence) -> Verdict:
    """Left in eval mode, and exactly as it was found."""
    name, kinds, changed = "mode and state", e.facts.get("trained", []), e.facts.get("changed", [])
    if kinds:
        told = f"the classifier is in train mode ({', '.join(kinds)}); the attacks put it into eval mode, and back."
        advice = "Call .eval() before you attack it and wherever you use it: in train mode it is another classifier."
        return Verdict(name, "FAIL", float(len(kinds)), 0.0, told, advice)
    if changed:
        told = f"the run changed {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}."
        advice = "Keep state out of forward: what is attacked last is not what was attacked first."
        return Verdict(name, "FAIL", float(len(changed)), 0.0, told, advice)
    if not e.counts.get("modules"):
        advice = "it is a function: whether a module in it is in eval mode is not to be seen."
        return Verdict(name, "SKIP", None, 0.0, advice)
    return Verdict(name, "OK", 0.0, 0.0, "eval mode; parameters, buffers, modes and random state as before.")


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
    if beside is None or gap is None or bool((gap > 0).any()):
        return skipped(name, "answers are random" if e.columns else e.refused("answers"))
    worst = float(beside.max())
    if worst:
        told = f"a row asked about alone gets another answer than in a batch, by up to {worst:.2g} of the logits."
        return Verdict(
            name, "FAIL", worst, 0.0, told, "Put batch normalisation into eval mode; let no row see another."
        )
    return Verdict(name, "OK", 0.0, 0.0, f"{len(beside)} rows get the same answer alone as in the batch.")


def _labels(said: Tensor) -> Tensor:
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)


def _relative(gap: Tensor, said: Tensor) -> Tensor:
    """The largest difference (n,) as a share of the largest answer; 0 where rounding explains it."""
    if not said.is_floating_point():
        return gap.amax(0).double()
    most = gap.amax((0, 2)) / said.abs().amax().clamp_min(torch.finfo(said.dtype).tiny)
    return torch.where(most > _ROUNDED * torch.finfo(said.dtype).eps, most, 0).double()


def _same(one: Tensor, other: Tensor | None) -> bool:
    return (
        other is not None
        and one.shape == other.shape
        and torch.equal(one.nan_to_num(), other.detach().nan_to_num())
    )


def trained(s: Subject, before: State) -> Notes:
    """The kinds of module in train mode, and what is not as it was before the run."""
    if s.module is None:
        return Notes(facts={"changed": before.changes(None)})
    return Notes(
        counts={"modules": 1},
        facts={"trained": trained_modules(s.module), "changed": before.changes(s.module)},
    )
