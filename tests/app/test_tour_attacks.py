"""The tour's chapters on attacks and defences: numbers that agree, words that follow them, lines that run."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from markupsafe import Markup

import psiphi as pp
from psiphi.app._open import SPEC, held_out
from psiphi.app.cli import app
from psiphi.app.tour import _attack_page as attack_page
from psiphi.app.tour import _attacks as tour_attacks
from psiphi.app.tour import _defence_page as defence_page
from psiphi.app.tour import _defences as tour_defences
from psiphi.app.tour._defended import detected

ROWS, SEED = 20, 3
ATTACKS = replace(
    tour_attacks.QUICK, steps=4, far_steps=3, least_steps=20, queries=20, budget=60, angles=5, learnt=100, trials=2,
    epochs=2, hidden=16, radii=(0.05, 0.2, 0.6),
)  # fmt: skip
DEFENCES = replace(
    tour_defences.QUICK, steps=3, search_steps=2, queries=5, hidden=16, epochs=2, fresh_rows=6, votes=120,
    noisy_epochs=2,
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """Both chapters of a small tour, and the folder where its runs lie."""

    folder: Path
    attacks: Any
    defences: Any
    steps: list[str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("chapters")
    data = pp.data.load("digits")
    x, y = held_out(data, ROWS)
    assert y is not None
    models: dict[str, Any] = {
        "classifier": pp.zoo.classifier(data.shape, 10, hidden=(32,), seed=0),
        "vae": pp.zoo.vae(data.shape, 4, likelihood="gaussian", hidden=(32,), seed=0),
        "denoising": pp.zoo.denoising_ae(data.shape, 16, corruption="gaussian:0.3", hidden=(32,), seed=0),
        "diffusion": pp.zoo.edm(data.shape, hidden=(32,), seed=0),
    }
    for name, model in models.items():
        pp.fit(model, data, epochs=8 if name == "classifier" else 2, seed=0, quiet=True)
        model.provenance[SPEC] = "digits"
        pp.save(model, folder / "runs" / name)
    said: list[str] = []

    @contextmanager
    def step(what: str, why: str) -> Iterator[None]:
        said.append(f"{what}. {why}")
        yield

    classifier = models.pop("classifier")
    attacked = tour_attacks.measure(classifier, data, x, y, ATTACKS, SEED, step)
    defended = tour_defences.measure(classifier, models, data, x, y, DEFENCES, SEED, step)
    for name, model in defended.models.items():
        model.provenance[SPEC] = "digits"
        pp.save(model, folder / "runs" / name)
    return Told(folder, attacked, defended, said)


@pytest.fixture
def here(told: Told, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tour's folder as the working one, as the page says."""
    monkeypatch.chdir(told.folder)
    return told.folder


KEYS = [plan.key for plan in tour_attacks.plans(ATTACKS, ROWS, SEED)]


def _parsed(command: str) -> list[str]:
    """The words after `psiphi`; raises where the verb or an option does not exist."""
    first, verb, *words = shlex.split(command)
    assert first == "psiphi"
    known: Any = typer.main.get_command(app)
    known.commands[verb].make_context(verb, list(words))
    return [verb, *words]


def _namespace(told: Told) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(attack_page.words.again(told.attacks)["setup"], names)
    return names


@pytest.mark.parametrize("key", KEYS)
def test_lines_of_an_attack_find_its_number(key: str, told: Told, here: Path, psiphi: Any) -> None:
    """The command line, the lines of Python and the table say the same."""
    tried = told.attacks[key]
    command = psiphi.ask(*_parsed(tried.plan.command), "--quiet")
    names = _namespace(told)
    exec(tried.plan.lines, names)
    result = names["result"]
    if key == "universal":
        error = command["classifiers"]["runs/classifier"]["error"]
        assert error["hits"] == result.hits == ROWS - tried.left.hits
    elif key == "backdoor":
        assert (
            command["means"]["success"]["value"] == result.success.value == told.attacks.trials.success.value
        )
    else:
        assert command["attack"] == tried.attack
        assert command["broken"] == int(result.broken.sum()) == int(tried.broken.sum())
        assert int(result.forwards.sum()) == tried.forwards
        if not result.targeted:
            assert command["robust_accuracy"]["value"] == result.accuracy == tried.left.value


def test_a_universal_change_is_charged_what_it_costs(told: Told, here: Path) -> None:
    names = _namespace(told)
    exec(told.attacks["universal"].plan.lines, names)
    tried = told.attacks["universal"]
    assert tried.forwards == names["change"].provenance["forwards"]
    assert tried.backwards == tried.forwards - ATTACKS.learnt


def test_points_of_every_attack_are_allowed(told: Told) -> None:
    x, s = told.attacks.x, ATTACKS
    for each in told.attacks.tried:
        assert each.x.shape == x.shape
        assert float(each.x.min()) >= 0
        assert float(each.x.max()) <= 1
    for key in attack_page.WITHIN:
        assert float((told.attacks[key].x - x).abs().max()) <= s.eps + 1e-6
    assert float((told.attacks["universal"].x - x).abs().max()) <= s.universal_eps + 1e-6
    assert int(((told.attacks["one_pixel"].x - x) != 0).flatten(1).sum(1).max()) <= 1
    assert float(told.attacks["spatial"].far.max()) <= s.degrees


def test_the_digit_that_all_are_shown_on_is_the_first_of_the_most_broken(told: Told) -> None:
    a = told.attacks
    row = attack_page.common(a)
    counts = [sum(int(each.broken[i]) for each in a.tried) for i in range(ROWS)]
    able = [i for i in range(ROWS) if int(a.y[i]) != ATTACKS.target]
    assert row == next(i for i in able if counts[i] == max(counts[j] for j in able))


def test_what_is_said_follows_what_was_measured(told: Told) -> None:
    a = told.attacks
    pgd, fgsm = a["pgd"], a["fgsm"]
    weaker = replace(
        a, tried=tuple(replace(e, right=torch.ones(ROWS).bool()) if e is pgd else e for e in a.tried)
    )
    assert "no more than the one" in attack_page.words.remark(weaker, weaker["pgd"])
    none = replace(fgsm, right=torch.ones(ROWS).bool())
    stronger = replace(a, tried=tuple(none if e is fgsm else e for e in a.tried))
    left = 100 * (1 - pgd.left.value)
    assert f"{left:.1f} points less" in attack_page.words.remark(stronger, stronger["pgd"])


def test_the_lowest_number_is_reported(told: Told) -> None:
    d = told.defences
    for each in d.purified:
        values = [level.value for level in each.table.levels.values() if level.right is not None]
        assert d[each.purifier.run].lowest.value <= min(values) + 1e-12 or each.purifier.fresh
        if each.purifier.run in d.judged:
            assert d[each.purifier.run].lowest.value <= d.judged[each.purifier.run].headline.value
    assert d["hard"].lowest.value == d.judged["hard"].headline.value
    assert d.best.lowest.value == max(line.lowest.value for line in d.lines if line.gray is not None)
    assert d["diffusion"].lowest.n == DEFENCES.fresh_rows


def test_the_lower_of_table_and_battery_counts() -> None:
    level = SimpleNamespace(name="bpda", value=0.4, interval=(0.3, 0.5))
    table = SimpleNamespace(worst=("bpda", 0.4), lines=[level], final=None)
    found: Any = SimpleNamespace(table=table, rows=ROWS)

    class Judged(SimpleNamespace):
        def __len__(self) -> int:
            return ROWS

    def battery(value: float) -> Any:
        return Judged(headline=SimpleNamespace(value=value, interval=(0.0, 1.0), rows=8, by="probes"))

    weaker, stronger = battery(0.6), battery(0.2)
    assert tour_defences._lowest(found, weaker).by == "bpda"
    assert tour_defences._lowest(found, stronger).by == "probes"
    assert tour_defences._lowest(found, stronger).n == 8
    assert tour_defences._lowest(found, None).value == 0.4


def test_the_headline_of_defences_is_decided_by_intervals(told: Told) -> None:
    d = told.defences
    low = tour_defences.Lowest(0.1, (0.05, 0.15), ROWS, "PGD")
    high = tour_defences.Lowest(0.9, (0.8, 0.95), ROWS, "auto")

    def verdict(bare: Any, others: Any) -> str:
        lines = tuple(replace(e, lowest=bare if e.key == "nothing" else others) for e in d.lines)
        return defence_page._verdict(replace(d, lines=lines))

    assert "90% is left" in verdict(low, high)
    assert "No defence" in verdict(high, low)
    assert "No defence" in verdict(low, replace(low, value=0.12))


def test_the_guarded_outcomes_count_every_digit(told: Told) -> None:
    d = told.defences.detecting
    assert d is not None
    for outcome in (d.clean, d.unaware, d.aware):
        assert sum(getattr(outcome, name).hits for name in ("right", "wrong", "withheld")) == ROWS
    assert d.passed.hits >= max(d.unaware.wrong.hits, d.aware.wrong.hits)


def test_a_digit_that_either_attacker_gets_past_the_detector_counts(told: Told, here: Path) -> None:
    data = pp.data.load("digits")
    x, y = held_out(data, 120)
    assert y is not None
    classifier, vae = pp.load("runs/classifier"), pp.load("runs/vae")
    d = detected(DEFENCES, classifier, vae, data, x, y, SEED)
    guarded = pp.defenses.detect(vae, data.validation, alarm=DEFENCES.alarm).guard(classifier)
    passed = set[int]()
    for target in (classifier, guarded):
        answer = guarded.predict(DEFENCES.attack(target, x, y, seed=SEED).x)
        passed |= {i for i in range(120) if answer[i] != -1 and answer[i] != y[i]}
    assert d.passed.hits == len(passed)


@pytest.mark.parametrize("name", ["hard", "purify", "fresh", "honesty", "smooth", "detect"])
def test_lines_of_a_defence_exist(name: str, told: Told) -> None:
    again = defence_page.lines(told.defences)[name]
    for command in again.command.split("\n"):
        _parsed(command)
    ast.parse(again.lines)


def test_the_command_finds_the_honest_tables(told: Told, here: Path, psiphi: Any) -> None:
    again = defence_page.lines(told.defences)
    for name in ("purify", "fresh"):
        found = psiphi.ask(*_parsed(again[name].command), "--quiet")
        for each in told.defences.purified:
            if each.purifier.run in found["purifiers"]:
                table = found["purifiers"][each.purifier.run]
                assert table["worst"]["value"] == pytest.approx(each.table.worst[1])
                assert table["tuned"] == each.chosen.as_dict()


def test_the_commands_find_the_certificate_and_the_alarms(told: Told, here: Path, psiphi: Any) -> None:
    again, d = defence_page.lines(told.defences), told.defences
    smooth = psiphi.ask(*_parsed(again["smooth"].command.split("\n")[1]), "--quiet")
    c = d.smoothing.certificate
    assert smooth["abstained"] == int(c.abstained.sum())
    for level, (radius, outcome) in zip(smooth["levels"], d.smoothing.attacked, strict=True):
        assert level["certified"]["hits"] == c.accuracy(d.y, radius).hits
        assert level["attacked"]["wrong"]["hits"] == outcome.wrong.hits
    detect = psiphi.ask(*_parsed(again["detect"].command), "--quiet")
    assert d.detecting is not None
    assert detect["clean"]["withheld"]["hits"] == d.detecting.clean.withheld.hits
    assert detect["either"]["hits"] == d.detecting.passed.hits


def test_the_python_lines_of_defences_run(told: Told, here: Path) -> None:
    again, d = defence_page.lines(told.defences), told.defences
    names: dict[str, Any] = {}
    for name in ("setup", "hard", "honesty", "purify", "smooth", "detect"):
        exec(again[name].lines, names)
    assert names["report"].headline.value == d["hard"].lowest.value
    assert names["table"].worst[1] == d.purified[-2].table.worst[1]
    assert torch.equal(names["certificate"].counts, d.smoothing.certificate.counts)
    assert names["guarded"].outcome(names["aware"], d.y).wrong == d.detecting.aware.wrong


def test_the_curve_s_lines_find_the_curve(told: Told, here: Path, psiphi: Any) -> None:
    again = attack_page.words.again(told.attacks)
    found = psiphi.ask(*_parsed(again["curve_command"].split("\n")[0]), "--quiet")
    assert found["curve"]["accuracy"] == told.attacks.radii.many.accuracy.tolist()
    names = _namespace(told)
    exec(again["curve_lines"], names)
    assert names["curve"].accuracy.tolist() == found["curve"]["accuracy"]


def test_the_chapters_are_drawn(told: Told) -> None:
    drawn = attack_page.drawn(told.attacks, Markup) | defence_page.drawn(told.defences, Markup)
    assert len(drawn["columns"]) == len(drawn["shown"]) == len(KEYS)
    assert {check.name for check in drawn["checks"]} >= {"gradients ≥ no gradients", "ball and box"}
    for name in ("radii", "exact", "distances", "drops", "certified"):
        assert 'role="img"' in drawn[f"{name}_svg"]
    assert len(told.steps) == 6


def test_numbers_are_plain(told: Told) -> None:
    import json

    both = [tour_attacks.numbers(told.attacks), tour_defences.numbers(told.defences)]
    found = json.loads(json.dumps(both, allow_nan=False))
    assert found[0]["attacks"]["pgd"]["left"]["hits"] == told.attacks["pgd"].left.hits
    assert found[1]["defences"]["nothing"]["gray"] is None
