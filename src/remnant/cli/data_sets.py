"""Commands on data sets: data encode, data decode, data select."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from remnant.cli.terminal import Bar, Data, Json, Workers, console, duration, errors, print_json


def encode(
    dataset: Annotated[Positional[str], arg(help='Data set, such as "cifar10" or "imagefolder:DIR".')],
    out: Annotated[Positional[Path], arg(help="File to write.")],
    *,
    codec: Annotated[str, arg(help='How images are compressed: "jpeg(quality=50)"; `remnant list codecs`.')] = (
        "jpeg(quality=75)"
    ),
    workers: Annotated[int | None, arg(help="Threads; default one per core.")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write a data set into one compact file with checksums, which recipes read as container:FILE."""
    from remnant.codecs import parse
    from remnant.codecs.container import open_container
    from remnant.lab.containers import write_dataset
    from remnant.lab.data import load

    chosen = parse(codec)
    with Bar("images", quiet=json) as bar:
        dataset_ = load(dataset, data)
        write_dataset(
            dataset_, out, chosen, workers=workers, progress=lambda done, total: bar.update(done, total, chosen.label)
        )
    size = open_container(out).size()
    if json:
        print_json({"file": str(out), "codec": chosen.label, **size.to_dict()})
        return
    table = Table("bytes", "an image", "of uint8", "of float32", box=None)
    table.add_row(f"{size.bytes:,}", f"{size.per_image:,.1f}", f"{size.uint8_share:.2%}", f"{size.float32_share:.2%}")
    console.print(f"{escape(chosen.label)}; sizes are those of the whole file ({escape(size.accounting)}).")
    console.print(table)
    console.print(f"Train on it with the data set [bold]container:{escape(str(out))}[/bold].", soft_wrap=True)


def decode(
    file: Annotated[Positional[Path], arg(help="File that `remnant data encode` wrote.")],
    out: Annotated[Positional[Path], arg(help="NumPy archive to write, which recipes read as arrays:FILE.npz.")],
    *,
    partial: Annotated[bool, arg(help="Leave damaged examples out instead of stopping at them.")] = False,
    json: Json = False,
) -> None:
    """Write the images of a compact file as arrays."""
    import numpy as np

    from remnant.codecs.container import open_container

    container = open_container(file, partial=partial)
    damaged = np.isin(container.ids, list(container.damaged())) if partial else np.zeros(len(container.ids), bool)
    if damaged.any():
        container = container.take(np.flatnonzero(~damaged))
    arrays: dict[str, Any] = {"classes": np.array(container.classes)} if container.classes else {}
    for name in np.unique(container.splits).tolist():
        part, key = container.split(name), name or "train"
        arrays |= {f"{key}_images": part.batch(np.arange(len(part))), f"{key}_ids": part.ids}
        arrays |= {f"{key}_labels": part.labels} if part.labels is not None else {}
        arrays |= {f"{key}_{column}": values for column, values in part.groups.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as stream:
        np.savez(stream, **arrays)
    if json:
        print_json({"file": str(out), "images": int((~damaged).sum()), "left_out": int(damaged.sum())})
        return
    if damaged.any():
        errors.print(f"[yellow]left out[/yellow] {damaged.sum():,} damaged examples.", highlight=False)
    console.print(f"{(~damaged).sum():,} images are in [bold]{escape(str(out))}[/bold].", soft_wrap=True)


def select(
    store: Annotated[Positional[str], arg(help="Store of the model's trials; may be empty with --recipe.")],
    *,
    method: Annotated[
        str | None, arg(help='"random", or a score and a rule, such as "forgetting-hard" or "margin-hybrid".')
    ] = None,
    share: Annotated[float | None, arg(help="Share of the training examples to keep, in (0, 1].")] = None,
    max_drop: Annotated[str | None, arg(help='Instead: the smallest share that costs at most, say, "2pt".')] = None,
    out: Annotated[Path, arg(help="File for the ids: .json with their origin, or .txt with one id a line.")] = Path(
        "ids.json"
    ),
    ids: Annotated[Path | None, arg(help="Take the ids from a file (.txt or .json) instead of choosing them.")] = None,
    recipe: Annotated[str | None, arg(help="Name of the recipe; default that of the store's trials.")] = None,
    balance: Literal["none", "proportional", "equal"] = "none",
    floor: Annotated[int, arg(help="Every class keeps at least so many examples.")] = 1,
    cutoff: Annotated[float, arg(help="Share of the hardest that the rule 'stratified' drops.")] = 0.1,
    seeds: Annotated[int, arg(help="Models for each share that --max-drop tries.")] = 5,
    workers: Workers = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Choose the training examples to keep, save their ids, and print the scheme that trains on them."""
    from remnant import sufficient
    from remnant.gates.units import parse as amount
    from remnant.lab.selection import read
    from remnant.recipes import recipe as preset
    from remnant.store import Store

    if [share, max_drop, ids].count(None) != 2:
        raise ValueError("Expected one of `--share`, `--max-drop` and `--ids`.")
    if ids is None and method is None:
        raise ValueError(f"Expected `--method`, such as one of {[*sufficient.SCORES, 'random']}.")
    rule = method or ""
    shelf, found = Store(store), None
    drop = 0.0 if max_drop is None else amount(max_drop, "share", "max-drop")
    chosen_recipe = sufficient.recipe_of(shelf, preset(recipe) if recipe else None)
    options = {"balance": balance, "floor": floor, "cutoff": cutoff}
    start = time.monotonic()
    with Bar("trainings", quiet=json) as bar:
        computing = sufficient.Computing(data, workers=workers, progress=bar.update)
        if ids is not None:
            chosen = read(ids, sufficient.examples_of(shelf, chosen_recipe, data))
            chosen.publish(shelf)
        elif share is not None:
            chosen = sufficient.choose(shelf, rule, share, recipe=chosen_recipe, computing=computing, **options)
        else:
            found = sufficient.search(
                shelf, rule, drop=drop, seeds=range(seeds), recipe=chosen_recipe, computing=computing, **options
            )
            chosen = found.selection
    if chosen is None:
        raise ValueError(f"No smaller share keeps the accuracy within {100 * drop:g} points: all examples are needed.")
    chosen.write(out)
    if json:
        print_json({"out": str(out), "key": chosen.key, "share": chosen.share, "examples": len(chosen.lists[0])})
        return
    seconds = duration(time.monotonic() - start)
    console.print(
        f"{len(chosen.lists[0]):,} of {chosen.num_train_examples:,} training examples are in "
        f"[bold]{escape(str(out))}[/bold] ({seconds}).",
        soft_wrap=True,
    )
    if found is not None:
        low, high = float(found.share.low), float(found.share.high)
        console.print(
            f"Accuracy falls by {100 * drop:g} points at a share of {float(found.share.estimate):.1%} (95 % interval "
            f"{low:.1%} to {high:.1%}); on test examples that the search did not read, this choice changes it by "
            f"{100 * float(found.change.estimate):.2f} points."
        )
    scheme = chosen.scheme
    console.print(
        f'Train on them: schemes = [{{ kind = "{scheme.kind}", method = "{scheme.method}", share = {scheme.share}, '
        f'selection = "{scheme.selection}" }}]',
        markup=False,
        soft_wrap=True,
    )
