"""Features in which sets of samples are compared: the numbers as they are, or a classifier's penultimate layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from psiphi.basis.errors import DataError, ShapeError
from psiphi.basis.shapes import as_batch, check_finite, show
from psiphi.models._base import Model, evaluating
from psiphi.models._penultimate import heard

CHUNK = 1024

Features = nn.Module | Callable[[Tensor], Tensor] | None


@torch.no_grad()
def penultimate(classifier: nn.Module, x: Tensor) -> Tensor:
    """What the last affine layer of a classifier is given, (n, d), in eval mode and in chunks."""
    found = []
    with heard(classifier) as seen:
        for _ in answers(classifier, x):
            found.append(seen[-1].flatten(1).cpu())
            seen.clear()
    return torch.cat(found)


def answers(classifier: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """What a classifier says of each chunk of rows, in eval mode; `ShapeError` where it takes no such rows."""
    name = getattr(classifier, "title", type(classifier).__name__)
    wanted = classifier.shape if isinstance(classifier, Model) else tuple(x.shape[1:])
    refused = f"rows of shape {show(x.shape[1:])} are not what {name} takes"
    if prod(wanted) != prod(x.shape[1:]):
        raise ShapeError(
            f"{refused}, which is {show(wanted)}: give a classifier of the data that samples are compared with."
        )
    home = next(classifier.parameters(), x)
    with evaluating(classifier):
        for part in x.reshape(len(x), *wanted).split(CHUNK):
            try:
                answer = classifier(part.to(home.device, home.dtype))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, IndexError) as error:
                raise ShapeError(f"{refused} ({error}): give a classifier of such rows.") from error
            yield answer


class Compared(NamedTuple):
    """Features of samples (n, d) and of data (m, d) in double precision, and what they are, in words."""

    samples: Tensor
    data: Tensor
    name: str


def compared(samples: Any, data: Any, features: Features) -> Compared:
    """The same features of both sets; each an array, a tensor or a split. Raises `DataError` on unlike shapes."""
    x, y = (torch.as_tensor(each.x if hasattr(each, "x") else each) for each in (data, samples))
    if y.shape[1:] != x.shape[1:] and prod(y.shape[1:]) != prod(x.shape[1:]):
        raise ShapeError(
            f"the samples have shape {show(y.shape[1:])} and the data {show(x.shape[1:])}: give rows of one kind."
        )
    if not len(x) or not len(y):
        raise DataError(f"there are {len(y)} samples and {len(x)} rows of data: some of each are needed.")
    rows = [as_batch(each, tuple(x.shape[1:]), what) for each, what in ((y, "samples"), (x, "data"))]
    for each, what in zip(rows, ("samples", "data")):
        check_finite(each, what)
    one, two = (_apply(features, each).flatten(1).detach().cpu().double() for each in rows)
    return Compared(one, two, _name(features, tuple(x.shape[1:]), one.shape[1]))


def _apply(features: Features, x: Tensor) -> Tensor:
    if features is None:
        return x
    if isinstance(features, nn.Module):
        return penultimate(features, x)
    return torch.cat([torch.as_tensor(features(part)) for part in x.split(CHUNK)])


def _name(features: Features, shape: tuple[int, ...], size: int) -> str:
    if features is None:
        return f"{size} {'pixels' if len(shape) == 3 else 'numbers a row'}"
    if isinstance(features, nn.Module):
        title = getattr(features, "title", type(features).__name__)
        return f"{size} features of the penultimate layer of {title}"
    return f"{size} features by {getattr(features, '__name__', type(features).__name__)}"
