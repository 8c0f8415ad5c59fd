"""Fill the gaps of a table: a VAE trained through missing values, against the columns' means.

Clinical measurements of 569 tumours and their diagnosis (embedded in scikit-learn); three in ten values are
taken away, from the rows it trains on too.

    python examples/imputation.py
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

import psiphi as pp

table = load_breast_cancer(as_frame=True)
whole = table.data.assign(diagnosis=table.target_names[table.target])
gaps = np.random.default_rng(0).random(whole.shape) < 0.3

data, truth = pp.data.load(whole.mask(gaps)), pp.data.load(whole)  # one seed: the same rows in each split
print(data)

vae = pp.zoo.vae(data.shape, latent_dim=8, hidden=(128,), columns=data.columns)
pp.fit(vae, data, epochs=80, batch_size=32)

x, x_true = data.test.x, truth.test.x
filled = vae.impute(x, samples=500)

centre, spread = vae.statistics.mean, vae.statistics.sigma
missing = x.isnan()
numbers, diagnosis = missing[:, :-1], missing[:, -1]


def error(guess):
    """Root mean squared error over the missing numbers, in units of each column's σ."""
    off = ((guess - x_true) / spread)[:, :-1]
    return float(off[numbers].square().mean().sqrt())


common = data.train.x[:, -1].nanmedian()
right = (filled[:, -1] == x_true[:, -1])[diagnosis].float().mean()
guessed = (common == x_true[:, -1])[diagnosis].float().mean()
print(
    f"{int(numbers.sum())} missing numbers:   VAE {error(filled):.3f} σ, column means {error(centre):.3f} σ"
)
print(f"{int(diagnosis.sum())} missing diagnoses: VAE {right:.0%} right, the commoner one {guessed:.0%}")

print("\nThe first rows with a gap in the diagnosis, filled:")
for row in diagnosis.nonzero().flatten()[:3].tolist():
    code = int(filled[row, -1])
    print(
        f"  {int(missing[row].sum())} of {len(missing[row])} values missing: {data.columns[-1].categories[code]}"
    )
