"""Audits made by hand, for tests of reports."""

import numpy as np
import pandas as pd

from remnant.finding import Analysis, Audit, Claim, Exhibit, Finding

PRUNED = "magnitude-pruning(sparsity=0.9)"
CLASSES = ("cat", "dog", "<script>alert('x')</script>", "a | b & c")


def claim(quantity: str, subject: str, estimate: float, *interval: float, scale: str = "count") -> Claim:
    """A claim with or without an interval."""
    low, high = interval or (None, None)
    return Claim(
        quantity, subject, estimate, low, high, 200, "example", "by hand, no interval", "hooker2019what, eq. 1", scale
    )


def audit(schemes: tuple[str, ...] = (PRUNED, "float16", "static-int8"), *, rows: int = 40) -> Audit:
    """An audit whose schemes do less harm the later they come; the last is within chance."""
    labels = ("dense", *schemes)
    findings = (_mismatches(schemes), _exemplars(schemes, rows), _classes(labels))
    about = {
        "dataset": "by hand <b>",
        "recipe": "cnn, 10 epochs",
        "num_examples": 200,
        "num_train_examples": 60_000,
        "num_classes": len(CLASSES),
        "classes": list(CLASSES),
        "schemes": {label: {"whole": 8, "subsets": 0} for label in labels},
        "versions": {"remnant": "0.1.0", "numpy": "2.0"},
        "machine": "2 cores",
    }
    return Audit(findings, {"influence": "The population has no `included`: no trial trained on a subset."}, about)


def thumbnails(split: str, ids) -> dict[str, np.ndarray]:
    """A picture for every even id, colour for test and grey for train examples."""
    shape = (12, 12, 3) if split == "test" else (12, 12)
    numbers = {name: int(name[-5:]) for name in ids}
    return {
        name: np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)
        for name, number in numbers.items()
        if number % 2 == 0
    }


def plot(finding: Finding):
    """A line and points, as an analysis would draw them."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    values = finding.to_frame().select_dtypes("number").iloc[:, 0].to_numpy(float)
    axes.plot(np.arange(len(values)), values, label="PIEs")
    axes.scatter(np.arange(len(values)), values, color="0.4")
    axes.axhline(0, color="black")
    axes.set_xlabel("row")
    axes.set_ylabel("count")
    axes.legend()
    return axes


def analysis(name: str) -> Analysis:
    """An analysis that can only draw; stands for `remnant.analyses.analysis` in tests."""
    return Analysis(name, "What?", lambda population: None, plot, (), ())  # pyright: ignore[reportArgumentType]


def _mismatches(schemes: tuple[str, ...]) -> Finding:
    claims = []
    for place, label in enumerate(schemes):
        size = 1 / (1 + place)
        claims += [
            claim("cie_rate", label, 0.1234 * size, 0.11 * size, 0.14 * size, scale="share"),
            claim("cie_u_rate", label, 0.0717 * size, 0.06 * size, 0.08 * size, scale="share"),
            claim("cie_c_rate", label, 0.0504 * size, 0.04 * size, 0.06 * size, scale="share"),
            claim("net_accuracy_change", label, -0.0213 * size, -0.03 * size, -0.01 * size, scale="share"),
        ]
    claims.append(claim("cie_rate_null", "dense", 0.0456, 0.04, 0.05, scale="share"))
    table = pd.DataFrame(
        {
            "scheme": schemes,
            "cie_rate": [0.1234 / (1 + i) for i in range(len(schemes))],
            "kl_divergence": [0.012 / (1 + i) for i in range(len(schemes))],
            "mcnemar_p": [3e-7, *[0.5] * (len(schemes) - 1)],
        }
    )
    return Finding("mismatches", "Which answers change?", {"pairs": "same seed"}, tuple(claims), {"mismatches": table})


def _exemplars(schemes: tuple[str, ...], rows: int) -> Finding:
    claims = []
    for place, label in enumerate(schemes):
        excess = 40.5 - 20 * place
        claims += [
            claim("pie_count", label, 60 - 20 * place),
            claim("pie_count_null", label, 19.5),
            claim("pie_excess", label, excess, excess - 5, excess + 5),
            claim("pie_count_p", label, 0.00001 if place == 0 else 0.02 * place, scale="p"),
            claim("accuracy_pie", label, 0.4321, scale="share"),
            claim("accuracy_all", label, 0.9321 - place / 100, scale="share"),
        ]
    table = pd.DataFrame(
        {
            "example": [f"test-{i:05}" for i in range(rows)],
            "dense_modal": [CLASSES[i % 4] for i in range(rows)],
            "margin": [np.nan if i % 7 == 0 else i / 3 for i in range(rows)],
            "q": [1 / (1 + i) for i in range(rows)],
        }
    )
    plates = tuple(
        Exhibit("test", f"test-{i:05}", (f"true: {CLASSES[i % 4]}", "dense: cat", "pruned: dog"), float(i))
        for i in range(15)
    )
    pairs = tuple(
        Exhibit("test", f"test-{i:05}", ("true: cat",), 0.5, Exhibit("train", f"train-{i:05}", ("influence: 0.41",)))
        for i in range(3)
    )
    return Finding(
        "exemplars",
        "Which examples does the compressed population answer differently?",
        {"ties": "lowest", "permutations": 1000},
        tuple(claims),
        {"exemplars": table, "by_scheme": pd.DataFrame({"scheme": schemes, "ties": [None, *[1] * (len(schemes) - 1)]})},
        caveats=(f"Few seeds under {PRUNED}.",),
        galleries={f"PIEs of {schemes[0]}": plates, "Pairs": pairs, "None": ()},
        cites=("hooker2019what",),
    )


def _classes(labels: tuple[str, ...]) -> Finding:
    compressed = labels[1:]
    claims = []
    for label in compressed:
        claims += [
            claim("worst_class_change", label, -0.05, -0.08, -0.02, scale="share"),
            claim("significant_classes", label, 2),
            claim("significant_classes_chance", label, 0.2),
            claim("significant_classes_q", label, 0),
        ]
    table = pd.DataFrame(
        [(label, name, 0.9 - i / 100, -0.05 + i / 50) for label in compressed for i, name in enumerate(CLASSES)],
        columns=["scheme", "class", "recall", "change"],
    )
    return Finding(
        "classes", "Which classes pay?", {}, tuple(claims), {"classes": table}, cites=("welch1947generalization",)
    )
