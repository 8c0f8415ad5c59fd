"""Draws the pictures of the models' pages, on embedded data: `python docs/tools/model_pictures.py [NAME ...]`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

import psiphi as pp
from psiphi import samplers
from psiphi.app import fields, plots
from psiphi.app.pictures import as_change, as_ink, cells, grid, on_paper, png, save_grid
from psiphi.basis.noise import Noise
from psiphi.samplers import schedules

HERE = Path(__file__).resolve().parents[1] / "pictures"
INK, SOFT, COOL, HOT = "#222222", "#b9b5ab", "#2f6ea5", "#b5482a"


@torch.enable_grad()
def trained(model, data, epochs=60, **options):
    pp.fit(model, data, epochs=epochs, seed=0, quiet=True, **options)
    return model


def panels(path, titles, draw, size):
    """A row of panels, one a title, drawn by draw(ax, index)."""
    with matplotlib.rc_context({"font.size": 9.5, "axes.edgecolor": SOFT}):
        figure = Figure(figsize=(size[0] * len(titles), size[1]), layout="constrained")
        for i, ax in enumerate(figure.subplots(1, len(titles), squeeze=False).flat):
            ax.set_title(titles[i], loc="left", color=INK, fontsize=9.5)
            ax.set(xticks=[], yticks=[])
            draw(ax, i)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def sparse(digits):
    """What single units write: two rows of the k-sparse model, two of the sparse one, two of PCA."""
    models = [
        trained(pp.zoo.k_sparse_ae(digits.shape, 64, k=4, tied=True), digits, 80, lr=3e-3),
        trained(pp.zoo.sparse_ae(digits.shape, 64, strength=1.0, tied=True), digits, 80, lr=3e-3),
        trained(pp.zoo.pca(digits.shape, 32), digits),
    ]
    rows = []
    for model in models:
        atoms = pp.evaluation.atoms(model, digits.test.x)
        busiest = model.encode(digits.test.x).square().mean(0).topk(32).indices
        each = atoms[busiest]
        rows.append(each / each.flatten(1).abs().amax(1).view(-1, 1, 1, 1))
    page = on_paper(grid(as_change(torch.cat(rows), 1.0), columns=16))
    (HERE / "sparse.png").write_bytes(png(page, 5))


def denoising(digits):
    """Test digits, with noise of σ = 0.3, and the denoised ones."""
    model = trained(pp.zoo.denoising_ae(digits.shape, 128), digits, 100)
    x = digits.test.x[:16]
    noisy = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    save_grid(HERE / "denoising.png", torch.cat([x, noisy, model.denoise(noisy)]), columns=16)


def contractive(digits):
    """How far a code moves, in units of the codes' spread, as noise is added to the picture."""
    sigmas = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    x = digits.test.x
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    series = []
    for name, strength, colour in (
        ("λ = 0", 0.0, "bare"),
        ("λ = 0.01", 0.01, "gray"),
        ("λ = 0.1", 0.1, "vae"),
    ):
        model = pp.zoo.contractive_ae(digits.shape, 8, strength=strength, tied=True, activation="sigmoid")
        trained(model, digits, 60)
        z = model.encode(x)
        spread = (z - z.mean(0)).square().sum(1).mean().sqrt()
        moved = [float((model.encode(x + s * noise) - z).norm(dim=1).mean() / spread) for s in sigmas]
        error = pp.evaluation.reconstruction(model, x).squared_error
        print(name, [round(m, 3) for m in moved], f"squared error {error:.3f}")
        series.append((name, sigmas, moved, colour, False))
    plots.png(HERE / "contractive.png", plots.curves(series, "σ of the noise", "‖φ(x̃) − φ(x)‖ / spread"))


def priors(digits):
    """Codes of two numbers, and draws of the prior that was learnt with them."""
    names = ["standard", "mixture:16", "vamp:16", "flow"]
    models = []
    for name in names:
        model = trained(pp.zoo.vae(digits.shape, 2, prior=name, hidden=(256, 256)), digits, 60)
        found = pp.evaluation.elbo(model, digits.test.x)
        print(name, found)
        models.append((model, found))

    def draw(ax, i):
        model, _ = models[i]
        drawn = model.prior().rsample(Noise.of(0, 1500))[0]
        codes = model.encode(digits.train.x)
        ax.scatter(*drawn.T, s=3, color=COOL, alpha=0.45, linewidths=0)
        ax.scatter(*codes.T, s=3, color=HOT, alpha=0.5, linewidths=0)
        ax.set_aspect("equal", "datalim")

    panels(HERE / "priors.png", names, draw, (2.6, 2.6))


def iwae(digits):
    """The bound of a VAE and of an IWAE as the number of draws grows, on held-out points of two moons."""
    moons, counts, series = pp.data.load("moons:n=3000"), [5, 10, 20, 50, 100, 200, 500, 1000], []
    how = dict(hidden=(64, 64), likelihood="gaussian:0.1", samples=20)
    for name, model, colour in (
        ("VAE", pp.zoo.vae(moons.shape, 2, **how), "gray"),
        ("IWAE, K = 20", pp.zoo.iwae(moons.shape, 2, **how), "vae"),
    ):
        trained(model, moons, 60)
        bounds = [float(model.log_prob(moons.test.x, samples=k, seed=1).mean()) for k in counts]
        print(name, [round(b, 3) for b in bounds])
        series.append((name, [torch.tensor(k).log10().item() for k in counts], bounds, colour, False))
    draw = plots.curves(series, "log₁₀ K, draws a row", "mean ln (1/K) Σ p(x, z)/q(z|x), nats", room=0.3)
    plots.png(HERE / "iwae.png", draw)


def labelled(digits):
    """One code a row, one label a column."""
    model = trained(pp.zoo.conditional_vae(digits.shape, 8), digits, 60)
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(10).repeat(6)
    save_grid(HERE / "labelled.png", model.decode(z.repeat_interleave(10, 0), y=y), columns=10)


def mixture(digits):
    """Two rows of means of components, two rows of draws from the mixture."""
    model = trained(pp.zoo.gaussian_mixture(digits.shape, 32, reg_covar=0.05), digits)
    order = model.weights.argsort(descending=True)
    save_grid(HERE / "mixture.png", torch.cat([model.centres[order], model.sample(32)]), columns=16)


def imputed(digits):
    """Test digits; without their lower half; filled by PCA; by the mixture; by the VAE."""
    x = digits.test.x[:16]
    seen = torch.ones(digits.shape, dtype=torch.bool)
    seen[:, 4:] = False
    gaps = torch.where(seen, x, 0.0)
    pca = trained(pp.zoo.pca(digits.shape, 16), digits)
    mixed = trained(pp.zoo.gaussian_mixture(digits.shape, 32, reg_covar=0.05), digits)
    vae = trained(pp.zoo.vae(digits.shape, 8, hidden=(512,)), digits, 60)
    filled = [pca.impute(x, seen), mixed.impute(x, seen), vae.impute(x, seen)]
    held = digits.test.x
    for name, model in (("PCA", pca), ("mixture", mixed), ("VAE", vae)):
        error = (model.impute(held, seen) - held)[..., 4:, :].square().mean().sqrt()
        print(f"{name} rms of the missing pixels {error:.4f}")
    save_grid(HERE / "imputed.png", torch.cat([x, gaps, *filled]), columns=16)


def rates(digits):
    """Distortion against rate for VAEs trained at several β."""
    found = pp.evaluation.rate_distortion(
        lambda beta: pp.zoo.vae(digits.shape, 8, beta=beta, hidden=(128,), likelihood="gaussian:0.1"),
        digits, (0.3, 1.0, 3.0, 10.0, 30.0), epochs=30, quiet=True,
    )  # fmt: skip
    print(found)
    plots.png(HERE / "rate-distortion.png", plots.rate_distortion(found.points))


def outliers(digits):
    """The score of OutlierDetector over the plane, and the line where it refuses, around two moons."""
    x = pp.data.load("moons:n=600").train.x.double().numpy()
    detector = pp.estimators.OutlierDetector(contamination=0.02, random_state=0).fit(x)
    across, up = torch.linspace(-1.9, 2.9, 120), torch.linspace(-1.4, 1.9, 90)
    points = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1).view(-1, 2).double().numpy()
    scores = detector.decision_function(points).reshape(90, 120)

    def draw(ax, i):
        ax.contourf(across, up, scores, levels=12, cmap="Blues")
        ax.contour(across, up, scores, levels=[0.0], colors=HOT, linewidths=1.6)
        ax.scatter(*x.T, s=3, color=INK, linewidths=0)
        ax.set_aspect("equal")

    panels(HERE / "outliers.png", ["score; the line is where predict turns to −1"], draw, (4.4, 3.3))


def adversarial(digits):
    """The first two of the codes of the test digits, over draws of N(0, I)."""
    names = ("autoencoder", "adversarial", "Wasserstein, MMD")
    models = [
        trained(pp.zoo.ae(digits.shape, 2, hidden=(256,)), digits.train.x, 100),
        trained(pp.zoo.aae(digits.shape, 2, hidden=(256,)), digits.train.x, 300),
        trained(pp.zoo.wae_mmd(digits.shape, 2, weight=30.0, hidden=(256,)), digits.train.x, 100),
    ]
    drawn = torch.randn(len(digits.test.x), 2, generator=torch.Generator().manual_seed(0))

    def draw(ax, i):
        z = models[i].encode(digits.test.x)
        ax.scatter(*drawn.T, s=7, color=SOFT, linewidths=0)
        ax.scatter(*z.T, s=7, c=digits.test.y, cmap="tab10", linewidths=0, alpha=0.8)
        ax.set_aspect("equal", "datalim")

    panels(HERE / "adversarial.png", names, draw, (3.0, 3.0))


def games(digits):
    """Samples of four games on the grid of 25 Gaussians, the same small networks and 4000 generator steps."""
    target = pp.data.toys.grid()
    how = dict(hidden=(128, 128), lr=1e-3, ema=0.99)
    models = {
        "non-saturating": pp.zoo.gan(2, 2, lipschitz="none", **how),
        "packed by 4": pp.zoo.gan(2, 2, lipschitz="none", pack=4, **how),
        "WGAN-GP": pp.zoo.wgan_gp(2, 2, weight=1.0, **how),
        "relativistic, R1 + R2": pp.zoo.gan(2, 2, game="relativistic", lipschitz="r1+r2:0.02", **how),
    }
    for model in models.values():
        pp.fit(model, target, steps=4000, batch_size=128, seed=0, quiet=True)
    found = [pp.evaluation.modes(model, target) for model in models.values()]
    titles = [f"{name}\n{f.found} modes, {f.quality.value:.0%}" for name, f in zip(models, found)]
    drawn = [model.sample(2500, seed=0) for model in models.values()]

    def draw(ax, i):
        ax.scatter(*target.means.T, s=60, facecolors="none", edgecolors=SOFT)
        ax.scatter(*drawn[i].T, s=2, color=COOL, linewidths=0, alpha=0.6)
        ax.set(xlim=(-5.2, 5.2), ylim=(-5.2, 5.2), aspect="equal")

    panels(HERE / "gan.png", titles, draw, (2.9, 3.0))


def critics(digits):
    """The learnt log ratio against the true one, for N(0, 1) and N(1.5, 0.5²), and JS against the separation."""
    normal = lambda mean, scale: pp.data.toys.gaussian(dimension=1, mean=mean, scale=scale)  # noqa: E731
    p, q = normal(0.0, 1.0), normal(1.5, 0.5)
    how = pp.divergences.learnt(steps=1500, lr=1e-2)
    with torch.enable_grad():
        found = pp.divergences.by_critic(p, q, how)
    x = torch.linspace(-3, 4, 400)[:, None]
    shifts = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
    true, learnt = [], []
    for shift in shifts:
        other = normal(shift, 1.0)
        true.append(float(pp.divergences.js(p, other)))
        with torch.enable_grad():
            learnt.append(
                float(pp.divergences.by_critic(p, other, pp.divergences.learnt(steps=500, lr=1e-2)))
            )

    def draw(ax, i):
        ax.set(xticks=[-2, 0, 2, 4] if i == 0 else [0, 1, 2, 3])
        if i == 0:
            ax.plot(x, (p.log_prob(x.double()) - q.log_prob(x.double())), color=INK, lw=1.2)
            ax.plot(x, found.log_ratio(x), color=HOT, lw=1.2, ls="--")
            ax.set(ylim=(-4, 12), yticks=[-4, 0, 4, 8, 12])
        else:
            ax.plot(shifts, true, color=INK, lw=1.2)
            ax.plot(shifts, learnt, "o", color=HOT, ms=5)
            ax.axhline(0.6931, color=SOFT, lw=0.8)
            ax.set(yticks=[0, 0.35, 0.69])

    titles = (
        "ln p/q: true, and the critic's (dashed)",
        "JS of N(0, 1) and N(shift, 1), nats: true, critic (dots)",
    )
    panels(HERE / "critics.png", titles, draw, (4.2, 2.9))


def diffusion(digits):
    """Three digits on their way, below each state what is expected of it; and a label a column at three weights."""
    model = pp.zoo.ddpm(digits.shape, classes=10, schedule="cosine:1000", parametrisation="velocity")
    trained(model, digits, 300)
    walks = fields.paths(model, 3, "dpm_solver:40", seed=4, y=3, guidance=2.0)
    save_grid(HERE / "diffusion.png", fields.strip(walks, 3, 14), columns=14)
    y, weights = torch.arange(10).repeat(4), (0.0, 1.0, 4.0)
    drawn = [model.sample(40, y=y, guidance=w, plan="dpm_solver:20", seed=1) for w in weights]

    def draw(ax, i):
        ax.imshow(on_paper(grid(as_ink(cells(drawn[i])), 10)), interpolation="nearest")
        ax.set_frame_on(False)

    panels(HERE / "guidance.png", [f"guidance {w:g}" for w in weights], draw, (3.6, 1.7))


def mixing(digits):
    """One Langevin chain between two normals of σ 1, with their exact score, and how often 200 of them cross."""
    gaps, steps, sigma = (3.0, 5.0, 7.0), 2000, 1.0
    noise = Noise.of(0, 200, dtype=torch.float64)
    chains = []
    for gap in gaps:  # the density blurred by σ is what the chain sees: normals of variance 1
        denoiser = lambda x, s, half=gap / 2: x + sigma**2 * (half * (half * x).tanh() - x)  # noqa: E731
        start = noise.split("start").normal((1,)) - gap / 2
        chains.append(
            samplers.trajectory(samplers.langevin(sigma, 0.2, steps), denoiser, start, noise)[..., 0]
        )
    crossed = [float((x[1:].sign() != x[:-1].sign()).double().mean()) * 1000 for x in chains]
    print("crossings a thousand steps", [round(each, 2) for each in crossed])

    def draw(ax, i):
        ax.plot(chains[i][:, 0], lw=0.4, color=COOL)
        for side in (-1, 1):
            ax.axhline(side * gaps[i] / 2, color=HOT, lw=1)
        ax.set(ylim=(-7, 7), xticks=[0, steps])

    titles = [f"modes {gap:g}σ apart: {each:.2g} crossings in 1000 steps" for gap, each in zip(gaps, crossed)]
    panels(HERE / "mixing.png", titles, draw, (3.6, 1.9))


def plans(digits):
    """The noise level of each evaluation of three samplers."""
    line = schedules.karras()
    listed = [
        samplers.ddim(line, 20),
        samplers.heun(line, 10),
        samplers.dpm_solver(schedules.linear(1000), 20),
    ]
    named = [
        replace(each, name=name)
        for each, name in zip(listed, ("ddim, karras", "heun, karras", "dpm_solver, linear"))
    ]
    plots.png(HERE / "plans.png", plots.plan(named), (5.6, 3.2))


PICTURES = {
    each.__name__: each
    for each in (
        sparse, denoising, contractive, priors, iwae, labelled, mixture, imputed, rates, outliers, adversarial, games,
        critics, diffusion, mixing, plans,
    )
}  # fmt: skip


def main() -> None:
    digits = pp.data.load("digits")
    for name in sys.argv[1:] or PICTURES:
        start = time.process_time()
        with torch.no_grad():
            PICTURES[name](digits)
        print(f"{name}: {time.process_time() - start:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
