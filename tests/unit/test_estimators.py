"""The estimators keep scikit-learn's contract, and add nothing to the models' answers."""

from __future__ import annotations

import pickle
from io import BytesIO
from unittest import SkipTest

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from psiphi.basis.errors import ArgumentError, DataError, FileError
from psiphi.estimators import Autoencoder, DensityEstimator, SemiSupervisedClassifier, _base

SMALL = dict(epochs=2, hidden=(8,))
EVERY = [
    Autoencoder(latent_dim=1, **SMALL),
    Autoencoder("vae", latent_dim=1, **SMALL),
    DensityEstimator(components=2),
    DensityEstimator("vae", latent_dim=1, **SMALL),
    SemiSupervisedClassifier(latent_dim=1, hidden=(8,), epochs=3, batch_size=16, lr=0.03),
]


# The array interface is looked at only under SCIPY_ARRAY_API=1, which must be set before SciPy is imported.
NOT_APPLICABLE = {"check_array_api_input"}


@parametrize_with_checks(EVERY)
def test_scikit_learns_contract(estimator, check):
    try:
        check(estimator)
    except SkipTest:
        if check.func.__name__ not in NOT_APPLICABLE:
            pytest.fail(f"{check.func.__name__} was skipped")
        raise


# --------------------------------------------------------------------------------- the models' own answers
def rows(n: int = 60, features: int = 5, seed: int = 0) -> np.ndarray:
    gen = np.random.default_rng(seed)
    return gen.normal(size=(n, features)) @ gen.normal(size=(features, features)) + gen.normal(size=features)


def counts(n: int = 50, words: int = 30) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(0).poisson(0.3, size=(n, words)))


def test_pca_by_this_door_is_scikit_learns():
    X = rows()
    ours, theirs = Autoencoder("pca", latent_dim=2).fit(X), PCA(2).fit(X)
    codes = theirs.transform(X)
    np.testing.assert_allclose(ours.transform(X), codes, atol=1e-9)
    np.testing.assert_allclose(ours.inverse_transform(codes), theirs.inverse_transform(codes), atol=1e-9)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=1e-9)
    assert ours.score(X) == pytest.approx(theirs.score(X))


def test_the_mixture_by_this_door_is_scikit_learns():
    """One component: no start from k-means, and so the same whatever the seed."""
    X = rows()
    ours = DensityEstimator(components=1, model_args={"reg_covar": 0.0}, random_state=0).fit(X)
    theirs = GaussianMixture(1, reg_covar=0.0).fit(X)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=1e-9)
    drawn = ours.sample(4000, random_state=1)
    assert (np.abs(drawn.mean(0) - X.mean(0)) < 4 * X.std(0) / 4000**0.5).all()
    np.testing.assert_array_equal(ours.sample(7, random_state=1), drawn[:7])
    assert np.abs(ours.sample(7, random_state=2) - drawn[:7]).min() > 0


def test_scores_without_a_likelihood_are_minus_the_squared_error():
    X = rows()
    ae = Autoencoder(latent_dim=2, random_state=0, **SMALL).fit(X)
    error = ((X - ae.inverse_transform(ae.transform(X))) ** 2).sum(1)
    np.testing.assert_allclose(ae.score_samples(X), -error, rtol=1e-9)


def test_scores_with_a_likelihood_estimate_it():
    """Importance sampling agrees with the model's own, within what 500 draws leave."""
    X = rows().astype(np.float32)
    vae = Autoencoder("vae", latent_dim=2, random_state=0, **SMALL).fit(X)
    own = vae.model_.importance(torch.from_numpy(X), 2000, seed=3)
    gap = np.abs(vae.score_samples(X) - own.estimate.detach().numpy())
    assert (gap < 8 * own.standard_error.detach().numpy() + 1e-3).all()
    np.testing.assert_allclose(vae.score_samples(X[::-1]), vae.score_samples(X)[::-1], rtol=1e-5)


def test_training_is_training():
    X = rows(200)
    fitted = Autoencoder(latent_dim=2, hidden=(16,), epochs=60, lr=5e-3, random_state=0).fit(X)
    assert len(fitted.loss_curve_) == 60
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]


def islands(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds in four dimensions and their names, as objects, so that −1 may stand among them."""
    gen = np.random.default_rng(0)
    k = gen.integers(3, size=n)
    X = gen.normal(size=(n, 4)) + 4 * np.eye(4)[k]
    return X, np.array(["a", "b", "c"], dtype=object)[k]


def test_labels_spread_from_few_rows_to_all():
    """Nine labels among 150 rows: nearly as good as all of them; the rows without one take part in training."""
    X, names = islands(150)
    y = np.full(len(names), -1, dtype=object)
    for name in "abc":
        y[np.flatnonzero(names == name)[:3]] = name
    settings = dict(latent_dim=2, hidden=(32,), epochs=8, batch_size=32, lr=0.02, random_state=0)
    semi = SemiSupervisedClassifier(**settings).fit(X, y)
    assert list(semi.classes_) == ["a", "b", "c"]
    assert semi.score(X, names) > 0.9
    shares = semi.predict_proba(X)
    assert shares.shape == (150, 3)
    np.testing.assert_allclose(shares.sum(1), 1)
    few = SemiSupervisedClassifier(**settings).fit(X[y != -1], y[y != -1])
    assert np.abs(few.predict_proba(X) - shares).max() > 1e-3


def test_a_second_label_minus_one_is_a_class():
    X, names = islands(60)
    y = np.where(names == "a", 1, -1)
    with pytest.warns(UserWarning, match="taken as two classes"):
        found = SemiSupervisedClassifier(latent_dim=1, **SMALL).fit(X, y)
    assert list(found.classes_) == [-1, 1]
    with pytest.raises(DataError, match="at least two classes"):
        SemiSupervisedClassifier(latent_dim=1, **SMALL).fit(X, np.full(60, -1))


# ------------------------------------------------------------------------------------------- what X may be
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fitted_on", [np.float32, np.float64])
def test_outputs_have_the_dtype_of_the_input(dtype, fitted_on):
    X = rows()
    ae = Autoencoder("vae", latent_dim=2, random_state=0, **SMALL).fit(X.astype(fitted_on))
    for answer in (ae.transform(X.astype(dtype)), ae.score_samples(X.astype(dtype))):
        assert answer.dtype == dtype
    assert ae.inverse_transform(np.zeros((3, 2), dtype)).dtype == dtype
    assert ae.sample(3).dtype == fitted_on
    wide = ae.transform(X)
    np.testing.assert_allclose(ae.transform(X.astype(np.float32)), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix], ids=lambda m: m.__name__
)
def test_sparse_counts_are_dense_rows(make):
    X = counts()
    dense, thin = (
        Autoencoder(latent_dim=3, random_state=0, **SMALL).fit(each) for each in (X.toarray(), make(X))
    )
    np.testing.assert_allclose(thin.transform(make(X)), dense.transform(X.toarray()), rtol=1e-6, atol=1e-9)
    assert thin.loss_curve_ == pytest.approx(dense.loss_curve_)


def test_sparse_rows_are_made_dense_a_batch_at_a_time(monkeypatch):
    X, seen, real = sparse.random_array((6000, 400), density=0.01, format="csr", rng=0), [], _base.dense

    def dense(part):
        seen.append(part.shape[0])
        return real(part)

    monkeypatch.setattr(_base, "dense", dense)
    Autoencoder(latent_dim=2, epochs=1, hidden=(4,), random_state=0).fit(X).transform(X)
    assert sum(seen) >= 3 * 6000  # measured, trained on, transformed
    assert max(seen) <= _base.ROWS < 6000


def test_data_frames_carry_their_names():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(rows(), columns=list("abcde"))
    ae = Autoencoder(latent_dim=2, random_state=0, **SMALL).fit(X)
    assert list(ae.feature_names_in_) == list("abcde")
    assert list(ae.get_feature_names_out()) == ["autoencoder0", "autoencoder1"]
    np.testing.assert_array_equal(ae.transform(X), ae.fit(X.to_numpy()).transform(X.to_numpy()))
    frame = Autoencoder(latent_dim=2, **SMALL).set_output(transform="pandas").fit(X).transform(X)
    assert list(frame.columns) == ["autoencoder0", "autoencoder1"]


def test_rows_may_be_pictures():
    X = np.random.default_rng(0).random((40, 64)).astype(np.float32)
    ae = Autoencoder(latent_dim=2, hidden=(4,), shape=(1, 8, 8), epochs=1, model_args={"net": "conv"}).fit(X)
    assert ae.transform(X).shape == (40, 2)
    assert ae.inverse_transform(ae.transform(X)).shape == X.shape
    with pytest.raises(DataError, match=r"X has 63 features, and shape=\(1, 8, 8\) needs 64"):
        ae.fit(X[:, :63])


# ------------------------------------------------------------------------------------------- scikit-learn's tools
def test_pipeline_grid_search_and_clone():
    X = rows(90)
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    coder = Autoencoder("pca", random_state=0)
    pipe = make_pipeline(StandardScaler(), coder, LogisticRegression())
    found = GridSearchCV(pipe, {"autoencoder__latent_dim": [1, 5]}, cv=3).fit(X, y)
    assert found.best_params_ == {"autoencoder__latent_dim": 5}
    assert found.score(X, y) > 0.9
    density = GridSearchCV(DensityEstimator(random_state=0), {"components": [1, 2]}, cv=3).fit(X)
    assert density.best_params_ == {"components": 1}
    fitted = coder.set_params(latent_dim=2).fit(X)
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "model_")


def test_random_state_decides():
    X = rows()
    a, b, c = (Autoencoder(latent_dim=2, random_state=s, **SMALL).fit(X).transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


# ------------------------------------------------------------------------------------------- between processes
class Reader(pickle.Unpickler):
    """Notes whose classes a pickle names."""

    def __init__(self, file):
        super().__init__(file)
        self.modules = []

    def find_class(self, module, name):
        self.modules.append(module)
        return super().find_class(module, name)


def plain(value) -> bool:
    """Neither tensors nor modules, however deep."""
    if isinstance(value, dict):
        return all(plain(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(plain(each) for each in value)
    return not type(value).__module__.startswith(("torch", "psiphi"))


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: f"{type(e).__name__}-{e.model}")
def test_a_state_is_bytes_and_numbers(estimator):
    X = rows()
    fitted = clone(estimator).set_params(random_state=0).fit(X, X[:, 0] > 0)
    ask = fitted.predict_proba if hasattr(fitted, "predict_proba") else fitted.score_samples
    state = fitted.__getstate__()
    assert plain(state)
    assert isinstance(state["model_"]["psiphi model"], bytes)
    reader = Reader(BytesIO(pickle.dumps(fitted)))
    again = reader.load()
    assert not any(module.startswith("torch") for module in reader.modules)
    again_ask = getattr(again, ask.__name__)
    np.testing.assert_array_equal(again_ask(X), ask(X))
    assert again.model_.recipe == fitted.model_.recipe
    assert again.model_.provenance == fitted.model_.provenance


def test_bytes_that_are_no_model_get_a_sentence():
    state = Autoencoder(latent_dim=1, random_state=0, **SMALL).fit(rows()).__getstate__()
    for bad in (b"", b"no tensors", state["model_"]["psiphi model"][:-5]):
        with pytest.raises(FileError, match="these bytes hold no model"):
            Autoencoder().__setstate__({**state, "model_": {"psiphi model": bad}})


@pytest.mark.slow  # each process imports torch
def test_joblib_carries_estimators_between_processes():
    X = rows()
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(
            joblib.delayed(Autoencoder(latent_dim=1, random_state=s, **SMALL).fit)(X) for s in range(2)
        )
    for seed, fitted in enumerate(found):
        here = Autoencoder(latent_dim=1, random_state=seed, **SMALL).fit(X)
        np.testing.assert_allclose(fitted.transform(X), here.transform(X), rtol=1e-6)


# ------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (Autoencoder("vea"), "no model is called 'vea'; did you mean vae"),
        (
            Autoencoder("classifier", model_args={"classes": 2}),
            "classifier cannot encode, so it is no autoencoder",
        ),
        (Autoencoder(latent_dim=6), "a latent of 6 is larger than the data"),
        (
            Autoencoder(latent_dim=2, model_args={"k": 3}),
            "the model ae has no argument k; model_args may hold",
        ),
        (Autoencoder(latent_dim=2, epochs=0), "epochs must be a whole number of at least 1"),
        (DensityEstimator("ae", latent_dim=2), "ae has no density: choose"),
        (DensityEstimator(components=100), "100 components need at least as many distinct rows"),
    ],
    ids=str,
)
def test_arguments_without_meaning_get_a_sentence(estimator, sentence):
    with pytest.raises((ArgumentError, DataError), match=sentence):
        estimator.fit(rows())


def test_sampling_is_there_where_the_model_can():
    X = rows()
    assert hasattr(Autoencoder("vae", latent_dim=1, **SMALL).fit(X), "sample")
    assert not hasattr(Autoencoder("ae", latent_dim=1, **SMALL).fit(X), "sample")
