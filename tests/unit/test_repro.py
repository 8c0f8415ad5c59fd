"""Recipes: where their data are found, what counts as reproduced, and what a tiny run measures."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import FrozenInstanceError, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from psiphi import zoo
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.networks import TopK
from psiphi.parts import Clock
from psiphi.repro import RECIPES, Found, Job, Recipe, Row, find, hinton2006, ksparse2013
from psiphi.repro._mnist import Rows
from psiphi.repro._recipe import PLACES


def idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's digits as four idx files in a folder mnist/: 400 to train on, 200 to test on."""
    root = tmp_path_factory.mktemp("data")
    (root / "mnist").mkdir()
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8) * 15).astype(np.uint8)
    for name, rows in (("train", slice(0, 400)), ("t10k", slice(400, 600))):
        idx(root / "mnist" / f"{name}-images-idx3-ubyte.gz", x[rows])
        idx(root / "mnist" / f"{name}-labels-idx1-ubyte.gz", y[rows])
    return root


def pixels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    files = (folder / "mnist" / f"{name}-images-idx3-ubyte.gz" for name in ("train", "t10k"))
    train, test = (
        np.frombuffer(gzip.decompress(f.read_bytes()), np.uint8, offset=16).reshape(-1, 64) / 255
        for f in files
    )
    return train, test


# ------------------------------------------------------------------------------------------ verdicts
@pytest.mark.parametrize(
    ("measured", "limit", "higher", "passes"),
    [
        (4.5, 4.5, False, True),
        (4.51, 4.5, False, False),
        (90.5, 90.5, True, True),
        (90.4, 90.5, True, False),
        (1.0, None, False, None),
        (float("nan"), 4.5, False, False),
        (float("nan"), 90.5, True, False),
    ],
)
def test_a_line_passes_up_to_its_limit(measured, limit, higher, passes):
    assert Found("x", 3.0, limit, measured, higher=higher).passes is passes


def recipe(**values: float) -> Recipe:
    rows = (Row("error", 3.0, quick=4.5, full=3.0, unit="%"), Row("other", None))
    return Recipe(
        "toy", "A title, 2006.", "A toy.", rows, {"epochs": 1}, {"epochs": 9}, lambda s, job: values
    )


def test_each_mode_has_its_limit_and_its_setting():
    quick = recipe(error=4.0, other=1.0).run(quick=True)
    full = recipe(error=4.0, other=1.0).run(quick=False)
    assert (quick.passes, full.passes) == (True, False)
    assert (quick.found[0].limit, full.found[0].limit) == (4.5, 3.0)
    assert (quick.facts["setting"], full.facts["setting"]) == ({"epochs": 1}, {"epochs": 9})
    assert quick.found[1].passes is None


def test_the_record_says_with_what_where_and_when():
    record = json.loads(json.dumps(recipe(error=4.0, other=1.0).run(seed=3).as_dict()))
    assert record["seed"] == 3
    assert {"torch", "psiphi"} <= set(record["versions"])
    assert record["machine"]["cores"] >= 1
    assert len(record["date"].split("-")) == 3
    assert record["found"][0] == {
        "what": "error", "published": 3.0, "limit": 4.5, "measured": 4.0, "unit": "%", "higher": False,
        "passes": True,
    }  # fmt: skip


def test_a_line_for_the_manual_has_published_measured_and_limit():
    line, other = recipe(error=4.0, other=1.0).run().lines()
    assert line.startswith("| toy | error | 3 % | 4 % | 4.5 % | quick")
    assert other.startswith("| toy | other | — | 1 | — |")


def test_a_seed_is_a_whole_number():
    with pytest.raises(ArgumentError, match=r"whole number; got 0\.5"):
        recipe(error=1.0, other=1.0).run(seed=0.5)  # pyright: ignore[reportArgumentType]


# ------------------------------------------------------------------------------------------- the data
def test_the_data_are_found_in_the_folder_or_below_it(folder, monkeypatch):
    assert find("mnist", folder) == find("mnist", folder / "mnist") == folder / "mnist"
    monkeypatch.setenv("PSIPHI_DATA", str(folder))
    assert find("mnist") == folder / "mnist"
    assert find("") == Path()


@pytest.mark.parametrize("needs", sorted(PLACES))
def test_missing_data_are_said_with_the_place_to_put_them(needs, tmp_path, monkeypatch):
    monkeypatch.delenv("PSIPHI_DATA", raising=False)
    with pytest.raises(FileError, match=rf"(?s){needs}/.*--data.*PSIPHI_DATA"):
        find(needs)
    with pytest.raises(FileError, match=f"holds neither them nor a folder {needs}/"):
        find(needs, tmp_path)
    with pytest.raises(FileError, match="is no folder"):
        find(needs, tmp_path / "none")


# ---------------------------------------------------------------------------------------- the recipes
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_is_complete(name):
    each = RECIPES[name]
    assert each.name == name
    assert each.needs in {"", *PLACES}
    assert len({row.what for row in each.rows}) == len(each.rows) > 0
    assert any(row.published is not None for row in each.rows)
    for row in each.rows:
        if row.quick is not None and row.full is not None:
            assert row.quick <= row.full if row.higher else row.quick >= row.full
    for setting in (each.quick, each.full):
        assert is_dataclass(setting)
        with pytest.raises(FrozenInstanceError):
            setattr(setting, next(iter(vars(setting))), 0)


def test_hinton_measures_squared_errors_of_test_images(folder):
    """PCA's error is that of the projection by numpy's SVD; the deep one's falls below the constant code's."""
    tiny = hinton2006.Setting(epochs=6, hidden=(32,), latent_dim=5, batch_size=32, lr=2e-2)
    found = replace(hinton2006.RECIPE, quick=tiny).run(quick=True, folder=folder)
    pca, deep = (each.measured for each in found.found)
    train, test = pixels(folder)
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:5]
    rest = (test - mean) - (test - mean) @ axes.T @ axes
    assert pca == pytest.approx((rest**2).sum(1).mean(), rel=1e-4)
    assert deep < 0.8 * ((test - mean) ** 2).sum(1).mean()
    again = replace(hinton2006.RECIPE, quick=tiny).run(quick=True, folder=folder)
    assert again.found == found.found


def test_initial_weights_keep_a_signals_size():
    """Each weight's variance is 2/inputs within four standard errors, σ² √(2/n) for n normal draws."""
    model = zoo.ae(400, 20, hidden=(300,))
    hinton2006.spread(model, 3)
    for layer in (part for part in model.modules() if isinstance(part, torch.nn.Linear)):
        wanted, n = 2 / layer.in_features, layer.weight.numel()
        assert abs(float(layer.weight.detach().square().mean()) / wanted - 1) < 4 * (2 / n) ** 0.5
        assert not layer.bias.any()


def test_a_recipe_says_how_it_goes(folder):
    said: list[str] = []
    job = Job(folder / "mnist", 0, said.append)
    hinton2006.measure(hinton2006.Setting(epochs=1, hidden=(8,), latent_dim=2), job)
    assert len(said) == 3
    assert "400 training and 200 test" in said[0]


def test_k_falls_linearly_and_stays():
    top = TopK(25)
    fall = ksparse2013.anneal(top, 100, 25, share=0.5)
    seen = []
    for step in (0, 10, 20, 30, 50, 100):
        assert fall(SimpleNamespace(clock=Clock(step, 0.0, 100))) is None
        seen.append(top.k)
    assert seen == [100, 85, 70, 55, 25, 25]


TINY = ksparse2013.Setting(
    epochs=4, latent_dim=100, k=5, first_k=20, batch_size=32, lr=1e-2, regression_epochs=6, regression_lr=3e-2,
    hold=100,
)  # fmt: skip


def test_codes_are_the_largest_entries_of_h(folder):
    train, _ = pixels(folder)
    x = torch.tensor(train).float().view(-1, 1, 8, 8)
    job = Job(folder / "mnist", 0, lambda sentence: None)
    model, top = ksparse2013.sparse(TINY, job, x)
    assert top.k == 5
    h = model.encoder.network[0](model.statistics(x)).detach()
    for alpha, kept in ((1.0, 5), (3.0, 15)):
        found = ksparse2013.codes(model, top, alpha, Rows(x, x[:, 0, 0, 0])).x
        assert bool(((found != 0).sum(1) == kept).all())
        torch.testing.assert_close(found.sum(1), h.topk(kept, 1).values.sum(1))


def test_error_is_the_share_of_wrong_rows():
    """On separable rows the regression makes no mistake; labels that were changed are all that it gets wrong."""
    y = torch.arange(200) % 4
    x = torch.eye(4)[y]
    wrong = torch.where(torch.arange(200) < 30, (y + 1) % 4, y)
    job = Job(Path(), 0, lambda sentence: None)
    assert ksparse2013.error(TINY, job, Rows(x, y), Rows(x, y)) == 0
    assert ksparse2013.error(TINY, job, Rows(x, y), Rows(x, wrong)) == pytest.approx(15)


def test_ksparse_measures_both_errors_and_says_which_alpha(folder):
    found = replace(ksparse2013.RECIPE, quick=TINY).run(folder=folder).found
    pixels, codes, alpha = (each.measured for each in found)
    assert 0 < pixels < 40
    assert 0 < codes < 40
    assert alpha in TINY.alphas
