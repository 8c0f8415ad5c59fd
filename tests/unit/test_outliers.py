"""The outlier detector against closed forms, and the recipe that measures it."""

from __future__ import annotations

import pickle
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.estimators._outliers import OutlierDetector
from psiphi.repro import adbench

BRIEF = {"iterations": 3}
EVERY = [OutlierDetector(model_args=BRIEF), OutlierDetector("pca"), OutlierDetector("vae", steps=2)]


def rows(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    """Correlated rows in columns of very different units."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * 10.0 ** np.arange(d) + 7


@parametrize_with_checks(EVERY)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


# -------------------------------------------------------------------------------------------- scores
def test_one_component_is_the_gaussian_with_a_widened_covariance():
    x, fresh = rows(60), rows(20, seed=1)
    found = OutlierDetector("gaussian_mixture", random_state=0, model_args={"components": 1}).fit(x)
    mean, scale = x.mean(0), x.std(0)
    u = (x - mean) / scale
    wide = np.cov(u.T, bias=True) + (0.1 + 0.5 / 60) * np.eye(4)
    theory = multivariate_normal(np.zeros(4), wide).logpdf((fresh - mean) / scale)
    np.testing.assert_allclose(found.score_samples(fresh), theory, rtol=1e-9)


def test_the_score_is_the_geometric_mean_of_its_densities():
    x = rows(150)
    found = OutlierDetector(random_state=0).fit(x)
    u = (x - x.mean(0)) / x.std(0)
    logs = [model.log_prob(u).numpy() for model in found.models_]
    assert [model.covariance for model in found.models_] == ["full", "diag", "spherical"]
    assert [model.components for model in found.models_] == [50, 50, 75]
    np.testing.assert_allclose(found.score_samples(x), np.mean(logs, 0), rtol=1e-9)


def test_units_do_not_matter():
    x, a, b = rows(100), np.array([1e-3, 1.0, 50.0, 1e4]), np.array([5.0, 0.0, -300.0, 1.0])
    first, second = (
        OutlierDetector(random_state=0, model_args=BRIEF).fit(u).score_samples(u) for u in (x, a * x + b)
    )
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_a_row_alone_among_those_of_fit_makes_no_peak():
    x = np.vstack([np.random.default_rng(0).normal(size=(200, 5)), np.full((1, 5), 8.0)])
    scores = OutlierDetector(random_state=0).fit(x).score_samples(x)
    assert scores.argmin() == 200


def test_finds_tumours_without_having_seen_one():
    x, y = load_breast_cancer(return_X_y=True)
    normal = np.random.default_rng(0).permutation(np.flatnonzero(y == 1))
    rest = np.setdiff1d(np.arange(len(x)), normal[:178])
    found = OutlierDetector(random_state=0).fit(x[normal[:178]])
    assert roc_auc_score(y[rest], found.score_samples(x[rest])) > 0.93  # isolation forest: 0.96


def test_a_value_that_a_constant_column_never_had_is_strange():
    x = np.column_stack([np.random.default_rng(0).normal(size=(100, 2)), np.full(100, 3.0)])
    found, odd = OutlierDetector(random_state=0).fit(x), x[:1] + np.array([0, 0, 5])
    assert found.score_samples(odd) < found.score_samples(x).min()
    assert found.scale_[2] == 1


def test_other_models_score_by_their_anomaly_score():
    x = rows(80)
    found = OutlierDetector("pca", random_state=0).fit(x)
    (pca,) = found.models_
    theory = -pca.anomaly_score((x - x.mean(0)) / x.std(0)).numpy()
    np.testing.assert_allclose(found.score_samples(x), theory, rtol=1e-9)
    assert pca.latent_dim == 2


# ---------------------------------------------------------------------------------------- thresholds
def test_folds_keep_the_share_of_false_alarms():
    x, fresh = (np.random.default_rng(seed).normal(size=(n, 8)) for seed, n in ((0, 200), (1, 2000)))
    alarms = [
        (OutlierDetector(folds=folds, random_state=0, model_args=BRIEF).fit(x).predict(fresh) == -1).mean()
        for folds in (0, 4)
    ]
    # The threshold is a quantile of 200 rows, the rate one of 2000.
    error = sqrt(0.1 * 0.9 * (1 / 200 + 1 / 2000))
    assert abs(alarms[1] - 0.1) < 4 * error
    assert alarms[0] > 0.1 + 4 * error  # the rows' own scores flatter them


def test_too_few_rows_for_a_small_share_refuse_nobody():
    found = OutlierDetector("pca", contamination=0.01, folds=2, random_state=0).fit(rows(20))
    assert found.offset_ == -np.inf
    assert (found.predict(rows(20) * 1e3) == 1).all()


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_without_folds_that_share_of_the_rows_lies_below(share):
    found = OutlierDetector("pca", contamination=share, random_state=0)
    assert (found.fit_predict(rows(200)) == -1).sum() == 200 * share


# -------------------------------------------------------------------------------------------- input
@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("d", [1, 6])
def test_few_rows_and_one_column(n, d):
    x = np.random.default_rng(0).normal(size=(n, d))
    found = OutlierDetector(random_state=0).fit(x)
    assert found.score_samples(x + 100).max() < found.score_samples(x).min()


def test_repeated_rows_and_integers():
    x = np.array([[0, 1], [5, 2]] * 40, dtype=np.int16)
    found = OutlierDetector(random_state=0).fit(x)
    assert [model.components for model in found.models_] == [2, 2, 2]
    scores = found.score_samples(np.array([[0, 1], [5, 2], [0, 2], [30000, 1]], dtype=np.int16))
    assert min(scores[:2]) > scores[2] > scores[3]


def test_single_precision_in_and_out():
    x = rows(100)
    double = OutlierDetector(random_state=0).fit(x).score_samples(x)
    single = OutlierDetector(random_state=0).fit(x.astype(np.float32)).score_samples(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-2)


def test_a_seed_fixes_everything_and_another_changes_it():
    x = rows(100)
    first, again, other = (OutlierDetector(random_state=s).fit(x).score_samples(x) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3


def test_learns_from_at_most_so_many_rows():
    x = rows(400)
    found = OutlierDetector(max_rows=50, contamination=0.1, random_state=0, model_args=BRIEF).fit(x)
    assert [model.components for model in found.models_] == [25, 25, 25]
    assert (found.predict(x) == -1).sum() == 40


def test_goes_between_processes_whole():
    x = rows(60)
    found = OutlierDetector(random_state=0).fit(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).score_samples(x), found.score_samples(x))


def test_values_as_far_as_floats_go_are_the_strangest():
    found = OutlierDetector(random_state=0).fit(rows(50))
    far = found.score_samples(np.full((1, 4), 1e308))
    assert np.isfinite(far).all()
    assert far < found.score_samples(rows(50)).min()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model": "vea"}, "did you mean vae"),
        ({"model": "classifier"}, "has no anomaly_score"),
        ({"contamination": 0.0}, "contamination is a share"),
        ({"contamination": 0.6}, "contamination is a share"),
        ({"folds": 1}, "folds is 0, or"),
        ({"max_rows": 1}, "max_rows is a whole number"),
        ({"model_args": {"colour": 1}}, "no argument colour"),
    ],
)
def test_refuses_with_a_sentence(given, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        OutlierDetector(**given).fit(rows(20))


def test_refuses_columns_whose_square_overflows():
    with pytest.raises(DataError, match="divide its columns"):
        OutlierDetector().fit(np.array([[1e300], [-1e300], [0.0]]))


# ------------------------------------------------------------------------------------------- recipe
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adbench").mkdir()
    for seed, (name, n) in enumerate((("1_small", 60), ("2_Large", 1200))):
        rng, y = np.random.default_rng(seed), np.arange(n) % 6 == 5
        x = rng.normal(size=(n, 3)) + 2 * y[:, None]
        np.savez(tmp_path / "adbench" / f"{name}.npz", X=x, y=y.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("name", ["published", "honest"])
def test_half_of_the_normal_rows_train_and_all_others_are_judged(name):
    x, y = np.arange(1200.0)[:, None], np.arange(1200) % 3 == 0
    train, rest, truth = adbench.PROTOCOLS[name](x, y.astype(int), 0)
    assert len(train) == 400
    np.testing.assert_array_equal(np.sort(np.concatenate([train, rest]), 0), x)
    np.testing.assert_array_equal(truth, rest.ravel() % 3 == 0)
    first_half = bool((train.max() < rest[truth == 0].min()).all())
    assert first_half == (name == "published")


def test_only_the_published_protocol_resamples():
    x, y = np.arange(60.0)[:, None], (np.arange(60) % 6 == 5).astype(int)
    train, rest, _ = adbench.published(x, y, 0)
    assert len(train) + len(rest) == 1000
    assert np.isin(train, rest).mean() > 0.9
    train, rest, _ = adbench.honest(x, y, 0)
    assert len(train) == 25
    assert not np.isin(train, rest).any()


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    score, y = rng.integers(0, 20, 300).astype(float), rng.integers(0, 2, 300)
    assert adbench.area(score, y) == pytest.approx(100 * roc_auc_score(y, score))


def test_a_table_of_both_protocols(folder):
    (folder / "adbench" / adbench.PUBLISHED).write_text(
        "dataset," + ",".join(f"{each}_mean" for each in adbench.SHOWN) + "\nlarge" + ",50" * 6 + "\n"
    )
    said: list[str] = []
    setting = adbench.Setting(2, ("knn", "pca"))
    result = adbench.tabled(folder / "adbench", setting, log=said.append)
    for protocol, table in result.items():
        found = table["tables"]
        assert list(found) == ["small", "Large"]
        for method in setting.methods:
            assert table["mean"][method] == pytest.approx(np.mean([found[t][method] for t in found]))
            assert 80 < table["mean"][method] < 100, protocol
            assert 0 < table["standard_error"][method] < 10
    assert result["published"]["published"] == {"Large": dict.fromkeys(adbench.SHOWN, 50.0)}
    assert any("KNN 50.00" in line for line in said)


def test_a_recipe_line_for_every_measurement(folder, monkeypatch):
    quick = dict.fromkeys(adbench.METHODS, adbench.METHODS["pca"])
    monkeypatch.setattr(adbench, "METHODS", quick)
    outcome = adbench.RECIPE.run(folder=folder)
    lead = [each for each in outcome.found if each.what == "honest: detector − knn"]
    assert lead[0].measured == 0
    assert lead[0].passes is False


def test_missing_tables_are_named(folder):
    with pytest.raises(FileError, match="no table called glass"):
        adbench.tables(folder / "adbench", ("glass", "small"))


def test_the_public_name():
    assert pp.estimators.OutlierDetector is OutlierDetector
