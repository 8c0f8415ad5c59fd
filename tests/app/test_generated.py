"""What `psiphi evaluate` says of samples, what `psiphi train` watches, and the map of modes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import psiphi as pp
from psiphi.app import _generated, modes_map, plots
from psiphi.data.toys import gaussian, grid, ring
from psiphi.evaluation import ModeCollapseWarning, watch_modes


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture that was fitted to the ring, saved as `psiphi train` would."""
    from psiphi.app._open import SPEC

    model, data = pp.zoo.gaussian_mixture(2, 8, covariance="spherical"), pp.data.load("ring:n=500")
    pp.fit(model, data, quiet=True)
    model.provenance[SPEC] = "ring:n=500"
    folder = tmp_path_factory.mktemp("rings") / "mixture"
    model.save(folder)
    return folder


def test_a_model_of_a_toy_has_its_modes_counted(psiphi: Any, rings: Path, tmp_path: Path) -> None:
    found = psiphi.ask("evaluate", rings)["generated"]
    model = pp.load(rings)
    assert found["modes"] == json.loads(json.dumps(pp.evaluation.modes(model, ring()).as_dict()))
    assert found["fidelity"] is None
    text = psiphi.call("evaluate", rings, "--out", tmp_path / "map.png").stdout
    assert f"Modes: {found['modes']['found']} of 8 modes" in text
    assert Image.open(tmp_path / "map.png").size[0] > 500


def test_samples_stand_beside_test_rows(psiphi: Any, runs: Path) -> None:
    words = ["evaluate", runs / "vae", "--samples", 10, "--limit", 60, "--classifier", runs / "classifier"]
    found = psiphi.ask(*words)["generated"]
    assert found["modes"] is None
    assert found["fidelity"]["n"] == found["fidelity"]["m"] == found["memory"]["held_out"] == 60
    for name in ("fidelity", "kernel_distance", "frechet"):
        assert found[name]["features"] == "16 features of the penultimate layer of classifier"
        assert found[name]["split"] == "test"
    data = pp.data.load("digits")
    y = pp.load(runs / "vae").sample(60, seed=0, exact=True)
    classifier = pp.load(runs / "classifier")
    assert found["kernel_distance"]["value"] == pytest.approx(
        pp.evaluation.kernel_distance(y, data.test.x[:60], classifier).value
    )
    text = psiphi.call(*words).stdout
    for said in (
        "precision",
        "coverage",
        "sliced Wasserstein",
        "nearest training row",
        "60 samples against 60",
    ):
        assert said in text


def test_too_few_rows_are_a_sentence(psiphi: Any, runs: Path) -> None:
    words = ["evaluate", runs / "vae", "--samples", 5, "--limit", 5]
    assert "too few" in psiphi.ask(*words)["generated"]["why"]
    assert "No fidelity of the samples" in psiphi.call(*words).stdout
    assert psiphi.ask("evaluate", runs / "pca", "--limit", 5)["generated"]["fidelity"] is None


def test_a_classifier_of_other_rows_is_a_sentence(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    pp.zoo.classifier((1, 3, 3), 10, hidden=(8,)).save(tmp_path / "other")
    words = ["evaluate", runs / "vae", "--samples", 5, "--limit", 60, "--classifier", tmp_path / "other"]
    said = psiphi.call(*words, code=2).stderr
    assert "(1, 3, 3)" in " ".join(said.split())
    assert "Traceback" not in said
    data, model = pp.data.load("digits"), pp.load(runs / "vae")
    found = _generated.generated(model, data, data.test.x[:60], pp.load(tmp_path / "other"))
    assert found == _generated.Generated(
        why="rows of shape (1, 8, 8) are not what classifier takes, which is (1, 3, 3): give a classifier of the data "
        "that samples are compared with."
    )
    found = _generated.generated(model, data, data.test.x[:60], torch.nn.Flatten())
    assert found == _generated.Generated(
        why="a Flatten has no affine layer (nn.Linear) whose input could serve as features: give a function "
        "x -> (n, d) instead."
    )


def test_a_model_without_samples_has_no_such_section(psiphi: Any, tmp_path: Path) -> None:
    psiphi.call("train", "ae", "--epochs", 1, "--hidden", 8, "--quiet", "--out", tmp_path)
    assert psiphi.ask("evaluate", tmp_path, "--limit", 50)["generated"] is None


def test_a_map_needs_modes_in_the_plane(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    said = psiphi.call("evaluate", runs / "vae", "--out", tmp_path / "x.png", code=2).stderr
    assert "modes in the plane" in said
    assert modes_map.in_the_plane(grid())
    assert not modes_map.in_the_plane(gaussian())
    assert not modes_map.in_the_plane((torch.zeros(3, 5), 1.0))


def test_adversaries_are_watched_by_what_their_data_are() -> None:
    gan, vae = pp.zoo.gan(2, 2, hidden=(8,)), pp.zoo.vae(2, 1, hidden=(8,))
    toy, moons = pp.data.load("ring:n=100"), pp.data.load("moons:n=100")
    assert _generated.watchers(vae, toy) == ()
    (watch,) = _generated.watchers(gan, toy)
    assert watch == watch_modes(toy.reference)
    (watch,) = _generated.watchers(gan, moons)
    torch.testing.assert_close(watch.data, moons.validation.x)
    (watch,) = _generated.watchers(gan, pp.data.load("moons:n=100,validation=0"))
    assert watch == watch_modes()


def test_training_says_on_stderr_what_it_watched(psiphi: Any, tmp_path: Path) -> None:
    words = [
        "train",
        "gan",
        "--data",
        "ring:n=300",
        "--hidden",
        8,
        "--latent-dim",
        2,
        "--quiet",
        "--out",
        tmp_path,
    ]
    psiphi.call(*words, "--epochs", 2)
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert "sample_spread,sample_nearest,modes_found,modes_held" in header


def test_a_warning_of_collapse_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with _generated.spoken():
        warnings.warn("samples are alike.", ModeCollapseWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: samples are alike.\n"
    with pytest.warns(UserWarning, match="another"), _generated.spoken():
        warnings.warn("another", UserWarning, stacklevel=1)


def test_the_map_marks_what_is_missed() -> None:
    toy = ring()
    half = toy.means[::2].float().repeat(50, 1)
    found = modes_map.modes_map(half, toy, "half")
    assert "of which 4 are found; missed: 1, 3, 5, 7" in modes_map.words(found)
    drawn = plots.svg(modes_map.side_by_side([found, found], 20), "map", modes_map.words(found))
    assert drawn.count("half: 4 of 8 modes") == 2
    assert drawn.count("var(--bare)") >= 2  # crosses
    assert drawn.count("var(--vae)") >= 2
