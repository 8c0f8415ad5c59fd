"""The code blocks of the manual, and the world in which the tests run them.

A page's Python blocks run in order in one namespace, its commands in order in one folder. `small` makes both cheap
wherever they are: few steps of any training, few turns of any attack, few digits. A page may use the names of `names`
without making them, the files of `furnish`, and the runs of `RUNS`. A block that cannot run says why on the line before
it: `<!-- not run: why -->`.
"""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.helpers.web import serving
from torch import nn

import psiphi as pp
from psiphi.attacks._loop import Loop
from psiphi.basis import registry
from psiphi.data import _load
from psiphi.laws import LAWS
from psiphi.samplers import _named
from psiphi.training import _fit

ROOT = Path(__file__).resolve().parents[2]
ROWS, STEPS, TURNS, DIGITS = 8, 3, 40, 250
RUNS = {  # what commands may name, and how it is trained
    "classifier": "classifier --hidden 32 --lr 0.01",
    "cnn": "classifier --set net=conv",
    "ddpm": "ddpm --set schedule=cosine:20 --hidden 32",
    "mlp": "classifier --hidden 16",
    "other": "classifier --hidden 16 --seed 1",
    "vae": "vae --latent-dim 4 --hidden 32 --likelihood gaussian",
}
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line, its language, its text; `why` it is not run, if so."""

    page: str
    line: int
    language: str
    text: str
    why: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line that begins with `psiphi`, without comments."""
        if self.language not in ("", "sh", "bash", "console"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"psiphi( |$)", line)]


def pages() -> list[str]:
    """README.md, CONTRIBUTING.md and every page of docs/, from the project's root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text[: each.start("text")].count("\n") + 1, each["language"], each["text"], each["why"])
        for each in BLOCK.finditer(text)
    ]


@contextmanager
def small(folder: Path) -> Iterator[None]:
    """A training takes `STEPS` steps, an attack `TURNS` turns, the digits are `DIGITS`, and one is in `folder`."""
    plan, digits, move = _fit.Plan, _load._digits, Loop.move

    def few() -> Any:
        raw = digits()
        return replace(raw, x=raw.x[:DIGITS], y=raw.y[:DIGITS])

    def hurried(loop: Loop, waiting: torch.Tensor) -> Any:
        if hasattr(loop.attack.search, "queries"):  # counts them itself
            few = replace(loop.attack.search, queries=TURNS)
            return move(replace(loop, attack=replace(loop.attack, search=few)), waiting)
        search, turns = type(loop.attack.search), count(1)
        done: Any = search.done

        def soon(self: Any, state: Any) -> torch.Tensor:
            return done(self, state) | (next(turns) >= TURNS)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(search, "done", soon)
            return move(loop, waiting)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(_fit, "Plan", lambda **asked: plan(**{**asked, "steps": STEPS, "quiet": True}))
        patch.setattr(_load, "_digits", few)
        patch.setattr(Loop, "move", hurried)
        patch.chdir(folder)
        yield


def furnish(folder: Path) -> None:
    """The files that a page may read: two tables, an array, a folder of images."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=60), rng.integers(0, 3, size=60)
    lines = ["id,age,grade,dose,weight,height,target"]
    for i in range(60):
        age = "" if i % 7 == 0 else f"{50 + 10 * a[i]:.1f}"
        more = f"{a[i] + b[i]:.3f},{70 + a[i]:.1f},{170 - a[i]:.1f}"
        lines.append(f"{i},{age},{'abc'[b[i]]},{more},{'yes' if a[i] > 0 else 'no'}")
    for name in ("people.csv", "patients.csv"):
        (folder / name).write_text("\n".join(lines) + "\n")
    np.save(folder / "rows.npy", rng.random((60, 1, 8, 8), dtype=np.float32))
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(
                folder / "photos" / label / f"{i}.png"
            )


class Random(nn.Module):
    """A classifier whose logits bear noise of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.net(x)
        return logits + 0.1 * torch.randn_like(logits)


def names(url: str) -> dict[str, Any]:
    """What a page may use without making it; every page gets fresh modules. Runs within `small`."""
    torch.manual_seed(0)
    digits = pp.data.load("digits")
    classify = lambda seed: pp.zoo.classifier(digits.shape, 10, hidden=(32,), seed=seed)  # noqa: E731
    classifier = classify(seed=0)
    vae = pp.zoo.vae(digits.shape, latent_dim=8, hidden=(32,), likelihood="gaussian", seed=0)
    ddpm = pp.zoo.ddpm(digits.shape, classes=10, schedule="cosine:20", hidden=(32,), seed=0)
    pp.fit(classifier, digits, lr=0.01)
    pp.fit(vae, digits)
    pp.fit(ddpm, digits)
    x, y = digits.test.x[:ROWS], digits.test.y[:ROWS]
    colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10)).eval()
    rest = digits.test.x[ROWS:], digits.test.y[ROWS:]
    return {
        "pp": pp, "torch": torch, "digits": digits, "x": x, "y": y, "x_unseen": rest[0], "y_unseen": rest[1],
        "unlabelled": digits.validation.x, "photos": torch.rand(4, 3, 16, 16), "labels": torch.arange(4),
        "classifier": classifier, "model": classifier, "another": classify(seed=1), "net": colour,
        "random_classifier": Random(classifier), "vae": vae, "ddpm": ddpm,
        "attack": pp.attacks.pgd(pp.attacks.Linf(0.2), steps=5), "threat": pp.attacks.Linf(0.2), "url": url,
        "service": lambda x: classifier(torch.as_tensor(x)).tolist(),
    }  # fmt: skip


@contextmanager
def world(folder: Path) -> Iterator[dict[str, Any]]:
    """What a page runs in: `small`, the files, and the names, with a web service of the classifier at `url`."""
    known: dict[str, Any] = {}
    answer = lambda rows: (200, {"scores": known["classifier"](torch.tensor(rows)).tolist()})  # noqa: E731
    with small(folder), serving(answer) as url:
        furnish(folder)
        known = names(url)
        with unregistered():
            yield dict(known)


@contextmanager
def unregistered() -> Iterator[None]:
    """What a page registers, a model, a sampler, a law, is forgotten at its end."""
    tables: list[Any] = [registry.models._entries, registry.attacks._entries, _named.samplers._entries]
    kept, laws = [dict(each) for each in tables], list(LAWS)
    try:
        yield
    finally:
        LAWS[:] = laws
        for table, entries in zip(tables, kept, strict=True):
            table.clear()
            table.update(entries)
