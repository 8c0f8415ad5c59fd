"""Questions about other attackers: those who see less must not find more."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from psiphi.access import GrayBox, gray_box
from psiphi.attacks import Attack, pgd, square
from psiphi.attacks.searches import RandomPoints
from psiphi.basis.errors import ArgumentError
from psiphi.evaluation._honest._evidence import Evidence, Notes
from psiphi.evaluation._honest._strength import SLACK
from psiphi.evaluation._honest._subject import Subject, climbs, right
from psiphi.evaluation._honest._verdict import Verdict, graded, skipped
from psiphi.formulas import goals
from psiphi.zoo import classifier

BEATEN = 0.01  # share of rows that an attacker without gradients breaks and one with them does not
OTHER = 0.02  # share of rows that another loss breaks
_POINTS = 10  # random points of a row
_HIDDEN, _STEPS = 64, 200  # of a surrogate


def noise(s: Subject) -> Notes:
    """Random points of the threat, of each row the worst."""
    s.bounded()
    found = s.run(Attack(s.threat, goals.margin, RandomPoints(_POINTS)))
    return Notes({"noise": right(found), "attacks": s.right}, results={"noise": found})


def transfer(s: Subject) -> Notes:
    """The first attack that climbs, on a surrogate, whose points are put to the classifier."""
    s.bounded()
    if isinstance(s.access, GrayBox) or not climbs(s.lead):
        raise ArgumentError("the attacks transfer, or ask for no gradient, already")
    access: Any = s.surrogate
    if access is None and s.known is None:
        raise ArgumentError(
            "a part of the rows trains no surrogate: hand the same one to every part, surrogate=model"
        )
    with s.session(s.points, "classes"):
        said = s.access.look(s.points[:1]).said
    classes = said.shape[2] if said.ndim == 3 else int(max(s.label.max(), said.max())) + 1
    if access is None:
        likely = classifier(tuple(s.x.shape[1:]), classes, hidden=(_HIDDEN,), seed=s.seed)
        access = gray_box(likely, s.access, s.known, steps=_STEPS, batch_size=64, seed=s.seed)
        s.charge(access.queries)
    elif not isinstance(access, GrayBox):
        access = _given(s, access, classes, said.ndim == 3)
    found = s.run(s.lead, access=access)
    return Notes({"transfer": right(found)}, results={"transfer": found})


def gradient_free(s: Subject) -> Notes:
    """Square on the rows that stand; where the attacks have a search without gradients, the rows that only it broke."""
    s.bounded()
    free = [place for place, each in enumerate(s.battery.attacks) if not climbs(each)]
    names = [(s.battery.names or ())[place] for place in free]
    if not any(map(climbs, s.battery.attacks)):
        why = "no attack of this evaluation climbs a gradient"
        return Notes(facts={"free": names, "refused: gradients ≥ no gradients": [why]})
    gain, by, found = torch.zeros(len(s.x), dtype=torch.double), s.result.broken_by, {}
    if free and by is not None:
        hits = torch.isin(by.cpu(), torch.tensor(free)) & s.result.broken.cpu()
        later = [each for place, each in enumerate(s.battery.attacks) if climbs(each) and place > min(free)]
        for each in ([s.lead] if later else []) + _another(s):  # gradients that did not see these rows
            if len(mine := hits.nonzero().squeeze(1)):
                hits[mine] &= s.run(each, mine).robust.cpu()
        gain = hits.double()
    if not free:
        probe = square(s.threat, s.queries)
        names.append(f"square ({s.queries} queries, by this check)")
        if len(rest := s.rest()):
            found["square"] = s.run(probe, rest)
            gain = s.gained(found["square"], rest)
    return Notes({"square": gain}, facts={"free": names}, results=found)


def losses(s: Subject) -> Notes:
    """Another loss on the rows that stand, where the attacks have but one."""
    s.bounded()
    if not (names := _climbed(s)):
        raise ArgumentError("no attack of this evaluation climbs a loss")
    other, rest = _another(s), s.rest()
    told = {"losses": [*names, *(f"{_name(each.goal)} (by this check)" for each in other)]}
    if not other or not len(rest):
        return Notes({"another loss": torch.zeros(len(s.x))}, facts=told)
    found = s.run(other[0], rest)
    return Notes({"another loss": s.gained(found, rest)}, facts=told, results={"another loss": found})


def ordered(e: Evidence) -> Verdict:
    """White box ≥ transfer ≥ noise: who sees more finds more.

    Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018, section 3.1;
    Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    name, attacks, random, moved = (
        "white box ≥ transfer ≥ noise",
        *map(e.measured, ("attacks", "noise", "transfer")),
    )
    if attacks is None or random is None:
        return skipped(name, e.refused(name))
    shares = [f"{float(attacks.mean()):.1%} under the attacks"]
    shares += [f"{float(moved.mean()):.1%} under points of a surrogate"] if moved is not None else []
    told = f"robust accuracy {', '.join([*shares, f'{float(random.mean()):.1%} under noise'])}."
    ahead = float(attacks.sum()) - min(float(each.sum()) for each in (random, moved) if each is not None)
    status = graded(e.beyond_chance(ahead, len(attacks)), len(attacks), SLACK)
    if status == "OK" and moved is not None and float(moved.sum() - random.sum()) > SLACK * len(random):
        told += " The surrogate does no better than noise, which says nothing of it."
        return Verdict(
            name, "WARN", ahead / len(attacks), SLACK, told, "Hand in a better one: surrogate=model."
        )
    told += f" (No surrogate: {e.refused('transfer')})" if moved is None else ""
    advice = "The gradients lead astray: they are masked. Use bpda, expectation, another goal."
    return Verdict(name, status, ahead / len(attacks), SLACK, told, advice)


def blind(e: Evidence) -> Verdict:
    """A search without gradients breaks nothing that gradients leave.

    Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", 2020, which has Square in the battery for classifiers that mask their gradients.
    """
    name, gain = "gradients ≥ no gradients", e.measured("square")
    if gain is None:
        return skipped(name, e.refused(name))
    share = float(gain.mean())
    told = f"{int(gain.sum())} of {len(gain)} rows are broken only by {', '.join(e.facts.get('free', []))}."
    advice = (
        "If more than chance, gradients are masked (rounding, saturation, noise): try bpda, dlr, expectation."
    )
    return Verdict(name, graded(float(gain.sum()), len(gain), BEATEN), share, BEATEN, told, advice)


def several(e: Evidence) -> Verdict:
    """More than one loss was climbed, since each has rows that it misses.

    Source: Croce et al., "Evaluating the adversarial robustness of adaptive test-time defenses", 2022.
    """
    name, gain = "several losses", e.measured("another loss")
    if gain is None:
        return skipped(name, e.refused(name))
    climbed = ", ".join(e.facts.get("losses", []))
    told = f"climbed: {climbed}; another loss breaks {int(gain.sum())} of {len(gain)} rows more."
    advice = "Attack by several: auto(threat), or apgd of two goals."
    return Verdict(name, graded(float(gain.sum()), len(gain), OTHER), float(gain.mean()), OTHER, told, advice)


def tried(e: Evidence) -> Verdict:
    """One search without gradients was tried."""
    name, names = "one attack without gradients", e.facts.get("free", [])
    if names:
        return Verdict(name, "OK", float(len(names)), 1.0, f"tried: {', '.join(names)}.")
    if "stands" not in e.columns:
        return skipped(name, e.refused("gradients ≥ no gradients"))
    advice = "Add attacks.square(threat), or another that asks for scores alone."
    return Verdict(name, "WARN", 0.0, 1.0, f"none was tried: {e.refused('gradients ≥ no gradients')}", advice)


def _given(s: Subject, surrogate: Any, classes: int, shown: bool) -> GrayBox:
    """A surrogate that was handed in, the classifier judging; one of a classifier that refuses may lack the refusal."""
    if hasattr(surrogate, "sees"):
        raise ArgumentError(
            f"the points of {surrogate!r} would be judged by itself: hand in the model, or an access.gray_box"
        )
    if isinstance(surrogate, nn.Module):
        surrogate = copy.deepcopy(surrogate).to(s.points)
    made = GrayBox(surrogate, s.access, 0)
    with made.session(s.points[:1]):
        given = made.look(s.points[:1]).said.shape[2]
    free = classes if s.access.refusal is None else s.access.refusal
    if not (given in (free, classes) if shown else given >= free):
        raise ArgumentError(
            f"the surrogate tells {given} classes apart, and the classifier {free}: both need the same"
        )
    return made


def _climbed(s: Subject) -> list[str]:
    """The losses that the attacks climb; `gaps` of those that linearise several margins."""
    climbing = [each for each in s.members if climbs(each)]
    return sorted({_name(each.goal) if each.search.needs == "gradient" else "gaps" for each in climbing})


def _another(s: Subject) -> list[Attack]:
    """The first attack that climbs, by a loss that none has climbed; nothing where there are several already."""
    if len(names := _climbed(s)) != 1:
        return []
    other = goals.cross_entropy if names[0] in ("dlr", "margin", "gaps") else goals.dlr
    attack = replace(s.lead, goal=other) if s.lead.search.needs == "gradient" else pgd(s.threat, goal=other)
    return [replace(attack, kind="fixed-perturbation")]


def _name(goal: Any) -> str:
    return getattr(goal, "__name__", type(goal).__name__)
