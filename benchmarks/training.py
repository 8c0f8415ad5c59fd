"""Training a VAE, and its likelihood, beside pythae and a bare loop, in one run.

    python benchmarks/training.py [--repeats 9] [--json FILE]

The network is 784-512-16 (or 64-512-16), batch 128, Bernoulli likelihood, Adam. The bare loop is the same
network in plain PyTorch with fused Adam and nothing else: no logging, no noise keys, no checks.

Machines drift, so the sides take turns in short runs, in the other order every second turn, and a ratio is the
median over turns of the two runs of a turn. Beside pythae whole calls are compared, set-up included; beside the
bare loop, which has none, the time in `fit`'s loop. "bare × pythae" is the most that the matrix products leave to
gain on this machine. Speeds are each side's best. The likelihood row gives the same weights to all.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, LATENT, HIDDEN = 128, 16, 512
POINTS, DRAWS = 32, 1000


# ------------------------------------------------------------------------------------------- the peer's side
def peer(folder: Path) -> None:
    """Runs in the peers' interpreter: answers each question with a time."""
    import contextlib
    import logging
    import os

    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    logging.disable(logging.CRITICAL)
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    for line in sys.stdin:
        question = json.loads(line)
        torch.set_num_threads(question["threads"])
        data = np.load(folder / f"{question['data']}.npz", allow_pickle=False)
        x = torch.from_numpy(data["x"])
        model = VAE(VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=LATENT, reconstruction_loss="bce"))
        answer: dict[str, Any] = {}
        if question["task"] == "train":
            config = BaseTrainerConfig(
                output_dir=str(folder / "pythae"), learning_rate=1e-3, num_epochs=question["epochs"],
                per_device_train_batch_size=BATCH, no_cuda=True,
            )  # fmt: skip
            began = time.perf_counter()
            with contextlib.redirect_stderr(sys.stdout):
                TrainingPipeline(model=model, training_config=config)(train_data=x)
        else:
            found = {n.removeprefix("net."): torch.from_numpy(data[n]) for n in data if n.startswith("net.")}
            model.load_state_dict(found)
            model.eval()
            began = time.perf_counter()
            with torch.no_grad():
                answer["estimate"] = float(model.get_nll(x, n_samples=DRAWS, batch_size=100))
        print(json.dumps({"seconds": time.perf_counter() - began, **answer}), file=answers, flush=True)


# ----------------------------------------------------------------------------------------------- the bare loop
def bare(x: Tensor, epochs: int) -> float:
    d = x[0].numel()
    encoder = nn.Sequential(nn.Linear(d, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, d))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    x = x.flatten(1)
    began = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            batch = x[index]
            mu, log_var = encoder(batch).chunk(2, 1)
            z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
            nll = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
            rate = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum()
            ((nll + rate) / len(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return time.perf_counter() - began


def plain_nll(model: Any, x: Tensor) -> tuple[float, float]:
    """Importance sampling as one would write it: all draws of a point in one batch."""
    began, total = time.perf_counter(), 0.0
    with torch.no_grad():
        for row in x:
            q = model.encoder(row[None])
            z = q.mean + q.log_scale.exp() * torch.randn(DRAWS, LATENT)
            logits = model.decoder.network(z).flatten(1)
            many = row.flatten().expand(DRAWS, -1)
            log_p = -F.binary_cross_entropy_with_logits(logits, many, reduction="none").sum(1)
            prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
            log_q = torch.distributions.Normal(q.mean, q.log_scale.exp()).log_prob(z).sum(1)
            total += float((log_p + prior - log_q).logsumexp(0) - np.log(DRAWS))
    return time.perf_counter() - began, total / len(x)


def ours(x: Tensor, epochs: int) -> tuple[float, float, Any]:
    """Seconds of the whole call, seconds in its loop, and the model."""
    import psiphi as pp

    model = pp.zoo.vae(tuple(x.shape[1:]), latent_dim=LATENT, hidden=(HIDDEN,), likelihood="bernoulli")
    began = time.perf_counter()
    history = pp.fit(model, x, epochs=epochs, batch_size=BATCH, quiet=True)
    return time.perf_counter() - began, sum(history["seconds"]), model


def weights(model: Any) -> dict[str, np.ndarray]:
    """Our weights under pythae's names; standardisation folds into the first layer, ln σ doubles to ln σ²."""
    s, enc, dec = model.statistics, model.encoder.network.layers, model.decoder.network.layers
    first = enc[0].weight / s.sigma
    found = {
        "encoder.layers.0.0.weight": first,
        "encoder.layers.0.0.bias": enc[0].bias - first @ s.mean.flatten(),
        "encoder.embedding.weight": enc[2].weight[:LATENT],
        "encoder.embedding.bias": enc[2].bias[:LATENT],
        "encoder.log_var.weight": 2 * enc[2].weight[LATENT:],
        "encoder.log_var.bias": 2 * enc[2].bias[LATENT:],
        "decoder.layers.0.0.weight": dec[0].weight,
        "decoder.layers.0.0.bias": dec[0].bias,
        "decoder.layers.1.0.weight": dec[2].weight,
        "decoder.layers.1.0.bias": dec[2].bias,
    }
    return {f"net.{name}": tensor.detach().numpy() for name, tensor in found.items()}


def middle(theirs: list[float], mine: list[float]) -> float:
    """Median over turns of how much longer they took."""
    return statistics.median(a / b for a, b in zip(theirs, mine, strict=True))


def main() -> None:
    from _common import Peer, images, options, table, written

    import psiphi as pp

    given = options(__doc__, repeats=9).parse_args()
    threads = torch.get_num_threads()
    name, train, test = images()
    small = pp.data.load("digits").train.x
    small = small.repeat(20, 1, 1, 1)
    results = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        opponent = Peer(__file__, folder)
        for label, x, epochs in (
            (f"VAE 784-512-16, {name}", train.x[:20_000], 5),
            ("VAE 64-512-16, digits × 20", small, 4),
        ):
            np.savez(folder / "train.npz", x=x.numpy())
            ours(x[: 4 * BATCH], 1)  # torch loads parts of itself at the first step
            calls, loops, bares, peers = [], [], [], []
            for turn in range(given.repeats):
                for side in ("ours", "bare", "peer")[:: (-1) ** turn]:
                    if side == "ours":
                        call, loop, model = ours(x, epochs)
                        calls.append(call)
                        loops.append(loop)
                    elif side == "bare":
                        bares.append(bare(x, epochs))
                    else:
                        asked = opponent.ask(task="train", data="train", epochs=epochs, threads=threads)
                        peers.append(asked["seconds"])
            done = epochs * len(x)
            results.append({
                "work": label, "psiphi /s": done / min(loops), "bare loop /s": done / min(bares),
                "pythae /s": done / min(peers), "× pythae": middle(peers, calls), "bare × pythae": middle(peers, bares),
                "× bare loop": middle(bares, loops),
            })  # fmt: skip
            if label.startswith("VAE 784"):
                trained = model
        x = (test.x[:POINTS] > 0.5).float()
        np.savez(folder / "nll.npz", x=x.numpy(), **weights(trained))
        rows = []
        for _ in range(given.repeats):
            began = time.perf_counter()
            found = pp.evaluation.likelihood(trained, x, samples=DRAWS)
            mine = time.perf_counter() - began
            rows.append((mine, *plain_nll(trained, x), opponent.ask(task="nll", data="nll", threads=threads)))
        mine, plain = min(row[0] for row in rows), min(row[1] for row in rows)
        theirs = min(row[3]["seconds"] for row in rows)
        ratio = middle([row[3]["seconds"] for row in rows], [row[0] for row in rows])
        likelihood = {
            "work": f"ln p(x), {DRAWS} draws, ms a point",
            "psiphi": 1e3 * mine / POINTS,
            "plain batching": 1e3 * plain / POINTS,
            "pythae": 1e3 * theirs / POINTS,
            "× pythae": ratio,
            "psiphi, nats": f"{found.mean:.3f} ± {found.standard_error:.3f}",
            "plain, nats": f"{rows[-1][2]:.3f}",
            "pythae, nats": f"{rows[-1][3]['estimate']:.3f}",
        }
        opponent.close()
    print(f"{threads} threads, torch {torch.__version__}, {given.repeats} turns")
    print(table(results))
    print(table([likelihood]))
    written(given.json, {"training": results, "likelihood": likelihood})


if __name__ == "__main__":
    if "--peer" in sys.argv:
        peer(Path(sys.argv[sys.argv.index("--peer") + 1]))
    else:
        main()
