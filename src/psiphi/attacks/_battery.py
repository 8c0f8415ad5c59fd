"""Several attacks as one: each on the rows that the ones before left standing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, expectation, white_box
from psiphi.attacks import _calls, _curve
from psiphi.attacks._attack import Attack, Kind
from psiphi.attacks._protocols import Threat
from psiphi.attacks._result import Result
from psiphi.attacks._targets import Rivals, as_target
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import AccessError, ArgumentError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, repr=False)
class Battery:
    """Attacks on one threat, called like an attack: of each row the worst that any of them finds.

    Each attack is run on the rows that those before it did not break, so the cheapest comes first; in which order they
    come does not change which rows are broken. Within a radius a minimum-norm attack ends a row at its first success
    there. Without one all are minimum-norm attacks, each is run on every row, and the nearest success counts. Where the
    access shows less than an attack needs, that attack is left out, and the provenance says so under `left_out`.

    names   of the attacks, in `broken_by` and the provenance of a result
    threat  in the place of the attacks' own
    draws   a classifier that is no `expectation` yet is made one of as many draws
    """

    attacks: Sequence[Attack]
    names: Sequence[str] | None = None
    threat: Threat | None = None
    draws: int | None = None

    def __post_init__(self) -> None:
        attacks = tuple(self.attacks)
        if not attacks or not all(isinstance(each, Attack) for each in attacks):
            raise ArgumentError(f"a battery is made of attacks, one at least; got {self.attacks!r}.")
        for each in attacks[1:] if self.threat is None else ():
            if not _alike(each.threat, attacks[0].threat):
                raise ArgumentError(
                    f"the attacks of a battery share one threat; got {attacks[0].threat!r} and {each.threat!r}: make "
                    "them with the same one, or give threat=."
                )
        names = _names(attacks) if self.names is None else tuple(self.names)
        if len(names) != len(attacks):
            raise ArgumentError(f"{len(attacks)} attacks have {len(names)} names: give one each.")
        if self.draws is not None:
            check_whole("draws", self.draws)
        threat = attacks[0].threat if self.threat is None else self.threat
        attacks = tuple(replace(each, threat=threat) if self.threat is not None else each for each in attacks)
        for name, value in {"attacks": attacks, "names": names, "threat": threat}.items():
            object.__setattr__(self, name, value)
        if not _bounded(threat) and any(each.kind != "minimum-norm" for each in attacks):
            raise ArgumentError(
                f"{threat!r} has no radius: a battery needs one, or minimum-norm attacks only, the nearest of which "
                "counts."
            )

    @property
    def kind(self) -> Kind:
        return "fixed-perturbation" if _bounded(self.threat) else "minimum-norm"

    def __call__(
        self,
        classifier: Callable[[Tensor], Tensor] | Access,
        x: Any,
        y: Any = None,
        *,
        target: Any = None,
        seed: int = 0,
        batch_size: int | None = None,
        stop_early: bool = True,
        on_progress: Progress | None = None,
        rows: range | Tensor | None = None,
    ) -> Result:
        """As `Attack.__call__`. `forwards` and `backwards` of the result are those of all attacks together.

        A row that none breaks comes back as the first attack left it; `broken_by` says which attack broke each row.
        `target` is the goal of every attack, in the place of its own. Without `stop_early` each attack is run on every
        row. Of a random classifier a row is finished once all its draws err; the worst point is picked by one set of
        draws and judged on another. Raises `AccessError` where no attack can do with what the access shows.
        """
        how = {"seed": seed, "batch_size": batch_size, "stop_early": stop_early, "on_progress": on_progress}
        return _calls.attack(self, self._access(classifier), x, y, as_target(target), rows, how, _worst)

    def curve(
        self,
        classifier: Callable[[Tensor], Tensor] | Access,
        x: Any,
        y: Any = None,
        *,
        eps: Sequence[float],
        independent: bool = False,
        **how: Any,
    ) -> _curve.Curve:
        """As `Attack.curve`."""
        attack: Any = self
        return _curve.curve(attack, self._access(classifier), x, y, eps, independent, how)

    def split(self, access: Access) -> tuple[list[int], list[str]]:
        """The places of the attacks that the access shows enough for, and a sentence for each of the others.

        Raises `AccessError` where all are left out.
        """
        places, told = [], []
        for place, (attack, name) in enumerate(zip(self.attacks, self.names or ())):
            if attack.search.needs in access.sees:
                places.append(place)
            else:
                told.append(f"{name} needs {attack.search.needs}, which {access!r} does not show")
        if not places:
            raise AccessError(f"no attack of this battery can run: {'; '.join(told)}.")
        return places, told

    def _access(self, classifier: Any) -> Access:
        access = white_box(classifier)
        random = self.draws is not None and access.judging == 1
        return expectation(access, self.draws or 1) if random else access

    def __repr__(self) -> str:
        if (recipe := getattr(self, "recipe", None)) is not None:
            told = dict(recipe["arguments"])
            rest = [f"{key}={value!r}" for key, value in told.items() if key != "threat"]
            return f"{recipe['attack']}({', '.join([repr(told['threat']), *rest])})"
        draws = "" if self.draws is None else f", draws={self.draws}"
        return f"Battery({self.threat!r}, {', '.join(self.names or ())}{draws})"


def _worst(
    battery: Battery,
    access: Access,
    x: Any,
    y: Any,
    target: Any,
    *,
    rows: Any,
    on_progress: Progress | None,
    **how: Any,
) -> Result:
    """Attack by attack, each on the rows that are left."""
    began = time.perf_counter()
    places, left_out = battery.split(access)
    random, nearest, stop = access.judging > 1, battery.kind == "minimum-norm", how["stop_early"]
    kept = access.judging if random and len(places) > 1 else 0  # rows for the last judgement
    spend = kept + (1 if access.decides else 2 * access.judging)  # and what an attack costs at least
    many = len(x)

    def run(turn: int, mine: Tensor, x: Any, y: Any, target: Any, rows: Any, spent: Tensor) -> Result:
        attack: Any = battery.attacks[places[turn]]
        attack = attack if nearest else replace(attack, kind="fixed-perturbation")
        aim = attack.targets if target is None else target
        move = None if on_progress is None else _moved(on_progress, turn, len(places), many, len(mine))
        told = {**how, "on_progress": move, "spent": spent + kept}
        return _calls.attack(_calls.part(attack, mine), access, x, y, aim, rows, told)

    best = run(0, torch.arange(many), x, y, target, rows, torch.zeros(many, dtype=torch.long))
    by = torch.full_like(best.row, places[0])
    x = torch.as_tensor(x)
    for turn in range(1, len(places)):
        left = ~best.already_met if stop else torch.ones_like(best.already_met)
        if stop and not nearest:
            left &= ~best.success if best.share is None else best.share < 1
        if best.target is not None:
            left &= best.target != best.label  # the classifier's own answer, where no label was given
        if access.budget is not None:
            left &= best.forwards + spend <= access.budget
        if not len(mine := left.nonzero().squeeze(1)):
            break
        aim = target[mine.to(target.device)] if isinstance(target, Tensor) and target.ndim else target
        found = run(
            turn, mine.cpu(), x[mine.to(x.device)], best.label[mine], aim, best.row[mine], best.forwards[mine]
        )
        better = _worse(best, mine, found, nearest)
        best = best.improved(mine, found, better)
        by[mine[better]] = places[turn]
    if kept:
        best = _calls.anew_judged(
            battery.attacks[0], access, best, how["seed"], torch.zeros_like(best.forwards)
        )
    if on_progress is not None:
        on_progress(many * len(places), many * len(places))
    told = {**best.provenance, "attack": repr(battery), "attacks": list(battery.names or ())}
    told |= {"left_out": left_out, "seconds": round(time.perf_counter() - began, 3)}
    return replace(best, kind=battery.kind, broken_by=torch.where(best.broken, by, -1), provenance=told)


def _worse(best: Result, rows: Tensor, found: Result, nearest: bool) -> Tensor:
    """Where what was found is worse for the classifier. Scores of several goals are not compared."""
    if nearest:
        return best.beaten(rows, found)
    if best.share is not None and found.share is not None:
        return found.share > best.share[rows]
    now, before = (2 * each.success.long() + each.undecided.long() for each in (found, best))
    return now > before[rows]


def _moved(on_progress: Progress, turn: int, turns: int, n: int, mine: int) -> Progress:
    """Progress of one attack as progress of all; of several targets, each takes the rows from the start again."""
    most = [turn * n + n - mine]

    def move(done: int, of: int) -> None:
        most.append(max(most.pop(), turn * n + n - of + done))
        on_progress(most[0], turns * n)

    return move


def _alike(one: Any, other: Any) -> bool:
    """Whether two threats are the same, where a radius may be one a row."""
    if type(one) is not type(other):
        return False
    if is_dataclass(one):
        return all(_alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def _bounded(threat: Any) -> bool:
    return bool(torch.as_tensor(getattr(threat, "eps", 0.0)).isfinite().all())


def _names(attacks: Sequence[Attack]) -> tuple[str, ...]:
    """Short names, with a number where two are the same."""
    names: list[str] = []
    for attack in attacks:
        recipe = getattr(attack, "recipe", None)
        name = type(attack.search).__name__ if recipe is None else recipe["attack"]
        given = {} if recipe is None else recipe["arguments"]
        rest = [given["goal"]] if isinstance(given.get("goal"), str) else []
        if isinstance(attack.targets, Rivals):
            rest.append(f"{attack.targets.count} targets")
        elif isinstance(attack.targets, str):
            rest.append(attack.targets)
        name = f"{name} ({', '.join(rest)})" if rest else name
        same = sum(other == name or other.startswith(f"{name} #") for other in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return tuple(names)
