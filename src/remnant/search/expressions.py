"""Arithmetic that users write, such as "accuracy - 10 * cie_u", computed without running it as Python."""

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from remnant.registry import unknown

MOST_CHARACTERS = 300
"""Longer texts are refused: what is nested too deeply cannot be computed."""
_FUNCTIONS = {"min": np.min, "max": np.max}
_ARITHMETIC = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


@dataclass(frozen=True)
class Expression:
    """Numbers, names, + - * / **, min, max and comparisons (1 if true, else 0) in Python's notation.

    Nothing else is allowed: no attributes, no other calls, no strings. Arithmetic is of floating-point numbers:
    1 / 0 is infinite, 0 / 0 and the root of a negative number are NaN.
    """

    text: str
    known: tuple[str, ...]
    """Names that may occur."""

    def __post_init__(self) -> None:
        self._check(self._tree)

    @property
    def names(self) -> tuple[str, ...]:
        """Names that occur, each once, in order."""
        # A call's function is no name of a number.
        functions = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        found = [n.id for n in ast.walk(self._tree) if isinstance(n, ast.Name) and id(n) not in functions]
        return tuple(dict.fromkeys(found))

    def __call__(self, values: Mapping[str, float]) -> float:
        """The value, with numbers for the names.

        Raises
        ------
        ValueError
            If a name has no number.
        """
        if absent := [name for name in self.names if name not in values]:
            raise ValueError(f"Expected numbers for {absent} in {self.text!r}, but they were not measured.")
        with np.errstate(all="ignore"):
            return float(_value(self._tree, values))

    @cached_property
    def _tree(self) -> ast.expr:
        if len(self.text) > MOST_CHARACTERS:
            raise ValueError(f"Expected an expression of at most {MOST_CHARACTERS} characters, got {len(self.text)}.")
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            raise ValueError(
                f"Expected an expression such as 'accuracy - 10 * cie_u', but got {self.text!r} ({reason})."
            ) from error

    def _check(self, node: ast.expr) -> None:
        for part in _parts(node, self.text):
            self._check(part)
        if isinstance(node, ast.Name) and node.id not in self.known:
            raise unknown(f"name in {self.text!r}", node.id, self.known)


def _parts(node: ast.expr, text: str) -> Collection[ast.expr]:
    """The operands of an allowed node; ValueError for all others."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return ()
        case ast.Name():
            return ()
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return left, right
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _ARITHMETIC:
            return (operand,)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _ARITHMETIC for op in ops):
            return left, *others
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and len(args) >= 2:
            return args
    raise ValueError(
        f"Expected numbers, names, + - * / **, comparisons, min(...) and max(...) of two or more, but got "
        f"{(ast.get_source_segment(text.strip(), node) or type(node).__name__)!r} in {text!r}."
    )


def _value(node: ast.expr, values: Mapping[str, float]) -> np.float64:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _float(number)
        case ast.Name(id=name):
            return np.float64(values[name])
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return _ARITHMETIC[type(op)](_value(operand, values))
        case ast.Compare(left=left, ops=ops, comparators=others):
            numbers = [_value(part, values) for part in (left, *others)]
            pairs = zip(ops, numbers, numbers[1:], strict=False)
            return np.float64(all(_ARITHMETIC[type(op)](a, b) for op, a, b in pairs))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name]([_value(part, values) for part in args])
    raise AssertionError(node)  # `_parts` let nothing else through


def _float(number: float) -> np.float64:
    try:
        return np.float64(number)
    except OverflowError:  # an integer beyond the largest float
        return np.float64(np.inf)
