"""Pictures denoised: a denoising autoencoder, against a median filter and a projection onto principal components.

Frames of a film of one face, the last fifth of it for the test, with two kinds of noise.

    python examples/denoising.py          # Frey faces; without them, the embedded digits
"""

import numpy as np
import torch
from _shared import shared, size
from scipy.ndimage import median_filter

import psiphi as pp
from psiphi.app.pictures import save_grid
from psiphi.basis.noise import Noise
from psiphi.parts import corruption

NOISES = ("gaussian:0.2", "salt_and_pepper:0.3")

folder = shared("freyfaces", "8×8 digits serve instead")
if folder:
    x = torch.from_numpy(np.load(folder / "freyfaces_u8_1965x28x20.npy"))[:, None] / 255
    train, test = x[:1565], x[1600:]  # a gap between them: neighbouring frames are nearly the same
else:
    digits = pp.data.load("digits")
    train, test = digits.train.x, digits.test.x


def psnr(guess):
    """Peak signal-to-noise ratio in dB, the mean over pictures."""
    return float((-10 * (guess.clamp(0, 1) - test).square().flatten(1).mean(1).log10()).mean())


rows = []
for kind in NOISES:
    noisy = corruption(kind)(test, Noise.of(0, len(test)))
    pca = pp.zoo.pca(test.shape[1:], 32)
    pp.fit(pca, train, quiet=True)
    dae = pp.zoo.denoising_ae(test.shape[1:], 64, corruption=kind)
    pp.fit(dae, train, epochs=size(60, 3), batch_size=64)
    median = torch.from_numpy(median_filter(noisy.numpy(), size=(1, 1, 3, 3)))
    with torch.no_grad():
        found = {
            "noisy": noisy,
            "median 3×3": median,
            "PCA 32": pca.reconstruct(noisy),
            "DAE": dae.reconstruct(noisy),
        }
    print(kind, *(f"{name} {psnr(each):.1f} dB" for name, each in found.items()), sep="   ")
    rows += [test[::25][:12], *(each[::25][:12] for each in found.values())]

ink = 1 - torch.cat(rows) if folder else torch.cat(rows)  # save_grid draws 1 as black: right for digits only
save_grid("runs/denoising.png", ink, columns=min(12, len(test[::25])))
print("runs/denoising.png: for each noise the pictures, noisy, by the median, by PCA, by the autoencoder")
