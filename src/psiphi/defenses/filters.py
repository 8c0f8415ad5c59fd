"""Methods of `filter_poison`: each gives every row a score, and says which rows go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from psiphi.basis.counts import check_whole
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.formulas import outlying
from psiphi.models import Penultimate
from psiphi.training import fit
from psiphi.zoo import classifier, pca


@dataclass(frozen=True, eq=False)
class Seen:
    """What a filter works with: rows, labels, the share of poisons expected, a seed, and features of the rows."""

    x: Tensor
    y: Tensor
    fraction: float
    seed: int = 0
    model: nn.Module | None = None
    given: Callable[[Tensor], Tensor] | None = None

    @cached_property
    def features(self) -> Tensor:
        """Of the penultimate layer of the model, or as the function given has it, (n, d), in double precision."""
        if self.given is not None:
            with torch.no_grad():
                found = torch.cat([self.given(part) for part in self.x.split(1024)])
        else:
            found = Penultimate(self._trained if self.model is None else self.model).rows(self.x)
        if len(found) != len(self.x):
            raise DataError(
                f"the features have {len(found)} rows, the data {len(self.x)}: one each is needed."
            )
        return found.detach().flatten(1).double().cpu()

    @cached_property
    def _trained(self) -> nn.Module:
        known = self.y >= 0
        if not known.any():
            raise DataError(
                "no row has a label, and a filter asks which rows fit theirs: give labels of 0 to K − 1."
            )
        found = classifier(
            tuple(self.x.shape[1:]), max(2, int(self.y.max()) + 1), hidden=(128,), seed=self.seed
        )
        fit(found, self.x[known], self.y[known], epochs=10, lr=2e-3, seed=self.seed, quiet=True)
        return found


Verdict = tuple[Tensor, Tensor]
Method = Callable[[Seen], Verdict]


def spectral(margin: float = 1.5, across: bool = False) -> Method:
    """Rows far out along the first singular vector of their label's features.

    margin: of each label, 1.5 × the number of poisons expected go, as published: nobody knows whose label the poisons
    have, so most that go are clean. across: that many go in all, by scores over their label's median.
    Source: Tran, Li, Madry, "Spectral signatures in backdoor attacks", 2018, algorithm 1.
    """
    return Spectral(margin, across)


def clustering(components: int = 10, largest: float = 0.35) -> Method:
    """The smaller of two clusters of a label's features, where it has less than `largest` of the label's rows.

    Features are brought to `components` independent components, half as many as features at most: whitened, all of them
    are alike. A label whose two clusters are of about the same size loses nothing. The score is the silhouette within
    the small cluster.
    Source: Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy, Srivastava, "Detecting backdoor attacks on deep
    neural networks by activation clustering", 2018, section 4 (exclusionary by relative size).
    """
    return Clustering(components, largest)


def reconstruction(
    latent_dim: int | None = None, margin: float = 1.5, across: bool = False, passes: int = 2
) -> Method:
    """Rows that another label's autoencoder draws better: ‖x − r_y(x)‖²/min_{l ≠ y} ‖x − r_l(x)‖², r_l of label l.

    r_l is linear, `zoo.pca` of the rows of label l, with latent_dim numbers a code: by default half the root of x's
    size. passes: the second is learnt without what the first would remove, since poisons bend their label's subspace
    toward themselves. margin, across: as in `spectral`.
    Sources: of the error as a test, Meng, Chen, "MagNet", 2017, section 4.1; of learning again on what is kept,
    Rousseeuw, "Least median of squares regression", 1984. Their join, and the quotient, are psiphi's.
    """
    return Reconstruction(latent_dim, margin, across, passes)


def neighbours(k: int | None = None) -> Method:
    """Rows whose label is not that of most of their k nearest rows' features; the score is the share that disagrees.

    k: by default the number of rows a label, on the mean, and 50 at most.
    Source: Peri et al., "Deep k-NN defense against clean-label data poisoning attacks", 2020, section 3.
    """
    return Neighbours(k)


def _cut(score: Tensor, seen: Seen, margin: float, across: bool) -> Tensor:
    """The rows with the highest scores: margin × the poisons expected, in all or of each label."""
    count = round(margin * seen.fraction * len(score))
    if across:
        return outlying.top(score, count)
    gone = torch.zeros(len(score), dtype=torch.bool)
    for label in seen.y.unique().tolist():
        mine = (seen.y == label).cpu().nonzero().squeeze(1)
        # A label of fewer rows than are to go would vanish: half of it stays.
        gone[mine[outlying.top(score[mine], min(count, len(mine) // 2))]] = True
    return gone


@dataclass(frozen=True)
class Spectral:
    """See `spectral`."""

    margin: float = 1.5
    across: bool = False

    def __call__(self, seen: Seen) -> Verdict:
        y = seen.y.cpu()
        score = outlying.by_label(outlying.spectral, seen.features, y)
        if self.across:
            score = outlying.by_label(lambda s: outlying.over_median(s[:, 0]), score[:, None], y)
        return score, _cut(score, seen, self.margin, self.across)


@dataclass(frozen=True)
class Clustering:
    """See `clustering`."""

    components: int = 10
    largest: float = 0.35

    def __call__(self, seen: Seen) -> Verdict:
        y = seen.y.cpu()
        score, gone = torch.zeros(len(y), dtype=torch.double), torch.zeros(len(y), dtype=torch.bool)
        for label in y.unique().tolist():
            mine = (y == label).nonzero().squeeze(1)
            small, silhouette = self._split(seen.features[mine], seen.seed)
            score[mine] = torch.where(small, silhouette, 0)
            if 0 < int(small.sum()) < self.largest * len(mine):
                gone[mine[small]] = True
        return score, gone

    def _split(self, r: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Which rows are of the smaller cluster, and the silhouette of each, (n,) both."""
        import warnings

        from sklearn.cluster import KMeans
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.metrics import silhouette_samples

        spread = r[:, r.std(0) > 0] if len(r) > 1 else r
        components = min(self.components, len(r) - 1, (spread.shape[1] + 1) // 2)
        if len(r) < 4 or components < 1:
            return torch.zeros(len(r), dtype=torch.bool), torch.zeros(len(r), dtype=torch.double)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            seed = seed % (1 << 32)
            reduced = FastICA(components, random_state=seed, whiten="unit-variance").fit_transform(
                spread.numpy()
            )
            found = KMeans(2, n_init=10, random_state=seed).fit_predict(reduced)  # pyright: ignore[reportArgumentType]
        label = torch.as_tensor(found).long()
        if int(label.max()) == 0:
            return torch.zeros(len(r), dtype=torch.bool), torch.zeros(len(r), dtype=torch.double)
        small = label == int(torch.bincount(label, minlength=2).argmin())
        return small, torch.as_tensor(silhouette_samples(reduced, found)).double()


@dataclass(frozen=True)
class Reconstruction:
    """See `reconstruction`."""

    latent_dim: int | None = None
    margin: float = 1.5
    across: bool = False
    passes: int = 2

    def __post_init__(self) -> None:
        check_whole("passes", self.passes)

    def __call__(self, seen: Seen) -> Verdict:
        x, y = seen.x.flatten(1).cpu(), seen.y.cpu()
        score, gone = torch.zeros(len(y)), torch.zeros(len(y), dtype=torch.bool)
        for turn in range(self.passes):
            score = self._quotient(x, y, ~gone)
            across = self.across and turn == self.passes - 1
            gone = _cut(score, seen, self.margin, across)
        return score, gone

    def _quotient(self, x: Tensor, y: Tensor, kept: Tensor) -> Tensor:
        labels, own = y.unique(return_inverse=True)
        if len(labels) < 2:
            raise DataError(
                "rows are compared between labels, and all have the same: give rows of two labels."
            )
        errors = torch.stack([self._errors(x, x[(y == label) & kept]) for label in labels.tolist()], 1)
        mine = errors.gather(1, own[:, None]).squeeze(1)
        others = errors.scatter(1, own[:, None], torch.inf).amin(1)
        return mine / others.clamp(min=1e-12 * float(errors.max()) or 1.0)

    def _errors(self, x: Tensor, rows: Tensor) -> Tensor:
        """‖x − r(x)‖² of all rows by the autoencoder of some, (n,); by their mean where those are fewer than four."""
        size = x.shape[1]
        latent = max(1, round(size**0.5 / 2)) if self.latent_dim is None else self.latent_dim
        latent = min(latent, size, len(rows) - 2)
        if latent < 1:
            centre = rows.mean(0) if len(rows) else x.mean(0)
            return (x - centre).square().sum(1).double()
        model = pca(size, latent)
        fit(model, rows, quiet=True)
        return (x - model.reconstruct(x)).square().sum(1).double()


@dataclass(frozen=True)
class Neighbours:
    """See `neighbours`."""

    k: int | None = None

    def __post_init__(self) -> None:
        if self.k is not None:
            check_whole("k", self.k)

    def __call__(self, seen: Seen) -> Verdict:
        y = seen.y.cpu()
        k = max(1, min(50, len(y) // max(1, len(y.unique())))) if self.k is None else self.k
        if k >= len(y):
            raise ArgumentError(f"{k} nearest other rows need more than {len(y)} rows: choose a smaller k.")
        return outlying.disagreement(seen.features, y, k), outlying.outvoted(seen.features, y, k)
