"""Whether an evaluation of robustness can be trusted: verdicts, each with the number behind it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, white_box
from psiphi.attacks import Attack, Battery, Result, _calls, _rows
from psiphi.basis.counts import check_whole
from psiphi.basis.errors import AccessError, ArgumentError, PsiphiError
from psiphi.evaluation._honest import (
    CLIMBING,
    MEASURES,
    PROBES,
    Evidence,
    Notes,
    Subject,
    module_of,
)
from psiphi.evaluation._honest._certified import as_certificate, part_of
from psiphi.evaluation._honest._points import outside
from psiphi.evaluation._honest._record import Honesty, counted
from psiphi.evaluation._honest._state import State, trained

Progress = Callable[[int, int], None]
LIMIT, QUERIES, DRAWS = 64, 500, 16
NO_ATTACK = "no attack runs on this classifier"


def honesty(
    classifier: Any,
    x: Any,
    y: Any = None,
    attack: Attack | Battery | None = None,
    *,
    limit: int = LIMIT,
    seed: int = 0,
    batch_size: int | None = None,
    queries: int = QUERIES,
    surrogate: Any = None,
    certificate: Any = None,
    draws: int = DRAWS,
    rows: range | Tensor | None = None,
    on_progress: Progress | None = None,
) -> Honesty:
    """Ask whether the robust accuracy of `classifier` under `attack` can be trusted, on rows numbered below `limit`.

    Nineteen verdicts, each OK, WARN, FAIL or SKIP with its number: the classifier (mode and state, logits, randomness,
    rows apart), its gradient (zero, NaN or tiny; against finite differences), the points (ball and box), the attack
    (grows with ε, breaks everything at the box's full width, one step, twice the steps, several losses), other
    attackers (noise, transfer, Square), and what is claimed beside (a purifier's levels, a certificate, undecided
    rows, enough rows). A threat without a radius leaves out those that compare attacks.

    classifier   as of an attack: an access, a module, a function of x
    rows         the numbers of the rows, where x (B, *x) is a part of a larger batch; parts are joined by `Honesty.cat`
    queries      of Square, which is run where the attack has no search without gradients
    surrogate    a module, a function, or an `access.gray_box` whose points are put to the classifier, with as many
                 classes; by default a small network trained on the classifier's own answers to x, of a part of the
                 rows none
    certificate  with `prediction` and `radius` (L2), each (B,), and `alpha`, the rate of failure a row; held against an
                 L2 attack, which is run anew within each row's own radius. Of a `smooth`ed classifier its votes judge
    draws        of the expectation in the table of a purifier

    Costs, beside the attack: on the probed rows five runs of the first attack that climbs (at 0.25, 0.5, 1, 2 ε and
    full width), one on a surrogate; on those that stand twice its steps, another loss, and `queries` forwards.

    Raises `ArgumentError`, `DataError`; a classifier that the attack refuses gets its FAIL, and the rest is left out.

    Sources: Carlini et al., "On evaluating adversarial robustness", 2019; Athalye, Carlini, Wagner, "Obfuscated
    gradients give a false sense of security", 2018; Tramèr, Carlini, Brendel, Madry, "On adaptive attacks to
    adversarial example defenses", 2020; Croce et al., "Evaluating the adversarial robustness of adaptive test-time
    defenses", 2022; Pintor et al., "Indicators of attack failure", 2022. The thresholds are ours.
    """
    battery = as_battery(attack)
    access, (x, y) = behind(classifier, [battery]), _rows.gathered(x, y)
    row = numbers(rows, len(x))
    mine = (row < check_whole("limit", limit)).nonzero().squeeze(1)
    certificate = as_certificate(certificate, len(x))
    before = State.of(module_of(access))
    few, label = x[mine.to(x.device)], None if y is None else y[mine.to(y.device)] if y.ndim else y
    result, refused = None, ""
    with quiet():
        try:
            result = _calls.part(battery, mine)(
                access, few, label, seed=seed, batch_size=batch_size, rows=row[mine]
            )
        except AccessError as error:
            refused = str(error)
    how = {"seed": seed, "batch_size": batch_size, "queries": queries, "surrogate": surrogate, "draws": draws}
    how |= {"known": x if rows is None else None, "certificate": part_of(certificate, mine), "before": before}
    asked, _ = probed(
        access, few, row[mine], _calls.part(battery, mine), result, refused, on_progress=on_progress, **how
    )
    return asked


def probed(
    access: Access,
    x: Tensor,
    row: Tensor,
    battery: Battery,
    result: Result | None,
    refused: str = "",
    *,
    before: State,
    on_progress: Progress | None = None,
    **how: Any,
) -> tuple[Honesty, dict[str, Result]]:
    """The verdicts on a battery that left `result` of the rows x, numbered `row`, and what the probes found.

    refused: why there is no result.
    """
    label = torch.zeros(len(x), dtype=torch.long) if result is None else result.label
    given: Any = result
    s = Subject(access, x, label, row, battery, given, **how)
    evidence, found = Evidence(row), {}
    with quiet():
        for turn, (name, measure) in enumerate(MEASURES.items() if len(x) else ()):
            if result is None and name != "answers":
                why = refused if name == "gradients" else NO_ATTACK
                evidence = evidence.with_notes(Notes(facts={f"refused: {name}": [why]}))
                continue
            try:
                notes = measure(s)
            except PsiphiError as error:
                notes = Notes(facts={f"refused: {name}": [str(error)]})
            evidence, found = evidence.with_notes(notes), found | notes.results
            for name in set(CLIMBING) & set(notes.columns):
                gain = notes.columns[name] > 0
                s = replace(s, fallen=gain if s.fallen is None else s.fallen | gain)
            if on_progress is not None:
                on_progress(turn + 1, len(MEASURES))
        evidence = evidence.with_notes(trained(s, before))
    counts = {name: float(count) for name, count in s.spent.items()}
    if result is not None and len(x):
        far = [evidence.columns["outside"]] if "outside" in evidence.columns else []
        for each in found.values():
            far.append(outside(s, each, _places(each.row, row)))
        evidence = evidence.with_notes(Notes({"stands": s.right, "outside": torch.stack(far).amax(0)}))
    counts |= {} if result is None else counted(result)
    return Honesty(evidence.with_notes(Notes(counts=counts))), {
        name: found[name] for name in PROBES if name in found
    }


def as_battery(attack: Any) -> Battery:
    """An attack, or several on one threat, as a battery. Raises `ArgumentError`."""
    if isinstance(attack, Battery):
        return attack
    if isinstance(attack, Attack):
        return Battery([attack])
    raise ArgumentError(
        f"honesty is asked of an attack; got {attack!r}: give the one whose number is to be trusted, e.g. "
        "auto(Linf(0.1))."
    )


def behind(classifier: Any, batteries: Sequence[Any]) -> Access:
    """The access; by expectation where a battery has draws of its own, as the battery itself would make it."""
    for each in batteries:
        if isinstance(each, Battery) and each.draws is not None:
            return each._access(classifier)
    return white_box(classifier)


def numbers(rows: range | Tensor | None, n: int) -> Tensor:
    """The numbers of n rows in the whole batch. Raises `ArgumentError`."""
    row = torch.arange(n) if rows is None else torch.as_tensor(rows, dtype=torch.long).cpu()
    if len(row) != n:
        raise ArgumentError(f"rows has {len(row)} numbers, but x has {n} rows.")
    if len(twice := (row.sort().values.diff() == 0).nonzero()):
        raise ArgumentError(
            f"rows names {row.sort().values[int(twice[0])]} twice: each row has a number of its own."
        )
    return row


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that a verdict says better."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(is in train mode|it is not random).*")
        yield


def _places(some: Tensor, row: Tensor) -> Tensor:
    """Where these numbers stand among the rows."""
    order = row.argsort()
    return order[torch.searchsorted(row[order], some.cpu())]
