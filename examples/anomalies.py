"""Odd rows in tables: OutlierDetector as it comes, against isolation forest and nearest neighbours.

A random half of the normal rows to learn from; the other half and the odd rows to tell apart; nothing is tuned.

    python examples/anomalies.py          # ADBench; without it, tumours (embedded in scikit-learn)
"""

import numpy as np
from _shared import shared, size
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import psiphi as pp

TABLES = [
    *("42_WBC", "4_breastw", "6_cardio", "14_glass", "18_Ionosphere"),
    *("29_Pima", "37_Stamps", "45_wine", "40_vowels", "20_letter"),
]
SEEDS = size(3, 1)

folder = shared("adbench", "malignant among benign tumours serve instead")
if folder:
    tables = {}
    for name in TABLES:
        with np.load(folder / f"{name}.npz") as file:
            tables[name.partition("_")[2]] = file["X"].astype(float), file["y"].astype(int)
else:
    X, benign = load_breast_cancer(return_X_y=True)
    tables = {"tumours": (X, 1 - benign)}

detectors = {
    "OutlierDetector": lambda seed: pp.estimators.OutlierDetector(steps=size(1500, 50), random_state=seed),
    "isolation forest": lambda seed: IsolationForest(random_state=seed),
    "local outlier factor": lambda seed: make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
}

print(f"{'AUROC, %':<14} {'rows':>6} {'odd':>5}", *(f"{name:>21}" for name in detectors))
every = []
for name, (X, y) in tables.items():
    found = np.zeros((len(detectors), SEEDS))
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
        seen, held = order[: len(order) // 2], np.r_[order[len(order) // 2 :], np.flatnonzero(y)]
        for i, make in enumerate(detectors.values()):
            scores = make(seed).fit(X[seen]).score_samples(X[held])
            found[i, seed] = 100 * roc_auc_score(y[held], -scores)
    every.append(found.mean(1))
    print(
        f"{name:<14} {len(X):>6} {y.sum():>5}",
        *(f"{m:>14.1f} ± {s:>4.1f}" for m, s in zip(found.mean(1), found.std(1))),
        flush=True,
    )
print(f"{'mean':<27}", *(f"{mean:>21.1f}" for mean in np.mean(every, 0)))
