"""The command line: each command is one library call."""

import os
import sys
from collections.abc import Callable, Sequence

import tyro
from rich.markup import escape

from remnant.cli.comparing import compare
from remnant.cli.compressing import compress
from remnant.cli.data_audit import audit as audit_data
from remnant.cli.data_audit import fit as fit_data
from remnant.cli.data_sets import decode, encode, select
from remnant.cli.influences import influence
from remnant.cli.judging import gate, verify
from remnant.cli.planning import plan
from remnant.cli.populations import audit, demo, doctor, list_names, probe, run
from remnant.cli.terminal import errors

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "plan": plan,
    "run": run,
    "probe": probe,
    "audit": audit,
    "compare": compare,
    "compress": compress,
    "influence": influence,
    "gate": gate,
    "verify": verify,
    "data encode": encode,
    "data decode": decode,
    "data select": select,
    "data audit": audit_data,
    "data fit": fit_data,
    "list": list_names,
    "doctor": doctor,
}
GROUPS: dict[str, str] = {"data": "Compress data sets and select examples: `remnant data --help` lists how."}
"""First word of commands of two words, to what they do."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user ends with one clear message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in GROUPS:
            _run(words[1:], _group(words[0]), f"remnant {words[0]}", GROUPS[words[0]].partition(":")[0] + ".")
        else:
            commands = {name: command for name, command in COMMANDS.items() if " " not in name}
            _run(words, commands | {name: _stub(GROUPS[name]) for name in GROUPS}, "remnant", _DESCRIPTION)
    except KeyboardInterrupt:
        stores = bool(words) and words[0] in ("run", "probe", "demo", "compress")
        rest = " Finished trials are stored; the same command continues where it stopped." if stores else ""
        errors.print(f"Interrupted.{rest}")
        raise SystemExit(130) from None
    except MemoryError as error:
        errors.print(
            f"[bold red]error:[/bold red] Not enough memory: {escape(str(error)) or 'the examples do not fit'}. "
            "Compare fewer examples, classes or models at a time.",
            highlight=False,
        )
        raise SystemExit(2) from error
    except _mistakes() as error:
        if os.environ.get("REMNANT_DEBUG"):
            raise
        from remnant.report.characters import visible

        errors.print(f"[bold red]error:[/bold red] {escape(visible(str(error)))}", highlight=False)
        raise SystemExit(2) from error


_DESCRIPTION = "Shows what a compressed neural network forgot, finds out why, and compresses without forgetting."


def _run(words: list[str], commands: dict[str, Callable[..., None]], prog: str, description: str) -> None:
    tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=description, args=words)


def _group(word: str) -> dict[str, Callable[..., None]]:
    """The commands that start with a word, by their second word."""
    start = f"{word} "
    return {name.removeprefix(start): command for name, command in COMMANDS.items() if name.startswith(start)}


def _stub(summary: str) -> Callable[[], None]:
    """What stands for a group in the list of commands; words behind it never come here."""

    def group() -> None: ...

    group.__doc__ = summary
    return group


def _mistakes() -> tuple[type[Exception], ...]:
    """Errors whose message is for the user; others are defects and keep their traceback."""
    from remnant.execute import RunError
    from remnant.finding import NotApplicable
    from remnant.store import StoreError

    return (ValueError, OSError, StoreError, RunError, NotApplicable)
