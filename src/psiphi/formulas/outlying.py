"""How little a row fits the others of its label: scores of filters, higher where it fits less."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from psiphi.formulas.fidelity import NUMBERS
from psiphi.formulas.kernels import squared_distances

Rows = Float[Tensor, "n d"]
Labels = Int[Tensor, " n"]
Scores = Float[Tensor, " n"]


def by_label(score: Callable[[Rows], Scores], r: Rows, y: Labels) -> Scores:
    """The score of each row among those of its own label; rows of unknown label, −1, among themselves."""
    found = torch.zeros(len(r), dtype=r.dtype, device=r.device)
    for label in y.unique().tolist():
        mine = y == label
        found[mine] = score(r[mine])
    return found


def spectral(r: Rows) -> Scores:
    """((r_i − r̄)·v)², v the first right singular vector of the centred rows.

    Source: Tran, Li, Madry, "Spectral signatures in backdoor attacks", 2018, algorithm 1.
    """
    centred = r - r.mean(0)
    v = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    return (centred @ v).square()


def over_median(score: Scores) -> Scores:
    """s_i/median s: scores of several labels on one scale; a median of 0 gives infinity, and 0 where s_i is 0 too."""
    middle = score.median()
    return torch.where(score > 0, score / middle, 0)


def disagreement(r: Rows, y: Labels, k: int) -> Scores:
    """The share of the k nearest other rows that have another label.

    Source: Peri, Gupta, Huang, Fowl, Zhu, Feizi, Goldstein, Dickerson, "Deep k-NN defense against clean-label data
    poisoning attacks", 2020, section 3.
    """
    return (y[neighbours(r, k)] != y[:, None]).to(r.dtype).mean(1)


def outvoted(r: Rows, y: Labels, k: int) -> Bool[Tensor, " n"]:
    """Whether some other label has more of a row's k nearest other rows than its own has.

    Source: Peri et al., "Deep k-NN defense", 2020, section 3: a row goes where its label is not the plurality's.
    """
    labels, codes = y.unique(return_inverse=True)
    around = codes[neighbours(r, k)]
    votes = torch.zeros(len(r), len(labels), dtype=torch.long, device=r.device)
    votes.scatter_add_(1, around, torch.ones_like(around))
    return votes.amax(1) > votes.gather(1, codes[:, None]).squeeze(1)


def neighbours(r: Rows, k: int) -> Int[Tensor, "n k"]:
    """The k nearest other rows of each row."""
    found = []
    size = max(1, NUMBERS // len(r))
    for start in range(0, len(r), size):
        squares = squared_distances(r[start : start + size], r)
        squares[torch.arange(len(squares)), torch.arange(start, start + len(squares))] = torch.inf
        found.append(squares.topk(k, dim=1, largest=False).indices)
    return torch.cat(found)


def top(score: Scores, count: int) -> Bool[Tensor, " n"]:
    """The rows with the `count` highest scores, the first of equals."""
    order = score.argsort(descending=True, stable=True)[: max(count, 0)]
    return torch.zeros(len(score), dtype=torch.bool, device=score.device).index_fill_(0, order, True)
