"""The command that compresses: compress."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from remnant.cli import reports
from remnant.cli.terminal import Bar, Json, console, duration, errors, print_json

if TYPE_CHECKING:
    from remnant.compression import Compression
    from remnant.execute import Progress
    from remnant.lab.debugging.restoring import Restoration
    from remnant.search import Sample


def compress(
    model: Annotated[
        Positional[str],
        arg(
            metavar="MODEL",
            help='A trained model: "package.module:function@FILE", "torchvision:NAME@FILE", "timm:NAME@FILE", '
            '"pickle:FILE", or the folder or URL of a store that `remnant run` filled.',
        ),
    ],
    *,
    scheme: Annotated[
        str,
        arg(help='What to do, as `remnant list schemes`: "one-shot-pruning(sparsity=0.9, epochs=2) + static-int8".'),
    ],
    data: Annotated[
        str, arg(help='Data set to train, calibrate and test on, such as "cifar10" or "imagefolder:DIR".')
    ] = "",
    align: Annotated[
        str | None,
        arg(help='Losses that hold the model to its reference, such as "cross-entropy+distillation+logits softadapt".'),
    ] = None,
    budget: Annotated[
        str | None, arg(help='Find the strongest setting that keeps limits, such as "cie_u<=0.5%".')
    ] = None,
    objective: Annotated[
        str, arg(help='What to gain within the budget: "memory", "flops", "maximize throughput".')
    ] = "memory",
    method: Annotated[Literal["dr-ucb", "bisection", "ei"], arg(help="How strengths are proposed.")] = "bisection",
    samples: Annotated[int, arg(help="Strengths that a search may try.")] = 10,
    restore_until: Annotated[
        str | None, arg(help='Give layers back until few enough answers are lost, such as "cie_u<=0.5%".')
    ] = None,
    seed: Annotated[int, arg(help="Of the random numbers, and of the dense model in a store.")] = 0,
    skipped: Annotated[
        Literal["list", "refuse"], arg(help="Layers that the scheme cannot compress: list them, or refuse the model.")
    ] = "list",
    preprocessing: Annotated[
        str, arg(help='How the model wants its inputs: "dataset", "imagenet", "none", "mean=0.5,std=0.5".')
    ] = "dataset",
    augmentation: Annotated[
        tuple[Literal["crop", "flip", "cutout", "resized-crop"], ...], arg(help="Random changes in fine-tuning.")
    ] = (),
    batch_size: Annotated[int, arg(help="Examples in a step of fine-tuning.")] = 128,
    precision: Annotated[Literal["float32", "bfloat16"], arg(help="Arithmetic of fine-tuning.")] = "float32",
    formats: Annotated[
        tuple[Literal["safetensors", "pt2", "onnx"], ...], arg(help="Files of the compressed model.")
    ] = ("safetensors", "pt2"),
    out: Annotated[Path, arg(help="Folder for the model, its report and manifest.")] = Path("compressed"),
    store: Annotated[str, arg(help="Folder or URL for what is trained; the same command goes on there.")] = "",
    root: Annotated[str | None, arg(help="Folder of the data; default the environment variable REMNANT_DATA.")] = None,
    json: Json = False,
) -> None:
    """Compress a trained model and say what it forgot; with a budget, as far as the limits allow.

    Writes the model (safetensors, torch.export, ONNX), a report, and a manifest that `remnant verify` checks. Can be
    interrupted at any moment: the same command continues.
    """
    from remnant import compression
    from remnant.search import Budget, Objective

    reports.check_folder(out)
    recipe = {
        "preprocessing": preprocessing, "augmentation": augmentation, "batch_size": batch_size, "precision": precision,
    }  # fmt: skip
    start = time.monotonic()
    with Bar("trainings", quiet=json or not errors.is_terminal) as bar:

        def show(state: "Progress") -> None:
            bar.update(state.finished, state.total, state.outcome.cohort[0].scheme.label)

        def say(sample: "Sample") -> None:
            _say_sample(sample, (*Budget(budget or "").names, *Objective(objective).expression.names))

        done = compression.compress(
            model, scheme, data=data, store=store or f"{out}-store", align=align, budget=budget, objective=objective,
            method=method, samples=samples, restore_until=restore_until, seed=seed, refuse_skipped=skipped == "refuse",
            root=root, recipe=recipe, progress=show, report=None if json else say,
        )  # fmt: skip
    if not json:
        _say(done)
    written = compression.write(done, out, formats=formats, command=["remnant", *sys.argv[1:]])
    if json:
        print_json({"files": {name: str(path) for name, path in written.items()}, **compression.describe(done)})
    else:
        _say_files(written, time.monotonic() - start)
    found = done.search
    kept = found is None or (found.reachable and found.confirmed)
    mixed = done.restoration
    kept = kept and (mixed is None or (mixed.reached and not mixed.dense_again))
    if not kept:
        raise SystemExit(1)


def _say_sample(sample: "Sample", names: Sequence[str]) -> None:
    """One line for each strength that was tried: what the budget and the objective are about."""
    if sample.refused:
        errors.print(f"  {sample.value:<8g} refused: {escape(sample.refused)}", highlight=False)
        return
    shown = {name: sample.measures[name] for name in dict.fromkeys(("accuracy", *names))}
    text = ", ".join(f"{name} {_quantity(name, value)}" for name, value in shown.items())
    errors.print(f"  {sample.value:<8g} {'keeps' if sample.holds else 'breaks'} the budget: {text}", highlight=False)


def _say(done: "Compression") -> None:
    """What came out, as a table of both models."""
    from remnant.compression import summary
    from remnant.report.labels import scheme_name

    if done.search is not None:
        console.print(escape(done.search.reason), highlight=False)
    if done.restoration is not None:
        _say_restored(done.restoration)
    for one in done.skipped:
        console.print(f"[yellow]left as it is[/yellow] {escape(one)}", highlight=False)
    found, cost = summary(done), done.footprint
    dense, compressed = cost["dense"], cost["compressed"]
    table = Table("", "dense", scheme_name(done.trial.scheme.label), box=None)
    table.add_row("accuracy", f"{found['dense_accuracy']:.2%}", f"{found['accuracy']:.2%}")
    table.add_row("answers that changed (CIE)", "", f"{found['cie']:.0f} of {found['examples']:.0f}")
    table.add_row("right answers lost (CIE-U)", "", f"{found['cie_u']:.0f} of {found['examples']:.0f}")
    table.add_row("weights that are not 0", f"{dense['nonzeros']:,}", f"{compressed['nonzeros']:,}")
    table.add_row("operations per example", f"{dense['flops']:,}", f"{compressed['flops']:,}")
    console.print(table)


def _say_files(written: dict[str, Path], seconds: float) -> None:
    """Where the model and the report are."""
    files = [name for name in written if name.startswith("model.")]
    named = f"{', '.join(files)} {'is' if len(files) == 1 else 'are'}"
    folder = escape(str(written["manifest.json"].parent.resolve()))
    console.print(f"{named} in [bold]{folder}[/bold] ({duration(seconds)}).", soft_wrap=True)
    reports.say_where(written)


def _say_restored(found: "Restoration") -> None:
    """Which layers were given back, and what that did on the examples that chose them and on the others."""
    what = (
        "The limit held already: no layer was restored." if not found.layers else "Restored: " + ", ".join(found.layers)
    )
    if found.dense_again:
        what += "\n[yellow]Every layer is that of the dense model again: nothing is compressed.[/yellow]"
    if not found.reached:
        what = f"[yellow]The limit was not reached[/yellow]. {escape(what)}"
    low, high = found.held_out_interval
    console.print(
        f"{what}\n{found.before:.2%} became {found.selected:.2%} on the half of the test examples that chose, "
        f"{found.held_out_before:.2%} became {found.held_out:.2%} ({low:.2%} to {high:.2%}) on the other half.",
        highlight=False,
    )


def _quantity(name: str, value: float) -> str:
    from remnant.search.quantities import QUANTITIES

    share = name in QUANTITIES and QUANTITIES[name].unit == "share"
    return f"{value:.2%}" if share else f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
