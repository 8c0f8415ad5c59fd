"""Laws 14c, 28d and 28e: what is counted, intervals, information and areas, against other libraries and definitions."""

from __future__ import annotations

import warnings
from math import inf, log, nan

import numpy as np
import torch
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas.conformal import Beta, least_rows, p_values, rate, spared, threshold
from psiphi.formulas.detection import (
    auroc,
    auroc_interval,
    average_precision,
    count,
    hanley_mcneil,
    levels,
    mahalanobis,
    roc,
    whitening,
)
from psiphi.formulas.information import (
    controlled_means,
    entropy,
    information_gap,
    miller_madow,
    mutual_information,
    rate_parts,
)
from psiphi.formulas.intervals import Mean, Share, at_least, clopper_pearson, normal, student, wilson
from psiphi.formulas.smoothing import radius, two_sided
from psiphi.laws._law import Measured, equal, law

SEED = 28
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


@law("28d", "intervals of shares and means are scipy's, and cover what they say")
def intervals_of_counts() -> list[Measured]:
    """Wilson, Clopper and Pearson, Student, the normal law, and the two-sided test of the certificate: to 10⁻⁹."""
    from scipy import stats

    cases = [
        (0, 7, 0.95),
        (7, 7, 0.95),
        (3, 7, 0.9),
        (40, 100, 0.99),
        (1, 1, 0.5),
        (1, 30, 0.95),
        (29, 30, 0.95),
    ]
    w, c = zip(*((wilson(*each), clopper_pearson(*each)) for each in cases))
    fits = [stats.binomtest(hits, n) for hits, n, _ in cases]
    hits = torch.tensor([[0, 1, 5], [17, 19, 20]])
    low = at_least(hits, 20, 0.01)
    tail = stats.binom.sf(hits.numpy() - 1, 20, low.numpy())
    values = _normal(9) + 3
    s, one = student(values, 0.9), student(values[:1])
    t = stats.t.interval(0.9, 8, values.mean().item(), stats.sem(values.numpy()))
    mean, error = values.mean().item(), stats.sem(values.numpy())
    first, second = torch.tensor([5, 9, 0, 3, 60]), torch.tensor([5, 2, 0, 0, 41])
    tests = [stats.binomtest(int(a), int(a + b)).pvalue if a + b else 1.0 for a, b in zip(first, second)]
    share, none = Share(3, 7), Share(0, 0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        alone = (*normal(values[:1]), *student(values[:1]).interval)
    p = torch.tensor([0.2, 0.5, 0.7, 0.99], dtype=F64)
    return [
        equal("Wilson", [f.proportion_ci(l, "wilson") for f, (_, _, l) in zip(fits, cases)], w, 1e-9),
        equal("Clopper and Pearson", [f.proportion_ci(l, "exact") for f, (_, _, l) in zip(fits, cases)], c, 1e-9),
        equal("95 % unless told", [wilson(3, 7, 0.95), clopper_pearson(3, 7, 0.95)],
              [wilson(3, 7), clopper_pearson(3, 7)]),
        equal("P(Bin(n, p) ≥ hits) of the bound", torch.where(hits > 0, 0.01, 1.0), torch.from_numpy(tail), 1e-9),
        equal("no hits, no bound", 0.0, low[0, 0]),
        equal("Student", (mean, *t, 9), (s.value, *s.interval, s.n)),
        equal("of one value", [1, 1], [s != s for s in one.interval]),
        equal("not a number, and no warning", [1, 1, 1, 1, 0], [*(end != end for end in alone), len(told)]),
        equal("95 % of Student, unless told", student(values, 0.95).interval, student(values).interval),
        equal("the normal law", (mean - 1.96 * error, mean + 1.96 * error), normal(values)),
        equal("of one value", [1, 1], [end != end for end in normal(values[:1])]),
        equal("of two values", 1.96 * abs(values[0] - values[1]) / 2,
              (normal(values[:2])[1] - normal(values[:2])[0]) / 2),
        equal("two values have a Student interval", stats.t.interval(0.95, 1, values[:2].mean().item(),
              stats.sem(values[:2].numpy())), student(values[:2]).interval),
        equal("cut to what is possible", (0.0, 0.4), Mean(0.3, -0.1, 0.4, 5).within(0.0, 1.0).interval),
        equal("the same from above", (0.2, 1.0), Mean(0.3, 0.2, 1.4, 5).within(0.0, 1.0).interval),
        equal("a share", (3 / 7, *wilson(3, 7), *wilson(3, 7), 3, 7),
              (share.value, *share.interval, *share.as_dict()["interval"],
                    *(share.as_dict()[k] for k in ("hits", "n")))),
        equal("a share of nothing", (1, 0.0, 1.0), (none.value != none.value, *none.interval)),
        equal("two equally frequent classes", tests, two_sided(first, second), 1e-9),
        equal("the certified radius", [0.0, 0.0, *(0.3 * stats.norm.ppf(p[2:].numpy()))], radius(p, 0.3), 1e-9),
    ]  # fmt: skip


@law("28e", "ranks and thresholds: areas are scikit-learn's, conformal thresholds those of counting")
def ranks_and_thresholds() -> list[Measured]:
    """With ties; Hanley and McNeil's variance from two exponential laws, whose areas are known in closed form."""
    from scipy import optimize, spatial, stats
    from sklearn import metrics

    gen = generator(SEED, "scores")
    normals = torch.randint(0, 9, (40,), generator=gen).to(F64)
    odd = torch.randint(3, 12, (25,), generator=gen).to(F64)
    scores, truth = torch.cat([normals, odd]).numpy(), np.repeat([0, 1], [40, 25])
    place = levels(normals, odd)
    at = count(*place, 12)
    two = count(torch.stack([place[0], place[0].flip(0)]), torch.stack([place[1], 11 - place[1]]), 12)
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    mine = roc(at)
    seen = len(np.unique(scores))
    ranks = [int((np.unique(scores) > s).sum()) for s in scores]

    def variance(area: float, n: int, m: int) -> float:
        """Of odd scores with rate 1 and normal ones with rate λ: P(odd > normal) = λ/(1 + λ)."""
        lam = area / (1 - area)
        two_odd, two_normal = lam / (lam + 2), 1 - 2 / (1 + lam) + 1 / (1 + 2 * lam)
        return (area * (1 - area) + (m - 1) * (two_odd - area**2) + (n - 1) * (two_normal - area**2)) / (
            n * m
        )

    z = stats.norm.ppf(0.95)
    ends = [optimize.brentq(lambda a: (0.8 - a) ** 2 - z**2 * variance(a, 30, 20), *between, xtol=1e-14)
            for between in ((0.5, 0.8), (0.8, 0.999))]  # fmt: skip
    covariance = (
        torch.cov(_normal(4, 30)) * torch.tensor([1.0, 5, 1, 2])[:, None] * torch.tensor([1.0, 5, 1, 2])
    )
    codes, centre = _normal(6, 4), _normal(4, name="centre")
    off = (codes - centre).numpy()
    inverse = np.linalg.inv(covariance.numpy())
    flat = torch.diag(torch.tensor([4.0, 1.0, 1e-9, 0.0], dtype=F64))
    x = _normal(19, name="calibration")
    ordered = x.sort().values
    new = torch.cat([_normal(8, name="fresh"), x[:3]])
    law_of = rate(99, 0.1)
    beta = stats.beta(10, 90)
    return [
        equal("ranks", ranks, torch.cat(place)),
        equal("area under the curve", metrics.roc_auc_score(truth, scores), auroc(at)),
        equal("average precision", metrics.average_precision_score(truth, scores), average_precision(at)),
        equal("the same of two rows at once", torch.stack([auroc(at), auroc(count(place[0], 11 - place[1], 12))]),
              auroc(two)),
        equal("precision of two rows at once",
              torch.stack([average_precision(at), average_precision(count(place[0], 11 - place[1], 12))]),
              average_precision(two)),
        equal("the curve itself", np.stack([fpr, tpr]), torch.stack([each[: seen + 1] for each in mine])),
        equal("Hanley and McNeil", [variance(a, 30, 20) for a in (0.2, 0.5, 0.9)],
              [hanley_mcneil(a, 30, 20) for a in (0.2, 0.5, 0.9)]),
        equal("of two rows against three", variance(0.99, 2, 3), hanley_mcneil(0.99, 2, 3)),
        equal("its interval", ends, auroc_interval(0.8, 30, 20, 0.9), 1e-9),
        equal("at a perfect area", 1.0, auroc_interval(1.0, 30, 20)[1], 1e-9),
        equal("95 % unless told", auroc_interval(0.8, 30, 20, 0.95), auroc_interval(0.8, 30, 20)),
        equal("W Wᵀ Σ", torch.eye(4), whitening(covariance) @ whitening(covariance).T @ covariance, 1e-8),
        equal("flat directions", [0.25, 1.0, 2.5e5, 2.5e5],
              (whitening(flat) @ whitening(flat).T).diagonal(), 1e-6),
        equal("nothing varies", 1, bool(whitening(torch.zeros(2, 2, dtype=F64)).isfinite().all())),
        equal("Mahalanobis", [spatial.distance.mahalanobis(o, 0 * o, inverse) for o in off],
              mahalanobis(codes, centre, covariance), 1e-9),
        equal("how many may be flagged", [29, 1, 0, 5], [spared(99, 0.29), spared(19, 0.05), spared(9, 0.05),
              spared(9, 0.5)]),
        equal("the fewest rows", [19, 1, 1, 99, 2, 1], [least_rows(a) for a in (0.05, 0.5, 0.9, 0.01, 0.4, 1 - 1e-13)]),
        equal("thresholds", [float(ordered[17]), float(ordered[18]), inf, float(ordered[9]), float(ordered[0])],
              [threshold(x, a) for a in (0.1, 0.05, 0.04, 0.5, 0.99)]),
        equal("p-values", [(1 + int((x >= v).sum())) / 20 for v in new], p_values(new, x)),
        equal("the rate's law", (10, 90), law_of),
        equal("its moments", (beta.mean(), beta.var()), (law_of.mean, law_of.variance)),
        equal("its intervals", [beta.interval(0.95), beta.interval(0.5)], [law_of.interval(),
              law_of.interval(0.5)]),
        equal("a skew law", stats.beta(2, 3).interval(0.8), Beta(2.0, 3.0).interval(0.8)),
    ]  # fmt: skip


@law("14c", "information in counts is scipy's and scikit-learn's; the parts of a rate add up to it")
def information_in_counts() -> list[Measured]:
    """Entropies, mutual information, the gap of two units, the parts of the rate, control variates: to 10⁻¹⁰."""
    from scipy import stats
    from sklearn import metrics

    table = torch.tensor([[3, 0, 5], [1, 9, 2]])
    empty = torch.zeros(2, 3)
    independent = torch.tensor([[2, 4], [3, 6]])
    known = torch.tensor([[0.9, 0.2], [0.1, 0.5], [0.4, 0.3]], dtype=F64)
    heights = torch.tensor([1.2, 0.6], dtype=F64)
    log_q, whole, marginals, prior = (_normal(7, name=n) for n in ("q", "all", "unused", "prior"))
    marginals = _normal(7, 3)
    parts = rate_parts(log_q, whole, marginals, prior)
    noisy = _normal(3, 50)
    error = noisy.sum(0) - 2.0 + 0.1 * _normal(50, name="rest")
    beta = torch.tensor(np.cov(np.vstack([noisy.numpy(), error.numpy()]))[:3, 3])
    expected = noisy.mean(1) - beta / beta.sum() * error.mean()
    still = controlled_means(noisy, torch.full((50,), 0.6, dtype=F64))
    return [
        equal("entropy", stats.entropy(table.flatten().numpy()), entropy(table)),
        equal("of equal cells, of one, of nothing", [log(8), 0.0, 0.0],
              [entropy(torch.ones(8)), entropy(torch.tensor([5, 0])), entropy(empty)]),
        equal("Miller and Madow's correction", [stats.entropy(table.flatten().numpy()) + 4 / 40, 0.0],
              [miller_madow(table), miller_madow(empty)]),
        equal("mutual information", metrics.mutual_info_score(None, None, contingency=table.numpy()),
              mutual_information(table, entropy)),
        equal("of independent counts", 0.0, mutual_information(independent, entropy)),
        equal("corrected, unless told", max(0.0, metrics.mutual_info_score(None, None, contingency=table.numpy())
              + (1 + 2 - 4) / 40), mutual_information(table)),
        equal("corrected, never below 0", 0.0, mutual_information(independent)),
        equal("the gap of two units", [0.5 / 1.2, 0.2 / 0.6], information_gap(known, heights)),
        equal("the gap of one unit", [0.9 / 1.2, 0.2 / 0.6], information_gap(known[:1], heights)),
        equal("the rate's parts add up", log_q - prior, sum(parts)),
        equal("the first and the last", torch.stack([log_q - whole, marginals.sum(1) - prior]),
              torch.stack([parts.index_code, parts.dimension_wise])),
        equal("control variates", expected, controlled_means(noisy, error)),
        equal("their means add up", noisy.sum(0).mean() - error.mean(), controlled_means(noisy, error).sum()),
        equal("where the error does not vary", noisy.mean(1) - 0.2, still),
        equal("and where it varies by rounding alone", 1e-9 * (noisy.mean(1) - error.mean() / 3),
              controlled_means(1e-9 * noisy, 1e-9 * error), 1e-22),
        equal("no number for nothing", 1, int(Share(0, 0).value != nan)),
    ]  # fmt: skip
