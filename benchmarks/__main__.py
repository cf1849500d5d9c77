"""Run the benchmarks and write benchmarks/results.json: python -m benchmarks [NAME ...]."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import codecs, coefficients, corruptions, everyday, files, influence, large, pairs, training
from benchmarks.row import Row
from remnant.engine import num_cores

RESULTS = Path(__file__).with_name("results.json")

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "import": everyday.importing,
    "demo": everyday.demo,
    "audit": everyday.audit,
    "compare": pairs.compare,
    "large": large.population,
    "training": training.training,
    "influence": influence.influences,
    "influence-imagenet": influence.imagenet,
    "files": files.files,
    "corruptions": corruptions.corrupting,
    "codecs": codecs.coding,
    "container": codecs.container,
    "coefficients": coefficients.extraction,
    "coefficient-learning": coefficients.learning,
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"Expected benchmarks among {sorted(BENCHMARKS)}, but got {unknown}.")
    kept = {row["name"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    table = Table("name", "ours", "baseline", "ratio", "goal", "met", box=None)
    for name in names or BENCHMARKS:
        for row in BENCHMARKS[name]():
            kept[row.name] = row.to_dict() | {"machine": _machine(), "commit": _commit()}
            ours, baseline, ratio, goal, met = row.cells()
            table.add_row(row.name, ours, baseline, ratio, goal, met)
    RESULTS.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    Console().print(table)


def _machine() -> str:
    cpu = next((li for li in Path("/proc/cpuinfo").read_text().splitlines() if li.startswith("model name")), "")
    cores = num_cores()
    return f"{cpu.partition(':')[2].strip() or platform.processor()}, {cores} cores, Python {platform.python_version()}"


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
