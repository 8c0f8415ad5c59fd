"""`psiphi`: one verb a line. Bad input ends with exit code 2 and one sentence, never a traceback."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from psiphi import __version__
from psiphi.app import _launch
from psiphi.app.commands._apply import apply
from psiphi.app.commands._attack import attack
from psiphi.app.commands._compare import compare
from psiphi.app.commands._defend import defend
from psiphi.app.commands._evaluate import evaluate
from psiphi.app.commands._impute import impute
from psiphi.app.commands._lists import data, models
from psiphi.app.commands._merge import merge
from psiphi.app.commands._poison import poison
from psiphi.app.commands._repro import repro
from psiphi.app.commands._sample import sample
from psiphi.app.commands._tour import tour
from psiphi.app.commands._train import train
from psiphi.app.commands._transfer import transfer
from psiphi.app.commands._universal import universal
from psiphi.app.commands._verify import verify
from psiphi.basis.errors import PsiphiError

BAD_INPUT, INTERRUPTED = 2, 130


class Sentences(TyperGroup):
    """Turns what goes wrong on purpose into one sentence on stderr; PSIPHI_DEBUG=1 shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        if os.environ.get("PSIPHI_DEBUG") == "1":
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _close_stdout()
            raise typer.Exit(0) from None
        except (PsiphiError, OSError) as error:
            _say(_sentence(error))
        except KeyboardInterrupt:
            _say("interrupted; nothing half-written is left behind.")
            raise typer.Exit(INTERRUPTED) from None
        except MemoryError:
            _say("there is not enough memory for this: use fewer rows, a smaller batch or a smaller model.")
        except Exception as error:
            if not _is_usage(error):
                raise
            where = getattr(getattr(error, "ctx", None), "command_path", "psiphi")
            said: str = getattr(error, "format_message")()  # noqa: B009  as above
            _say(f"{said.rstrip('.')}. Type: {where} --help")
        raise typer.Exit(BAD_INPUT)


def _is_usage(error: Exception) -> bool:
    """Whether it is a wrong option or argument; by its face, since Typer has moved these classes about."""
    return hasattr(error, "format_message") and type(error).__name__ != "NoArgsIsHelpError"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, PsiphiError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}: give another place, or make room or permission there."
    return str(error)


def _say(sentence: str) -> None:
    typer.echo(f"psiphi: {' '.join(sentence.split())}", err=True)


def _close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="psiphi",
    cls=Sentences,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"psiphi {__version__}")
        raise typer.Exit


@app.callback()
def psiphi(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Learn the manifold that data lie on; sample it, judge it, attack a classifier off it, project back onto it.

    Begin with [bold]psiphi tour[/bold]: models, an attack and a defence on embedded data, in one HTML report.
    """


for verb in (
    tour,
    train,
    sample,
    apply,
    impute,
    evaluate,
    compare,
    attack,
    universal,
    transfer,
    defend,
    merge,
    poison,
    verify,
    repro,
    models,
    data,
):
    app.command()(verb)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Greek shows "?", not a traceback
    _launch.argv = sys.argv[1:]
    app()


if __name__ == "__main__":
    main()
