"""Commands on populations that remnant trains: demo, run, audit, list, doctor."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from remnant.cli import reports
from remnant.cli.reports import Out
from remnant.cli.terminal import Bar, Data, Json, StoreRoot, Workers, console, duration, errors, print_json

if TYPE_CHECKING:
    from remnant.analyses import Outlook
    from remnant.engine import Engine
    from remnant.probes import Probe
    from remnant.store import Store
    from remnant.trial import Trial

EngineName = Annotated[str, arg(help='"processes", "ray" (a cluster) or "serial" (for debugging).')]
Address = Annotated[
    str | None,
    arg(
        help='Of the Ray cluster: "auto" on one of its machines, "HOST:6379", or "ray://HOST:10001" from outside. '
        "Default: RAY_ADDRESS, else a cluster on this machine."
    ),
]
Gpus = Annotated[float, arg(help="GPUs for each cohort with Ray, such as 0.25 for four that share one.")]


def demo(
    out: Annotated[Path, arg(help="Folder for the store and the report.")] = Path("remnant-demo"),
    *,
    workers: Workers = None,
) -> None:
    """Run the whole main job on embedded data and write a report. Needs no download.

    Trains 20 digit classifiers, prunes and quantizes them, trains 200 more on random subsets of the
    training data, and reports what compression made them forget. About a minute on two cores.
    """
    study = Path(str(files("remnant").joinpath("studies/demo.toml")))
    run(study, store=str(out / "store"), workers=workers)
    audit(str(out / "store"), out=out / "report")


def run(
    study: Annotated[Positional[Path], arg(help="TOML file with the recipe, schemes, seeds and subsets.")],
    *,
    store: StoreRoot = "runs",
    engine: EngineName = "processes",
    address: Address = None,
    gpus: Gpus = 0.0,
    workers: Workers = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Train and compress what a study asks for and the store does not hold yet.

    Can be interrupted at any moment: the same command continues, and nothing finished is computed twice.
    """
    from remnant import execute
    from remnant.store import Store
    from remnant.study import read

    plan = read(study)
    trials = plan.trials()
    shelf = Store(store)
    where = _engine(engine, workers, address=address, gpus=gpus)
    start = time.monotonic()
    with Bar("trials", quiet=json) as bar, redirect_stdout(sys.stderr):

        def show(state: execute.Progress) -> None:
            accuracy = "failed" if state.accuracy is None else f"accuracy {100 * state.accuracy:.1f} %"
            label = state.outcome.cohort[0].scheme.label
            bar.update(state.finished, state.total, f"{label}, {accuracy}")

        newly = execute.run(trials, shelf, engine=where, root=data, progress=show)
    seconds = time.monotonic() - start
    if not json:
        console.print(f"{newly} trials finished in {duration(seconds)}; they are in [bold]{escape(store)}[/bold].")
    measured = _measure(trials, plan.probes, shelf, engine=where, data=data, quiet=json)
    if json:
        seconds = time.monotonic() - start
        print_json({"store": store, "finished": newly, "measured": measured, "seconds": seconds})


def probe(
    store: Annotated[Positional[str], arg(help="Folder or URL of a store that `remnant run` filled.")],
    kinds: Annotated[
        Positional[tuple[str, ...]], arg(help="What to measure: `remnant list probes`; default all.")
    ] = (),
    *,
    schemes: Annotated[tuple[str, ...], arg(help="Only trials of these schemes, by label; default all.")] = (),
    examples: Annotated[str, arg(help='So many examples, or "all"; default that of each probe.')] = "",
    engine: EngineName = "processes",
    address: Address = None,
    gpus: Gpus = 0.0,
    workers: Workers = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Measure on finished trials what their logits do not tell: features, attributions, distances, robustness.

    Needs the data set. Can be interrupted at any moment: the same command continues. Settings beyond the number
    of examples are given in a study (`probes = [...]`).
    """
    from dataclasses import replace

    from remnant import probes as catalogue
    from remnant.registry import names
    from remnant.registry import unknown as unknown_name
    from remnant.store import MissingError, Store

    shelf = Store(store)
    trials = shelf.trials()
    if not trials:
        raise MissingError(f"The store {store!r} holds no finished trial. Run a study first: `remnant run`.")
    labels = list(dict.fromkeys(trial.scheme.label for trial in trials))
    if wrong := [name for name in schemes if name not in labels]:
        raise unknown_name("schemes", wrong[0], labels)
    chosen = [catalogue.from_dict(kind) for kind in kinds or names("probe", catalogue.PROBES)]
    if examples:
        if examples != "all" and not (examples.isdigit() and int(examples) >= 1):
            raise ValueError(f'Expected `examples` to be a number >= 1 or "all", but got {examples!r}.')
        chosen = [replace(one, examples=None if examples == "all" else int(examples)) for one in chosen]
    wanted = [trial for trial in trials if not schemes or trial.scheme.label in schemes]
    where = _engine(engine, workers, address=address, gpus=gpus)
    start = time.monotonic()
    measured = _measure(wanted, chosen, shelf, engine=where, data=data, quiet=json)
    if json:
        print_json({"store": store, "measured": measured, "seconds": time.monotonic() - start})


def _engine(name: str, workers: int | None, *, address: str | None, gpus: float) -> "Engine":
    from remnant.engine import engine

    options = {option: value for option, value in (("address", address), ("gpus", gpus)) if value}
    return engine(name, workers=workers, **options)


def _measure(
    trials: "Sequence[Trial]",
    probes: "Sequence[Probe]",
    store: "Store",
    *,
    engine: "Engine",
    data: str | None,
    quiet: bool,
) -> int:
    from remnant import execute

    if not probes:
        return 0
    start = time.monotonic()
    with Bar("measurements", quiet=quiet) as bar, redirect_stdout(sys.stderr):

        def show(state: execute.Progress) -> None:
            trial, part = state.outcome.cohort[0]
            failed = ", failed" if state.outcome.error else ""
            bar.update(state.finished, state.total, f"{part.kind}, {trial.scheme.label}{failed}")

        measured = execute.probe(trials, probes, store, engine=engine, root=data, progress=show)
    if not quiet:
        took = duration(time.monotonic() - start)
        console.print(f"{measured} measurements in {took}; they are in [bold]{escape(store.root)}[/bold].")
    return measured


def audit(
    store: Annotated[Positional[str], arg(help="Folder or URL of a store that `remnant run` filled.")],
    *,
    out: Out = Path("report"),
    only: Annotated[tuple[str, ...], arg(help="Only these analyses; default all that the population allows.")] = (),
    skip: Annotated[tuple[str, ...], arg(help="All but these analyses.")] = (),
    json: Json = False,
) -> None:
    """Ask a population every question that it allows, and write a report.

    Writes report.html, report.md, report.json, tables and manifest.json.
    """
    from remnant import analyses as questions
    from remnant import population
    from remnant.report.characters import visible
    from remnant.report.prose import plain
    from remnant.report.summary import answers
    from remnant.store import Store

    shelf = Store(store)
    reports.check_folder(out)
    start = time.monotonic()
    people = population.load(shelf, damaged="skip")
    planned = questions.outlook(people, only or None, skip=skip)
    if not json:
        _say_plan(planned)
    with Bar("analyses", quiet=json) as bar:
        result = questions.audit(people, only or None, skip=skip, progress=bar.update)
    written = reports.write(result, out, thumbnails=population.thumbnails(shelf, people))
    if json:
        reports.print_paths(written)
        return
    for key, fault in people.attrs["damaged"].items():
        errors.print(f"[yellow]left out[/yellow] {escape(visible(key))}: {escape(visible(fault))}")
    _say_not_run(result.not_run, but=planned.not_run)
    console.print(f"{len(result.findings)} findings in {duration(time.monotonic() - start)}.")
    for answer in answers(result):
        console.print(f"[bold]{escape(answer.question)}[/bold] {escape(visible(plain(answer.lead)))}", highlight=False)
    reports.say_where(written)


def _say_plan(planned: "Outlook") -> None:
    """What an audit will ask and for how long, and what it cannot ask."""
    shortest = 1.0
    known = {name: seconds for name, seconds in planned.seconds.items() if seconds is not None}
    long = [f"{name} {duration(s)}" for name, s in sorted(known.items(), key=lambda i: -i[1]) if s >= shortest]
    expected = f", about {duration(planned.total)}" if known else ""
    longest = f" (longest: {', '.join(long[:3])})" if len(long) > 1 else ""
    console.print(f"asking {len(planned.seconds)} questions{expected}{longest}: {', '.join(planned.seconds)}")
    _say_not_run(planned.not_run)


def _say_not_run(not_run: Mapping[str, str], but: Mapping[str, str] | None = None) -> None:
    """Which analyses were not run and why, those with one reason together."""
    told = {name: reason for name, reason in not_run.items() if name not in (but or {})}
    for reason in dict.fromkeys(told.values()):
        names = ", ".join(name for name, other in told.items() if other == reason)
        console.print(f"[dim]not run: {names}: {escape(reason)}[/dim]", highlight=False)


def list_names(
    kind: Annotated[
        Positional[
            Literal["all", "analyses", "architectures", "codecs", "datasets", "engines", "probes", "recipes", "schemes"]
        ],
        arg(help="What to list."),
    ] = "all",
    *,
    json: Json = False,
) -> None:
    """List the analyses, architectures, codecs, data sets, engines, probes, recipes and schemes that can be named."""
    catalogue = _catalogue()
    chosen = catalogue if kind == "all" else {kind: catalogue[kind]}
    if json:
        print_json(chosen)
        return
    for title, entries in chosen.items():
        table = Table("name", "what it is", title=title, title_justify="left", title_style="bold", box=None)
        for name, text in entries.items():
            table.add_row(escape(name), escape(text))
        console.print(table, "")


def doctor(*, json: Json = False) -> None:
    """Show what this machine has: cores, memory, bfloat16, GPU, versions and optional extras."""
    from remnant.lab.doctor import examine

    facts = examine()
    if json:
        print_json(facts)
        return
    table = Table("what", "found", box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(str(value)))
    console.print(table)


def _catalogue() -> dict[str, dict[str, str]]:
    from remnant.analyses import ANALYSES, analysis
    from remnant.codecs import CODECS
    from remnant.engine import ENGINES
    from remnant.lab.data import DATASETS
    from remnant.lab.models import ARCHITECTURES
    from remnant.probes import PROBES, probe_type
    from remnant.recipes import RECIPES
    from remnant.registry import find, names
    from remnant.schemes import SCHEMES

    def first_line(thing: Any) -> str:
        return (thing.__doc__ or "").strip().split("\n")[0]

    return {
        "analyses": {name: analysis(name).question for name in names("analysis", ANALYSES)},
        "architectures": dict(ARCHITECTURES),
        "codecs": {name: first_line(find("codec", name, CODECS)) for name in names("codec", CODECS)},
        "datasets": dict(DATASETS),
        "engines": {name: first_line(import_module(ENGINES[name].partition(":")[0])) for name in ENGINES},
        "probes": {name: first_line(probe_type(name)) for name in names("probe", PROBES)},
        "recipes": {n: f"{r.architecture} on {r.dataset}" for n, r in RECIPES.items()},
        "schemes": {name: first_line(find("scheme", name, SCHEMES)) for name in names("scheme", SCHEMES)},
    }
