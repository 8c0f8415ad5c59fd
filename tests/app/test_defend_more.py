"""`psiphi defend --smooth` and `--detect`: the numbers are those of Python, the files, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import psiphi as pp

FEW = ("--limit", 20, "--steps", 3, "--quiet")
VOTES = ("--votes", 60, "--alpha", 0.01, "--draws", 2)


def rows() -> tuple[Any, Any, Any]:
    digits = pp.data.load("digits")
    return digits, digits.test.x[:20], torch.as_tensor(digits.test.y[:20])


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.width > 300


# ----------------------------------------------------------------------------------------------- smoothing
@pytest.fixture(scope="module")
def certified(psiphi: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("smooth") / "out"
    words = ("--smooth", 0.1, *VOTES, "--eps", "0.05,0.1", "--out", folder)
    return folder, psiphi.ask("defend", runs / "classifier", *words, *FEW)


def test_the_certificate_is_that_of_python(certified: tuple[Path, Any], runs: Path) -> None:
    folder, record = certified
    _, x, y = rows()
    whole = pp.defenses.smooth(pp.load(runs / "classifier"), 0.1, draws=2).certify(x, n=60, alpha=0.01)
    saved = pp.defenses.Certificate.load(folder / "certificate")
    assert torch.equal(saved.radius, whole.radius)
    assert torch.equal(saved.counts, whole.counts)
    assert record["abstained"] == int(whole.abstained.sum())
    for level in record["levels"]:
        assert level["certified"] == whole.accuracy(y, level["radius"]).as_dict()
    assert record["bare"]["hits"] == int((pp.load(runs / "classifier").predict(x) == y).sum())


def test_attacked_rows_stand_beside_the_certified_ones(certified: tuple[Path, Any], runs: Path) -> None:
    levels = certified[1]["levels"]
    assert [each["radius"] for each in levels] == [0.0, 0.05, 0.1]
    _, x, y = rows()
    safe = pp.defenses.smooth(pp.load(runs / "classifier"), 0.1, draws=2)
    assert levels[0]["attacked"] == safe.outcome(x, y, 60, 0.01).as_dict()
    assert levels[0]["forwards"] == 0
    for each in levels:
        assert sum(each["attacked"][name]["hits"] for name in ("right", "wrong", "withheld")) == 20
        # α = 0.01 a row: more than one certified row that is confidently wrong has probability 0.02
        assert each["certified"]["hits"] <= 20 - each["attacked"]["wrong"]["hits"] + 1
    for each in levels[1:]:
        attack = pp.attacks.pgd(pp.attacks.L2(each["radius"]), steps=3)
        found = attack(pp.access.expectation(safe, draws=1, verify=2), x, y)
        assert each["attack"] == repr(attack)
        assert each["attacked"] == safe.outcome(found.x, y, 60, 0.01).as_dict()
        assert each["backwards"] == 2 * int(found.backwards.sum()) > 0


def test_its_files(certified: tuple[Path, Any]) -> None:
    folder, record = certified
    assert is_picture(folder / "smooth.png")
    assert json.loads((folder / "summary.json").read_text()) == record
    assert all(Path(name).exists() for name in record["files"])
    assert record["curve"]["accuracy"][-1] == 0.0
    assert record["curve"]["accuracy"][0] == record["levels"][0]["certified"]["value"]


def test_a_denoiser_stands_in_front(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    dae = pp.zoo.denoising_ae((1, 8, 8), corruption="gaussian:0.25", hidden=(16,), latent_dim=8)
    pp.fit(dae, pp.data.load("digits").train.x, steps=30, quiet=True)
    pp.save(dae, tmp_path / "dae")
    words = ("--smooth", 0.25, "--with", tmp_path / "dae", *VOTES, "--eps", "0.1")
    said = psiphi.call("defend", runs / "classifier", *words, *FEW).stdout
    assert "denoiser=" in said
    assert "60 votes a row" in said
    assert "Certified is a lower bound" in said


# ----------------------------------------------------------------------------------------------- detection
@pytest.fixture(scope="module")
def fine(psiphi: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PCA with codes enough to see what is strange."""
    folder = tmp_path_factory.mktemp("fine") / "pca"
    psiphi.call("train", "pca", "--latent-dim", 30, "--quiet", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def detected(
    psiphi: Any, runs: Path, fine: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("detect") / "out"
    words = ("--detect", "reconstruction", "--with", fine, "--alarm", 0.1, "--threat", "linf:0.4")
    few = ("--limit", 20, "--steps", 20, "--quiet")
    return folder, psiphi.ask("defend", runs / "classifier", *words, "--out", folder, *few)


def test_the_detector_is_that_of_python(detected: tuple[Path, Any], runs: Path, fine: Path) -> None:
    record = detected[1]
    digits, x, y = rows()
    classifier = pp.load(runs / "classifier")
    detector = pp.defenses.detect(pp.load(fine), digits.validation, alarm=0.1)
    assert record["threshold"] == pytest.approx(float(detector.threshold))
    assert record["alarms"]["hits"] == int(detector.flags(digits.test.x).sum())
    assert record["alarms"]["n"] == len(digits.test)
    guarded = detector.guard(classifier)
    assert record["clean"] == guarded.outcome(x, y).as_dict()
    attack = pp.attacks.pgd(pp.attacks.Linf(0.4), steps=20)
    points = {"unaware": attack(classifier, x, y).x, "aware": attack(guarded, x, y).x}
    for name, each in record["attackers"].items():
        assert each["outcome"] == guarded.outcome(points[name], y).as_dict()
        fooled = (classifier.predict(x) == y) & (classifier.predict(points[name]) != y)
        told = detector.evaluate(digits.test.x[20:], points[name][fooled])
        assert each["caught"] == told.caught.as_dict()
        assert each["auroc"] == pytest.approx(told.auroc)


def test_who_knows_it_passes_more_often(detected: tuple[Path, Any]) -> None:
    told = detected[1]["attackers"]
    assert told["aware"]["caught"]["value"] < told["unaware"]["caught"]["value"] - 0.3
    assert told["aware"]["outcome"]["wrong"]["hits"] > told["unaware"]["outcome"]["wrong"]["hits"]


def test_who_knows_it_may_send_the_points_of_who_does_not(psiphi: Any, runs: Path, fine: Path) -> None:
    words = ("--detect", "reconstruction", "--with", fine, "--alarm", 0.1, "--threat", "linf:0.15")
    record = psiphi.ask("defend", runs / "classifier", *words, *FEW)
    hits = [each["outcome"]["wrong"]["hits"] for each in record["attackers"].values()]
    assert max(hits) < record["either"]["hits"] <= sum(hits)


def test_the_files_of_a_detector(detected: tuple[Path, Any]) -> None:
    folder, record = detected
    assert is_picture(folder / "detect.png")
    assert json.loads((folder / "summary.json").read_text()) == record


def test_the_distance_of_codes_for_people(psiphi: Any, runs: Path) -> None:
    words = ("--detect", "latent", "--with", runs / "vae", "--threat", "linf:0.2")
    said = psiphi.call("defend", runs / "classifier", *words, *FEW).stdout
    assert "score=latent" in said
    assert "the number to report" in said
    assert "False alarms on 359 test rows" in said


def test_nobody_fooled_is_no_error(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = ("--detect", "reconstruction", "--with", runs / "pca", "--threat", "linf:0", "--out", tmp_path)
    record = psiphi.ask("defend", runs / "classifier", *words, *FEW)
    assert {each["auroc"] for each in record["attackers"].values()} == {None}
    assert record["attackers"]["aware"]["caught"]["n"] == 0
    assert record["files"] == [str(tmp_path / "summary.json")]


# ----------------------------------------------------------------------------------------------- sentences
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--smooth", -1), "sigma is a finite noise level above 0"),
        (("--smooth", 0.1, "--threat", "linf:0.1"), "a certificate is of the L2 ball"),
        (("--smooth", 0.1, "--detect", "density"), "--detect is of detection, and this is smoothing"),
        (("--smooth", 0.1, "--tune"), "--tune is of purification, and this is smoothing"),
        (("--smooth", 0.1, "--with", "{pca}"), "pca cannot denoise"),
        (("--smooth", 0.1, "--with", "{pca}", "--with", "{vae}"), "--smooth takes one model; got 2"),
        (("--smooth", 0.1, "--attack", "ddn"), "ddn looks for the least change"),
        (("--smooth", 0.1, "--eps", "0"), "--eps 0 names no radius above 0"),
        (("--smooth", 0.1, "--alpha", 2), "strictly between 0 and 1"),
        (("--smooth", 0.1, "--votes", 0), "n is a whole number"),
        (("--detect", "reconstruction"), "name the model whose score it is"),
        (("--detect", "smell", "--with", "{pca}"), "there is no score 'smell'"),
        (("--detect", "density", "--with", "{pca}", "--alarm", 0.001), "needs 999 validation rows"),
        (("--detect", "latent", "--with", "{classifier}"), "classifier cannot encode"),
        (("--detect", "density", "--with", "{pca}", "--draws", 3), "--draws is of random defences"),
        (("--detect", "density", "--with", "{pca}", "--votes", 3), "--votes is of smoothing"),
        (("--with", "{vae}", "--alarm", 0.1), "--alarm is of detection, and this is purification"),
        (("--with", "{vae}", "--eps", "0.1"), "--eps is of smoothing, and this is purification"),
    ],
)
def test_bad_input_is_a_sentence(psiphi: Any, runs: Path, words: tuple[Any, ...], said: str) -> None:
    places = {name: runs / name for name in ("classifier", "vae", "pca")}
    told = [str(word).format(**places) for word in words]
    answer = psiphi.call("defend", runs / "classifier", *told, "--limit", 8, "--quiet", code=2)
    assert said in " ".join(answer.stderr.split())
    assert answer.stdout == ""
