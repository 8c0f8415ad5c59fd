"""`psiphi defend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._defences import DRAWS, VERIFY, Case, alone, refuse
from psiphi.app._options import (
    SEARCH,
    AttackName,
    BatchSize,
    Bounds,
    Data,
    Json,
    Limit,
    Mean,
    Quiet,
    Restarts,
    Seed,
    Std,
    Step,
    Steps,
    Trust,
)
from psiphi.basis.errors import ArgumentError

DEFENCE = "The defence"
CERTIFIED, DETECTOR = "Or randomised smoothing", "Or a detector"


def defend(
    model: Annotated[
        str,
        typer.Argument(
            help="A classifier's run, module:function, or a torch.export file.", show_default=False
        ),
    ],
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="A model's run that projects; several give one table. Of --smooth a denoiser, of --detect the judge.",
            rich_help_panel=DEFENCE,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Of the projection: sigma=0.2, steps=4, restarts=8; may be repeated.",
            rich_help_panel=DEFENCE,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Noise drawn anew for each row of each pass, not fixed by the seed.",
            rich_help_panel=DEFENCE,
        ),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Choose the noise, or the steps, on attacked validation rows.",
            rich_help_panel=DEFENCE,
        ),
    ] = False,
    smooth: Annotated[
        float | None,
        typer.Option(help="Size of the noise, in the data's units: 0.25.", rich_help_panel=CERTIFIED),
    ] = None,
    votes: Annotated[
        int | None, typer.Option(help="Noisy copies a row; 10 000 unless given.", rich_help_panel=CERTIFIED)
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Failure rate a row; 0.001 unless given.", rich_help_panel=CERTIFIED)
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="L2 radii to attack at, rising: 0.1,0.25; ½, 1, 1½ and 2 of the noise unless given.",
            rich_help_panel=CERTIFIED,
        ),
    ] = None,
    detect: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Its score: reconstruction, density, anomaly-score or latent.",
            rich_help_panel=DETECTOR,
        ),
    ] = None,
    alarm: Annotated[
        float | None,
        typer.Option(help="Rate of false alarms; 0.05 unless given.", rich_help_panel=DETECTOR),
    ] = None,
    name: AttackName = "pgd",
    threat: Annotated[
        str | None,
        typer.Option(
            help="What may change, and how much: linf:0.1, l2:1.5; linf:0.1 unless given.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    steps: Steps = None,
    step: Step = None,
    restarts: Restarts = None,
    draws: Annotated[
        int | None,
        typer.Option(help="Of the noise, that is averaged over; 16 unless given.", rich_help_panel=SEARCH),
    ] = None,
    verify: Annotated[
        int | None,
        typer.Option(
            help="Fresh draws that judge a random purifier; 100 unless given.", rich_help_panel=SEARCH
        ),
    ] = None,
    bounds: Bounds = "0,1",
    mean: Mean = None,
    std: Std = None,
    trust: Trust = False,
    data: Data = None,
    limit: Limit = 256,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Folder for pictures and numbers.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Put a model's projection in front of a classifier, and attack it five times, each time knowing more of it.

    gray-box: the attacker does not know the purifier; bpda: takes its gradient for the identity's; exact gradient: goes
    through it; fixed noise: knows its noise; expectation: averages over its noise. The lowest number counts.
    Or certify the votes of noisy copies (--smooth), or flag what a model finds strange (--detect).

    [bold]Example[/bold]   psiphi defend runs/classifier --with runs/vae --threat linf:0.1 --out runs/defended
    [bold]Example[/bold]   psiphi defend runs/noisy --smooth 0.25 --out runs/certified
    [bold]Example[/bold]   psiphi defend runs/classifier --detect reconstruction --with runs/vae --alarm 0.05
    """
    from psiphi.app import _defended as defended
    from psiphi.app import _detected as detected
    from psiphi.app import _smoothed as smoothed

    purifying = {"--set": set_, "--fresh": fresh, "--tune": tune, "--verify": verify}
    smoothing = {"--smooth": smooth, "--votes": votes, "--alpha": alpha, "--eps": eps}
    detecting = {"--detect": detect, "--alarm": alarm}
    given = {"steps": steps, "step": step, "restarts": restarts}
    seen = attacking.Seen(
        attacking.bounds(bounds), attacking.channels(mean, "--mean"), attacking.channels(std, "--std")
    )
    about = (model, seen, trust, data, limit, batch_size, seed, to, quiet)
    if smooth is not None:
        refuse("smoothing", {"purification": purifying, "detection": detecting})
        if threat is not None:
            raise ArgumentError(
                "a certificate is of the L2 ball: leave --threat out, and name radii by --eps 0.1,0.25."
            )
        searches = smoothed.searches(name, given, smooth, eps)
        denoiser = alone(with_, "--smooth")
        found = smoothed.certify(
            Case.of(*about), smooth, denoiser, searches, DRAWS if draws is None else draws,
            smoothed.VOTES if votes is None else votes,
            smoothed.ALPHA if alpha is None else alpha,
        )  # fmt: skip
    elif detect is not None:
        noisy = {"random defences": {"--draws": draws}}
        refuse("detection", {"purification": purifying, "smoothing": smoothing, **noisy})
        search = attacking.build(name, threat, given, None)
        judge = alone(with_, "--detect")
        if judge is None:
            raise ArgumentError("name the model whose score it is: --with runs/vae.")
        found = detected.judge(
            Case.of(*about), judge, detect, detected.ALARM if alarm is None else alarm, search
        )
    else:
        refuse("purification", {"smoothing": smoothing, "detection": detecting})
        if not with_:
            raise ArgumentError(
                "name the model that stands in front: --with runs/vae, one or several; or --smooth 0.25."
            )
        search = attacking.build(name, threat, given, None)
        settings = arguments.settings(set_)
        how = (fresh, tune, search, DRAWS if draws is None else draws, VERIFY if verify is None else verify)
        found = defended.judge(Case.of(*about), with_, settings, *how)
    if json:
        return out.emit(found)
    kind = smoothed if smooth is not None else detected if detect is not None else defended
    return kind.show(found)
