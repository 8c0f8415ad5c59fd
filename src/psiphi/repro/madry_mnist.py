"""Training on the worst that PGD finds: MNIST within 0.3 of each pixel."""

from __future__ import annotations

from functools import partial

from psiphi.attacks import Linf, pgd
from psiphi.defenses import adversarial_training
from psiphi.models import Classifier
from psiphi.repro._hardened import EPS, Setting, lines, measure
from psiphi.repro._recipe import Recipe


def harden(net: Classifier, setting: Setting) -> Classifier:
    return adversarial_training(net, pgd(Linf(EPS), setting.steps, setting.step), warmup=setting.warm_up)


RECIPE = Recipe(
    name="madry_mnist",
    reference='Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial '
    "attacks\", 2018, table 1; the number under AutoAttack is that of its authors' list.",
    what="Adversarial training by PGD on MNIST, L∞ 0.3.",
    rows=lines(98.53, 89.62, 88.50, full=98.0),
    quick=Setting(epochs=16, steps=8, step=None, warm_up=4, channels=(16, 32), hidden=100, test=1000),
    full=Setting(
        epochs=80, steps=40, step=0.01, warm_up=10, channels=(32, 64), hidden=1024, test=10_000, lr=1e-3
    ),
    measure=partial(measure, harden),
    needs="mnist",
    differs="two strided convolutions of 4 × 4 in place of two of 5 × 5 with pooling; ε rises from 0 over the first "
    "epochs; of the epochs the one with the best validation accuracy under PGD-20 is kept; the quick setting takes 8 "
    "steps of 0.094 and is judged on the first 1 000 test images.",
)
