"""A detector at the command line: what it catches of an attacker who does not know it, and of one who does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.app import _defence_plots as figures
from psiphi.app import plots
from psiphi.app._defences import Case, share
from psiphi.app._open import held_out, is_other, open_model
from psiphi.basis import files
from psiphi.basis.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from psiphi.attacks import Attack
    from psiphi.defenses import Detector, Guarded

ALARM = 0.05
APART = 50  # the fewest rows that were not attacked which stand for the normal ones by themselves
UNAWARE, AWARE = "unaware", "aware"
COLOURS = {UNAWARE: "gray", AWARE: "white"}
ADVICE = (
    "Unaware: the attacker saw the classifier alone. Aware: the attacker knows the detector too, and aims below its "
    "threshold, so that even a high AUROC says nothing: what is wrong and passes is what counts. The false-alarm rate "
    "is promised for rows that are exchangeable with the validation rows."
)


def detector(case: Case, model: Path, score: str, alarm: float) -> Detector:
    """Set on the validation rows. Raises `DataError` where there are none, or too few for this rate."""
    from psiphi import defenses

    if not len(case.data.validation):
        raise DataError(f"{case.spec} has no validation rows, which the threshold is set on.")
    opened = open_model(model)
    if is_other(opened, case.data):
        out.note(
            f"note: {model} was trained on other data than {case.spec}; the false-alarm rate holds if the validation "
            "rows were not among them.",
            case.quiet,
        )
    train = case.data.train if score == "latent" else None
    return defenses.detect(opened, case.data.validation, score, alarm=alarm, train=train)


def judge(case: Case, model: Path, score: str, alarm: float, attack: Attack) -> dict[str, Any]:
    """The detector under both attackers, and the files; as a record."""
    import torch

    from psiphi.access import white_box
    from psiphi.app._judge import Share, accuracy

    found = detector(case, model, score.replace("-", "_"), alarm)
    guarded = found.guard(case.classifier)
    case.place()
    normal, others = _normal(case)
    flagged = found.flags(normal).cpu()
    told: dict[str, Any] = {
        **case.record(attack), "detector": repr(found), "with": str(model), "alarm": alarm,
        "threshold": float(found.threshold), "validation_rows": len(found.seen), "allowed": list(found.rate.interval()),
        "alarms": Share(int(flagged.sum()), len(flagged)).as_dict(), "normal_rows": len(others),
        "bare": accuracy(case.classifier, case.x, case.y).as_dict(),
        "clean": guarded.outcome(case.x, case.y).as_dict(), "attackers": {},
    }  # fmt: skip
    passed = torch.zeros(len(case.y)).bool()
    for name, target in {UNAWARE: case.classifier, AWARE: guarded}.items():
        with (
            out.spoken_warnings(case.quiet),
            out.progress(f"{name} attacker", case.quiet, "row") as move,
        ):
            how: dict[str, Any] = {
                "seed": case.seed,
                "batch_size": case.batch_size,
                "on_progress": move,
            }
            result = attack(white_box(target, case.seen.bounds), case.x, case.y, **how)
        answer = guarded.predict(result.x).cpu()
        passed |= (answer != case.y) & (answer != -1)
        told["attackers"][name] = _caught(case, guarded, others, result.x) | {
            "outcome": guarded.outcome(result.x, case.y).as_dict(),
            "forwards": int(result.forwards.sum()),
            "backwards": int(result.backwards.sum()),
        }
    told["either"] = Share(int(passed.sum()), len(passed)).as_dict()
    if case.folder is not None:
        told["files"] = _write(case.folder, told)
    return told


def _normal(case: Case) -> tuple[Tensor, Tensor]:
    """All test rows, which false alarms are counted on; those that are not attacked, where there are enough."""
    x, _ = held_out(case.data)
    others = x[case.limit :]
    return x, others if len(others) >= APART else x


def _caught(case: Case, guarded: Guarded, normal: Tensor, points: Tensor) -> dict[str, Any]:
    """How the points that fool the classifier alone look to the detector, beside normal rows."""
    from psiphi.app._judge import Share, labels_of

    before, after = (labels_of(case.classifier, each)[0].cpu() for each in (case.x, points))
    fooled = (before == case.y) & (after != case.y)
    if not bool(fooled.any()):
        return {"auroc": None, "caught": Share(0, 0).as_dict()}
    told = guarded.detector.evaluate(normal, points[fooled.to(points.device)]).as_dict()
    return {**told, "at": told.pop("alarms")["value"]}


def _write(folder: Path, told: dict[str, Any]) -> list[str]:
    curves = [
        (
            f"{name} attacker: AUROC {each['auroc']:.1%}",
            each["roc"],
            (each["at"], each["caught"]["value"]),
            COLOURS[name],
        )
        for name, each in told["attackers"].items()
        if each["auroc"] is not None
    ]
    names = ["detect.png"] if curves else []
    if curves:
        plots.png(folder / "detect.png", figures.roc(curves), (5.0, 3.8))
    written = [str(folder / name) for name in (*names, "summary.json")]
    files.write_json(folder / "summary.json", out.plain({**told, "files": written}))
    return written


def show(told: dict[str, Any]) -> None:
    """The record for people."""
    out.say(f"{told['detector']} before the classifier, {told['attack']}")
    low, high = told["allowed"]
    out.say(
        f"False alarms on {told['alarms']['n']} test rows: {share(told['alarms'])}; the threshold on "
        f"{told['validation_rows']} validation rows promises at most {told['alarm']:.1%} on the mean, one draw "
        f"of them {low:.1%} to {high:.1%}."
    )
    attackers = told["attackers"].values()
    outcomes = [told["clean"], *(each["outcome"] for each in attackers)]
    words = {"right": "right", "wrong": "wrong, and passes", "withheld": "flagged"}
    rows = [[said, *(share(each[name]) for each in outcomes)] for name, said in words.items()]
    rows.append(["flagged of those fooled", "—", *(share(each["caught"]) for each in attackers)])
    rows.append(["AUROC on those", "—", *(_area(each) for each in attackers)])
    out.table(["", "not attacked", *told["attackers"]], rows)
    out.say(
        f"{told['either']['value']:.1%} of {told['rows']} test rows are wrong and pass under one of the two: "
        f"the number to report. The classifier alone, not attacked, is right on {share(told['bare'])}."
    )
    out.say(ADVICE)
    for path in told.get("files", []):
        out.say(f"Wrote {path}")


def _area(each: dict[str, Any]) -> str:
    if each["auroc"] is None:
        return "—"
    return "{:.1%} [{:.1%}, {:.1%}]".format(each["auroc"], *each["auroc_interval"])
