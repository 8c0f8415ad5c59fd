"""A classifier of yours, trained in plain PyTorch: what small changes do to it, and whether the number can be trusted.

    python examples/own_classifier.py

The same as a page, `out/report.html`, from the folder examples, since psiphi takes any function that returns a module:

    psiphi attack own_classifier:trained --data digits --attack auto --threat linf:0.1 --report --out out
"""

import torch
from _shared import size
from torch import nn

import psiphi as pp


def trained():
    """Your network and your training loop go here. It takes pixels in [0, 1] and returns logits."""
    digits = pp.data.load("digits")
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(size(20, 4)):
        for rows in torch.randperm(len(digits.train.x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(digits.train.x[rows]), digits.train.y[rows]).backward()
            optimizer.step()
    return network.eval()


if __name__ == "__main__":
    network, test = trained(), pp.data.load("digits").test
    x, y = test.x[: size(128, 48)], test.y[: size(128, 48)]

    # A network that wants (x − mean)/std: pp.access.white_box(network, mean=..., std=...) in its place.
    ball = pp.attacks.Linf(0.1)
    attacks = [
        pp.attacks.fgsm(ball),
        pp.attacks.pgd(ball, steps=size(40, 10)),
        pp.attacks.square(ball, queries=500),
    ]
    how = {"limit": size(64, 16), "queries": size(200, 50)}  # how closely the number itself is examined
    report = pp.evaluation.robustness(network, x, y, attacks[: size(3, 2)], eps=[0.025, 0.05, 0.1], **how)
    print(report)
    print(f"\n{report.summary()}")

    report.save("runs/own_classifier")  # every adversarial picture, every number
    print("\nruns/own_classifier.npz and .json: read them again with pp.evaluation.Robustness.load")
