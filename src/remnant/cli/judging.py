"""Commands on finished reports: gate and verify."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional, arg

from remnant.cli.terminal import Json, console, errors, print_json

_COLOURS = {"pass": "green", "fail": "red", "could not tell": "yellow"}


def gate(
    report: Annotated[
        Positional[Path],
        arg(metavar="REPORT", help="report.json or its folder, as `remnant compare` or `audit` wrote it."),
    ],
    *,
    limits: Annotated[Path | None, arg(help="TOML file with limits; flags replace what it says.")] = None,
    baseline: Annotated[Path | None, arg(help="Earlier report, for the limits named max-increase-...")] = None,
    strict: Annotated[bool, arg(help="What cannot be told fails.")] = False,
    lenient: Annotated[bool, arg(help="What cannot be told passes.")] = False,
    junit: Annotated[Path | None, arg(help="Write the verdicts as JUnit XML.")] = None,
    sarif: Annotated[Path | None, arg(help="Write the failures as SARIF 2.1.0.")] = None,
    markdown: Annotated[Path | None, arg(help="Write a summary in Markdown.")] = None,
    json: Json = False,
    max_harmful_flips: Annotated[str | None, arg(help='Right answers that become wrong, such as "1%".')] = None,
    max_flips: Annotated[str | None, arg(help='Examples with another answer, such as "3%".')] = None,
    max_accuracy_drop: Annotated[str | None, arg(help='Drop of accuracy, such as "1pt".')] = None,
    equivalence_margin: Annotated[str | None, arg(help='Change of accuracy either way, such as "1pt".')] = None,
    max_worst_class_drop: Annotated[str | None, arg(help="Drop of accuracy of the class that loses most.")] = None,
    max_worst_group_drop: Annotated[str | None, arg(help="Drop of accuracy of the group that loses most.")] = None,
    max_harmed_classes: Annotated[
        str | None, arg(help="Number of classes that lose, at a false-discovery rate of 5 %.")
    ] = None,
    max_harmed_groups: Annotated[
        str | None, arg(help="Number of groups that lose, at a false-discovery rate of 5 %.")
    ] = None,
    max_kl: Annotated[str | None, arg(help="Mean KL divergence in nats.")] = None,
    max_kl_p99: Annotated[str | None, arg(help="99th percentile of the KL divergence in nats.")] = None,
    max_size: Annotated[str | None, arg(help='Size, such as "20MB".')] = None,
    min_size_ratio: Annotated[str | None, arg(help='Times smaller than the reference, such as "3.5x".')] = None,
    min_speedup: Annotated[str | None, arg(help='Times faster than the reference, such as "1.5x".')] = None,
    max_increase_harmful_flips: Annotated[str | None, arg(help="The same as an increase since the baseline.")] = None,
    max_increase_flips: Annotated[str | None, arg(help="The same as an increase since the baseline.")] = None,
    max_increase_accuracy_drop: Annotated[str | None, arg(help="The same as an increase since the baseline.")] = None,
    max_increase_kl: Annotated[str | None, arg(help="The same as an increase since the baseline.")] = None,
    max_increase_size: Annotated[str | None, arg(help="The same as an increase since the baseline.")] = None,
) -> None:
    """Hold a report against limits. Exit code 0: all pass; 1: one fails; 2: none fails, but one cannot be told.

    A limit fails only if the whole 95 % interval lies beyond it, and passes only if the whole interval lies within.
    """
    from remnant import gates
    from remnant.gates.text import visible

    flags = {
        "max_harmful_flips": max_harmful_flips,
        "max_flips": max_flips,
        "max_accuracy_drop": max_accuracy_drop,
        "equivalence_margin": equivalence_margin,
        "max_worst_class_drop": max_worst_class_drop,
        "max_worst_group_drop": max_worst_group_drop,
        "max_harmed_classes": max_harmed_classes,
        "max_harmed_groups": max_harmed_groups,
        "max_kl": max_kl,
        "max_kl_p99": max_kl_p99,
        "max_size": max_size,
        "min_size_ratio": min_size_ratio,
        "min_speedup": min_speedup,
        "max_increase_harmful_flips": max_increase_harmful_flips,
        "max_increase_flips": max_increase_flips,
        "max_increase_accuracy_drop": max_increase_accuracy_drop,
        "max_increase_kl": max_increase_kl,
        "max_increase_size": max_increase_size,
    }
    found = gates.gate(report, limits=limits, baseline=baseline, strict=strict, lenient=lenient, **flags)
    for path, write in ((junit, gates.junit), (sarif, gates.sarif), (markdown, gates.markdown)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = write(found)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if json:
        print_json(found.to_dict())
        raise SystemExit(found.exit_code)
    for warning in found.warnings:
        errors.print(f"[yellow]warning:[/yellow] {escape(visible(warning, 400))}", highlight=False)
    table = Table("", Column("model", overflow="fold"), "limit", "measured", "", box=None)
    for row in gates.rows(found):
        colour = _COLOURS.get(row[0], "")
        table.add_row(f"[{colour}]{escape(row[0])}[/{colour}]" if colour else escape(row[0]), *map(escape, row[1:]))
    console.print(table)
    console.print(escape(gates.headline(found)), highlight=False)
    raise SystemExit(found.exit_code)


def verify(
    report: Annotated[Positional[Path], arg(metavar="REPORT", help="Folder of a report with its manifest.json.")],
    *,
    public_key: Annotated[Path | None, arg(help="Ed25519 public key that the signature must be by.")] = None,
    inputs: Annotated[Path | None, arg(help="Folder with the models and prediction files, to check them too.")] = None,
    json: Json = False,
) -> None:
    """Check that a report, its inputs and remnant are still what manifest.json says. Exit code 1: something changed."""
    from remnant import manifest
    from remnant.gates.text import visible

    found = manifest.verify(report, public_key=public_key, inputs=inputs)
    if json:
        print_json(found.to_dict())
        raise SystemExit(found.exit_code)
    table = Table("", "what", Column("name", overflow="fold"), "", box=None)
    for item in found.items:
        if item.status != "same":
            colour = "red" if item in found.wrong else "green" if item.status == "signed" else "yellow"
            cells = (escape(visible(text)) for text in (item.kind, item.name, item.detail))
            table.add_row(f"[{colour}]{escape(item.status)}[/{colour}]", *cells)
    console.print(table)
    same = Counter(item.kind for item in found.with_status("same"))
    console.print(f"The same: {', '.join(f'{number} x {kind}' for kind, number in same.items()) or 'nothing'}.")
    wrong = len(found.wrong)
    console.print(f"{wrong} of {len(found.items)} changed." if wrong else "Nothing has changed.", highlight=False)
    raise SystemExit(found.exit_code)
