"""Questions about the classifier's mode and state: in eval mode, and left as it was found?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.access._frozen import trained_modules
from psiphi.basis.errors import PsiphiError
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._model import ALONE, ELSEWHERE, relative
from psiphi.evaluation._honest._subject import Subject
from psiphi.evaluation._honest._verdict import Verdict, skipped


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


def mode(e: Evidence) -> Verdict:
    """Left in eval mode, and exactly as it was found."""
    name, kinds, changed = "mode and state", e.facts.get("trained", []), e.facts.get("changed", [])
    differ, training = e.measured("mode gap"), bool(e.counts.get("training"))
    if kinds or (differ is not None and bool(differ.any())):
        why = ", ".join(kinds) or "where it gives other answers"
        told = f"the classifier is in train mode ({why}); the attacks put it into eval mode, and back."
        advice = "Call .eval() before you attack it and wherever you use it: in train mode it is another classifier."
        return Verdict(name, "FAIL", float(max(1, len(kinds))), 0.0, told, advice)
    if changed:
        told = f"the run changed {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}."
        advice = "Keep state out of forward: what is attacked last is not what was attacked first."
        return Verdict(name, "FAIL", float(len(changed)), 0.0, told, advice)
    if not e.counts.get("modules"):
        advice = "it is a function: whether a module in it is in eval mode is not to be seen."
        return Verdict(name, "SKIP", None, 0.0, advice)
    if training and differ is None:
        return skipped(name, "it is in train mode, and no answer in it was compared with those in eval mode.")
    told = "train mode, with the answers of eval mode" if training else "eval mode"
    return Verdict(name, "OK", 0.0, 0.0, f"{told}; parameters, buffers, modes and random state as before.")


def trained(s: Subject, before: State) -> Notes:
    """The kinds of module in train mode, whether it gives other answers there, and what is not as it was before."""
    if s.module is None:
        return Notes(facts={"changed": before.changes(None)})
    training = any(each.training for each in s.module.modules())
    columns = {"mode gap": _mode_gap(s)} if training and len(s.x) else {}
    facts = {"trained": trained_modules(s.module), "changed": before.changes(s.module)}
    return Notes(columns, {"modules": 1, "training": float(training)}, facts)


def _mode_gap(s: Subject) -> Tensor:
    """By how much rows 0 to 3 get another answer in the mode that the module was found in than in eval mode, with the
    same draws; infinite where it has none, NaN of other rows, (n,)."""
    assert s.module is not None
    gap = torch.full((len(s.x),), torch.nan, dtype=torch.double)
    modes, said = [(each, each.training) for each in s.module.modules()], []
    try:
        mine = (s.row < ALONE).nonzero().squeeze(1)
        few = s.points[mine.to(s.points.device)].repeat(ELSEWHERE, *[1] * (s.points.ndim - 1))
    except PsiphiError:
        return gap
    for found in (False, True) if len(mine) else ():
        try:
            with s.session(few, "mode"):
                for each, training in modes:
                    each.training = training and found
                said.append(s.verdicts(few))
        except PsiphiError:
            break
    if len(said) == 2:
        gap[mine] = relative((said[1] - said[0]).abs(), said[0]).view(ELSEWHERE, -1).amax(0)
    elif said:
        gap[mine] = torch.inf
    return gap


def _same(one: Tensor, other: Tensor | None) -> bool:
    return (
        other is not None
        and one.shape == other.shape
        and torch.equal(one.nan_to_num(), other.detach().nan_to_num())
    )
