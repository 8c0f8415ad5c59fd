"""Every law holds. What a law measures, and how closely, stands in `psiphi.laws` alone."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import pytest
import torch

from psiphi.laws import LAWS, Law, Measured, _index, _marks, at_most, equal

INDEX = _index.read(
    (Path(__file__).resolve().parents[2] / "docs" / "formulas-index.md").read_text(encoding="utf-8")
)
PARAMETERS = [
    pytest.param(law, id=f"{law.number}-{law.name}", marks=[pytest.mark.slow] if law.slow else [])
    for law in LAWS
]


@pytest.mark.parametrize("law", PARAMETERS)
def test_the_law_holds(law: Law):
    measured, executed = _marks.executed(law.run)
    assert measured, f"law {law.number} measured nothing"
    broken = [each for each in measured if not each.holds]
    assert not broken, "\n".join(
        f"law {law.number}, {each.what}: theory {each.theory:.9g}, measured {each.measured:.9g}, "
        f"tolerance {each.tolerance:.3g}"
        for each in broken
    )
    assert all(isfinite(each.tolerance) and each.tolerance >= 0 for each in measured)
    if not law.slow:
        mine = {each.key for each in _index.formulas()} & {mark.outermost for mark in executed}
        assert mine == {key for key, laws in INDEX.items() if law.number in laws}, (
            "docs/formulas-index.md is stale; write it anew: psiphi verify --index docs/formulas-index.md"
        )


def test_each_law_has_a_name_of_its_own():
    names = [law.name for law in LAWS]
    assert len(names) >= 6
    assert sorted(set(names)) == sorted(names)
    assert all(law.title and law.number for law in LAWS)


@pytest.mark.parametrize(
    ("theory", "measured", "tolerance", "holds"),
    [
        (1.0, 1.1, 0.2, True),
        (1.0, 0.9, 0.2, True),
        (1.0, 1.3, 0.2, False),
        (1.0, 0.7, 0.2, False),
        (1.0, float("nan"), 0.2, False),
        (1.0, float("inf"), 0.2, False),
    ],
)
def test_a_measurement_holds_within_its_tolerance(theory, measured, tolerance, holds):
    assert Measured("x", theory, measured, tolerance).holds is holds


@pytest.mark.parametrize(
    ("measured", "slack", "holds"),
    [
        (-5.0, 0.0, True),
        (1.0, 0.0, True),
        (1.1, 0.0, False),
        (1.1, 0.2, True),
        (float("inf"), 0.2, False),
        (float("nan"), 0.2, False),
    ],
)
def test_a_bound_is_one_sided(measured, slack, holds):
    assert at_most("x", 1.0, measured, slack).holds is holds


@pytest.mark.parametrize(
    ("theory", "measured", "holds"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-12], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0, float("inf")], [1.0, float("inf")], True),
        ([1.0, float("inf")], [1.0, -float("inf")], False),
        ([1.0, float("inf")], [1.0, 2.0], False),
        ([1.0], [float("nan")], False),
        ([1.0, 1.0], [1.0], False),
        ([], [], True),
    ],
)
def test_arrays_are_equal_entry_by_entry(theory, measured, holds):
    assert equal("x", theory, torch.tensor(measured, dtype=torch.float64)).holds is holds
