"""A spiral out of noise: the field of a denoiser at three levels of noise, paths of a sampler, samples.

About two minutes of one core; the picture is docs/pictures/swiss-roll.png in the manual.

    python docs/tools/swiss_roll.py [PICTURE.png]
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

import psiphi as pp
from psiphi.app import fields, plots
from psiphi.divergences import sliced_wasserstein
from psiphi.training import schedules

PICTURE = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/swiss-roll.png")
SIGMAS = (0.4, 0.15, 0.05)

roll = pp.data.load("swiss_roll:n=4000")
model = pp.zoo.edm(roll.shape, seed=0)
calm = {"schedule": schedules.cosine()}  # the learning rate ends at 0
pp.fit(
    model, roll.reference, steps=4000, batch_size=512, lr=2e-3, optimizer=calm
)  # a sampler: every batch is new
samples = model.sample(2000, plan="heun:18")
print("sliced Wasserstein to fresh data", sliced_wasserstein(samples, roll.reference))
print("between two draws of the data   ", sliced_wasserstein(roll.train.x[:2000], roll.reference))
print("mean ln p of the test split     ", float(model.log_prob(roll.test.x).mean()))

maps = [fields.field(model, roll.train.x, sigma, fine=80) for sigma in SIGMAS]
walks = fields.paths(model, 70, "dpm_solver:60", seed=1)


def dots(x, colour):
    return lambda ax, c: ax.scatter(*x.T.tolist(), s=2.5, color=c[colour], linewidths=0, alpha=0.6)


panels = [
    ("data", dots(roll.train.x[:2000], "bare")),
    *((f"D(x, σ) − x over the blurred data, σ = {each.sigma:g}", fields.arrows(each, 600)) for each in maps),
    ("70 samples on their way", fields.traces(walks, roll.train.x)),
    ("2000 samples", dots(samples, "vae")),
]
with matplotlib.rc_context({**plots.RC, "font.size": 9}):
    figure = Figure(figsize=(9.9, 7.0), layout="constrained")
    for ax, (title, draw) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        draw(ax, plots.PLAIN)
        ax.set_title(title, fontsize=9.5, color=plots.PLAIN["ink"])
        ax.set(xticks=[], yticks=[])
        ax.set_aspect("equal", "box")
        ax.set(xlim=maps[0].across[[0, -1]].tolist(), ylim=maps[0].up[[0, -1]].tolist())
        for side in ax.spines.values():
            side.set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    Image.open(PICTURE).convert("RGB").quantize(128).save(PICTURE, optimize=True)
print(f"{PICTURE}: data, the field at σ = {', '.join(map(str, SIGMAS))}, paths, samples")
