"""A kill at any moment loses nothing saved, and a resumed run is the uninterrupted one bit for bit."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import psiphi as pp
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.parts import adam
from scripts.train import build, data, train

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "train.py"


class Killed(BaseException):
    """Stands for SIGKILL: nobody may clean up after it."""


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    model = build()
    train(model)
    return state(model)


def test_half_and_resume_is_whole(tmp_path, whole):
    train(build(), tmp_path, epochs=2)
    resumed = build()
    history = train(resumed, tmp_path, epochs=4)
    assert same(state(resumed), whole)
    assert len(history) == 4
    assert (tmp_path / "log.csv").read_text().count("\n") == 5


@pytest.mark.parametrize("row", [1, 2, 3])
def test_kill_between_rows_with_a_schedule(tmp_path, row):
    options = dict(optimizer=adam(1e-2, schedule=pp.training.cosine(warmup=0.1), clip=0.5), epochs=4)
    expected = build()
    train(expected, **options)

    def kill(moment):
        if len(moment.history) == row:
            raise Killed

    with pytest.raises(Killed):
        train(build(), tmp_path, **options, callbacks=[kill])
    resumed = build()
    train(resumed, tmp_path, **options)
    assert same(state(resumed), state(expected))


def test_row_and_checkpoint_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    """Rows are at most LONGEST_ROW rounds apart, so a checkpoint can lie inside an epoch."""
    monkeypatch.setattr("psiphi.training._loop.LONGEST_ROW", 2)
    expected = build()
    train(expected, epochs=2)

    def kill(moment):
        if moment.clock.step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(build(), tmp_path, epochs=2, callbacks=[kill])
    resumed = build()
    train(resumed, tmp_path, epochs=2)
    assert same(state(resumed), state(expected))


class Fault:
    """Lets `after` system calls pass, then fails each one (a full disk) or kills at the first."""

    def __init__(self, monkeypatch, after: int | None, kill: bool):
        self.after, self.kill, self.calls = after, kill, 0
        for name in ("write", "fsync", "replace"):
            real = getattr(os, name)
            monkeypatch.setattr(files.os, name, lambda *a, real=real: self._call(real, *a))
        if kill:
            monkeypatch.setattr(files.Path, "unlink", lambda *a, **k: None)

    def _call(self, real, *arguments):
        self.calls += 1
        if self.after is not None and self.calls > self.after:
            if self.kill:
                raise Killed
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)


def calls_of_a_run(tmp_path, monkeypatch) -> int:
    with monkeypatch.context() as patch:
        fault = Fault(patch, None, False)
        train(build(), tmp_path / "count", epochs=3)
    return fault.calls


@pytest.mark.parametrize("kill", [False, True], ids=["full-disk", "kill"])
def test_every_write_fsync_and_rename_made_to_fail(tmp_path, monkeypatch, kill):
    expected = build()
    train(expected, epochs=3)
    calls = calls_of_a_run(tmp_path, monkeypatch)
    assert calls > 30
    for after in range(calls):
        out = tmp_path / str(after)
        with monkeypatch.context() as patch:
            Fault(patch, after, kill)
            with pytest.raises(Killed if kill else FileError):
                train(build(), out, epochs=3)
        if (out / "checkpoint.json").exists():
            files.read_bundle(out, "checkpoint")
        if (out / "model.json").exists():
            files.read_bundle(out, "model")
        resumed = build()
        train(resumed, out, epochs=3)
        assert same(state(resumed), state(expected)), f"call {after} of {calls}"
        assert same(state(pp.load(out, into=build())), state(expected))


def test_a_fault_leaves_the_old_bundle_or_the_new(tmp_path, monkeypatch):
    old, new = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    with monkeypatch.context() as patch:
        fault = Fault(patch, None, False)
        files.write_bundle(tmp_path / "count", "x", new, {"n": 2})
    seen = set()
    for after in range(fault.calls):
        folder = tmp_path / str(after)
        files.write_bundle(folder, "x", old, {"n": 1})
        with monkeypatch.context() as patch:
            Fault(patch, after, kill=True)
            with pytest.raises(Killed):
                files.write_bundle(folder, "x", new, {"n": 2})
        record, tensors = files.read_bundle(folder, "x")
        assert float(tensors["a"][0]) == record["n"] - 1
        seen.add(record["n"])
        files.write_bundle(folder, "x", new, {"n": 2})
        assert files.read_bundle(folder, "x")[0]["n"] == 2
    assert seen == {1, 2}


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_real_kill(tmp_path, kills):
    epochs = 60
    expected = build()
    train(expected, epochs=epochs)
    delays = random.Random(kills)
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), str(epochs)], cwd=SCRIPT.parent
        )
        deadline = time.monotonic() + 60
        fresh = _stamp(tmp_path)
        while process.poll() is None and _stamp(tmp_path) == fresh and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delays.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        files.read_bundle(tmp_path, "checkpoint")
        assert number or process.returncode == -signal.SIGKILL
    resumed = build()
    train(resumed, tmp_path, epochs=epochs)
    assert same(state(resumed), state(expected))


def _stamp(folder: Path) -> int:
    path = folder / "checkpoint.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def test_resume_refuses_another_run(tmp_path):
    train(build(), tmp_path, epochs=1)
    with pytest.raises(ArgumentError, match="seed = 5"):
        train(build(), tmp_path, epochs=2, seed=6)
    with pytest.raises(ArgumentError, match="batch_size"):
        train(build(), tmp_path, epochs=2, batch_size=8)
    with pytest.raises(ArgumentError, match="data"):
        pp.fit(build(), data() + 1, epochs=2, batch_size=16, seed=5, quiet=True, out=tmp_path, resume=True)


def test_resume_needs_a_folder_and_a_whole_checkpoint(tmp_path):
    with pytest.raises(ArgumentError, match="out="):
        pp.fit(build(), data(), epochs=1, resume=True)
    train(build(), tmp_path, epochs=1)
    weights = tmp_path / "checkpoint.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(FileError, match="SHA-256"):
        train(build(), tmp_path, epochs=2)
