"""Certified smoothing: radii within which no change of the picture moves the answer, and what an attack finds there.

Two classifiers are put behind the vote over noisy copies: one trained with the noise, and one that never saw any, with
a denoising autoencoder in front.

    python examples/smoothing.py
"""

from _shared import size

import psiphi as pp

SIGMA, RADII = 0.25, (0.0, 0.25, 0.5)

digits = pp.data.load("digits")
x, y = digits.test.x[: size(100, 12)], digits.test.y[: size(100, 12)]
how = {"epochs": size(40, 4), "quiet": True}

hardened, plain = (pp.zoo.classifier(digits.shape, hidden=(256,), seed=0) for _ in range(2))
pp.fit(pp.defenses.noisy_training(hardened, SIGMA), digits.train.x, digits.train.y, **how)
pp.fit(plain, digits.train.x, digits.train.y, **how)
dae = pp.zoo.denoising_ae(digits.shape, corruption=f"gaussian:{SIGMA}")
pp.fit(dae, digits.train.x, **how)

smoothed = {
    "trained with the noise": pp.defenses.smooth(hardened, SIGMA),
    "plain, denoised": pp.defenses.smooth(plain, SIGMA, denoiser=dae),
    "plain": pp.defenses.smooth(plain, SIGMA),
}
certificates = []
print(f"{'':<24} {'radius':>7} {'certified':>24} {'not wrong under PGD':>24}")
for name, safe in smoothed.items():
    certificate = safe.certify(x, n=size(1000, 100))
    for radius in RADII:
        told = f"{name if not radius else '':<24} {radius:>7} {certificate.accuracy(y, radius)!s:>24}"
        if radius:
            attack = pp.attacks.pgd(pp.attacks.L2(radius), steps=size(10, 3))
            climbed = attack(pp.access.expectation(safe, draws=1, verify=size(100, 5)), x, y)
            wrong = safe.outcome(climbed.x, y, n=size(1000, 100)).wrong
            told += f" {pp.evaluation.Share(wrong.n - wrong.hits, wrong.n)!s:>24}"
        print(told, flush=True)
    certificates.append(certificate)
print(f"\nThe first in more detail:\n{certificates[0].summary(y)}")
