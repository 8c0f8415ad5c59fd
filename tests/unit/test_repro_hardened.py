"""The recipes `madry_mnist` and `trades_mnist`: a tiny run trains on attacks and is judged by the battery."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.mnist import as_mnist
from psiphi.attacks import auto
from psiphi.repro import _hardened, madry_mnist, trades_mnist
from psiphi.repro._hardened import CLEAN, ROBUST, WEAK, Setting


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_mnist(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("module", [madry_mnist, trades_mnist], ids=lambda module: module.RECIPE.name)
def test_it_measures_clean_weak_and_strong(module, folder, monkeypatch):
    tiny = Setting(
        epochs=5, steps=2, step=None, warm_up=2, channels=(4, 8), hidden=32, test=20, lr=1e-2, held=100
    )
    monkeypatch.setattr(_hardened, "EPS", 0.1)
    monkeypatch.setattr(_hardened, "auto", partial(auto, steps=8, queries=50))
    monkeypatch.setattr(module, "EPS", 0.1)
    said: list[str] = []
    outcome = replace(module.RECIPE, quick=tiny).run(folder=folder, log=said.append)
    found = {each.what: each.measured for each in outcome.found}
    assert set(found) == {CLEAN, WEAK, ROBUST}
    assert found[ROBUST] <= found[WEAK] <= found[CLEAN]
    assert found[CLEAN] > 70
    assert sum("robust accuracy" in each for each in said) == 2
    assert _hardened.network(tiny, 8, 0)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
