"""The watcher of samples, on models that collapse when they are told to."""

from __future__ import annotations

import warnings

import pytest
import torch

import psiphi as pp
from psiphi.basis.noise import Noise, generator
from psiphi.data.toys import grid, ring
from psiphi.evaluation import CollapseWarning, watch_modes
from psiphi.evaluation._watch_modes import ModeCollapseWarning
from psiphi.parts import Player, Statistics
from psiphi.training import History, Moment

SIZE = 20


class Scripted(torch.nn.Module):
    """A sampler that gives the next of these sets of samples each time it is asked."""

    title = "scripted"

    def __init__(self, *sets: torch.Tensor, sigma: float = 1.0):
        super().__init__()
        self.sets, self.asked = sets, 0
        self.shape = tuple(sets[0].shape[1:])
        self.statistics = Statistics(self.shape)
        self.statistics.sigma.fill_(sigma)

    def sample(self, n, *, seed=0, y=None, exact=False):
        assert exact
        self.asked += 1
        return self.sets[min(self.asked, len(self.sets)) - 1][:n]


def draws(scale: float = 1.0, key: int = 0, n: int = 200, size: int = SIZE) -> torch.Tensor:
    return scale * torch.randn(n, size, generator=generator(key))


def watched(
    watch: watch_modes, model: Scripted, rows: int, **columns: list[float]
) -> tuple[list[str | None], list[str], History]:
    """What the watcher returned and warned of, over so many rows of a history with these columns."""
    history, said = History(), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(rows):
            history.rows.append({"step": i, **{name: values[i] for name, values in columns.items()}})
            said.append(watch(Moment(model, None, history.rows[-1], history)))  # pyright: ignore[reportArgumentType]
    assert all(each.category is ModeCollapseWarning for each in caught)
    return said, [str(each.message) for each in caught], history


def test_it_is_silent_while_samples_are_like_the_data():
    sets = [draws(key=k) for k in range(30)]
    for data in (None, draws(key=99)):
        said, warned, history = watched(watch_modes(data, patience=2), Scripted(*sets), 30)
        assert said == [None] * 30
        assert warned == []
    assert history["sample_spread"] == pytest.approx([1.0] * 30, abs=0.1)
    assert issubclass(ModeCollapseWarning, CollapseWarning)


def test_a_spread_that_falls_is_told_once_an_onset():
    model = Scripted(draws(), *[draws(0.4)] * 5, draws(), *[draws(0.4)] * 3)
    said, warned, history = watched(watch_modes(patience=3), model, 10)
    assert said == [None] * 10
    assert len(warned) == 2
    assert f"the samples' variance is {history['sample_spread'][3]:.1%} of the data's" in warned[0]
    assert "for 3 rows" in warned[0]
    assert "packing" in warned[0]
    assert "near-duplicates" not in warned[0]
    assert history["sample_spread"][1] == pytest.approx(0.16 * history["sample_spread"][0])


def test_a_spread_that_never_rose_has_four_patiences_of_grace():
    late = Scripted(*[draws(0.1)] * 7, draws())
    assert watched(watch_modes(patience=2), late, 20)[1] == []
    never = Scripted(draws(0.1))
    assert [len(watched(watch_modes(patience=2), never, rows)[1]) for rows in (9, 10, 30)] == [0, 1, 1]


def test_near_duplicates_are_told_by_the_data_or_by_what_was():
    few = draws(n=20, key=1).repeat(10, 1) + draws(0.01, key=2)
    model = Scripted(draws(), few)
    _, warned, _ = watched(watch_modes(patience=2), model, 6)
    assert len(warned) == 1
    assert "near-duplicates" in warned[0]
    assert "of their largest so far" in warned[0]
    assert "variance" not in warned[0]
    watch = watch_modes(draws(key=3), patience=2)
    _, warned, _ = watched(watch, Scripted(draws(), few), 6)
    assert len(warned) == 1
    assert "of the data's" in warned[0]
    assert [len(watched(watch, Scripted(few), rows)[1]) for rows in (9, 10)] == [
        0,
        1,
    ]  # four patiences of grace
    equal = watch_modes(draws(n=20, key=1).repeat(10, 1), patience=2)  # data with duplicates of their own
    assert watched(equal, Scripted(draws(), few), 10)[1] == []


def test_modes_that_sharpen_are_no_duplicates():
    """In the plane the distance to the next sample falls a hundredfold as a good sampler becomes a better one."""
    blob = draws(0.7, n=1000, size=2)
    toy = ring()
    sharp = [toy(1000, Noise.of(seed, 1000)) for seed in range(5)]
    for data in (None, toy, toy(1000, Noise.of(50, 1000))):
        _, warned, history = watched(watch_modes(data, patience=2), Scripted(blob, *sharp, sigma=0.707), 6)
        assert warned == []
        assert history["sample_nearest"][-1] < 0.1 * history["sample_nearest"][0]


def test_modes_that_are_lost_are_counted():
    toy = grid()
    full, mode = toy.draw(1000, Noise.of(1, 1000))
    most, half = full[mode % 12 > 0], full[mode % 2 > 0]
    model = Scripted(full, most, most, half, sigma=2.0**1.5)
    _, warned, history = watched(watch_modes(toy, patience=2), model, 5)
    assert history["modes_found"] == history["modes_held"] == [25, 22, 22, 12, 12]
    assert len(warned) == 1
    assert "22 of 25 modes have samples, after 25 at best" in warned[0]
    said, _, _ = watched(watch_modes((toy.means, toy.sigma), patience=3, stop=True), Scripted(full, half), 4)
    assert said[:3] == [None] * 3
    assert said[3] == "collapse seen for 3 rows: 12 of 25 modes have samples, after 25 at best"


def test_too_few_modes_for_long_are_a_sign_though_none_was_lost():
    toy = grid()
    full, mode = toy.draw(1000, Noise.of(1, 1000))
    some = full[mode % 3 == 0]
    _, warned, _ = watched(watch_modes(toy, patience=2), Scripted(some, sigma=2.0**1.5), 12)
    assert len(warned) == 1
    assert "9 of 25 modes have samples, after 9 at best" in warned[0]


def test_modes_found_by_chance_and_left_are_no_sign():
    """Samples all around the ring, first everywhere, then between its centre and the modes."""
    toy = ring()
    blob = draws(0.7, n=1000, size=2)
    inner = 0.9 * blob / blob.norm(dim=1, keepdim=True)
    _, warned, history = watched(watch_modes(toy, patience=2), Scripted(blob, inner, sigma=0.707), 6)
    assert history["modes_found"][0] > history["modes_found"][1] == 0
    assert history["modes_held"] == [8] * 6
    assert warned == []


def test_a_saturated_critic_is_told_from_a_wasserstein_one():
    model = Scripted(draws())
    flat = [0.7, 0.3, 0.01, 0.015, 0.002, 0.001]
    _, warned, _ = watched(watch_modes(patience=3), model, 6, critic_loss=flat)
    assert len(warned) == 1
    assert "the critic is saturated, critic_loss is 0.002" in warned[0]
    style = {"style_critic_loss": [5.0 + v for v in flat], "style_critic_penalty": [5.0] * 6}
    assert "style_critic_loss is 0.002" in watched(watch_modes(patience=3), model, 6, **style)[1][0]
    for columns in (
        {"critic_loss": flat, "critic_penalty": [-0.5] * 6},
        {"critic_loss": [-0.7, -0.1, *flat[2:]]},
        {"validation_critic_loss": flat},
        {"critic_loss": [0.7, 0.3, 0.01, 0.015, 0.3, 0.001]},
    ):
        assert watched(watch_modes(patience=3), model, 6, **columns)[1] == []


class Counted(float):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other):
        Counted.compared += 1
        return float(self) < float(other)

    __gt__ = __ge__ = __lt__


def test_a_look_at_a_critics_losses_takes_time_in_their_number():
    Counted.compared = 0
    rows = [{"sample_spread": 1.0, "sample_nearest": 1.0, "critic_loss": Counted(0.001)} for _ in range(400)]
    watch_modes()._signs(History(rows), 2, None)
    assert Counted.compared <= 4 * 400


def test_of_several_processes_the_first_alone_warns(monkeypatch):
    flat = {"critic_loss": [0.01] * 4}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert len(watched(watch_modes(patience=3), Scripted(draws()), 4, **flat)[1]) == (rank == 0)
        said, _, history = watched(watch_modes(patience=3, stop=True), Scripted(draws()), 4, **flat)
        assert "saturated" in str(said[3])  # all stop together
        assert len(history["sample_spread"]) == 4


def test_it_remembers_by_the_history_alone():
    """A watcher made anew before each row says what one that saw them all says."""
    toy = ring()
    sets = [toy(500, Noise.of(0, 500)), *[toy.means[:1].float().repeat(500, 1)] * 4]
    whole = watched(watch_modes(toy, patience=3), Scripted(*sets, sigma=0.707), 5)
    history, model, told = History(), Scripted(*sets, sigma=0.707), []
    for i in range(5):
        history.rows.append({"step": i})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            watch_modes(toy, patience=3)(Moment(model, None, history.rows[-1], history))  # pyright: ignore[reportArgumentType]
        told += [str(each.message) for each in caught]
    assert history.rows == whole[2].rows
    assert told == whole[1]
    assert "variance is 0.0%" in told[0]
    assert "near-duplicates" in told[0]
    assert "1 of 8 modes" in told[0]


class Point(torch.nn.Module):
    """A model that learns one point, and samples next to it."""

    def __init__(self):
        super().__init__()
        self.statistics, self.shape, self.title = Statistics((SIZE,)), (SIZE,), "point"
        self.theta = torch.nn.Parameter(torch.zeros(SIZE))
        self.recipe, self.provenance = {}, {}
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def check_data(self, low, high):
        pass

    def save(self, folder):
        pass

    def players(self):
        return [Player(self, lambda module, batch, clock: {"loss": (module.theta - batch.x).square().mean()})]

    def sample(self, n, *, seed=0, y=None, exact=False):
        return self.theta + 0.01 * Noise.of(seed, n).normal(self.shape)


def test_fit_is_stopped_where_the_whole_run_is_and_logs_the_columns(tmp_path):
    x, watch = draws(n=64), watch_modes(n=50, patience=2, stop=True)
    how = {"batch_size": 64, "callbacks": [watch], "quiet": True, "lr": 0.1}
    whole = pp.fit(Point(), x, epochs=30, **how)
    assert "collapse seen for 2 rows: the samples' variance is 0.0% of the data's" in whole.stopped
    assert len(whole) == 10  # four patiences of grace and one to wait
    part = pp.fit(Point(), x, epochs=9, out=tmp_path, **how)
    assert part.stopped == "done"
    rest = pp.fit(Point(), x, epochs=30, out=tmp_path, resume=True, **how)
    assert rest.stopped == whole.stopped
    assert rest["sample_nearest"] == whole["sample_nearest"]
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert "sample_spread,sample_nearest" in header
