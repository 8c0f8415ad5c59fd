"""A denoiser in pictures: where it moves each point of the plane, the paths of a sampler, images on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from psiphi.app import pictures
from psiphi.app._plans import planned
from psiphi.app.plots import Draw, Palette
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import as_float, show

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.samplers import Plan

FINE, COARSE = 72, 21  # points a side: of the energy, of the arrows
NATS = (0.4, 0.9, 1.5, 2.3, 3.3, 4.5)  # of energy above its least, where its shades change
FLOW_LEVELS = 16
POINTS, STATES = 1500, 60
ROOM = 0.18


# -------------------------------------------------------------------------------------------- the field
@dataclass(frozen=True)
class Field:
    """r(x) − x = σ² ∇ ln p_σ of a model on the plane.

    x: data (n, 2); at, moved: (m, 2) each; across, up: axes of energy (up, across), −ln p_σ above its least.
    """

    name: str
    sigma: float
    x: Tensor
    at: Tensor
    moved: Tensor
    across: Tensor
    up: Tensor
    energy: Tensor


def has_field(model: Any) -> bool:
    """Whether a model of points in the plane has a score."""
    return tuple(model.shape) == (2,) and hasattr(model, "score")


@torch.no_grad()
def field(model: Any, x: Any, sigma: float | None = None, fine: int = FINE) -> Field:
    """The field around data x at noise level σ, in the data's units.

    sigma: what the model was trained on, or a quarter of the data's σ, unless given. The energy is that of the
    probability flow from σ on, where the model knows every σ, else of the gradient nearest to the score.
    """
    model.score  # noqa: B018  a model that has none says so here
    if tuple(model.shape) != (2,):
        raise ArgumentError(
            f"a field is drawn in the plane; {model.title} has samples of shape {show(model.shape)}."
        )
    own = getattr(getattr(model, "corruption", None), "sigma", None)
    sigma = float(sigma if sigma is not None else own or 0.25 * model.statistics.sigma)
    x = as_float(torch.as_tensor(x))
    low, high = x.amin(0), x.amax(0)
    room = ROOM * float((high - low).max())
    sides = [(float(low[i]) - room, float(high[i]) + room) for i in (0, 1)]
    axes = [torch.linspace(*side, fine) for side in sides]
    if hasattr(model, "planned"):
        energy = _flow_energy(model, _lattice(*axes), sigma).view(fine, fine)
    else:
        force = model.score(_lattice(*axes), sigma).view(fine, fine, 2)
        energy = potential(-force, *(float(axis[1] - axis[0]) for axis in axes))
    feet = [torch.linspace(*side, 2 * COARSE + 1)[1::2] for side in sides]
    at = _lattice(*feet)
    moved = sigma**2 * model.score(at, sigma)
    return Field(model.title, sigma, x[:POINTS], at, moved, axes[0], axes[1], energy - energy.min())


def _flow_energy(model: Any, x: Tensor, sigma: float) -> Tensor:
    """−ln p_σ(x) by the probability flow from σ to the schedule's end."""
    from psiphi.formulas.schedules import exponential
    from psiphi.models._base import evaluating
    from psiphi.samplers._likelihood import flow_log_prob

    told = model.statistics
    end = max(model.schedule.sigma_max * float(told.sigma), 2 * sigma)
    with evaluating(model):
        levels = exponential(sigma, end).sigmas(FLOW_LEVELS)
        return -flow_log_prob(model, x.to(model.device, model.dtype), levels, told.blurred(end)).cpu()


def potential(slope: Tensor, dx: float, dy: float) -> Tensor:
    """E with the least Σ ‖∇E − v‖² on a lattice, up to a constant: (h, w, 2) -> (h, w).

    Neumann's problem ΔE = div v, solved in the eigenvectors of both axes.
    """
    slope = slope.double()
    h, w = slope.shape[:2]
    along, up = _differences(w, dx), _differences(h, dy)
    gx = (slope[:, 1:, 0] + slope[:, :-1, 0]) / 2
    gy = (slope[1:, :, 1] + slope[:-1, :, 1]) / 2
    lx, ux = torch.linalg.eigh(along.T @ along)
    ly, uy = torch.linalg.eigh(up.T @ up)
    stiffness = ly[:, None] + lx
    stiffness[0, 0] = torch.inf  # the constant is free
    return uy @ ((uy.T @ (gx @ along + up.T @ gy) @ ux) / stiffness) @ ux.T


def _differences(n: int, step: float) -> Tensor:
    one = torch.eye(n, dtype=torch.float64)
    return (one[1:] - one[:-1]) / step


def _lattice(across: Tensor, up: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(across, up, indexing="xy"), -1).reshape(-1, 2)


def arrows(each: Field, shown: int = POINTS) -> Draw:
    """Data as dots, energy as shades, r(x) − x as arrows, the long ones cut to the distance of their feet."""
    gap = float(each.at[1, 0] - each.at[0, 0])
    length = each.moved.norm(dim=1, keepdim=True).clamp_min(1e-12)
    cut = each.moved / length * gap * (length / gap).tanh()

    def draw(ax: Any, c: Palette) -> None:
        across, up, energy = each.across.numpy(), each.up.numpy(), each.energy.numpy()
        for level in NATS:
            ax.contourf(across, up, energy, levels=[-1.0, level], colors=[c["vae"]], alpha=0.11)
        ax.scatter(*each.x[:shown].T.tolist(), s=2.2, color=c["bare"], alpha=0.55, linewidths=0)
        ax.quiver(
            *each.at.T.tolist(), *cut.T.tolist(), angles="xy", scale_units="xy", scale=1.0, color=c["ink"],
            width=0.0032, headwidth=4.2, headlength=4.6, headaxislength=4.2, alpha=0.85,
        )  # fmt: skip
        _bare(ax, (across[0], across[-1]), (up[0], up[-1]))
        ax.set_title(f"{each.name}, σ = {each.sigma:.2g}", color=c["ink"], fontsize=10.5)

    return draw


def side_by_side(draws: Sequence[Draw]) -> Draw:
    """Several of these in one figure."""

    def draw(ax: Any, c: Palette) -> None:
        ax.axis("off")
        width = 1 / len(draws)
        for i, one in enumerate(draws):
            one(ax.inset_axes((i * width, 0.0, 0.96 * width, 0.92)), c)

    return draw


def words(each: Field) -> str:
    """The field for those who do not see it."""
    return (
        f"Arrows of r(x) − x of {each.name} at noise σ = {each.sigma:.2g} over {len(each.x)} data points and its "
        f"energy: they point to where data are dense"
    )


def _bare(ax: Any, across: tuple[float, float] | None = None, up: tuple[float, float] | None = None) -> None:
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", "box" if across else "datalim")
    if across and up:
        ax.set(xlim=across, ylim=up)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


# -------------------------------------------------------------------------------------------- the paths
@dataclass(frozen=True)
class Paths:
    """States x of a walk at each committed evaluation, then the last, and what the denoiser said of them.

    x: (t + 1, n, *shape); denoised: (t, n, *shape); sigmas: t levels, then 0, in the data's units; mean, unit: the
    data's mean and σ.
    """

    name: str
    plan: Plan
    x: Tensor
    denoised: Tensor
    sigmas: tuple[float, ...]
    mean: Tensor
    unit: float

    def at(self, i: int) -> Tensor:
        """State i at the spread of data, m + (x − m)/√(1 + σ²/σ_d²): (n, *shape)."""
        return self.mean + (self.x[i] - self.mean) / (1 + (self.sigmas[i] / self.unit) ** 2) ** 0.5


@torch.no_grad()
def paths(
    model: Any,
    n: int,
    plan: str | Plan | None = None,
    *,
    seed: int = 0,
    y: int | None = None,
    guidance: float | None = None,
    start: str = "data",
) -> Paths:
    """The walks of `model.sample(n, …)` with these options, state by state."""
    from psiphi.models._base import evaluating
    from psiphi.samplers import classifier_free, walk

    steps = planned(model, plan)
    noise = Noise.of(seed, n, model.device, model.dtype)
    guided: Any = model if hasattr(model, "planned") else lambda x, sigma, y=None: model(x)
    guided = guided if guidance is None else classifier_free(guided, float(guidance))
    seen: list[tuple[float, Tensor, Tensor]] = []

    def ask(x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        denoised = guided(x, sigma) if y is None else guided(x, sigma, y)
        seen.append((float(sigma[0]), x, denoised))
        return denoised

    told = None if y is None else torch.full((n,), y, device=model.device)
    with evaluating(model):
        last = walk(steps, ask, _begin(model, noise, steps.sigma_max, start), noise, told)
    asked = [i for i, row in enumerate(steps) if row.d]
    kept = [one for i, one in zip(asked, seen, strict=True) if i == 0 or steps.rows[i - 1].commit]
    sigmas, x, denoised = zip(*kept, strict=True)
    states, told = torch.stack([*x, last]).cpu(), model.statistics
    ended = steps.rows[-1].sigma if steps.rows[-1].base else 0.0
    return Paths(
        model.title,
        steps,
        states,
        torch.stack(denoised).cpu(),
        (*sigmas, ended),
        told.mean.cpu(),
        float(told.sigma),
    )


def _begin(model: Any, noise: Noise, sigma: float, start: str) -> Tensor:
    from psiphi.models._walks import begin

    if hasattr(model, "start"):
        return model.start(noise, sigma, start)
    return begin(model.statistics.blurred(sigma), noise)


def _thinned(count: int, most: int) -> list[int]:
    """At most so many of the places 0 … count − 1, evenly, with both ends."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most)).tolist()})


def _told_apart(each: Paths, columns: int) -> list[int]:
    """At most so many states, evenly in arctan σ/σ_d, the angle of data and noise; of a chain at one σ, in time."""
    angles = [atan(sigma / each.unit) for sigma in each.sigmas]
    count = min(columns, len(angles))
    if len(set(angles)) < 3 or count < 2:
        return _thinned(len(angles), columns)
    places = [0]
    for k in range(1, count):
        wanted = angles[0] + (angles[-1] - angles[0]) * k / (count - 1)
        near = min(range(len(angles)), key=lambda i: abs(angles[i] - wanted))
        places.append(min(max(near, places[-1] + 1), len(angles) - count + k))
    return places


def traces(each: Paths, x: Any = None, most: int = 60) -> Draw:
    """Paths in the plane, each state at the spread of data, from open dots to full ones; x: data."""
    states = torch.stack([each.at(i)[:most] for i in _thinned(len(each.x), STATES)])

    def draw(ax: Any, c: Palette) -> None:
        if x is not None:
            ax.scatter(
                *torch.as_tensor(x)[:POINTS].T.tolist(), s=2.2, color=c["pca"], alpha=0.4, linewidths=0
            )
        for walk in states.transpose(0, 1).tolist():
            ax.plot(*zip(*walk), color=c["vae"], linewidth=0.8, alpha=0.6, zorder=2)
        ax.scatter(
            *states[0].T.tolist(), s=9, facecolors="none", edgecolors=c["soft"], linewidths=0.7, zorder=3
        )
        ax.scatter(*states[-1].T.tolist(), s=13, color=c["bare"], linewidths=0, zorder=3)
        _bare(ax)
        ax.set_title(f"{each.plan.name}, {each.plan.evaluations} evaluations", color=c["ink"], fontsize=10.5)

    return draw


def strip(each: Paths, rows: int = 4, columns: int = 12) -> Tensor:
    """Images on their way, (2·rows·columns, *shape): of each sample its states, and below what is expected of them."""
    places, found = _told_apart(each, columns), []
    for k in range(min(rows, each.x.shape[1])):
        found += [each.at(i)[k] for i in places]
        found += [(each.denoised if i < len(each.denoised) else each.x)[i, k] for i in places]
    return torch.stack(found)


def traces_words(each: Paths) -> str:
    """The paths for those who do not see them."""
    return (
        f"Paths of samples of {each.name} by {each.plan.name} with {each.plan.evaluations} evaluations, from noise "
        f"onto the data"
    )


def strip_words(each: Paths, rows: int, columns: int) -> str:
    """The strip for those who do not see it."""
    return (
        f"{rows} samples of {each.name} on their way in {columns} states, from noise {each.sigmas[0] / each.unit:.3g} "
        f"times the data's σ to none; below each state, the mean of what it may become"
    )


def save(path: Any, each: Paths, shape: Sequence[int], low: float, high: float) -> None:
    """Write paths as a picture (of points in the plane, or of images), or their states as numbers."""
    from psiphi.app import plots

    if path.suffix.lower() == ".png" and tuple(shape) == (2,):
        plots.png(path, traces(each), (4.6, 4.6))
    elif path.suffix.lower() == ".png" and pictures.is_image(shape):
        columns = len(_thinned(len(each.x), 12))
        pictures.save_grid(path, strip(each), low=low, high=high, columns=columns)
    else:
        pictures.save(path, each.x, shape, low, high)
