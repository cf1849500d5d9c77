"""The command line: each command is one library call."""

import os
from collections.abc import Callable, Sequence

import tyro
from rich.markup import escape

from remnant.cli.comparing import compare
from remnant.cli.judging import gate, verify
from remnant.cli.populations import audit, demo, doctor, list_names, run
from remnant.cli.terminal import errors

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "run": run,
    "audit": audit,
    "compare": compare,
    "gate": gate,
    "verify": verify,
    "list": list_names,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user ends with one clear message and exit code 2."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="remnant",
            description="Shows what a compressed neural network forgot, and finds out why.",
            args=arguments,
        )
    except KeyboardInterrupt:
        errors.print("Interrupted. Finished trials are stored; the same command continues where it stopped.")
        raise SystemExit(130) from None
    except _mistakes() as error:
        if os.environ.get("REMNANT_DEBUG"):
            raise
        errors.print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False)
        raise SystemExit(2) from error


def _mistakes() -> tuple[type[Exception], ...]:
    """Errors whose message is for the user; others are defects and keep their traceback."""
    from remnant.execute import RunError
    from remnant.finding import NotApplicable
    from remnant.store import StoreError

    return (ValueError, OSError, StoreError, RunError, NotApplicable)
