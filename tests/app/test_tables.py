"""A table from the command line: described, trained on with its gaps, sampled, filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from torch.testing import assert_close

import psiphi as pp
from app.test_sentences import refused

PARTS = ["height", "weight", "sex", "grade"]


def table(rows: int = 120, seed: int = 0) -> pandas.DataFrame:
    """Weight follows height and sex; a grade of three; a tenth of the values are missing."""
    gen = np.random.default_rng(seed)
    sex = gen.integers(0, 2, rows)
    height = gen.normal(165 + 12 * sex, 6)
    weight = gen.normal(0.5 * height - 20 + 5 * sex, 3)
    frame = pandas.DataFrame(
        {
            "id": np.arange(rows),
            "height": height.round(1),
            "weight": weight.round(2),
            "sex": np.array(["female", "male"])[sex],
            "grade": gen.integers(1, 4, rows).astype(float),
            "target": np.array(["no", "yes"])[sex],
        }
    )
    frame[PARTS] = frame[PARTS].mask(gen.random((rows, 4)) < 0.1)
    return frame


OPTIONS = "labels=target,drop=id,categorical=grade"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "people.csv"
    table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(people: Path) -> Path:
    from app.conftest import call

    folder = people.parent / "run"
    words = ["--latent-dim", 2, "--hidden", 16, "--epochs", 3, "--quiet", "--out", folder]
    call("train", "vae", "--data", f"{people}:{OPTIONS}", *words)
    return folder


def test_data_has_a_line_for_each_column(psiphi: Any, people: Path) -> None:
    said = psiphi.call("data", f"{people}:{OPTIONS}").stdout
    for name in PARTS:
        assert f"column    {name} (" in said
    found = psiphi.ask("data", f"{people}:{OPTIONS}")
    assert [column["name"] for column in found["columns"]] == PARTS
    assert found["columns"][3]["categories"].keys() == {"1", "2", "3"}


def test_samples_are_a_table(psiphi: Any, run: Path, tmp_path: Path) -> None:
    record = psiphi.ask("sample", run, "-n", 50, "--exact")
    assert record["out"].endswith("samples.csv")
    drawn = pandas.read_csv(record["out"])
    assert list(drawn.columns) == PARTS
    assert len(drawn) == 50
    assert set(drawn["sex"]) == {"female", "male"}
    assert set(drawn["grade"]) <= {1, 2, 3}
    psiphi.call("sample", run, "-n", 5, "--out", tmp_path / "x.parquet")
    assert list(pandas.read_parquet(tmp_path / "x.parquet").columns) == PARTS
    psiphi.call("sample", run, "-n", 5, "--out", tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").shape == (5, 4)


def test_what_is_missing_is_filled_and_the_rest_is_left(psiphi: Any, run: Path, tmp_path: Path) -> None:
    """Another file, its columns in another order, one of its own in between."""
    given = table(40, seed=1)[["sex", "target", "height", "grade", "id", "weight"]]
    given.to_csv(tmp_path / "new.csv", index=False)
    record = psiphi.ask("impute", run, tmp_path / "new.csv", "-o", tmp_path / "out.csv", "--samples", 50)
    missing = given[PARTS].isna()
    assert record["filled"] == int(missing.to_numpy().sum()) > 5
    assert record["rows_with_gaps"] == int(missing.any(axis=1).sum())
    filled = pandas.read_csv(tmp_path / "out.csv")
    assert list(filled.columns) == list(given.columns)
    assert not filled.isna().any(axis=None)
    pandas.testing.assert_frame_equal(filled.mask(given.isna()), given, check_dtype=False)
    assert set(filled["sex"]) == {"female", "male"}
    again = psiphi.ask("impute", run, tmp_path / "new.csv", "-o", tmp_path / "again.csv", "--samples", 50)
    assert again["filled"] == record["filled"]
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    psiphi.call("impute", run, tmp_path / "new.csv", "-o", tmp_path / "drawn.csv", "--exact", "--seed", 3)
    assert (tmp_path / "drawn.csv").read_bytes() != (tmp_path / "out.csv").read_bytes()


def test_an_array_is_filled_too(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((7, 1, 8, 8)).astype(np.float32)
    gappy = np.where(np.random.default_rng(1).random(x.shape) < 0.2, np.nan, x).astype(np.float32)
    np.save(tmp_path / "x.npy", gappy)
    for model in ("vae", "pca"):
        psiphi.call("impute", runs / model, tmp_path / "x.npy", "-o", tmp_path / "out.npy")
        filled = np.load(tmp_path / "out.npy")
        assert_close(filled, pp.load(runs / model).impute(gappy).detach().numpy())
        assert (filled[~np.isnan(gappy)] == x[~np.isnan(gappy)]).all()


def test_pca_remembers_the_columns_too(psiphi: Any, people: Path, tmp_path: Path) -> None:
    whole = pandas.read_csv(people)[["height", "weight"]].dropna()
    whole.to_csv(tmp_path / "whole.csv", index=False)
    psiphi.call(
        "train", "pca", "--data", tmp_path / "whole.csv", "--latent-dim", 1, "--out", tmp_path / "pca"
    )
    (tmp_path / "gap.csv").write_text("weight,height\n70,\n,150\n")
    psiphi.call("impute", tmp_path / "pca", tmp_path / "gap.csv", "-o", tmp_path / "out.csv")
    filled = pandas.read_csv(tmp_path / "out.csv")
    assert filled.loc[0, "weight"] == 70
    assert filled.loc[1, "weight"] < whole["weight"].mean() < filled.loc[1, "height"]


def test_bad_input_is_a_sentence(psiphi: Any, runs: Path, run: Path, people: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("height,weight,sex,grade\n1,2,other,1\n")
    (tmp_path / "x.txt").write_text("x")
    assert "'other', which the model does not know" in refused(psiphi, "impute", run, tmp_path / "x.csv")
    assert "no .csv, .parquet or .npy" in refused(psiphi, "impute", run, tmp_path / "x.txt")
    assert "does not exist" in refused(psiphi, "impute", run, tmp_path / "nowhere.csv")
    assert "no name for a table" in refused(psiphi, "impute", run, people, "-o", tmp_path / "x.xlsx")
    assert "cannot impute" in refused(psiphi, "impute", runs / "classifier", people)
    assert "was not trained on a table" in refused(psiphi, "impute", runs / "pca", people)
    assert "closed form: leave out --samples" in refused(
        psiphi, "impute", runs / "pca", tmp_path / "x.npy", "--samples", 3
    )
    data = f"{people}:{OPTIONS}"
    assert "NaN" in refused(
        psiphi, "train", "pca", "--data", data, "--latent-dim", 2, "--out", tmp_path / "no"
    )


def test_apply_names_the_rows_of_the_file(psiphi: Any, run: Path, people: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    record = psiphi.ask("apply", run, "anomaly_score", "--split", "all", "--out", path)
    found = pandas.read_csv(path)
    assert list(found.columns) == ["row", "anomaly_score"]
    assert found["row"].tolist() == list(range(120))
    ranked = found.sort_values("anomaly_score", ascending=False)["row"].astype(str).tolist()
    assert [one["row"] for one in record["oddest"]] == ranked[:5]
    data = pp.data.load(f"{people}:{OPTIONS}")
    psiphi.call("apply", run, "anomaly_score", "--limit", 7, "--out", path)
    some = pandas.read_csv(path)
    assert data.test.rows is not None
    assert some["row"].tolist() == data.test.rows[:7].tolist()
    assert_close(
        some["anomaly_score"].to_numpy(copy=True), found["anomaly_score"][some["row"]].to_numpy(copy=True)
    )
    assert "no split is called 'al'" in refused(psiphi, "apply", run, "encode", "--split", "al")
