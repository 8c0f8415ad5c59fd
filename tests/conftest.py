"""Set before torch is imported: one thread a worker, since the workers already fill the cores."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SOAK = os.environ.get("PSIPHI_SOAK") == "1"
ROOT = Path(__file__).resolve().parents[1]

# Derandomised: a red test is red for everyone, and again tomorrow. No deadline: machines differ.
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("soak", settings.get_profile("default"), max_examples=5000)
settings.load_profile("soak" if SOAK else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if SOAK or "slow" in (config.option.markexpr or ""):
        return
    skip = pytest.mark.skip(reason="slow: run it with `make soak` or `-m slow`")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets that are not part of the project; tests that need it skip without it."""
    folder = Path(os.environ.get("PSIPHI_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; name their folder in PSIPHI_DATA")
    return folder
