"""Anomaly detection on twenty tables: every detector in one configuration, by two protocols."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from psiphi.basis.errors import DataError, FileError
from psiphi.estimators._outliers import OutlierDetector
from psiphi.formulas.detection import auroc, count, levels
from psiphi.repro._recipe import Job, Recipe, Row, find

Table = tuple[np.ndarray, np.ndarray]  # X (n, d), y (n,), 1 for odd rows
Method = Callable[
    [np.ndarray, np.ndarray, int], np.ndarray
]  # training rows, rows, seed -> strangeness of rows

LEAST_ROWS = 1000  # the published protocol resamples smaller tables to so many
NEIGHBOURS = 5
PUBLISHED = "DTE_table_aucroc_semi.csv"
SHOWN = ("VAE", "IForest", "DDPM", "ICL", "KNN", "DTE-NP")  # columns of the published table


def detector(model: str = "mixtures", **arguments: Any) -> Method:
    """`OutlierDetector`, trained on the first rows, asked of the second."""

    def strange(train: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
        found = OutlierDetector(model, random_state=seed, model_args=arguments or None).fit(train)
        return -found.score_samples(x)

    return strange


def nearest(train: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """Distance to the fifth nearest training row, columns in units of their standard deviation."""
    mean, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 0, scale, 1)
    found = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit((train - mean) / scale)
    return found.kneighbors((x - mean) / scale)[0][:, -1]


def forest(train: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """Isolation forest as scikit-learn has it."""
    return -IsolationForest(random_state=seed).fit(train).score_samples(x)


METHODS: dict[str, Method] = {
    "detector": detector(),
    "mixture": detector("gaussian_mixture"),
    "vae": detector("vae"),
    "dae": detector("denoising_ae", latent_dim=64),
    "pca": detector("pca"),
    "knn": nearest,
    "forest": forest,
}


def published(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, other rows and their labels: the first half of the normal rows in the order of the file.

    A table of fewer than 1000 rows is resampled to 1000 with replacement before, so that rows to judge repeat
    training rows: it rewards memory.
    """
    if len(X) < LEAST_ROWS:
        drawn = np.random.default_rng(seed).choice(len(X), LEAST_ROWS)
        X, y = X[drawn], y[drawn]
    return _halved(X, y, np.flatnonzero(y == 0))


def honest(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, other rows and their labels: a random half of the normal rows, nothing resampled."""
    return _halved(X, y, np.random.default_rng(seed).permutation(np.flatnonzero(y == 0)))


def _halved(X: np.ndarray, y: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rest = np.ones(len(X), dtype=bool)
    rest[normal[: len(normal) // 2]] = False
    return X[~rest], X[rest], y[rest]


PROTOCOLS = {"published": published, "honest": honest}


@dataclass(frozen=True)
class Setting:
    """How many seeds, which detectors, and which tables (all where empty)."""

    seeds: int
    methods: tuple[str, ...] = tuple(METHODS)
    tables: tuple[str, ...] = ()


def tables(folder: Path, wanted: tuple[str, ...] = ()) -> dict[str, Table]:
    """The tables of a folder by name, X as float64, in the order of their names."""
    found: dict[str, Table] = {}
    for path in sorted(folder.glob("*.npz")):
        name = path.stem.split("_", 1)[-1]
        if wanted and name not in wanted:
            continue
        with np.load(path, allow_pickle=False) as file:
            if not {"X", "y"} <= set(file):
                raise DataError(f"{path} holds {', '.join(file)}; a table needs X and y.")
            found[name] = np.asarray(file["X"], dtype=np.float64), np.asarray(file["y"]).astype(int).ravel()
    if missing := sorted(set(wanted) - set(found)):
        raise FileError(f"{folder} has no table called {', '.join(missing)}; it has {', '.join(found)}.")
    return found


def area(strange: np.ndarray, y: np.ndarray) -> float:
    """AUROC in %: how often an odd row is stranger than a normal one."""
    normal, odd = levels(torch.from_numpy(strange[y == 0]), torch.from_numpy(strange[y == 1]))
    return 100 * float(auroc(count(normal, odd, len(y))))


def areas(data: dict[str, Table], setting: Setting, protocol: str, seed: int, log: Any) -> np.ndarray:
    """AUROC of every table, seed and method, (tables, seeds, methods); `log` gets a line a table."""
    found = np.empty((len(data), setting.seeds, len(setting.methods)))
    for i, (name, (X, y)) in enumerate(data.items()):
        for s in range(setting.seeds):
            train, x, truth = PROTOCOLS[protocol](X, y, seed + s)
            for j, method in enumerate(setting.methods):
                found[i, s, j] = area(METHODS[method](train, x, seed + s), truth)
        log(_line(name, found[i].mean(0)))
    return found


def _line(name: str, numbers: Any) -> str:
    return f"{name:14s}" + "".join(f"{each:10.2f}" for each in numbers)


def _beside(folder: Path, names: Any) -> dict[str, dict[str, float]]:
    """The published AUROC by table and detector, where the folder holds the published table."""
    path = folder / PUBLISHED
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = {row["dataset"].lower(): row for row in csv.DictReader(file)}
    return {
        name: {each: float(rows[name.lower()][f"{each}_mean"]) for each in SHOWN}
        for name in names
        if name.lower() in rows
    }


def tabled(folder: Path, setting: Setting, seed: int = 0, log: Any = print) -> dict[str, Any]:
    """Both protocols' tables: by protocol the methods, AUROC by table, means and standard errors over seeds.

    The standard error is that of the mean over tables, from the spread of that mean between seeds.
    """
    data, result = tables(folder, setting.tables), {}
    for protocol in PROTOCOLS:
        beside = _beside(folder, data) if protocol == "published" else {}
        log(f"{protocol} protocol, AUROC in %, mean of {setting.seeds} seeds")
        log(" " * 14 + "".join(f"{each:>10s}" for each in setting.methods))
        found = areas(data, setting, protocol, seed, log)
        by_seed = found.mean(0)
        spread = by_seed.std(0, ddof=1) / setting.seeds**0.5 if setting.seeds > 1 else by_seed[0] * np.nan
        log(_line("mean", by_seed.mean(0)))
        log(_line("standard error", spread))
        if beside:
            means = {each: float(np.mean([row[each] for row in beside.values()])) for each in SHOWN}
            log("published      " + ", ".join(f"{each} {value:.2f}" for each, value in means.items()))
        result[protocol] = dict(
            methods=setting.methods,
            tables={
                name: dict(zip(setting.methods, found[i].mean(0).tolist())) for i, name in enumerate(data)
            },
            mean=dict(zip(setting.methods, by_seed.mean(0).tolist())),
            standard_error=dict(zip(setting.methods, spread.tolist())),
            published=beside,
        )
    return result


QUICK, FULL = Setting(seeds=1), Setting(seeds=5)


def run(
    quick: bool = True, folder: str | Path | None = None, seed: int = 0, log: Any = print
) -> dict[str, Any]:
    """`tabled` of the quick setting (one seed) or the full one (five); folder: as in `Recipe.run`."""
    return tabled(find("adbench", folder), QUICK if quick else FULL, seed, log)


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Mean AUROC of every detector by both protocols, and the detector's lead where nothing is resampled."""
    result = tabled(job.folder, setting, job.seed, job.log)
    means = {name: result[name]["mean"] for name in PROTOCOLS}
    found = {f"{name}: {method}": value for name in means for method, value in means[name].items()}
    ours = means["honest"]["detector"]
    return found | {f"honest: detector − {each}": ours - means["honest"][each] for each in ("knn", "forest")}


def _rows() -> tuple[Row, ...]:
    known = {"vae": 83.2, "knn": 89.95, "forest": 85.7, "detector": 90.09}
    judged = {"detector": 90.5, "vae": 87.0}
    first = [
        Row(f"published: {each}", known.get(each), judged.get(each), judged.get(each), "%", higher=True)
        for each in METHODS
    ]
    second = [Row(f"honest: {each}", unit="%", higher=True) for each in METHODS]
    lead = [Row(f"honest: detector − {each}", None, 0.5, 0.5, "%", higher=True) for each in ("knn", "forest")]
    return (*first, *second, *lead)


RECIPE = Recipe(
    name="adbench",
    reference='Livernoche et al., "On diffusion modeling for anomaly detection", 2024; Han et al., "ADBench", 2022.',
    what="AUROC averaged over 20 tables, detectors trained on half of the normal rows.",
    rows=_rows(),
    quick=QUICK,
    full=FULL,
    measure=measure,
    needs="adbench",
    differs="the published number beside `detector` is that of the best published detector, DTE-NP; `vae`, `knn` and "
    "`forest` are ours under the published protocol, which was found by matching KNN; the honest protocol has no "
    "published numbers.",
)
