"""What a search wants (an objective) and what it must not break (a budget), as people write them."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from remnant.registry import unknown
from remnant.search.expressions import Expression
from remnant.search.quantities import DENSE, NAMES, QUANTITIES, Quantity
from remnant.units import parse

_COMPARISON = re.compile(r"(<=|>=|<|>)")
_AMOUNT = re.compile(r"-?\s*[0-9.][0-9._]*(e-?[0-9]+)?\s*(%|[a-z ]*)", re.IGNORECASE | re.ASCII)
_DIRECTION = re.compile(r"\s*(minimi[sz]e|maximi[sz]e|min|max)\s+(?!\()(.*)", re.IGNORECASE | re.DOTALL)
_ROUNDING = 1e-12
"""Shares of up to a hundred million examples differ by more than this; differences of equal shares do not."""
Measures = Mapping[str, float]
"""Name of a quantity to its value."""


@dataclass(frozen=True)
class Objective:
    """What is optimized: "memory", "maximize throughput", "minimize latency * dense_throughput", ...

    A bare name goes the way that is better (`remnant.search.quantities.QUANTITIES`); an expression needs "minimize"
    or "maximize" before it.

    Raises
    ------
    ValueError
        If a name is unknown (with the nearest one), something else than arithmetic occurs, or the way is not said.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self.expression
        if self._given is None and self._quantity is None:
            raise ValueError(
                f"Expected 'minimize' or 'maximize' before the expression {self.text!r}: write 'maximize {self.text}'."
            )

    @cached_property
    def expression(self) -> Expression:
        """The arithmetic."""
        return Expression(self._given[2] if self._given else self.text, NAMES)

    @property
    def maximize(self) -> bool:
        """Whether higher is better."""
        if self._given:
            return self._given[1].lower().startswith("max")
        return self._quantity is not None and self._quantity.better == "higher"

    @property
    def monotone(self) -> bool:
        """Whether the strongest compression is the best: what the strength itself makes smaller, minimized."""
        found = self._quantity
        saves = found is not None and (found.falls or self.expression.text.strip() == "sparsity")
        return saves and found is not None and self.maximize == (found.better == "higher")

    def score(self, measures: Measures) -> float:
        """The objective with the sign that makes higher better; NaN where it is not defined."""
        value = self.expression(measures)
        return value if self.maximize else -value

    @property
    def _given(self) -> re.Match[str] | None:
        return _DIRECTION.fullmatch(self.text)

    @property
    def _quantity(self) -> Quantity | None:
        return QUANTITIES.get(self.expression.text.strip())


@dataclass(frozen=True)
class Constraint:
    """One limit, such as "cie_u<=0.5%", "flops <= 0.5 * dense_flops" or "memory < 1MB"."""

    text: str

    def __post_init__(self) -> None:
        parts = _COMPARISON.split(self.text)
        if len(parts) != 3:
            raise ValueError(
                f"Expected one comparison (<=, >=, <, >) such as 'cie_u<=0.5%', but got {self.text!r}. "
                "Join several by 'and'."
            )
        if not _sides(self.text)[0].names and not _sides(self.text)[2].names:
            raise ValueError(f"Expected the name of a quantity in {self.text!r}, such as 'cie_u<=0.5%'.")
        left, comparison, _ = _sides(self.text)
        name, quantity = left.text.strip(), QUANTITIES.get(left.text.strip())
        if quantity is None or quantity.unit != "share" or name == "sparsity":
            return
        if (comparison in ("<=", "<")) != (quantity.better == "lower"):
            raise ValueError(
                f"Expected a limit on how bad {name!r} may become, of which {quantity.better} is better, but got "
                f"{self.text!r}. Turn the comparison round."
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities that it needs."""
        left, _, right = _sides(self.text)
        return tuple(dict.fromkeys((*left.names, *right.names)))

    @cached_property
    def saves(self) -> bool:
        """Whether a stronger compression keeps it sooner: an upper limit on costs, or a lower one on sparsity."""
        left, comparison, right = _sides(self.text)
        names = [name for name in left.names if not name.startswith(DENSE)]
        if not names or any(not name.startswith(DENSE) for name in right.names):
            return False
        if comparison in ("<=", "<"):
            return all(QUANTITIES[name].falls for name in names)
        return names == ["sparsity"]

    def margin(self, measures: Measures) -> float:
        """How far inside the limit, in units of the limit (of 1 if that is 0): >= 0 holds, -1 is a limit beyond.

        (limit - value) / |limit| for <=, (value - limit) / |limit| for >=. At the limit itself, < and > do not hold:
        the margin is just below 0. What differs from the limit by rounding alone is at it. NaN, where the value is not
        defined, counts as -infinite.
        """
        left, comparison, right = _sides(self.text)
        value, limit = left(measures), right(measures)
        inside = (limit - value) if comparison in ("<=", "<") else (value - limit)
        if math.isnan(inside):
            return -math.inf
        if math.isclose(value, limit, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            return -math.ulp(1.0) if comparison in ("<", ">") else 0.0
        return inside / abs(limit) if limit and math.isfinite(limit) else inside

    def holds(self, measures: Measures) -> bool:
        """Whether the limit is kept."""
        return self.margin(measures) >= 0


@dataclass(frozen=True)
class Budget:
    """Limits that all must hold: "cie_u<=0.5% and worst_class_drop<=3 points".

    Limits are joined by "and" or commas. What is right of a comparison may be an amount in the unit of the quantity
    ("0.5%", "3 points", "20MB") or an expression ("0.5 * dense_flops"). All names and units are checked at once.

    Raises
    ------
    ValueError
        If there is no limit, a name is unknown (with the nearest one) or an amount is not one of its unit.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.constraints:
            raise ValueError("Expected at least one limit, such as 'cie_u<=0.5%', but got none.")

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """The single limits."""
        return tuple(Constraint(part) for part in _joined(self.text))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities that it needs."""
        return tuple(dict.fromkeys(name for one in self.constraints for name in one.names))

    def margin(self, measures: Measures) -> float:
        """The smallest margin of its limits; see `Constraint.margin`. >= 0 means that the budget holds."""
        return min(one.margin(measures) for one in self.constraints)

    def room(self, measures: Measures) -> float:
        """The smallest margin of the limits that a stronger compression breaks; 1 if there is none.

        Where only the others are broken, such as "memory<=1MB", a stronger one may keep them.
        """
        return min((one.margin(measures) for one in self.constraints if not one.saves), default=1.0)

    def holds(self, measures: Measures) -> bool:
        """Whether every limit is kept."""
        return all(one.holds(measures) for one in self.constraints)

    def broken(self, measures: Measures) -> tuple[Constraint, ...]:
        """The limits that are not kept."""
        return tuple(one for one in self.constraints if not one.holds(measures))


def _joined(text: str) -> Iterator[str]:
    """Parts between "and" or commas that are not inside of parentheses."""
    depth, part = 0, ""
    for token in re.split(r"(\band\b|[(),])", text):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token in ("and", ","):
            if not part.strip():
                raise ValueError(f"Expected a limit before {token!r} in {text!r}.")
            yield part.strip()
            part = ""
        else:
            part += token
    if part.strip():
        yield part.strip()


def _sides(text: str) -> tuple[Expression, str, Expression]:
    """Both sides of a comparison; an amount with a unit becomes a number."""
    left, comparison, right = (part.strip() for part in _COMPARISON.split(text))
    quantity = QUANTITIES.get(left.removeprefix(DENSE))
    if quantity is None and left.isidentifier():
        raise unknown(f"name in {text!r}", left, NAMES)
    return Expression(left, NAMES), comparison, Expression(_amount(right, quantity, left), NAMES)


def _amount(text: str, quantity: Quantity | None, name: str) -> str:
    """An amount as a number in Python's notation; an expression as it is."""
    if not _AMOUNT.fullmatch(text):
        return text
    if quantity is None:
        try:
            return repr(float(text))
        except ValueError as error:
            raise ValueError(
                f"Expected a number without a unit beside the expression {name!r}, but got {text!r}."
            ) from error
    negative = text.startswith("-") and quantity.signed
    value = parse(text.removeprefix("-") if negative else text, quantity.unit, name)
    return repr(-value if negative else value)
