"""A table of yours with gaps and typing errors: fill the ones, find the others, with one model.

Measurements of 569 tumours and their diagnosis (embedded in scikit-learn). Three in ten values are taken away, from
the rows that train too; in a fifth of the test rows one number slips to ten times itself. Needs psiphi[tables].

    python examples/own_table.py
"""

from pathlib import Path

import numpy as np
import torch
from _shared import size
from sklearn.datasets import load_breast_cancer

import psiphi as pp

table = load_breast_cancer(as_frame=True)
whole = table.data.assign(diagnosis=table.target_names[table.target])
gaps = np.random.default_rng(0).random(whole.shape) < 0.3
Path("runs").mkdir(exist_ok=True)
whole.mask(gaps).to_csv("runs/own_table.csv", index=False)

data = pp.data.load("runs/own_table.csv")  # numbers, words, empty fields: as they stand in the file
print(data)
vae = pp.zoo.vae(data.shape, latent_dim=8, hidden=(128,), columns=data.columns)
pp.fit(vae, data, epochs=size(80, 5), batch_size=32)

# Gaps: what would have stood there?
x, truth = data.test.x, pp.data.load(whole).test.x  # one seed: the same rows
filled = vae.impute(x, samples=size(500, 20))
centre, spread = vae.statistics.mean, vae.statistics.sigma
numbers, words = x.isnan()[:, :-1], x.isnan()[:, -1]


def error(guess):
    """Root mean squared error over the missing numbers, in units of each column's σ."""
    return float(((guess - truth) / spread)[:, :-1][numbers].square().mean().sqrt())


common = data.train.x[:, -1].nanmedian()
right, guessed = ((each == truth[:, -1])[words].float().mean() for each in (filled[:, -1], common))
print(
    f"{int(numbers.sum())} missing numbers:   VAE {error(filled):.3f} σ, column means {error(centre):.3f} σ"
)
print(f"{int(words.sum())} missing diagnoses: VAE {right:.0%} right, the commoner one {guessed:.0%}")

# Errors: which rows cannot be? The score of a row is that of what is seen of it.
wrong, seen = x.clone(), ~x.isnan()
rng = np.random.default_rng(1)
rows = rng.choice(len(x), len(x) // 5, replace=False)
for row in rows:
    wrong[row, rng.choice(seen[row, :-1].nonzero().flatten().numpy())] *= 10
score = vae.anomaly_score(wrong)
first = score.argsort(descending=True)[: len(rows)]
print(
    f"\n{len(rows)} of {len(x)} rows have a slip; of the {len(rows)} strangest rows, {np.isin(first, rows).sum()} do"
)

off = ((wrong - vae.reconstruct(wrong)) / spread)[:, :-1].abs().nan_to_num()
column = off[torch.as_tensor(rows)].argmax(1)
where = (wrong != x)[torch.as_tensor(rows)][:, :-1] & seen[torch.as_tensor(rows)][:, :-1]
told = int(where[torch.arange(len(rows)), column].sum())
print(f"the number farthest from what the model expects of the row is the slip in {told} of {len(rows)}")
