"""What a study will cost and how certain it will be: `remnant plan`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from remnant.cli.terminal import Data, Json, Workers, console, duration, print_json

if TYPE_CHECKING:
    from remnant.planner import Forecast, Reached

_TARGETS = {
    "standard_error": "worst standard error of influence <= {0.standard_error:g}",
    "power": "an influence of {0.effect:g} found with probability {0.power:g}",
    "false_pairs": "at most {0.false_pairs:g} false pairs of one class expected",
    "never_out": "every training example expected in and out of some subset",
}
_STORE = "Folder or URL with finished trials of the study, to measure on and to judge."


def plan(
    study: Annotated[Positional[Path], arg(help="TOML file with the recipe, schemes, seeds and subsets.")],
    *,
    store: Annotated[str | None, arg(help=_STORE)] = None,
    trials: Annotated[int | None, arg(help="Number of random subsets; default the study's.")] = None,
    threshold: Annotated[float, arg(help="Influence from which on a pair counts.")] = 0.15,
    effect: Annotated[float, arg(help="A true influence that should not be missed.")] = 0.3,
    false_pairs: Annotated[float, arg(help="Expected number of false pairs that you accept.")] = 1.0,
    standard_error: Annotated[float, arg(help="Largest standard error of an influence that you accept.")] = 0.05,
    false_discovery: Annotated[float, arg(help="Share of false pairs among those found that you accept.")] = 0.05,
    accuracy: Annotated[float | None, arg(help="Expected test accuracy, if no trial is finished.")] = None,
    rate: Annotated[float | None, arg(help="Seconds of one training, if no trial is finished.")] = None,
    sizes: Annotated[
        tuple[int, int, int] | None, arg(help="Training examples, test examples and classes, if the data are not here.")
    ] = None,
    measure: Annotated[bool, arg(help='Train two trials into the store (default "runs") and measure on them.')] = False,
    workers: Workers = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Predict standard errors, false pairs, time and disk of a study before anything is trained.

    With a store of some finished trials: the certainty reached so far, and how many more trials the target takes.
    """
    from remnant import planner
    from remnant.store import Store
    from remnant.study import read

    asked = read(study)
    shelf = Store(store or "runs") if store or measure else None
    if measure and shelf is not None:
        planner.measure(asked, shelf, root=data)
    target = planner.Target(
        threshold, effect, false_pairs=false_pairs, standard_error=standard_error, false_discovery=false_discovery
    )
    forecast = planner.plan_study(
        asked,
        store=shelf,
        target=target,
        trials=trials,
        accuracy=accuracy,
        rate=rate,
        sizes=None if sizes is None else planner.Sizes(*sizes),
        workers=os.cpu_count() or 1 if workers is None else workers,
        root=data,
    )
    if json:
        print_json(forecast.to_dict())
        return
    _show_costs(forecast)
    _show_certainty(forecast)
    _show_needed(forecast)
    if forecast.reached is not None:
        _show_reached(forecast.reached, forecast)


def _show_costs(forecast: "Forecast") -> None:
    table = Table("scheme", box=None, title="Cost", title_justify="left", title_style="bold")
    for name in ("trials", "finished", "each", "left, one worker", "disk each"):
        table.add_column(name, justify="right")
    for cost in forecast.costs:
        each = "not known" if cost.seconds is None else duration(cost.seconds)
        left = "not known" if cost.seconds_left is None else _long(cost.seconds_left)
        mark = "" if cost.measured else "*"
        table.add_row(
            escape(cost.scheme), f"{cost.trials:,}", f"{cost.finished:,}", each + mark, left, _size(cost.bytes) + mark
        )
    console.print(table)
    if any(not cost.measured for cost in forecast.costs):
        console.print("[dim]* not measured on finished trials of this scheme[/dim]", highlight=False)
    if forecast.sizes.weights is None:
        console.print("[dim]disk without the models' weights, whose size is not known[/dim]", highlight=False)
    time = "not known: give --rate SECONDS, or --measure" if forecast.seconds is None else _long(forecast.seconds)
    workers = f"{forecast.workers} worker" + ("s" if forecast.workers > 1 else "")
    console.print(
        f"{forecast.trials:,} trials, {forecast.finished:,} finished. Time left on {workers}: [bold]{time}[/bold]. "
        f"Disk in all: [bold]{_size(forecast.bytes)}[/bold].\n",
        highlight=False,
    )


def _show_certainty(forecast: "Forecast") -> None:
    found = forecast.certainty
    if found is None:
        console.print("The study has no random training subsets: no memorization, no influence. Add --trials N.")
        return
    title = f'Certainty of {found.trials:,} subsets ("{forecast.design}", {forecast.fraction:.0%})'
    table = Table("what", box=None, title=title, title_justify="left", title_style="bold")
    table.add_column("expected", justify="right")
    table.add_column("worst", justify="right")
    target = forecast.target
    table.add_row(
        "standard error of an influence", f"{found.influence_error:.3f}", f"{found.worst_influence_error:.3f}"
    )
    own = f"{found.memorization_error:.3f}", f"{found.worst_memorization_error:.3f}"
    table.add_row("standard error of memorization", *own)
    table.add_row(f"false pairs of one class, influence >= {target.threshold:g}", _number(found.false_pairs), "")
    table.add_row(f"chance to find an influence of {target.effect:g}", "", f"{found.power:.3f}")
    table.add_row("training examples in no subset", _number(found.never_in), "")
    table.add_row("training examples in all subsets", _number(found.never_out), "")
    console.print(table)
    mean = f"mean {forecast.accuracy.mean:.3f}, concentration {forecast.accuracy.concentration:.2f}"
    console.print(f"[dim]accuracy of test examples: {mean} ({forecast.accuracy_from})[/dim]\n", highlight=False)


def _show_needed(forecast: "Forecast") -> None:
    if forecast.needed is None:
        return
    table = Table("target", box=None, title="Subsets needed", title_justify="left", title_style="bold")
    table.add_column("subsets", justify="right")
    for name, number in forecast.needed.items():
        table.add_row(_TARGETS[name].format(forecast.target), _needed(number))
    console.print(table, "")


def _show_reached(found: "Reached", forecast: "Forecast") -> None:
    target = forecast.target
    table = Table("what", box=None, title=f"Reached with {found.trials:,} subsets", title_justify="left")
    table.title_style = "bold"
    table.add_column("now", justify="right")
    table.add_row("mean standard error of an influence without effect", f"{found.influence_error:.3f}")
    table.add_row("mean standard error of memorization", f"{found.memorization_error:.3f}")
    table.add_row("memorized training examples", f"{found.memorized:,}")
    table.add_row(f"their pairs of one class with influence >= {target.threshold:g}", f"{found.pairs:,}")
    table.add_row("of these expected by chance", _number(found.by_chance))
    if found.pairs:
        table.add_row("false discovery rate", f"{found.false_discovery:.3f}")
    console.print(table)
    goal = f"a false discovery rate of {target.false_discovery:g}"
    if found.pairs and found.false_discovery <= target.false_discovery:
        console.print(f"[bold]Enough[/bold] for {goal}.", highlight=False)
    elif found.needed is None:
        console.print(f"No number of subsets up to 100,000 is expected to give {goal}.", highlight=False)
    else:
        more = max(found.needed - found.trials, 1)
        console.print(
            f"For {goal}: about [bold]{more:,} more[/bold] subsets, {found.needed:,} in all.", highlight=False
        )


def _needed(number: int | None) -> str:
    return "more than 100,000" if number is None else f"{number:,}"


def _number(value: float) -> str:
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _long(seconds: float) -> str:
    if seconds < 3600:
        return duration(seconds)
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
