"""Commands on decoded data and trained models: data audit, data fit."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from remnant.cli import reports
from remnant.cli.reports import Margin, Out
from remnant.cli.terminal import Bar, Json, console, duration, print_json

Root = Annotated[str | None, arg(help="Folder of the data; default the environment variable REMNANT_DATA.")]
Models = Annotated[Positional[tuple[str, ...]], arg(help='Trained models, such as "model.onnx"; or --store.')]
StoreOf = Annotated[str | None, arg(help="Instead of models: all dense models of a store, with their data.")]
Name = Annotated[str | None, arg(help='Data set of pictures, such as "cifar10"; default that of the store.')]
Steps = Annotated[str | None, arg(help='How models want pictures: "imagenet", "dataset", "size=224,mean=0.5,std=0.5".')]
Limit = Annotated[int | None, arg(help="Take only so many test images, evenly spaced.")]


def audit(
    models: Models = (),
    *,
    codecs: Annotated[tuple[str, ...], arg(help='Settings, such as "jpeg(quality=50)" "zfp-rate(rate=4)".')],
    store: StoreOf = None,
    data: Name = None,
    root: Root = None,
    preprocessing: Steps = None,
    reestimate: Annotated[
        int, arg(help="Training images on which batch-norm statistics are estimated again, in a copy; 0: none.")
    ] = 5000,
    limit: Limit = None,
    margin: Margin = "1 point",
    out: Out = Path("report"),
    json: Json = False,
) -> None:
    """Audit trained models on images that codecs decoded, against the raw images.

    Writes report.html, report.md, report.json, tables and manifest.json: accuracy against bytes, PSNR and SSIM, what
    flipped and which classes pay, and whether batch-norm statistics are to blame.
    """
    from remnant import fidelity
    from remnant.gates.units import parse

    reports.check_folder(out)
    start = time.monotonic()
    with Bar("steps", quiet=json) as bar:
        found = fidelity.audit(
            models,
            codecs=codecs,
            store=store,
            data=data,
            root=root,
            preprocessing=preprocessing,
            reestimate=reestimate,
            limit=limit,
            margin=parse(margin, "share", "margin"),
            progress=bar.update,
        )
    written = reports.write(found.audit, out, thumbnails=found.pictures)
    if json:
        reports.print_paths(written)
        return
    console.print(f"{found.population.sizes['example']:,} test images in {duration(time.monotonic() - start)}.")
    finding = found.audit.finding("decoding")
    if finding is not None:
        _print_accuracy(finding.tables["accuracy"])
    reports.say_where(written)


def fit(
    models: Models = (),
    *,
    codec: Annotated[
        str, arg(help='Codec, with parameters other than the one that is searched: "zfp-rate(layout=volume)".')
    ] = "jpeg",
    max_drop: Annotated[str, arg(help="Fall of accuracy that is allowed.")] = "2pt",
    store: StoreOf = None,
    data: Name = None,
    root: Root = None,
    preprocessing: Steps = None,
    limit: Limit = None,
    accounting: Annotated[
        Literal["with headers", "headers shared", "entropy-coded"], arg(help="How bytes are counted.")
    ] = "headers shared",
    json: Json = False,
) -> None:
    """Find the codec setting with the fewest bytes that keeps the accuracy of a trained model.

    One half of the test images decides, the other half reports. With several models, their mean counts.
    """
    from remnant import fidelity
    from remnant.gates.units import parse

    drop = parse(max_drop, "share", "max-drop")
    steps = fidelity.ladder(codec)
    start = time.monotonic()
    with Bar("settings", quiet=json) as bar:
        bench = fidelity.bench(
            models, store=store, data=data, root=root, preprocessing=preprocessing, limit=limit
        )  # fmt: skip
        found = fidelity.fit(bench, codec, drop=drop, accounting=accounting, progress=bar.update)
    if found.chosen is None:
        raise ValueError(
            f"No tested setting of {codec} keeps the accuracy within {100 * drop:g} points: at best it changes by "
            f"{found.tried['change_search_half_points'].max():.2f} points. Allow more, or take another codec."
        )
    size, (estimate, low, high) = found.chosen.size(accounting), found.change
    if json:
        print_json(_as_json(found))
        return
    console.print(
        f"[bold]{escape(found.chosen.codec.label)}[/bold] after {len(found.tried)} settings of {steps.parameter} "
        f"({duration(time.monotonic() - start)}).",
        highlight=False,
    )
    table = Table("accounting", "an image", "of uint8", "of float32", box=None)
    for one in found.chosen.sizes:
        table.add_row(
            one.accounting, f"{one.per_image:,.1f} bytes", f"{one.uint8_share:.2%}", f"{one.float32_share:.2%}"
        )
    console.print(table)
    ends = [f"{end:.2%}" for end in found.share_interval]
    if "nan%" not in ends:
        console.print(
            f"Of uint8, {size.accounting}: {size.uint8_share:.2%} (95 % interval {ends[0]} to {ends[1]}, among tested "
            "settings).",
            highlight=False,
        )
    console.print(
        f"Accuracy on {found.examples[1]:,} images that the search did not read: {found.accuracy[0]:.2%} raw, "
        f"{found.accuracy[1]:.2%} decoded; change {100 * estimate:.2f} points (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}).",
        highlight=False,
    )
    if low < -drop:
        console.print(
            f"The interval reaches beyond the allowed {100 * drop:g} points: more test images would tell.",
            highlight=False,
        )


def _as_json(found: Any) -> dict[str, Any]:
    return {
        "codec": found.chosen.codec.label,
        "max_drop": found.drop,
        "sizes": [size.to_dict() for size in found.chosen.sizes],
        "share_of_uint8_interval": [None if end != end else end for end in found.share_interval],
        "accuracy": {"raw": found.accuracy[0], "decoded": found.accuracy[1]},
        "change": dict(zip(("estimate", "low", "high"), found.change, strict=True)),
        "examples": {"search": found.examples[0], "report": found.examples[1]},
        "tried": found.tried.replace({float("inf"): None}).to_dict("records"),
    }


def _print_accuracy(rows: Any) -> None:
    """The main table of the analysis "decoding", as far as a terminal holds it."""
    again = "reestimated_accuracy" in rows
    table = Table("model", "images", "bits/value", "PSNR", "accuracy", "change", box=None)
    if again:
        table.add_column("re-estimated")
    for row in rows.to_dict("records"):
        change = row.get("change_points", float("nan"))
        cells = [row["model"], row["scheme"], f"{row['bits_per_value']:.2f}", _number(row.get("psnr"), "{:.1f}")]
        cells += [f"{row['accuracy']:.2%}"]
        cells += ["" if change != change else f"{change:.2f} ({row['change_low']:.2f} to {row['change_high']:.2f})"]
        table.add_row(*map(escape, cells), *([_number(row["reestimated_accuracy"], "{:.2%}")] if again else []))
    console.print(table)


def _number(value: float | None, form: str) -> str:
    return "" if value is None or value != value else form.format(value)
