"""Draws the pictures of the manual: `python docs/tools/manual_pictures.py [TOUR]` makes the tour if it is not there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

import psiphi as pp
from psiphi.app import tour
from psiphi.app.pictures import save_grid

HERE = Path(__file__).resolve().parents[1] / "pictures"
COPIED = {
    "hero": "hero",
    "attack": "pgd",
    "curve": "curve",
    "accuracy": "purify",
    "radius": "classifier",
    "latent-map": "vae-map",
    "vae-parts": "training",
}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "psiphi-tour")
    if not (folder / "report.html").exists():
        tour.run(folder)
    HERE.mkdir(exist_ok=True)
    for theirs, ours in COPIED.items():
        shutil.copy(folder / "pictures" / f"{theirs}.png", HERE / f"{ours}.png")
    digits = pp.data.load("digits")
    x = digits.test.x[:16]
    pca, ae, vae = (pp.load(folder / "runs" / name) for name in ("pca", "ae", "vae"))
    with torch.no_grad():
        few = pp.zoo.pca(digits.shape, latent_dim=2)
        pp.fit(few, digits.train.x, quiet=True)
        save_grid(HERE / "pca.png", torch.cat([x, few.reconstruct(x), pca.reconstruct(x)]), columns=16)
        save_grid(HERE / "autoencoder.png", torch.cat([x, pca.reconstruct(x), ae.reconstruct(x)]), columns=16)
        save_grid(HERE / "vae.png", torch.cat([x, vae.reconstruct(x), vae.sample(32)]), columns=16)


if __name__ == "__main__":
    main()
