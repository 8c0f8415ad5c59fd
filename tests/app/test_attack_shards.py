"""`psiphi attack --shard` and `psiphi merge`: the parts of a run are the run, row by row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from psiphi.attacks import Curve, Result
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

EXACT = ("success", "undecided", "already_met", "already_wrong", "forwards", "backwards", "row")
RUN = ("--threat", "linf:0.15", "--steps", 6, "--eps", "0.05,0.1,0.2", "--limit", 40, "--seed", 3)


@pytest.fixture(scope="module")
def shards(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and the same in three shards."""
    from .conftest import call

    folder = tmp_path_factory.mktemp("shards")
    words = ("attack", runs / "classifier", *RUN, "--quiet")
    call(*words, "--out", folder / "whole")
    for r in (1, 2, 3):
        call(*words, "--shard", f"{r}/3", "--out", folder / str(r))
    return folder


def test_merged_shards_are_the_whole_run(psiphi: Any, shards: Path, tmp_path: Path) -> None:
    record = psiphi.ask("merge", shards / "3", shards / "1", shards / "2", "--out", tmp_path)
    whole, merged = (Result.load(folder / "result") for folder in (shards / "whole", tmp_path))
    assert len(whole) == 40
    for name in EXACT:
        assert torch.equal(getattr(merged, name), getattr(whole, name)), name
    for name in ("x", "distance", "score"):
        assert_close(getattr(merged, name), getattr(whole, name), rtol=1e-6, atol=1e-6)
    one, other = (Curve.load(folder / "curve") for folder in (shards / "whole", tmp_path))
    for name in ("robust", "clean", "row", "eps", "forwards", "backwards"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    told = json.loads((shards / "whole" / "summary.json").read_text())
    for name in ("rows", "broken", "undecided", "robust_accuracy", "clean_accuracy", "forwards", "curve"):
        assert record[name] == told[name], name
    assert merged.provenance["run"]["shard"] is None
    assert merged.provenance["parts"] == 3
    for name in ("curve.png", "summary.json", "result.npz"):
        assert (tmp_path / name).stat().st_size > 0


def test_random_targets_are_those_of_the_row(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = ("attack", runs / "classifier", "--target", "random", "--steps", 3, "--limit", 14, "--quiet")
    psiphi.call(*words, "--out", tmp_path / "whole")
    psiphi.call(*words, "--shard", "2/2", "--out", tmp_path / "part")
    whole, part = (Result.load(tmp_path / name / "result") for name in ("whole", "part"))
    assert part.row.tolist() == list(range(1, 14, 2))
    assert whole.target is not None
    assert part.target is not None
    assert torch.equal(part.target, whole.target[part.row])


def test_shards_of_a_minimum_norm_attack(psiphi: Any, runs: Path, tmp_path: Path) -> None:
    words = ("attack", runs / "classifier", "--attack", "deepfool", "--limit", 14, "--quiet")
    whole = psiphi.ask(*words, "--out", tmp_path / "whole")
    for r in (1, 2):
        psiphi.call(*words, "--shard", f"{r}/2", "--out", tmp_path / str(r))
    merged = psiphi.ask("merge", tmp_path / "2", tmp_path / "1", "--out", tmp_path / "merged")
    for name in ("robust_accuracy", "broken", "forwards", "backwards"):
        assert merged[name] == whole[name], name
    one, other = (Result.load(tmp_path / name / "result") for name in ("whole", "merged"))
    assert_close(other.distance, one.distance, rtol=1e-6, atol=1e-6)
    assert merged["curve"]["accuracy"] == whole["curve"]["accuracy"]
    assert (tmp_path / "merged" / "curve.png").stat().st_size > 0


def _refused(psiphi: Any, *words: object) -> str:
    return psiphi.call("merge", *words, code=2).stderr


def test_what_is_missing_or_twice(psiphi: Any, shards: Path, tmp_path: Path) -> None:
    to = ("--out", tmp_path / "merged")
    said = _refused(psiphi, shards / "1", shards / "3", *to)
    assert "13 of 40 rows are missing (1, 4, 7, 10, 13, …); there are the shards 1/3, 3/3" in said
    assert "row 0 is in" in _refused(psiphi, shards / "1", shards / "2", shards / "3", shards / "1", *to)
    assert "nowhere" in _refused(psiphi, tmp_path / "nowhere", *to)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seed", 4), "the seed (3 and 4)"),
        (("--steps", 7), "the attack (pgd(Linf(0.15), steps=6"),
        (("--limit", 39), "the data ("),
        (("--eps", "0.05,0.1"), "the radii of the curve"),
        (("--target", "random"), "the target (None and random)"),
    ],
)
def test_parts_of_other_runs(
    psiphi: Any, runs: Path, shards: Path, tmp_path: Path, options: tuple[object, ...], says: str
) -> None:
    words = ("attack", runs / "classifier", *RUN, "--quiet", "--shard", "2/3", *options)
    psiphi.call(*words, "--out", tmp_path / "other")
    said = _refused(psiphi, shards / "1", tmp_path / "other", shards / "3", "--out", tmp_path / "merged")
    assert says in said
    assert "attack again with the same options" in said


def test_another_model_or_version(psiphi: Any, shards: Path, tmp_path: Path) -> None:
    for key, value, says in (
        ("run", "0" * 64, "the model's weights ("),
        ("versions", "0.0", "the versions ({'torch': '"),
    ):
        shutil.copytree(shards / "2", tmp_path / key)
        record = files.read_json(tmp_path / key / "result.json")
        record["provenance"][key] |= {"model_sha256": value} if key == "run" else {"torch": value}
        files.write_json(tmp_path / key / "result.json", record)
        said = _refused(psiphi, shards / "1", tmp_path / key, shards / "3", "--out", tmp_path / "merged")
        assert says in said


def test_results_of_python_alone_are_no_shards(psiphi: Any, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards / "2", tmp_path / "own")
    record = files.read_json(tmp_path / "own" / "result.json")
    del record["provenance"]["run"]
    files.write_json(tmp_path / "own" / "result.json", record)
    for folders in ((shards / "1", tmp_path / "own"), (tmp_path / "own", shards / "1")):
        assert "was not written by psiphi attack" in _refused(psiphi, *folders, "--out", tmp_path / "merged")


def test_results_join_in_python(shards: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    parts = [Result.load(shards / str(r) / "result") for r in (2, 3, 1)]
    joined = Result.cat(parts)
    assert joined.row.tolist() == list(range(40))
    assert torch.equal(joined.x[parts[0].row], parts[0].x)
    assert_close(joined.accuracy, Result.load(shards / "whole" / "result").accuracy)
    moved = joined.distance[joined.broken].double()
    assert f"mean {moved.mean():.4g}" in joined.summary()
    assert f"median distance {moved.median():.4g}" in joined.summary()
    joined.save(tmp_path / "joined")
    assert torch.equal(Result.load(tmp_path / "joined.npz").x, joined.x)
    with pytest.raises(ArgumentError, match="two of the parts"):
        Result.cat([parts[0], parts[0]])
    with pytest.raises(ArgumentError, match="`target`"):
        Result.cat([parts[0], replace(parts[1], target=parts[1].row)])
    with pytest.raises(ArgumentError, match="at least"):
        Result.cat([])
    curves = [Curve.load(shards / str(r) / "curve") for r in (2, 3, 1)]
    assert torch.equal(Curve.cat(curves).robust[curves[1].row], curves[1].robust)
    with pytest.raises(ArgumentError, match="the same radii"):
        Curve.cat([curves[0], replace(curves[1], eps=curves[1].eps / 2)])
