"""From several attacks to the worst point of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access
from psiphi.attacks import Attack, Battery, Result, _calls
from psiphi.attacks._battery import _alike, _names, _worse
from psiphi.attacks._protocols import take
from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._honest import PROBES, climbs


@dataclass(frozen=True)
class Group:
    """Attacks on one threat: all of them as one battery; of each entry its name and the place of its first attack."""

    battery: Battery
    names: tuple[str, ...]
    offsets: tuple[int, ...]


def entries_of(attacks: Any) -> dict[str, Attack | Battery]:
    """Attacks and batteries by name. Raises `ArgumentError`."""
    if isinstance(attacks, Mapping):
        names, given = list(map(str, attacks)), list(attacks.values())
    else:
        given = [attacks] if isinstance(attacks, (Attack, Battery)) else attacks
        given = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
        names = []
    if not given or not all(isinstance(each, (Attack, Battery)) for each in given):
        raise ArgumentError(
            f"robustness is of a threat, which the attacks name; got attacks={attacks!r}: give some, e.g. "
            "attacks=[auto(Linf(0.1))]."
        )
    return dict(zip(names or _called(given), given))


def groups_of(entries: Mapping[str, Attack | Battery]) -> dict[str, Group]:
    """Entries by threat, in their order; the threat is named by its repr."""
    threats: dict[str, Any] = {}
    members: dict[str, list[str]] = {}
    for name, entry in entries.items():
        key = next((key for key, threat in threats.items() if _alike(threat, entry.threat)), None)
        if key is None:
            same = sum(other.split(" #")[0] == repr(entry.threat) for other in threats)
            key = f"{entry.threat!r} #{same + 1}" if same else repr(entry.threat)
            threats[key] = entry.threat
        members.setdefault(key, []).append(name)
    return {key: _group({name: entries[name] for name in names}) for key, names in members.items()}


def _group(entries: Mapping[str, Attack | Battery]) -> Group:
    attacks: list[Attack] = []
    names: list[str] = []
    offsets: list[int] = []
    for name, entry in entries.items():
        offsets.append(len(attacks))
        if isinstance(entry, Battery):
            attacks += entry.attacks
            names += [f"{name}: {each}" for each in entry.names or ()]
        else:
            attacks.append(entry)
            names.append(name)
    return Group(Battery(attacks, names), tuple(entries), tuple(offsets))


def merged(access: Access, group: Group, found: Mapping[str, Result], seed: int) -> Result:
    """The worst point of each row that the attacks of a group found, those that climb a gradient first; `broken_by`
    counts through the attacks of its battery, then the probes."""
    battery, best, by = group.battery, None, torch.zeros(0)
    entries = sorted(zip(group.offsets, group.names), key=lambda pair: not climbs(battery.attacks[pair[0]]))
    for offset, name in entries:
        other = _plain(found[name], battery)
        mine = found[name].broken_by if len(battery.attacks) > 1 else None
        places = torch.full_like(other.row, offset) if mine is None else mine.clamp_min(0) + offset
        if best is None:
            best, by = other, places
            continue
        every = torch.arange(len(best), device=best.row.device)
        better = _worse(best, every, other, battery.kind == "minimum-norm")
        best, by = best.improved(every, other, better), torch.where(better, places, by)
    assert best is not None
    if len(entries) > 1:
        best = _anew(access, battery, best, seed)
    told = {"attack": repr(battery), "attacks": [*(battery.names or ()), *PROBES], "rows": len(best)}
    told["batch_size"] = best.provenance["batch_size"]
    return replace(best, broken_by=torch.where(best.broken, by, -1), provenance=told)


def worsened(access: Access, group: Group, best: Result, probes: Mapping[str, Result], seed: int) -> Result:
    """The worst of what the attacks left and what probes found on some of the rows."""
    battery, by = group.battery, best.broken_by
    assert by is not None
    by, order = by.clone(), best.row.argsort()
    for place, name in enumerate(PROBES):
        if name not in probes or not len(probes[name]):
            continue
        other = _plain(probes[name], battery)
        rows = order[torch.searchsorted(best.row[order], other.row)]
        better = _worse(best, rows, other, battery.kind == "minimum-norm")
        best = best.improved(rows, other, better)
        by[rows[better]] = len(battery.attacks) + place
    if probes:
        best = _anew(access, battery, best, seed)
    return replace(best, broken_by=torch.where(best.broken, by, -1))


def taken(result: Result, rows: Tensor) -> Result:
    """Some rows of a result."""
    return take(result, rows.to(result.row.device))


def radius(threat: Any) -> float | None:
    """The one finite radius of a threat; None where there is none, or one a row."""
    eps = torch.as_tensor(getattr(threat, "eps", torch.inf), dtype=torch.float64)
    return float(eps) if eps.ndim == 0 and bool(eps.isfinite()) else None


def _plain(result: Result, battery: Battery) -> Result:
    """What results of several kinds of attack have in common."""
    return replace(
        result, kind=battery.kind, targeted=False, target=None, change=None, broken_by=None, trace=None
    )


def _anew(access: Access, battery: Battery, best: Result, seed: int) -> Result:
    """Of a random classifier, points that were picked for what some draws said of them, judged by others."""
    if access.judging == 1:
        return best
    free = replace(best, forwards=torch.zeros_like(best.forwards))
    judged = _calls.anew_judged(battery.attacks[0], access, free, seed, torch.zeros_like(free.forwards))
    return replace(judged, forwards=best.forwards + judged.forwards)


def _called(given: Sequence[Attack | Battery]) -> list[str]:
    """Short names, with a number where two are the same."""
    names: list[str] = []
    for each in given:
        recipe: Any = getattr(each, "recipe", None)
        name = (
            _names([each])[0]
            if isinstance(each, Attack)
            else "battery"
            if recipe is None
            else recipe["attack"]
        )
        same = sum(other == name or other.startswith(f"{name} #") for other in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return names
