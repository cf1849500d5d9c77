"""The table of the first screen: every scheme with its main claims."""

from collections.abc import Callable
from dataclasses import dataclass

from remnant.finding import Audit, Claim, format_value
from remnant.report.labels import scheme_name
from remnant.report.prose import Name
from remnant.report.summary import Claims, claims_of, level_of, more_than_noise


@dataclass(frozen=True)
class Cell:
    """A cell: a value and, in lines below it, what to hold it against."""

    value: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """Both on one line."""
        return f"{self.value} ({self.note})".replace("\n", ", ") if self.note else self.value


@dataclass(frozen=True)
class Overview:
    """One row for each scheme, the reference first."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Name, tuple[Cell, ...]], ...]


def overview(audit: Audit) -> Overview:
    """A row for each scheme; columns without any value are left out."""
    claims = claims_of(audit)
    cells = {heading: [show(label) for label in claims.schemes] for heading, show in _columns(claims, audit).items()}
    kept = [heading for heading, column in cells.items() if any(cell.value for cell in column)]
    rows = [
        (Name(scheme_name(label), label), tuple(cells[heading][place] for heading in kept))
        for place, label in enumerate(claims.schemes)
    ]
    return Overview(tuple(kept), tuple(rows) if kept else ())


def _columns(claims: Claims, audit: Audit) -> dict[str, Callable[[str], Cell]]:
    verdict = more_than_noise(claims)

    def single(quantity: str) -> Callable[[str], Cell]:
        return lambda label: _cell(claims.get(quantity, label))

    def worst(label: str) -> Cell:
        claim = claims.get("worst_class_change", label)
        return _cell(claim, level_of(audit, claim, "class"))

    def of_pair(quantity: str) -> Callable[[str], Cell]:
        """Columns of audits without populations."""
        return lambda label: Cell() if claims.ranked("pie_count") else _detailed(claims.get(quantity, label))

    def best(label: str) -> Cell:
        """Among several compressed sides, whether this one harms least."""
        return _cell(claims.get("probability_best", label)) if len(claims.ranked("probability_best")) > 1 else Cell()

    def exemplars(label: str) -> Cell:
        cell = _against_chance(claims, "pie_count", "pie_count_null", label)
        if label not in verdict:
            return cell
        said = "more than noise" if verdict[label] else "not more than noise"
        return Cell(cell.value, f"{cell.note}\n{said}".strip())

    def classes(label: str) -> Cell:
        return _against_chance(claims, "significant_classes", "significant_classes_chance", label)

    return {
        "Accuracy": lambda label: _cell(_accuracy(claims, label)),
        "Right answers lost": single("cie_u_rate"),
        "Net change of accuracy": of_pair("net_accuracy_change"),
        "PIEs": exemplars,
        "Significant classes": classes,
        "Worst class, relative change": worst,
        "Harms least, prob.": best,
        "Worst class": of_pair("worst_class_net_change"),
        "Worst group": of_pair("worst_group_net_change"),
        "Times smaller": single("size_ratio"),
    }


def _accuracy(claims: Claims, label: str) -> Claim | None:
    """Test accuracy; that of the dense models also stands with each comparison."""
    found = claims.get("test_accuracy", label)
    if found is None and label == claims.reference:
        return next((claim for other in claims.compressed if (claim := claims.get("accuracy_all", other))), None)
    return found


def _cell(claim: Claim | None, note: str = "") -> Cell:
    return Cell(format_value(claim.estimate, claim.scale), note) if claim else Cell()


def _detailed(claim: Claim | None) -> Cell:
    return _cell(claim, claim.detail if claim else "")


def _against_chance(claims: Claims, quantity: str, null: str, label: str) -> Cell:
    chance = claims.get(null, label)
    return _cell(claims.get(quantity, label), f"chance {format_value(chance.estimate, chance.scale)}" if chance else "")
