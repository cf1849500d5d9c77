"""Sentences of the first screen on single models."""

from remnant.finding import Claim
from remnant.report.pairs import accuracy
from remnant.report.prose import plain


def claims(changes):
    """Claims of the equivalence test at one point, for (label, change, low, high, p)."""
    found = {}
    for label, change, low, high, p in changes:
        for quantity, value, ends, scale in (
            ("equivalence_margin", 0.01, (None, None), "points"),
            ("tost_p", p, (None, None), "p"),
            ("net_accuracy_change", change, (low, high), "points"),
        ):
            found[quantity, label] = Claim(quantity, label, value, *ends, 1000, "example", "made", "", scale)
    return found


def test_many_schemes_are_grouped_by_the_answer():
    found = claims(
        [
            ("a", -0.001, -0.004, 0.002, 0.001),
            ("b", -0.05, -0.06, -0.04, 1.0),
            ("c", -0.09, -0.10, -0.08, 1.0),
            ("d", -0.01, -0.03, 0.01, 0.5),
        ]
    )
    said = [plain(one) for one in accuracy(found, list("abcd"), "fp32") if one]
    assert said[0] == "As accurate as fp32 within 1.00 points: a."
    assert said[1].startswith("Less accurate by more than 1.00 points: b and c; most of all c, by -9.00 points (95 %")
    assert said[2] == "Neither is shown of d."


def test_few_schemes_are_spoken_of_one_by_one():
    found = claims([("a", -0.001, -0.004, 0.002, 0.001), ("b", -0.05, -0.06, -0.04, 1.0)])
    said = [plain(one) for one in accuracy(found, ["a", "b"], "fp32") if one]
    assert said[0].startswith("Yes: a is as accurate as fp32 within 1.00 points, p = ")
    assert said[1].startswith("No: under b, accuracy changes by -5.00 points")
