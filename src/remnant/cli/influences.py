"""The command that finds who influences whom: influence."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.markup import escape
from tyro.conf import Positional, arg

from remnant.cli import reports
from remnant.cli.terminal import Bar, Json, console, duration, errors, print_json

if TYPE_CHECKING:
    from remnant.influences import Influences


def influence(
    stores: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="STORE", help="Folders or URLs of stores with trials on random training subsets; they add up."),
    ],
    *,
    out: Annotated[Path, arg(help="Folder for the tables and arrays.")] = Path("influences"),
    scheme: Annotated[str | None, arg(help='Whose trials; default "dense" if it has some.')] = None,
    top: Annotated[int, arg(help="Strongest training examples to keep for each test example; 0 for none.")] = 100,
    top_of_training: Annotated[int, arg(help="Test examples to keep for each training example; 0 for none.")] = 0,
    threshold: Annotated[float, arg(help="List all pairs with at least this influence; 0 for no list.")] = 0.15,
    whole: Annotated[bool, arg(help="Write the whole matrix too, as matrix.npy: 4 bytes for each entry.")] = False,
    backend: Annotated[
        Literal["onednn", "int8", "float32"] | None, arg(help="How counts are computed; results are the same bits.")
    ] = None,
    threads: Annotated[int | None, arg(help="Threads; default one per core.")] = None,
    json: Json = False,
) -> None:
    """Find the training examples that decide the answers on each test example, in populations of any size.

    Reads the trials one by one, goes once over all pairs, and writes the strongest influences on each test example,
    all pairs from a threshold on, z beside what chance gives, memorization, and mean influences of classes.
    """
    from remnant import influences

    if not stores:
        raise ValueError("Expected at least one STORE, but got none.")
    reports.check_folder(out)
    start = time.monotonic()
    with Bar("trials", quiet=json or not errors.is_terminal) as bar:
        outcomes = influences.read(stores, scheme=scheme, progress=lambda what, done, total: bar.update(done, total))
    file = None
    if whole:
        out.mkdir(parents=True, exist_ok=True)
        file = out / "matrix.npy"
        size = 4 * outcomes.correct.num_examples * outcomes.included.num_examples
        errors.print(f"The whole matrix will take {size / 2**30:,.2f} GiB: {escape(str(file))}", highlight=False)
    with Bar("blocks of training examples", quiet=json or not errors.is_terminal) as bar:
        found = influences.influences(
            outcomes, top=top, top_of_training=top_of_training, threshold=threshold or None, whole=file,
            backend=backend, threads=threads, progress=lambda what, done, total: bar.update(done, total),
        )  # fmt: skip
    written = influences.write(found, out)
    if json:
        print_json({"files": {name: str(path) for name, path in written.items()}, **influences.describe(found)})
    else:
        _say(found, time.monotonic() - start)
        console.print(f"The tables are in [bold]{escape(str(out.resolve()))}[/bold]", soft_wrap=True)


def _say(found: "Influences", seconds: float) -> None:
    """The main numbers in three lines."""
    from remnant.influences import describe

    data, pairs = describe(found), found.pairs
    console.print(
        f"{data['trials']:,} trials, {data['test_examples']:,} test and {data['train_examples']:,} training examples "
        f"({duration(seconds)}).",
        highlight=False,
    )
    if pairs is not None:
        console.print(f"{len(pairs.influence):,} pairs reach the threshold of influence.", highlight=False)
    console.print(
        f"{data['pairs_with_z_of_5']:,} pairs have z >= 5, where chance gives "
        f"{data['pairs_with_z_of_5_by_chance']:,.2g}; {data['memorized_examples']:,} training examples have "
        "memorization >= 0.25.",
        highlight=False,
    )
