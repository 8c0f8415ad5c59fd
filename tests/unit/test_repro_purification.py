"""The recipe of purifiers: what a tiny run measures, and that its lines are those that it measures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from psiphi.repro import RECIPES, purification
from psiphi.repro.purification import CLEAN, FALL, LOWEST, PURIFIERS, SHOWN, Setting


def test_each_purifier_has_a_number_a_level(monkeypatch):
    """Of an autoencoder and a random diffusion, trained for one epoch."""
    few = {name: replace(PURIFIERS[name], epochs=1.0) for name in ("autoencoder", "diffusion, fresh noise")}
    monkeypatch.setattr(purification, "PURIFIERS", few)
    tiny = Setting(rows=8, validation=8, epochs=1, steps=1, draws=2, verify=4)
    outcome = replace(purification.RECIPE, quick=tiny, rows=purification.lines()).run(quick=True)
    found = {each.what: each for each in outcome.found}
    for who in few:
        levels = [found[f"digits, {who}: {name}"].measured for name in SHOWN]
        lowest = found[f"digits, {who}: {LOWEST}"].measured
        assert lowest <= min(levels)
        assert found[f"digits, {who}: {FALL}"].measured == pytest.approx(levels[0] - lowest)
        assert 0 <= found[f"digits, {who}: {CLEAN}"].measured <= 100
    assert len(found) == len(few) * (len(SHOWN) + 4)


def test_the_full_recipe_alone_needs_mnist(tmp_path, monkeypatch):
    monkeypatch.delenv("PSIPHI_DATA", raising=False)
    recipe = RECIPES["purification"]
    assert (recipe.quick.needs, recipe.full.needs) == ("", "mnist")
    asked = []
    watched = replace(
        recipe, measure=lambda setting, job: asked.append(job) or {row.what: 9.0 for row in recipe.rows}
    )
    assert watched.run(quick=True).passes
    with pytest.raises(Exception, match="this recipe needs"):
        watched.run(quick=False)
    assert len(asked) == 1
