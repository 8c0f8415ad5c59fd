"""Models that are a denoiser D(x, σ): score models and diffusion, which differ in σ, weighting and plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite, prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import as_batch
from psiphi.formulas.calculus import per_row
from psiphi.formulas.denoising import Parametrisation, Weighting, score_of
from psiphi.formulas.schedules import Schedule, ScheduleWarning, exponential
from psiphi.models._base import Model, check_count, check_unlabelled, one_each, slices, steady, verb
from psiphi.models._impute import gaps
from psiphi.models._walks import begin, plan_of, progress
from psiphi.parts import Batch, Clock, Player, Statistics, adam
from psiphi.parts.denoiser import Denoiser, DenoisingTrace, levels, matching
from psiphi.samplers import Plan, classifier_free, inpainted, trajectory, walk
from psiphi.samplers._likelihood import EXACT_TRACE, flow_log_prob, log_prob_bound

FLOW_STEPS = 48  # of the likelihood; each is four evaluations
BOUND_LEVELS = 16  # of the anomaly score
FILLING = "predictor_corrector:50,corrections=4,ratio=0.5,levels=log"  # the plan of `impute`
WIDTH = 16  # numbers that a network holds for each of its input


class DenoiserModel(Model):
    """D(x, σ) ≈ E[x₀ | x₀ + σ ε = x], trained by denoising at the σ of a schedule, sampled by a plan.

    schedule: levels in units of the data's σ; plan: text of the sampler that `sample` uses; classes: labels that the
    network is told, 0 for none; drop: share of rows whose label is hidden in training, for guidance.
    """

    lacks: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("encode", "posterior", "decode"), "its code is noise as large as the data"),
        "reconstruct": "it has no code to reconstruct from; `project` goes back to the data's manifold",
    }
    measure = "smoothed"

    def __init__(
        self,
        statistics: Statistics,
        network: torch.nn.Module,
        schedule: Schedule,
        *,
        parametrisation: Parametrisation,
        weighting: Weighting,
        plan: str,
        classes: int = 0,
        drop: float = 0.1,
        optimizer: adam = adam(),  # noqa: B008  a frozen value
        ema: float | None = None,
    ):
        super().__init__(statistics)
        self.denoiser = Denoiser(network, statistics, parametrisation)
        self.schedule, self.weighting, self.plan = schedule, weighting, plan
        self.classes, self.drop, self.optimizer, self.ema = classes, drop, optimizer, ema
        self.objective = 1.0 * matching(weighting)

    def forward(self, x: Tensor, sigma: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """D(x, σ, y): (B, *shape), (B,), (B,) or None -> (B, *shape); σ the least of the schedule unless given."""
        if sigma is None:
            sigma = self._sigma(None, x).to(x.device)
        return self.denoiser(x, sigma, y)

    def players(self) -> list[Player]:
        return [Player(self, _loss, self.optimizer, ema=self.ema)]

    def check_columns(self, lows: Tensor, highs: Tensor) -> None:
        spread = (highs - lows).nan_to_num(0.0)
        thin = ((spread > 0) & (spread < self.schedule.sigma_min * spread.max())).flatten().nonzero()
        if len(thin):
            import warnings

            warnings.warn(
                f"{len(thin)} coordinates (the first: {int(thin[0])}) vary by less than the least noise, "
                f"{self.schedule.sigma_min:.2g} of the widest one's range: they will be lost in it; bring the columns "
                f"to one scale.",
                ScheduleWarning,
                stacklevel=5,
            )

    def trace(self, x: Tensor, noise: Noise, y: Tensor | None = None) -> DenoisingTrace:
        """One pass at a σ drawn for each row."""
        u = levels(noise.split("sigma"))
        unit = self.statistics.sigma
        sigma = self.schedule.draw(u).to(x.dtype) * unit
        noisy = x + per_row(sigma, x) * noise.normal(x.shape[1:]).to(x)
        rate = self.schedule.rate(u).to(x.dtype) if self.weighting.rated else None
        return DenoisingTrace(x, noisy, sigma, self(noisy, sigma, self._told(y, noise, len(x))), unit, rate)

    def _told(self, y: Tensor | None, noise: Noise, rows: int) -> Tensor | None:
        if not self.classes:
            return None
        if y is None:
            raise DataError(f"{self.title} was built with {self.classes} classes: pass y, −1 where unknown.")
        if rows and not -1 <= int(y.min()) <= int(y.max()) < self.classes:
            raise DataError(
                f"labels run from 0 to {self.classes - 1}, −1 for unknown; got {int(y.min())} to {int(y.max())}."
            )
        return torch.where(noise.split("drop").uniform() < self.drop, -1, y)

    # ------------------------------------------------------------------------------------ the denoiser's verbs
    def _sigma(self, sigma: Any, x: Tensor) -> Tensor:
        """σ of each row of x, the least of the schedule unless given."""
        if sigma is None:
            sigma = self.schedule.sigma_min * float(self.statistics.sigma)
        try:
            found = torch.as_tensor(sigma, dtype=self.dtype)
        except (TypeError, ValueError):
            found = torch.tensor(torch.nan)
        fits = found.ndim == 0 or found.shape == (len(x),)
        if not (fits and bool(((found > 0) & found.isfinite()).all())):
            raise ArgumentError(
                f"sigma is a finite noise level above 0 in the data's units, one for all or one for each of the "
                f"{len(x)} rows; got {sigma!r}."
            )
        return found.expand(len(x))

    def _labels(self, y: Any, rows: int) -> Tensor | None:
        """Labels of each row, None for none: of a model that was never told to do without, an error."""
        if not self.classes:
            check_unlabelled(self, y)
        elif y is None and not self.drop:
            raise ArgumentError(f"{self.title} was trained with every label (drop=0): pass y.")
        return None if y is None else one_each(y, rows, self.classes)

    def _asked(self, x: Any, sigma: Any, y: Any, score: bool) -> Tensor:
        x = as_batch(x, self.shape)
        self.check_rows(x)
        sigma, y = self._sigma(sigma, x), self._labels(y, len(x))
        parts = []
        for rows in slices(len(x), WIDTH * prod(self.shape)) or [slice(0, 0)]:
            part, s = x[rows].to(self.device, self.dtype), sigma[rows].to(self.device)
            label = None if y is None else y[rows].to(self.device)
            denoised = self(part, s, label)
            parts.append((score_of(part, denoised, s) if score else denoised).to(x.device))
        return torch.cat(parts)

    @verb
    def denoise(self, x: Any, sigma: Any = None, y: Any = None) -> Tensor:
        """D(x, σ) = E[x₀ | x₀ + σ ε = x]: (B, *shape) -> (B, *shape); σ in the data's units, one or (B,)."""
        return self._asked(x, sigma, y, score=False)

    @verb
    def score(self, x: Any, sigma: Any = None, y: Any = None) -> Tensor:
        """∇ ln p_σ(x) = (D(x, σ) − x)/σ², p_σ the data's density blurred by N(0, σ²I); σ the least unless given."""
        return self._asked(x, sigma, y, score=True)

    # --------------------------------------------------------------------------------------------- sampling
    def start(self, noise: Noise, sigma: float, kind: str = "data") -> Tensor:
        """States at noise level σ (the data's units): N(m, v + σ²), or the papers' N(m, σ_d² + σ²) for "standard"."""
        if kind not in ("data", "standard"):
            raise ArgumentError(
                f"a start is 'data', N(m, v + σ²), or 'standard', N(m, σ_d² + σ²); got {kind!r}."
            )
        p = self.statistics.blurred(sigma)
        if kind == "standard":
            p = replace(p, log_scale=(self.statistics.sigma**2 + sigma**2).log() / 2)
        return begin(p, noise)

    def planned(self, plan: str | Plan | None = None) -> Plan:
        """The plan, in the data's units, of a text such as `heun:18` or `ddim:50,eta=1`; a plan as it is."""
        if isinstance(plan, Plan):
            return plan
        return plan_of(plan or self.plan, self.schedule).scaled(float(self.statistics.sigma))

    @verb
    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        y: Any = None,
        exact: bool = False,
        plan: str | Plan | None = None,
        guidance: float | None = None,
        start: str = "data",
        quiet: bool = True,
    ) -> Tensor:
        """n draws by the plan, (n, *shape) on the model's device; `exact` has no effect.

        y: labels, one or one each; none: the model that is told no label. plan: as in `planned`; the model's own
        unless given. guidance: w of D_u + w (D_c − D_u), needs y. start: `data` or `standard`. Draw i of a seed is the
        same whatever n.
        """
        del exact
        steps = self.planned(plan)
        n = check_count(n)
        parts = slices(n, WIDTH * prod(self.shape))
        begun = self._begin(n, seed, y, steps, guidance, start, parts)
        with progress(self.title, len(steps) * len(parts), quiet) as watch:
            return torch.cat([walk(steps, *each, watch=watch) for each in begun])

    @torch.no_grad()
    def trajectory(
        self,
        n: int,
        *,
        seed: int = 0,
        y: Any = None,
        plan: str | Plan | None = None,
        guidance: float | None = None,
        start: str = "data",
        every: int = 1,
    ) -> Tensor:
        """States of n draws on their way: the start, then every `every`-th, (t, n, *shape); the last is `sample`."""
        steps = self.planned(plan)
        n = check_count(n)
        parts = slices(n, WIDTH * prod(self.shape))
        begun = self._begin(n, seed, y, steps, guidance, start, parts)
        return torch.cat([trajectory(steps, *each, every=every) for each in begun], 1)

    def _begin(
        self, n: int, seed: int, y: Any, plan: Plan, guidance: float | None, start: str, parts: list[slice]
    ) -> Iterator[tuple[Any, Tensor, Noise, Tensor | None]]:
        """Denoiser, start, noise and labels of each part of n draws."""
        labels = self._labels(y, n)
        if guidance is not None and (labels is None or not isfinite(guidance)):
            raise ArgumentError(
                f"guidance is a number, and needs a label to guide to: pass y; got guidance={guidance!r}, y={y!r}."
            )
        if guidance is not None and not self.drop:
            raise ArgumentError(
                f"{self.title} was trained with every label: guidance needs drop above 0, e.g. 0.1."
            )
        denoiser: Any = self if guidance is None else classifier_free(self, float(guidance))
        noise = Noise.of(seed, n, self.device, self.dtype)

        def part(rows: slice) -> tuple[Any, Tensor, Noise, Tensor | None]:
            told = None if labels is None else labels[rows].to(self.device)
            drawn = noise.take(rows)
            return denoiser, self.start(drawn, plan.sigma_max, start), drawn, told

        return (part(rows) for rows in parts)

    @verb
    def project(
        self, x: Any, sigma: float | None = None, *, steps: int = 8, plan: str = "ddim", seed: int | Noise = 0,
        y: Any = None,
    ) -> Tensor:  # fmt: skip
        """Noise to σ, then the walk back: (B, *shape) -> (B, *shape), differentiable.

        sigma: in the data's units, a quarter of the data's σ unless given; steps: levels from there to the least;
        plan: `ddim` walks back without noise, `ancestral` with it, as the source's stochastic equation. seed: of the
        noise that every row gets alike, so that none depends on its batch; or the noise of each row. The gradient
        needs the memory of one evaluation, and of a state a step.
        Source: Nie et al., "Diffusion models for adversarial purification", 2022.
        """
        unit, least = float(self.statistics.sigma), self.schedule.sigma_min
        x = as_batch(x, self.shape)
        self.check_rows(x)
        sigma = 0.25 * unit if sigma is None else float(self._sigma(sigma, x[:1])[0])
        if not sigma / unit > least:
            raise ArgumentError(
                f"project needs a σ above the least of the schedule, {least * unit:.3g}; got {sigma:.3g}."
            )
        one = check_count(steps, "steps") == 1
        walked = plan_of(plan, [sigma / unit] if one else exponential(least, sigma / unit), steps).scaled(
            unit
        )
        denoiser, y = steady(self, self), self._labels(y, len(x))
        alike = torch.zeros(len(x), dtype=torch.long)
        noise = seed if isinstance(seed, Noise) else Noise.of(seed, alike, self.device, self.dtype)
        parts = []
        for rows in slices(len(x), WIDTH * prod(self.shape)) or [slice(0, 0)]:
            drawn, part = noise.take(rows), x[rows].to(self.device, self.dtype)
            noisy = part + sigma * drawn.split("project").normal(self.shape)
            told = None if y is None else y[rows].to(self.device)
            parts.append(walk(walked, denoiser, noisy, drawn, told).to(x.device))
        return torch.cat(parts)

    @verb
    def impute(
        self, x: Any, where: Any = None, *, samples: int = 10, seed: int = 0, exact: bool = False, y: Any = None,
        plan: str | Plan | None = None,
    ) -> Tensor:  # fmt: skip
        """x with what is missing filled by the mean of `samples` walks, or by one when `exact`: (B, *shape).

        The known values are put in place at every level (`inpainted`); the plan has four Langevin steps a level unless
        given, since without them known and unknown hardly correlate. where: True where x is seen, (*shape) or
        (B, *shape); without it NaN is what is missing.
        """
        x, seen = gaps(self, x, where)
        if bool(seen.all()):
            return x
        return torch.where(seen, x, self._filled(x.detach(), seen, samples, seed, exact, y, plan))

    @torch.no_grad()
    def _filled(
        self, x: Tensor, seen: Tensor, samples: int, seed: int, exact: bool, y: Any, plan: str | Plan | None
    ) -> Tensor:
        walked, y = self.planned(plan or self._filling()), self._labels(y, len(x))
        draws, noise = 1 if exact else check_count(samples), Noise.of(seed, len(x), self.device, self.dtype)
        parts = []
        for rows in slices(len(x), WIDTH * prod(self.shape)):
            known, mask = x[rows].to(self.device), seen[rows].to(self.device)
            told = None if y is None else y[rows].to(self.device)
            total = torch.zeros_like(known)
            for k in range(draws):
                drawn = noise.take(rows).at(k)
                blurred = known + walked.sigma_max * drawn.split("seen").normal(self.shape)
                begun = torch.where(mask, blurred, self.start(drawn, walked.sigma_max))
                total += walk(walked, inpainted(self, known, mask), begun, drawn, told) / draws
            parts.append(total.to(x.device))
        return torch.cat(parts)

    def _filling(self) -> str:
        return FILLING if self.schedule.sigma_min < self.schedule.sigma_max else "ddim:1"

    # ------------------------------------------------------------------------------------------- likelihood
    @property
    def estimates(self) -> bool:
        """Whether `log_prob` depends on its seed: the trace of many coordinates is estimated."""
        return prod(self.shape) > EXACT_TRACE

    @verb
    def log_prob(
        self, x: Any, samples: int = 1, seed: int = 0, *, y: Any = None, bound: bool = False, steps: int | None = None
    ) -> Tensor:  # fmt: skip
        """ln of the density blurred by the least noise, ln p_σmin(x), by the probability flow, (B,), in nats.

        The trace is exact up to 32 coordinates, else by `samples` random probes. bound: the variational bound on
        ln p(x) instead, by `samples` draws a level. steps: of the flow (48), of the bound (the schedule's, or 1000).
        """
        x, unit = as_batch(x, self.shape), float(self.statistics.sigma)
        self.check_rows(x)
        y = self._labels(y, len(x))
        usual = (self.schedule.steps or 1000) if bound else FLOW_STEPS
        count = usual if steps is None else check_count(steps, "steps")
        if not bound and self.schedule.sigma_min == self.schedule.sigma_max:
            raise ArgumentError(
                f"the probability flow runs between two levels of noise, and {self.schedule} has one: bound=True."
            )
        lines = (self.schedule.sigmas(count) if bound else self.schedule.even(count + 1)) * unit
        prior, noise = (
            self.statistics.blurred(float(lines[0])),
            Noise.of(seed, len(x), self.device, self.dtype),
        )
        draws = check_count(samples) if bound or self.estimates else 1
        parts = []
        for rows in slices(len(x), WIDTH * prod(self.shape)) or [slice(0, 0)]:
            part, told = x[rows].to(self.device, self.dtype), None if y is None else y[rows].to(self.device)
            found = []
            for k in range(draws):
                drawn: Any = noise.take(rows).at(k)
                if bound:
                    found.append(log_prob_bound(self, part, lines, prior, drawn, told))
                else:
                    probes = drawn if self.estimates else None
                    found.append(flow_log_prob(self, part, lines, prior, probes, told))
            parts.append(torch.stack(found).mean(0).to(x.device))
        return torch.cat(parts)

    @verb
    def anomaly_score(self, x: Any) -> Tensor:
        """−(bound on ln p(x)) from 16 levels and the same noise for every row, (B,), in nats, higher = stranger."""
        unit = float(self.statistics.sigma)
        lines = self.schedule.even(BOUND_LEVELS) * unit
        prior, noise = self.statistics.blurred(float(lines[0])), Noise.of(0, 1, self.device, self.dtype)
        same = [noise.at(i).normal(self.shape) for i in range(len(lines))]
        return self._map(lambda part: -log_prob_bound(self, part, lines, prior, lambda i: same[i]), x)


def _loss(model: Any, batch: Batch, clock: Clock) -> dict[str, Tensor]:
    return model.objective(model.trace(batch.x, batch.noise, batch.y), clock)
