"""Commands on models and predictions made elsewhere: compare."""

import re
import textwrap
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional, arg

from remnant.cli import reports
from remnant.cli.reports import Margin, Out
from remnant.cli.terminal import Bar, Json, console, duration, errors


def compare(
    reference: Annotated[
        Positional[str],
        arg(
            metavar="REFERENCE",
            help='File of predictions, or a model such as "model.onnx" or "hf:DIR". "NAME=FILE" gives it a name.',
        ),
    ],
    compressed: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="COMPRESSED ...",
            help='The same for one or more compressed models. "A,B" or a quoted glob: several models of one side.',
        ),
    ] = (),
    *,
    labels: Annotated[str | None, arg(help="File with ids and true classes (and attributes) of the examples.")] = None,
    data: Annotated[
        str | None,
        arg(help='Data that models are run on, such as "imagefolder:DIR"; also gives labels and pictures to files.'),
    ] = None,
    root: Annotated[str | None, arg(help="Folder of the data; default the environment variable REMNANT_DATA.")] = None,
    preprocessing: Annotated[
        str | None, arg(help='How models want pictures: "imagenet", "dataset", "none", "size=224,mean=0.5,std=0.5".')
    ] = None,
    expect: Annotated[
        str | None, arg(help='Known accuracy of the reference, such as "76.1%": a wrong set-up is found at once.')
    ] = None,
    floor: Annotated[
        str | None, arg(help="The reference a second time, from another run: what differs is nondeterminism.")
    ] = None,
    match: Annotated[Literal["id", "position"], arg(help="How examples of files are matched.")] = "id",
    missing: Annotated[
        Literal["error", "drop"], arg(help='"drop": compare on the examples that all files have.')
    ] = "error",
    scores: Annotated[
        Literal["auto", "logits", "probabilities"], arg(help="What scores in files are; auto: told by name and values.")
    ] = "auto",
    normalize: Annotated[
        Literal["none", "characters", "bytes"], arg(help="Log-likelihoods of answers divided by their length.")
    ] = "none",
    margin: Margin = "1 point",
    limit: Annotated[int | None, arg(help="Run models on so many examples only, evenly spaced.")] = None,
    batch_size: Annotated[int, arg(help="Examples that models get at a time.")] = 128,
    out: Out = Path("report"),
    sign: Annotated[Path | None, arg(help="Ed25519 private key (PEM or OpenSSH) that signs manifest.json.")] = None,
    json: Json = False,
) -> None:
    """Compare a reference with compressed models made elsewhere, from their predictions or the models themselves.

    Writes report.html, report.md, report.json, tables and manifest.json: what flipped and whom that harms, whether
    accuracy is equivalent, which classes and groups pay, and which of several models does least harm.
    """
    from remnant import versus
    from remnant.gates.units import parse
    from remnant.manifest.signing import private_key

    models: dict[str, Any] = {
        "preprocessing": preprocessing,
        "expect": None if expect is None else parse(expect, "share", "expect"),
        "limit": limit,
        "batch_size": batch_size,
        "root": root,
    }
    if sign is not None:
        private_key(sign)  # a key that is none is told before hours of work, and before anything is written
    reports.check_folder(out)
    start = time.monotonic()
    with Bar("steps", quiet=json or not errors.is_terminal) as bar:
        found = versus.compare(
            reference,
            *compressed,
            labels=labels,
            data=data,
            floor=floor,
            match=match,
            missing=missing,
            margin=parse(margin, "share", "margin"),
            files={"scores": scores, "normalize": normalize},
            models=models,
            progress=bar.update,
        )
    written = reports.write(found.audit, out, thumbnails=found.pictures, key=sign)
    if json:
        reports.print_paths(written)
        return
    _say(found, time.monotonic() - start)
    reports.say_where(written)


def _wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters; a number and its unit stay on one line."""
    kept = re.sub(r"(?<=\d) (?=%|points?\b)|(?<=%) (?=interval)", "\N{NO-BREAK SPACE}", text)
    return textwrap.fill(kept, width, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


def _say(found: Any, seconds: float) -> None:
    """What was compared, the answers of the first screen, and its table."""
    from remnant.gates.text import visible
    from remnant.report.prose import plain
    from remnant.report.summary import answers

    seen: dict[str, dict[str, Any]] = {}
    for source in found.population.attrs["inputs"]:
        notes = list(source.get("notes", ()))
        if (digest := source.get("sha256")) and (same := seen.setdefault(digest, source)) is not source:
            notes.append(f"the same file as {same['side']}: {same['name']}")
        for note in notes:
            errors.print(
                f"[yellow]note[/yellow] {escape(visible(source['side']))}: {escape(visible(note))}", highlight=False
            )
    if left_out := found.population.attrs["matching"].get("left_out"):
        for name, what in left_out.items():
            first = ", ".join(map(str, what["first"]))
            said = f"{what['count']:,} of {name}: {first}{', ...' if what['count'] > len(what['first']) else ''}"
            errors.print(f"[yellow]left out[/yellow] {escape(visible(said))}", highlight=False)
    console.print(f"{found.population.sizes['example']:,} examples in {duration(seconds)}.")
    for answer in answers(found.audit):
        said = visible(" ".join(plain(one) for one in (answer.lead, *answer.rest)), 4000)
        console.print(f"\n[bold]{escape(answer.question)}[/bold]", highlight=False)
        console.print(escape(_wrapped(said, console.width)), highlight=False, soft_wrap=True)
    console.print()
    frame = found.to_frame()
    if len(frame):
        table = Table(*(Column(str(name), overflow="fold") for name in ("", *frame.columns)), box=None)
        for name, row in frame.iterrows():
            table.add_row(*(escape(visible(cell)) for cell in (name, *row)))
        console.print(table)
