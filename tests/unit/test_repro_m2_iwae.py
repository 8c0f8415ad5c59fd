"""The recipes `m2` and `iwae2016`: their samplers are what they claim, and a tiny run measures what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.testing import assert_close

from helpers.mnist import as_mnist
from psiphi import zoo
from psiphi.basis.noise import Noise
from psiphi.repro import iwae2016, m2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_mnist(tmp_path_factory.mktemp("data"))


def grey(rows: int = 30) -> Tensor:
    return torch.tensor(load_digits().data[:rows] / 16).float().view(rows, 1, 8, 8)


# ------------------------------------------------------------------------------------------ iwae2016
def test_pixels_are_drawn_anew_with_the_grey_values_as_their_mean():
    x, n = grey(2), 6400
    drawn = iwae2016.Drawn(x)(n, Noise.of(5, n))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    mean = x.mean(0)  # both rows are as likely
    error = (mean * (1 - mean) / n).sqrt()
    assert bool(((drawn.mean(0) - mean).abs() <= 4.5 * error + 1e-6).all())
    assert_close(iwae2016.Drawn(x)(70, Noise.of(5, 70)), drawn[:70], rtol=0, atol=0)


def test_iwae_gives_nats_of_both_and_their_difference(folder):
    """Both explain test images better than independent pixels do; quick rows that have no number are left out."""
    tiny = iwae2016.Setting(
        epochs=4, models=(("vae", 1), ("iwae", 50)), test=50, samples=100, latent_dim=4, hidden=(24,), batch_size=20,
        lr=1e-2,
    )  # fmt: skip
    recipe = replace(iwae2016.RECIPE, quick=tiny)
    said: list[str] = []
    outcome = recipe.run(folder=folder, log=said.append)
    found = {each.what: each.measured for each in outcome.found}
    vae, iwae = (found[iwae2016.label(*each)] for each in tiny.models)
    assert set(found) == {*(iwae2016.label(*each) for each in tiny.models), iwae2016.GAP, iwae2016.ERROR}
    assert found[iwae2016.GAP] == pytest.approx(vae - iwae)
    assert 0 < found[iwae2016.ERROR] < 0.5
    x, test = (grey(1250) * 16 / 17).split([1200, 50])  # as the files have them, 15 of 255 a level
    p = x.mean(0).clamp(1e-3, 1 - 1e-3)
    alone = float(-(test * p.log() + (1 - test) * (1 - p).log()).sum((1, 2, 3)).mean())
    assert max(vae, iwae) < alone
    assert sum("Monte Carlo" in each for each in said) == 2


# ------------------------------------------------------------------------------------------------ m2
def test_labels_are_told_of_as_many_rows_of_every_class():
    y = torch.tensor(load_digits().target)
    rows = m2.known(y, 100, seed=1)
    assert len(set(rows.tolist())) == 100
    assert y[rows].bincount().tolist() == [10] * 10
    assert_close(m2.known(y, 100, seed=1), rows)
    assert set(m2.known(y, 100, seed=2).tolist()) != set(rows.tolist())


def test_a_share_of_the_rows_comes_with_its_label():
    rows = torch.arange(500.0).view(-1, 1)
    y = torch.arange(500) % 10
    known, n, share = m2.known(y, 20, seed=0), 4000, 0.3
    x, told = m2.Mixture(rows, known, y[known], share, lambda part, noise: part)(n, Noise.of(0, n))
    labelled = told >= 0
    assert float(labelled.float().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    assert_close(told[labelled], y[x[labelled, 0].long()])
    assert set(x[labelled, 0].long().tolist()) == set(known.tolist())
    assert len(x[~labelled].unique()) > 490  # e^(−5.6) of 500 are never drawn: two, give or take
    assert set(told[~labelled].tolist()) == {-1}


def test_an_image_moves_as_a_whole_by_whole_pixels_each_way_as_often():
    x, n, images = grey(1), 9000, m2.Images(pool=1, shift=1)
    x = x + torch.arange(64.0).view(1, 1, 8, 8)  # no two pixels alike
    moved = images.moved(x.expand(n, -1, -1, -1), Noise.of(2, n))
    found, counts = moved.unique(dim=0, return_counts=True)
    wanted = torch.cat([x.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]).unique(dim=0)
    assert_close(found, wanted)
    p = 1 / 9
    assert bool(((counts / n - p).abs() <= 4 * (p * (1 - p) / n) ** 0.5).all())


def test_what_is_seen_has_the_means_of_the_pixels_as_its_mean():
    x, n = grey(1), 20_000
    seen = m2.Images(pool=2, shift=0)(x.expand(n, -1, -1, -1), Noise.of(4, n))
    mean = x.view(1, 4, 2, 4, 2).mean((2, 4))
    assert seen.shape == (n, 1, 4, 4)
    assert bool(((seen.mean(0) - mean).abs() <= 4 * (mean * (1 - mean) / n).sqrt() + 1e-6).all())


def test_codes_are_drawn_from_the_posterior():
    mean, scale, n = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]), 20_000
    z = m2.posterior(torch.cat([mean, scale]).expand(n, 4), Noise.of(3, n))
    assert bool(((z.mean(0) - mean).abs() <= 4 * scale / n**0.5).all())
    assert bool(((z.std(0) - scale).abs() <= 4 * scale / (2 * n) ** 0.5).all())


def test_m2_measures_accuracies_of_both_from_few_labels(folder):
    """Both know the digits far better than chance, 10 %."""
    how = m2.Fit(steps=60, latent_dim=3, hidden=(32,), batch_size=64, lr=1e-2, alpha=20.0, share=0.2)
    tiny = m2.Setting(
        alone=replace(how, filters=(8,), steps=30),
        m1=replace(how, latent_dim=8, steps=150),
        m2=how,
        images=m2.Images(),
        draws=2,
    )
    said: list[str] = []
    outcome = replace(m2.RECIPE, quick=tiny).run(folder=folder, log=said.append)
    alone, codes, *errors = (each.measured for each in outcome.found)
    assert 40 < alone <= 100
    assert 30 < codes <= 100
    assert all(0 <= each < 15 for each in errors)
    assert sum("labels" in each and "%" in each for each in said) == 2


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_bounds_of_all_labels_are_those_of_each(net, noisy):
    """One pass over all labels gives L(x, y) of every one, by the same draw of ε."""
    hidden = (16,) if net == "mlp" else None
    model = zoo.semi_supervised_vae((1, 8, 8), 4, 3, likelihood="bernoulli", net=net, hidden=hidden).double()
    x, noise = grey(70).double(), Noise.of(1, 70, dtype=torch.float64) if noisy else None
    each = torch.stack([model.bound(x, y, noise) for y in range(3)], 1)
    assert each.std(1).min() > 1e-3
    assert_close(model.bounds(x, noise), each, rtol=1e-12, atol=1e-10)
