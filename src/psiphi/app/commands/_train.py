"""`psiphi train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _console as out
from psiphi.app import _hardening as hardening
from psiphi.app import _launch
from psiphi.app._open import COLUMNS, SPEC, open_data
from psiphi.app._options import DATA_HELP, Json, Quiet, Seed, Set
from psiphi.basis.errors import ArgumentError, DivergedError, LaunchError

MODEL, TRAINING, MACHINE = "The model", "Training", "Where it runs"
ATTACKS = "Training on attacks"
WIDEST = 9  # columns of a table on a terminal


def train(
    model: Annotated[
        str, typer.Argument(help="A model's name; `psiphi models` lists them.", show_default=False)
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "digits",
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run. [dim]default: runs/MODEL[/dim]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, bit for bit.")
    ] = False,
    seed: Seed = 0,
    latent_dim: Annotated[int | None, typer.Option(help="Numbers in a code.", rich_help_panel=MODEL)] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths, or channels: 512 or 256,64.", rich_help_panel=MODEL)
    ] = None,
    net: Annotated[
        str | None, typer.Option(help="mlp, conv; of diffusion mlp, unet.", rich_help_panel=MODEL)
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(help="bernoulli, gaussian, gaussian:0.1 or gaussian:optimal.", rich_help_panel=MODEL),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Of an autoencoder: squared, absolute, huber, bernoulli.", rich_help_panel=MODEL),
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL term.", rich_help_panel=MODEL)] = None,
    warmup: Annotated[
        float | None, typer.Option(help="Epochs over which beta rises from 0.", rich_help_panel=MODEL)
    ] = None,
    free_bits: Annotated[
        float | None,
        typer.Option(help="Nats that each code number may carry for free.", rich_help_panel=MODEL),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Labels that the model is told; by default the data's, and none for aae, gan, wgan, wgan_gp and "
            "diffusion.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(
            help="Tell so many labels, as many of each class, and hide the others.", rich_help_panel=MODEL
        ),
    ] = None,
    set_: Set = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data; 30 unless given.", rich_help_panel=TRAINING)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Gradient steps, instead of epochs.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows a step and process.", rich_help_panel=TRAINING)] = 128,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel=TRAINING)] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine or linear.", rich_help_panel=TRAINING)
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Largest norm of a gradient.", rich_help_panel=TRAINING)
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="Decay of the weights' moving average, e.g. 0.999.", rich_help_panel=TRAINING),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many rows without a better validation loss.", rich_help_panel=TRAINING
        ),
    ] = None,
    validation: Annotated[
        bool, typer.Option(help="Keep the weights best on the validation split.", rich_help_panel=TRAINING)
    ] = True,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Train a classifier on what it finds: pgd; `psiphi models` lists them.",
            rich_help_panel=ATTACKS,
        ),
    ] = None,
    threat: Annotated[
        str | None,
        typer.Option(
            help="What may change, and how much: linf:0.1, l2:1.5; linf:0.1 unless given.",
            rich_help_panel=ATTACKS,
        ),
    ] = None,
    attack_steps: Annotated[
        int | None, typer.Option(help="Of each attack; 7 unless given.", rich_help_panel=ATTACKS)
    ] = None,
    attack_warm_up: Annotated[
        float | None, typer.Option(help="Epochs over which the radius rises from 0.", rich_help_panel=ATTACKS)
    ] = None,
    clean: Annotated[
        float | None,
        typer.Option(help="Share of the loss on rows as they are: 0.5.", rich_help_panel=ATTACKS),
    ] = None,
    trades: Annotated[
        float | None,
        typer.Option(help="TRADES instead, with this weight of the KL term: 6.", rich_help_panel=ATTACKS),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Instead of an attack, noise of this size, for psiphi defend --smooth.",
            rich_help_panel=ATTACKS,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", rich_help_panel=MACHINE)
    ] = None,
    devices: Annotated[int, typer.Option(help="Processes, one a device.", rich_help_panel=MACHINE)] = 1,
    precision: Annotated[str, typer.Option(help="32, bf16-mixed, ...", rich_help_panel=MACHINE)] = "32",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a model on data and save it in a folder.

    The folder holds the weights, how they came about, a checkpoint and the log as CSV; every other verb takes it.

    [bold]Example[/bold]   psiphi train vae --data digits --latent-dim 8 --epochs 60 --out runs/vae
    [bold]Example[/bold]   psiphi train ddpm --data digits --net unet --classes 10 --set schedule=cosine:1000
    [bold]Example[/bold]   psiphi train classifier --attack pgd --threat linf:0.1 --attack-warm-up 3 --out runs/hard
    """
    import psiphi.zoo  # noqa: F401  registers the builders
    from psiphi.app._generated import spoken, watchers
    from psiphi.basis.registry import models
    from psiphi.training import fit

    hard = hardening.Hardening(attack, threat, attack_steps, attack_warm_up, clean, trades, noise)
    entry = models[model]
    folder = to or Path("runs") / model
    spec, loaded = open_data(data)
    given: dict[str, Any] = {
        "latent_dim": latent_dim,
        "hidden": arguments.numbers(hidden, "--hidden"),
        "net": net,
        "likelihood": likelihood,
        "loss": loss,
        "beta": beta,
        "warmup": warmup,
        "free_bits": free_bits,
        "classes": classes,
    }
    chosen = arguments.settings(set_)
    given |= {"seed": seed, **chosen}
    if (
        given["classes"] is None
        and "classes" in entry.parameters
        and entry.parameters["classes"].default != 0
    ):
        given["classes"] = _classes(loaded, model)
    if "columns" in entry.parameters and loaded.columns is not None:
        given.setdefault("columns", loaded.columns)
    with spoken():
        built = hard.harden(arguments.build(entry, "model", given, loaded.shape, kept=chosen))

    hard.check(loaded)

    training = {
        "epochs": epochs,
        "steps": steps,
        "lr": lr,
        "schedule": schedule,
        "clip": clip,
        "ema": ema,
        "patience": patience,
    }
    if hasattr(built, "solve"):
        _refuse(model, training)
    train_rows = loaded.train if labels is None else _told(loaded, labels, seed)
    held = loaded.validation if validation and len(loaded.validation) > 1 else None
    if patience is not None and len(built.players()) > 1:
        raise ArgumentError(
            f"--patience waits for a better validation loss, and those of {model}, which plays against a critic, "
            f"do not say what is better: leave it out."
        )
    if patience is not None and held is None:
        raise ArgumentError(
            "--patience waits for a better validation loss, and there is no validation split."
        )
    try:
        with spoken():
            history = fit(
                built,
                train_rows,
                validation=held,
                epochs=epochs,
                steps=steps,
                batch_size=batch_size,
                lr=lr,
                seed=seed,
                device=device,
                devices=devices,
                precision=precision,
                out=folder,
                resume=resume,
                quiet=quiet,
                callbacks=(
                    *(() if patience is None else (hard.waits(patience),)),
                    *watchers(built, loaded),
                ),
                optimizer=_changes(schedule, clip),
                ema=ema,
                monitor=hard.monitor(held),
            )
    except LaunchError:
        if _launch.argv is None:
            raise
        _launch.again(devices)
    except DivergedError as error:
        _remember(built, spec, loaded)
        built.save(folder)
        raise DivergedError(f"{error} It is saved in {folder}.") from None
    if not _launch.is_first():
        return None
    _remember(built, spec, loaded)
    built.save(folder)
    record = {
        "model": model,
        "arguments": built.recipe["arguments"],
        "data": spec,
        "data_sha256": built.provenance.get("data"),
        "out": str(folder),
        "stopped": history.stopped,
        "rows": len(history),
        "last": history.last,
        "best": history.best,
        "verbs": list(built.can),
        "versions": built.provenance.get("versions"),
    }
    if hard.asked:
        record["hardening"] = hard.record(built, held, seed)
    if json:
        return out.emit(record)
    _print(record, folder)
    if hard.asked:
        return hard.show(record["hardening"], folder)
    verb = "attack" if model == "classifier" else "evaluate"
    return out.say(f"Next: psiphi {verb} {folder}")


def _remember(model: Any, spec: str, data: Any) -> None:
    """Which data it was, and the columns of a table where the recipe lacks them."""
    model.provenance[SPEC] = spec
    if data.columns is not None and COLUMNS not in model.recipe["arguments"]:
        model.provenance[COLUMNS] = data.columns


def _print(record: dict[str, Any], folder: Path) -> None:
    rows = [("last", record["last"]), *([("best", record["best"])] if record["best"] else [])]
    columns = [name for name in record["last"] if name != "seconds"]
    cells = [[label, *(out.number(row.get(name), 5) for name in columns)] for label, row in rows]
    heads = ["", *(name.replace("_", " ") for name in columns)]
    if len(heads) > WIDEST:  # what plays against a critic has a line a number
        heads, *cells = map(list, zip(heads, *cells, strict=True))
    out.table(heads, cells)
    ended = "" if record["stopped"] == "done" else f" Training ended early: {record['stopped']}."
    kept = " It holds the weights of the best row." if record["best"] else ""
    out.say(f"Saved in {folder}.{kept}{ended}")


def _classes(data: Any, model: str) -> int:
    if not data.classes:
        raise ArgumentError(
            f"a {model} needs labels, and {data.name} has none: name them, e.g. --data x.npy:labels=y.npy."
        )
    return len(data.classes)


def _told(data: Any, labels: int, seed: int) -> tuple[Any, Any]:
    """The training rows with `labels` of their labels, −1 for the others."""
    import torch

    from psiphi.data import some_labels

    if data.train.y is None:
        raise ArgumentError(f"--labels tells some of the labels, and {data.name} has none: leave it out.")
    return data.train.x, some_labels(torch.as_tensor(data.train.y), labels, seed)


def _refuse(model: str, training: dict[str, Any]) -> None:
    for name, value in training.items():
        if value is not None:
            raise ArgumentError(
                f"{model} is solved in closed form: it takes no {arguments.option(name)}, leave it out."
            )


def _changes(schedule: str | None, clip: float | None) -> dict[str, Any] | None:
    """What was asked of every player's own optimiser, or None to leave it alone."""
    from psiphi.training import schedules

    named = {"cosine": schedules.cosine(), "linear": schedules.linear()}
    if schedule is not None and schedule not in named:
        raise ArgumentError(f"no schedule is called {schedule!r}; use {' or '.join(named)}.")
    if clip is not None and not clip > 0:
        raise ArgumentError(f"--clip must be a positive number; got {clip:g}.")
    asked = {"schedule": named[schedule] if schedule else None, "clip": clip}
    return {name: value for name, value in asked.items() if value is not None} or None
