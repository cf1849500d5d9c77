"""The tables of behaviours.md, from the report.json of an audit.

python docs/results/behaviours.py REPORT/report.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from remnant.finding import Audit, format_value

PAPER = {
    "brightness": -7.74,
    "contrast": -10.06,
    "defocus_blur": -10.22,
    "elastic_transform": -7.50,
    "fog": -10.41,
    "glass_blur": -9.83,
    "gaussian_noise": -27.64,
    "impulse_noise": -40.12,
    "jpeg_compression": -7.88,
    "pixelate": -10.51,
    "shot_noise": -29.71,
    "zoom_blur": -14.47,
}
"""Relative top-1 accuracy at 90 % sparsity on ImageNet-C in per cent: table 3 of Hooker et al. (2019)."""


def main(path: str) -> None:
    audit = Audit.from_dict(json.loads(Path(path).read_text()))
    print(consequences(audit), corruptions(audit), attacks(audit), sep="\n\n")


def consequences(audit: Audit) -> str:
    """Verdicts of every scheme on every behaviour."""
    found = audit.finding("consequences")
    assert found is not None
    table = found.to_frame()
    return _markdown([str(name) for name in table.columns], table.to_numpy().tolist())


def corruptions(audit: Audit) -> str:
    """Accuracy relative to the reference on each corruption, mean over severities, beside the paper's."""
    found = audit.finding("corruptions")
    assert found is not None
    table = found.tables["corruptions"]
    schemes = list(dict.fromkeys(table["scheme"]))
    rows = []
    for name in dict.fromkeys(table["corruption"]):
        cells = [str(name)]
        for scheme in schemes:
            row = table[(table["corruption"] == name) & (table["scheme"] == scheme)].iloc[0]
            low, high = (format_value(row[f"top1_relative_{end}"], "share") for end in ("low", "high"))
            cells.append(f"{format_value(row['top1_relative'], 'share')} ({low} to {high})")
        rows.append([*cells, f"{PAPER[name]:.2f} %" if name in PAPER else ""])
    return _markdown(["corruption", *schemes, "Hooker et al., 0.9, ImageNet-C"], rows)


def attacks(audit: Audit) -> str:
    """Claims on accuracy under attack, with transfer both ways."""
    found = audit.finding("adversarial")
    assert found is not None
    rows = [[c.quantity, c.subject, c.detail, c.text()] for c in found.claims]
    return _markdown(["claim", "scheme", "detail", "value"], rows)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1])
