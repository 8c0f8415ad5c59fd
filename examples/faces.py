"""Codes of faces: what an autoencoder's code says about who it is, against eigenfaces of the same size.

Five pictures of each person train the model and a linear probe on its codes; five others are recognised.

    python examples/faces.py          # Olivetti faces at 32×32; without them, the embedded digits
"""

import scipy.io
import torch
from _shared import shared, size

import psiphi as pp

folder = shared("olivetti", "digits and their classes serve instead")
if folder:
    faces = scipy.io.loadmat(folder / "olivettifaces.mat")["faces"]
    x = torch.from_numpy(faces.T.reshape(400, 1, 64, 64).transpose(0, 1, 3, 2) / 255).float()
    x, person = torch.nn.functional.avg_pool2d(x, 2), torch.arange(400) // 10
    held = torch.arange(400) % 10 >= 5
    train, test = pp.data.Split(x[~held], person[~held]), pp.data.Split(x[held], person[held])
else:
    digits = pp.data.load("digits")
    train, test = digits.train, digits.test

shape, codes = test.x.shape[1:], 16
models = {
    f"eigenfaces, {codes}": pp.zoo.pca(shape, codes),
    f"autoencoder, {codes}": pp.zoo.ae(shape, codes),
    f"denoising autoencoder, {codes}": pp.zoo.denoising_ae(shape, codes, corruption="gaussian:0.3"),
    f"variational autoencoder, {codes}": pp.zoo.vae(shape, codes),
}
print(f"{len(train.x)} pictures to learn from, {len(test.x)} to recognise, {len(train.y.unique())} classes\n")
print(f"{'':<28} {'linear probe':>22} {'nearest code':>22} {'squared error':>14}")
for name, model in models.items():
    pp.fit(model, train.x, epochs=size(150 if folder else 30, 2), batch_size=20)
    found = pp.evaluation.latents(model, test.x, test.y, train=train, parts=("labels",))
    error = pp.evaluation.reconstruction(model, test.x).squared_error
    print(f"{name:<28} {found.probe!s:>22} {found.neighbours!s:>22} {error:>14.2f}")
