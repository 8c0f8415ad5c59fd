"""A folder of pictures of yours: a model of them, new ones drawn from it, and the odd ones found.

python examples/own_pictures.py [FOLDER]          # without a folder, digits are written to one
"""

from pathlib import Path

import torch
from _shared import named, size
from PIL import Image

import psiphi as pp
from psiphi.app.pictures import save_grid


def written(folder):
    """The embedded digits as a folder of pictures, one sub-folder a class."""
    digits = pp.data.load("digits")
    for i, (x, label) in enumerate(zip(digits.train.x, digits.train.y.tolist())):
        place = Path(folder, str(label))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * x[0]).byte().numpy()).save(place / f"{i}.png")
    return folder


out = Path("runs/own_pictures")
folder = named(None) or written(out / "digits")

pictures = pp.data.load(folder)  # of several sizes: pp.data.load(f"{folder}:size=64x64")
print(pictures)
vae = pp.zoo.vae(pictures.shape, latent_dim=16)
pp.fit(vae, pictures, epochs=size(60, 3))

save_grid(out / "pictures.png", pictures.test.x[:64])
save_grid(out / "drawn.png", vae.sample(64, seed=0))
print(f"{out}/pictures.png and drawn.png: 64 pictures of the folder, 64 that the model draws")

x = torch.as_tensor(pictures.test.x[:])
strange = vae.anomaly_score(x).argsort(descending=True)
save_grid(out / "strangest.png", x[strange[:16]], columns=16)
print(f"{out}/strangest.png: of the {len(x)} pictures kept for the test, the 16 that fit the model least")

# Does the score find what does not belong? Pictures that nobody made: the upper half of one over the lower of another.
middle = x.shape[2] // 2
odd = torch.cat([x[:, :, :middle], x.roll(1, 0)[:, :, middle:]], 2)
found = pp.evaluation.anomalies(vae, x, odd, train=pictures.train.x[:], samples=size(100, 5))
print(f"\nTold from pictures put together of two halves, by every score that the model has:\n{found}")
