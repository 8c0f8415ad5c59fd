"""Half a digit, the rest filled in: by the mean of what a model thinks could stand there, and by one draw of it.

A mean is nearest to the truth and hedges; a draw is a sharp picture, and of several digits that fit it takes one.

    python examples/inpainting.py
"""

import torch
from _shared import size

import psiphi as pp
from psiphi.app.pictures import save_grid

digits = pp.data.load("digits")
x, y = digits.test.x[: size(100, 16)], digits.test.y[: size(100, 16)]
where = torch.ones_like(x[0], dtype=torch.bool)
where[:, 4:] = False  # the upper half is seen

judge = pp.zoo.classifier(digits.shape, hidden=(256,))
pp.fit(judge, digits.train.x, digits.train.y, epochs=size(30, 3), quiet=True)

mixture = pp.zoo.gaussian_mixture(digits.shape, components=20, reg_covar=1e-3)
vae = pp.zoo.vae(digits.shape, latent_dim=16)
ddpm = pp.zoo.ddpm(digits.shape, schedule="cosine:1000", parametrisation="velocity")
pp.fit(mixture, digits.train.x, quiet=True)
pp.fit(vae, digits.train.x, epochs=size(60, 3), quiet=True)
pp.fit(ddpm, digits.train.x, epochs=size(100, 3), quiet=True)

plan = "predictor_corrector:{},corrections=4,ratio=0.5,levels=log"  # Langevin steps between the levels
filled = {
    "mean of the pixel": torch.where(where, x, digits.train.x.mean(0)),
    "mixture, mean (exact)": mixture.impute(x, where),
    "VAE, mean": vae.impute(x, where, samples=size(100, 5)),
    "VAE, one draw": vae.impute(x, where, samples=size(100, 5), exact=True),
    "diffusion, mean of 5": ddpm.impute(x, where, samples=size(5, 2), plan=plan.format(size(50, 5))),
    "diffusion, one draw": ddpm.impute(x, where, exact=True, plan=plan.format(size(50, 5))),
}

print(f"{'':<24} {'squared error':>14} {'read as the digit that it is':>30}")
for name, guess in {"the digits themselves": x, **filled}.items():
    error = (guess - x).square().sum((1, 2, 3)).mean()
    right = (judge(guess.clamp(0, 1)).argmax(1) == y).sum()
    print(f"{name:<24} {error:>14.2f} {pp.evaluation.Share(int(right), len(y))!s:>30}")

rows = torch.cat([each[:16] for each in (x, x * where, *filled.values())])
save_grid("runs/inpainting.png", rows, columns=16)
print("runs/inpainting.png: the digits, what is seen of them, and the six ways, a row each")
