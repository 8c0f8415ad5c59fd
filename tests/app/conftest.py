"""Runs that the command line made once, for every test that needs one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from psiphi.app.cli import app


def call(*words: object, code: int = 0) -> SimpleNamespace:
    """Run the command line in this process; its exit code must be `code`."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}"
    return SimpleNamespace(stdout=result.stdout, stderr=result.stderr)


def ask(*words: object, code: int = 0) -> Any:
    """Run it with --json; stdout must be one JSON document."""
    return json.loads(call(*words, "--json", code=code).stdout)


@pytest.fixture(scope="session")
def psiphi() -> Any:
    return SimpleNamespace(call=call, ask=ask)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a classifier and PCA, trained by `psiphi train` for a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = ["--epochs", 2, "--hidden", 16, "--quiet"]
    call("train", "vae", "--latent-dim", 3, "--likelihood", "gaussian", *tiny, "--out", folder / "vae")
    call("train", "classifier", *tiny, "--lr", 0.01, "--out", folder / "classifier")
    call("train", "pca", "--latent-dim", 3, "--quiet", "--out", folder / "pca")
    return folder
