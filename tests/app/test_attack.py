"""`psiphi attack`: what it reads, what it writes, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.registry import attacks

FEW = ("--limit", 24, "--quiet")


def refused(psiphi: Any, *words: object) -> str:
    said = psiphi.call(*words, code=2)
    assert said.stdout == ""
    sentence = said.stderr.strip().split("\n")[-1]
    assert sentence.startswith("psiphi: ")
    assert "Traceback" not in said.stderr
    return sentence


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Path:
    """The classifier of `runs` as torch.export files: fine, for batches of one size, in train mode, and cut short."""
    folder = tmp_path_factory.mktemp("exported")
    inner = pp.load(runs / "classifier")
    x = torch.rand(2, 1, 8, 8)
    any_size = ({0: torch.export.Dim.AUTO},)
    programs = {
        "fine": torch.export.export(inner.eval(), (x,), dynamic_shapes=any_size),
        "fixed": torch.export.export(inner.eval(), (x,)),
        "train": torch.export.export(
            nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train(),
            (x,),
            dynamic_shapes=any_size,
        ),
    }
    for name, program in programs.items():
        torch.export.save(program, folder / f"{name}.pt2")
    (folder / "cut.pt2").write_bytes((folder / "fine.pt2").read_bytes()[:-300])
    (folder / "old.pth").write_bytes(b"")
    return folder


def test_a_torch_export_file_is_the_run_that_it_came_from(psiphi: Any, runs: Path, exported: Path) -> None:
    words = ("--data", "digits", "--threat", "linf:0.1", "--steps", 5, *FEW)
    run, file = psiphi.ask("attack", runs / "classifier", *words), None
    file = psiphi.ask("attack", exported / "fine.pt2", "--trust", *words)
    for name in ("clean_accuracy", "robust_accuracy", "broken", "forwards", "backwards"):
        assert file[name] == run[name], name


EXPORTED = [
    (("fine.pt2",), "add --trust"),
    (("fixed.pt2", "--trust"), "dynamic batch dimension"),
    (("train.pt2", "--trust"), "exported in train mode (dropout)"),
    (("cut.pt2", "--trust"), "cut short"),
    (("none.pt2", "--trust"), "no file"),
    (("old.pth", "--trust"), "never reads"),
]


@pytest.mark.parametrize(("words", "says"), EXPORTED, ids=[each[0][0] for each in EXPORTED])
def test_files_that_are_not_read(psiphi: Any, exported: Path, words: tuple[str, ...], says: str) -> None:
    file, *rest = words
    assert says in refused(psiphi, "attack", exported / file, *rest, "--data", "digits", *FEW)


BAD = [
    (["--attack", "pdg"], "did you mean pgd"),
    (["--threat", "l7:1"], "linf:0.2"),
    (["--threat", "linf"], "needs a radius"),
    (["--attack", "carlini_wagner", "--threat", "l2:1"], "a threat of its own, L2()"),
    (["--attack", "deepfool", "--threat", "l2:0.5", "--eps", "0.2,0.9"], "looks no further than 0.5"),
    (["--eps", "0.2,0.1"], "rising"),
    (["--eps", "small"], "numbers with commas"),
    (["--independent"], "add its radii"),
    (["--shard", "3/2"], "1/3 to 3/3"),
    (["--shard", "two"], "1/3 to 3/3"),
    (["--shard", "30/40"], "no row"),
    (["--bounds", "1,0"], "lower first"),
    (["--bounds", "0,0:1,1,1"], "bounds need"),
    (["--bounds", "0:1:2"], "with a colon between"),
    (["--bounds", "0,0,0:1,1,1"], "one number, or one a channel"),
    (["--mean", "grey"], "--mean is 'grey'"),
    (["--std", "0"], "positive"),
    (["--target", "12"], "the classifier has 10 classes"),
    (["--target", "nearest"], "least-likely"),
    (["--goal", "fame"], "fame"),
    (["--attack", "fgsm", "--confidence", 3], "no argument --confidence"),
    (["--reveal", "labels", "--target", "random"], "labels"),
    (["--reveal", "everything"], "'scores' or 'labels'"),
    (["--budget", 5], "--reveal"),
    (["--limit", 0], "at least 1"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(map(str, each[0])) for each in BAD])
def test_a_sentence(psiphi: Any, runs: Path, words: list[object], says: str) -> None:
    assert says in refused(psiphi, "attack", runs / "classifier", *FEW[:2], *words, "--quiet")


@pytest.mark.parametrize("name", [entry.name for entry in attacks])
def test_every_attack_answers_by_its_name_alone(psiphi: Any, runs: Path, name: str) -> None:
    words: list[object] = ["--set", "steps=5"] if "steps" in attacks[name].parameters else []
    words += ["--set", "bisections=2"] if "bisections" in attacks[name].parameters else []
    record = psiphi.ask("attack", runs / "classifier", "--attack", name, "--limit", 8, "--quiet", *words)
    assert record["attack"].startswith(f"{name}(")
    assert record["rows"] == 8
    assert (record["kind"] == "minimum-norm") == ("curve" in record)


def test_the_curve_is_the_one_of_python(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = ("--threat", "linf:0.1", "--steps", 4, "--eps", "2/255,0.05,0.1", *FEW, "--out", tmp_path)
    found = psiphi.ask("attack", runs / "classifier", *words)["curve"]
    digits = pp.data.load("digits")
    attack = pp.attacks.pgd(pp.attacks.Linf(0.1), steps=4)
    x, y = digits.test.x[:24], digits.test.y[:24]
    curve = attack.curve(pp.load(runs / "classifier"), x, y, eps=[2 / 255, 0.05, 0.1])
    assert found["eps"] == curve.eps.tolist()
    assert found["accuracy"] == curve.accuracy.tolist()
    assert found["clean_accuracy"] == curve.clean_accuracy
    assert found["chance"] == 0.1
    assert found["backwards"] == int(curve.backwards.sum())
    read = pp.attacks.Curve.load(tmp_path / "curve")
    for name in ("eps", "robust", "clean", "forwards", "backwards", "row"):
        assert torch.equal(getattr(read, name), getattr(curve, name)), name
    assert json.loads((tmp_path / "curve.json").read_text())["accuracy"] == found["accuracy"]
    for name in ("attack.png", "curve.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
    text = psiphi.call("attack", runs / "classifier", *words, "--independent").stdout
    assert "ε (L∞)" in text
    assert "mean distance" in text
    assert text.count("Wrote") == 7


def test_a_minimum_norm_attack_draws_its_curve_unasked(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    """The listed radii are round, at most ten, and reach nearly as far as the farthest success; the share at each is
    that of the rows which lie beyond it."""
    words = ("attack", runs / "classifier", "--attack", "deepfool", *FEW, "--out", tmp_path)
    found = psiphi.ask(*words)["curve"]
    result = pp.attacks.Result.load(tmp_path / "result")
    eps, far = torch.tensor(found["eps"]), result.distance[result.broken].max()
    assert 4 <= len(eps) <= 10
    assert far / 2 < eps[-1] <= 1.05 * far
    assert_close(eps, eps[0] * torch.arange(1, len(eps) + 1))
    beyond = (result.distance[:, None] > eps) & ~result.already_wrong[:, None]
    assert_close(torch.tensor(found["accuracy"]), beyond.float().mean(0))
    assert found["norm"] == "L2"
    assert (tmp_path / "curve.png").stat().st_size > 0
    asked = psiphi.ask(*words, "--eps", "0.1,3")["curve"]
    assert asked["eps"] == [0.1, 3.0]
    assert asked["accuracy"][1] == 0


def test_the_bar_names_the_attack_and_counts_rows(psiphi: Any, runs: Path) -> None:
    said = psiphi.call("attack", runs / "classifier", "--eps", "0.05,0.1", "--steps", 3, "--limit", 24).stderr
    assert "pgd Linf(0.1):" in said
    assert "pgd Linf at 2 radii:" in said


@pytest.mark.parametrize("independent", [False, True])
def test_progress_of_a_curve_counts_every_row_of_every_round(independent: bool) -> None:
    digits = pp.data.load("digits")
    model = pp.zoo.classifier(digits.shape, 10, hidden=(16,), seed=0)
    told: list[tuple[int, int]] = []
    pp.attacks.pgd(pp.attacks.Linf(0.1), steps=2, random_start=False).curve(
        model, digits.test.x[:30], eps=[0.01, 0.05, 0.1], independent=independent, batch_size=8,
        on_progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    done, of = zip(*told)
    assert set(of) == {30 * (3 if independent else 2)}
    assert list(done) == sorted(done)
    assert done[-1] == of[-1]


def test_channels_have_their_own_scale(psiphi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalised by the access as by the model itself; targets reached are the class; rows of that class are out."""
    (tmp_path / "colour.py").write_text(
        "import torch\n"
        "from torch import nn\n\n"
        "def bare():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, 4))\n\n"
        "class Scaled(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.inner = bare()\n"
        "    def forward(self, x):\n"
        "        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))\n"
        "        return self.inner((x - mean) / std)\n"
    )
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 3, 4, 4)).astype(np.float32), rng.integers(0, 4, 60)
    np.savez(tmp_path / "colour.npz", x=x, y=y)
    monkeypatch.chdir(tmp_path)
    words = ("--data", "colour.npz", "--steps", 5, "--threat", "linf:8/255", "--target", 2, "--limit", 12)
    scale = ("--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.25", "--bounds", "0,0,0:1,1,1")
    inside = psiphi.ask("attack", "colour:bare", *words, *scale, "--out", "a")
    outside = psiphi.ask("attack", "colour:Scaled", *words, "--out", "b")
    assert inside["robust_accuracy"] == outside["robust_accuracy"]
    one, other = (pp.attacks.Result.load(name + "/result") for name in "ab")
    assert_close(one.x, other.x)
    assert one.provenance["run"]["model_sha256"] != other.provenance["run"]["model_sha256"]
    assert (one.target == 2).all()
    test_y = pp.data.load("colour.npz").test.y[:12]
    assert len(one) == int((test_y != 2).sum()) < 12
    assert (tmp_path / "a" / "attack.png").exists() == bool(one.broken.any())


def test_a_model_in_train_mode_is_said_so(
    psiphi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropping.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    said = psiphi.call("attack", "dropping:build", "--data", "digits", "--attack", "fgsm", "--limit", 8)
    assert "warning: Sequential is in train mode (Dropout)" in said.stderr
    assert ".py:" not in said.stderr


def test_fixed_and_minimum_norm_curves_agree_where_they_meet() -> None:
    """The curve of distances is the share of rows farther than each radius, exactly."""
    from dataclasses import replace

    digits = pp.data.load("digits")
    model = pp.zoo.classifier(digits.shape, 10, hidden=(16,), seed=0)
    result = pp.attacks.pgd(pp.attacks.L2(1.0), steps=3)(model, digits.test.x[:30], digits.test.y[:30])
    with pytest.raises(ValueError, match="one radius only"):
        pp.attacks.Curve.of(result, [0.1])
    found = replace(result, kind="minimum-norm", distance=torch.arange(30.0))
    curve = pp.attacks.Curve.of(found, [0.5, 10.0, 100.0])
    clean = ~found.already_wrong
    failed = clean & ~found.success & ~found.undecided
    for place, radius in enumerate((0.5, 10.0, 100.0)):
        assert torch.equal(curve.robust[:, place], failed | (clean & (torch.arange(30.0) > radius)))
    with pytest.raises(ValueError, match="rising"):
        pp.attacks.Curve.of(found, [0.2, 0.1])


def test_numbered_labels_are_said_of_a_classifier_of_ones_own():
    from psiphi.app._attacking import numbering

    mine = torch.nn.Linear(2, 3)
    assert numbering(mine, ["0", "1", "2"]) == numbering(mine, []) == ""
    assert "3 is 0, 7 is 1;" in numbering(mine, ["3", "7"])
    assert numbering(pp.zoo.classifier((2,), classes=2), ["3", "7"]) == ""


@pytest.mark.parametrize("verb", ["attack", "transfer", "universal", "defend"])
def test_every_verb_says_how_labels_were_numbered_and_which_rows_are_left_out(
    psiphi: Any, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numbered.py").write_text(
        "import torch\ndef build():\n    torch.manual_seed(0)\n    return torch.nn.Linear(3, 2)\nother = build\n"
    )
    rng = np.random.default_rng(0)
    y = np.where(np.arange(60) % 5 == 0, -1, 3 + 4 * rng.integers(0, 2, 60))
    np.savez(tmp_path / "odd.npz", x=rng.random((60, 3)).astype(np.float32), y=y)
    monkeypatch.chdir(tmp_path)
    more = {
        "attack": ("--attack", "fgsm"), "transfer": ("numbered:other", "--attack", "fgsm"),
        "universal": ("--steps", 2), "defend": ("--smooth", 0.1, "--attack", "fgsm", "--draws", 20),
    }[verb]  # fmt: skip
    said = psiphi.call(verb, "numbered:build", *more, "--data", "odd.npz", "--limit", 12).stderr
    assert "3 is 0, 7 is 1; is this the order of the logits?" in " ".join(said.split())
    assert "rows are left out: they have no label." in " ".join(said.split())
