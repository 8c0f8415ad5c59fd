"""Tables of judged models that `evaluate` and `compare` print: one column for each measure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.app import _pages as pages
from psiphi.basis import files

if TYPE_CHECKING:
    from psiphi.app._judge import Judged
    from psiphi.evaluation import Share

Table = tuple[list[str], list[list[str]]]
NONE = "—"


def models(judged: Sequence[Judged]) -> Table:
    """Code size, reconstruction and likelihoods: numbers of two measures never stand under one heading."""
    from psiphi.evaluation import heading

    used = list(dict.fromkeys(found.measure for each in judged for found in each.likelihoods))
    sampled = any(each.likelihood for each in judged)
    columns = ["model", "code", "squared error", *(heading(measure) for measure in used)]
    columns += ["effective samples", "rows below 10"] if sampled else []
    rows = []
    for each in judged:
        by_measure = {found.measure: _likelihood(found) for found in each.likelihoods}
        row = [each.name, str(each.latent_dim) if each.latent_dim else NONE]
        row.append(_error(each))
        row += [by_measure.get(measure, NONE) for measure in used]
        rows.append(row + (_effective(each.likelihood) if sampled else []))
    return columns, rows


def _likelihood(found: Any) -> str:
    sampler = f" (MC ± {found.standard_error:.2g})" if found.samples else ""
    return f"{out.number(found.mean, 5)} ± {found.spread:.2g}{sampler}"


def _effective(found: Any) -> list[str]:
    if found is None:
        return [NONE, NONE]
    if found.how != "importance sampling":
        return [found.how, NONE]
    return [f"{found.effective:.0f} of {found.samples}", f"{found.untrusted} of {found.rows}"]


def codes(judged: Sequence[Judged]) -> Table | None:
    """Active units, and what probes make of the codes."""
    rows = [
        [
            each.name,
            f"{each.latents.units.n_active} of {each.latents.latent_dim}" if each.latents.units else NONE,
            _share(each.latents.probe),
            _share(each.latents.neighbours),
        ]
        for each in judged
        if each.latents is not None
    ]
    return (["model", "active units", "linear probe", "nearest code"], rows) if rows else None


def _share(found: Share | None) -> str:
    return NONE if found is None else str(found)


def bounds(judged: Sequence[Judged]) -> dict[str, Table]:
    """The bound and the parts of its rate: a table for each measure, by what that is called."""
    from psiphi.evaluation import heading

    found: dict[str, Table] = {}
    columns = [
        "model",
        "ELBO",
        "= E ln p(x|z)",
        "− rate",
        "rate = index-code",
        "+ total correlation",
        "+ unit by unit",
    ]
    for each in judged:
        if each.elbo is None:
            continue
        e = each.elbo
        parts = (e.rate, e.index_code, e.total_correlation, e.dimension_wise)
        row = [each.name, f"{out.number(e.elbo, 5)} ± {e.spread:.2g}", out.number(e.reconstruction, 5)]
        rows = found.setdefault(f"Bound on {heading(e.measure)}", (columns, []))[1]
        rows.append([*row, *(out.number(part) for part in parts)])
    return found


def anomalies(judged: Sequence[Judged]) -> Table | None:
    """Every score of every model on the odd rows."""
    rows = []
    for each in judged:
        for name, one in each.anomalies.scores.items() if each.anomalies else ():
            area, precision = (
                f"{value:.1%} [{low:.1%}, {high:.1%}]"
                for value, (low, high) in ((one.auroc, one.auroc_interval), (one.aupr, one.aupr_interval))
            )
            rows.append([each.name, name.replace("_", " "), area, precision])
    return (["model", "score", "AUROC", "AUPR"], rows) if rows else None


def explain(judged: Sequence[Judged]) -> list[str]:
    """Sentences that the numbers need."""
    said = [f"No likelihood for {each.name}: {each.why}" for each in judged if each.why]
    if any(each.likelihood and each.likelihood.untrusted for each in judged):
        said.append(
            "Rows with an effective sample size below 10 have an untrustworthy Monte Carlo error: raise --samples."
        )
    for each in judged:
        if each.likelihood and each.likelihood.how == "probability flow":
            said.append(
                f"The likelihood of {each.name} is of the first {each.likelihood.rows} rows, by the probability flow: "
                f"of the density that its steps integrate, blurred by the least noise."
            )
    if any(each.bits for each in judged):
        said.append("Bits per dimension: levels dequantised uniformly, an upper bound; lower is better.")
    return said


def side_by_side(judged: Sequence[Judged]) -> Table:
    """One line a model, ± over rows (for shares half of their 95% interval): all that `compare` compares."""
    from psiphi.evaluation import heading

    used = list(dict.fromkeys(found.measure for each in judged for found in each.likelihoods))
    cells: list[tuple[str, Callable[[Judged], str]]] = [
        ("model", lambda e: e.name),
        ("code", lambda e: str(e.latent_dim) if e.latent_dim else NONE),
        ("squared error", _error),
        *((heading(measure), partial(_mean, measure)) for measure in used),
        ("active units", lambda e: f"{e.latents.units.n_active}" if e.latents and e.latents.units else NONE),
        ("linear probe", lambda e: _half(e.latents and e.latents.probe)),
        ("nearest code", lambda e: _half(e.latents and e.latents.neighbours)),
        ("AUROC", _area),
        ("accuracy", lambda e: _half(e.accuracy)),
    ]
    shown = [(name, [cell(each) for each in judged]) for name, cell in cells]
    shown = [(name, column) for name, column in shown if any(each != NONE for each in column)]
    return [name for name, _ in shown], [list(row) for row in zip(*(column for _, column in shown))]


def _error(each: Judged) -> str:
    found = each.reconstruction
    return f"{found.squared_error:.4g} ± {found.standard_error:.2g}" if found else NONE


def _mean(measure: str, each: Judged) -> str:
    found = next((one for one in each.likelihoods if one.measure == measure), None)
    return f"{out.number(found.mean, 5)} ± {found.spread:.2g}" if found else NONE


def _half(share: Share | None) -> str:
    return _percent(share.value, share.interval) if share else NONE


def _area(each: Judged) -> str:
    found = each.anomalies.scores.get("anomaly_score") if each.anomalies else None
    return _percent(found.auroc, found.auroc_interval) if found else NONE


def _percent(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:.1%} ± {50 * (high - low):.1f}"


def pieces(table: Table, width: int) -> list[Table]:
    """The table in as few pieces as fit the width, the first column in each."""
    columns, rows = table
    widths = [max(len(row[i]) for row in [columns, *rows]) + 3 for i in range(len(columns))]
    found, mine = [], [0]
    for i in range(1, len(columns)):
        if len(mine) > 1 and sum(widths[j] for j in [*mine, i]) > width:
            found.append(mine)
            mine = [0]
        mine.append(i)
    return [([columns[i] for i in part], [[row[i] for i in part] for row in rows]) for part in [*found, mine]]


def write(path: Path, title: str, tables: Sequence[Table | None], said: Sequence[str]) -> None:
    """The tables as a page that loads nothing, or the first of them as comma-separated values."""
    shown = [table for table in tables if table is not None]
    if path.suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([shown[0][0], *shown[0][1]])
        return files.write(path, text.getvalue())
    return files.write(path, pages.rendered("tables.html.j2", title=title, tables=shown, said=said))
