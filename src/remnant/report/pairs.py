"""What the first screen says where each side is a single model, and no population tells compression from chance."""

from remnant.finding import Claim
from remnant.report.prose import Name, Quote, Sentence, listed, p_value, scheme, sentence

MOST_SAID = 2
"""Schemes whose accuracy is spoken of one by one; more are grouped by the answer."""


def accuracy(
    claims: dict[tuple[str, str], Claim], labels: list[str], reference: str, *, single: bool = True
) -> list[Sentence | None]:
    """Whether each scheme is as accurate as the reference, within the margin of the equivalence test.

    Parameters
    ----------
    single
        There is one model a side: what that cannot say is said.
    """
    sentences: list[Sentence | None] = []
    if len(labels) > MOST_SAID:
        sentences = _grouped(claims, labels, reference)
    else:
        for label in labels:
            sentences += _accuracy(claims, label, reference)
    if floor := claims.get(("floor_cie_rate", reference)):
        sentences.append(
            (scheme(reference, first=True), " run again answers otherwise on ", Quote(floor), " of the examples.")
        )
    if sentences and single:
        sentences.append(
            ("One model a side cannot say what another seed, or another calibration set, would have changed.",)
        )
    return sentences


def _grouped(claims: dict[tuple[str, str], Claim], labels: list[str], reference: str) -> list[Sentence | None]:
    """Which of many schemes are as accurate, which less, and of which it is not shown; the worst with its change."""
    same, less, other = [], [], []
    for label in labels:
        margin, p = claims.get(("equivalence_margin", label)), claims.get(("tost_p", label))
        change = claims.get(("net_accuracy_change", label))
        if not margin or not p or not change:
            continue
        worse = change.high is not None and change.high < -margin.estimate
        (same if p.estimate <= 0.05 else less if worse else other).append((label, margin, change))
    sentences: list[Sentence | None] = []
    if same:
        start: Sentence = ("As accurate as ", scheme(reference), " within ", Quote(same[0][1], False), ": ")
        sentences.append((*start, *listed([label for label, *_ in same]), "."))
    if less:
        worst, margin, change = min(less, key=lambda item: item[2].estimate)
        start = ("Less accurate by more than ", Quote(margin, False), ": ", *listed([label for label, *_ in less]))
        sentences.append((*start, "; most of all ", scheme(worst), ", by ", Quote(change), "."))
    if other:
        sentences.append(("Neither is shown of ", *listed([label for label, *_ in other]), "."))
    return sentences


def _accuracy(claims: dict[tuple[str, str], Claim], label: str, reference: str) -> list[Sentence | None]:
    margin, p = claims.get(("equivalence_margin", label)), claims.get(("tost_p", label))
    change = claims.get(("net_accuracy_change", label))
    if not margin or not p or not change:
        return []
    name, other = scheme(label), scheme(reference)
    smallest = claims.get(("smallest_equivalence_margin", label))
    if p.estimate <= 0.05:
        within = sentence("Shown within ", smallest, " at best.") if smallest else None
        yes: Sentence = (
            "Yes: ",
            name,
            " is as accurate as ",
            other,
            " within ",
            Quote(margin, False),
            *p_value(p),
            ".",
        )
        return [yes, within]
    if change.high is not None and change.high < -margin.estimate:
        return [("No: under ", name, ", accuracy changes by ", Quote(change), ".")]
    if change.low is not None and change.low > margin.estimate:
        return [("More than that: under ", name, ", accuracy changes by ", Quote(change), ".")]
    if change.low is not None and change.low > -margin.estimate:
        start: Sentence = ("No less accurate, within ", Quote(margin, False), ": under ", name)
        return [(*start, ", accuracy changes by ", Quote(change), ".")]
    said: Sentence = ("Not shown either way for ", name, ": accuracy changes by ", Quote(change))
    return [(*said, ", and the margin is ", Quote(margin, False), ".")]


NO_LABELS: tuple[Sentence, ...] = (
    ("It cannot be told without labels: a change of the answer may be harm or gain.",),
    ("Give the true classes as a column of one of the files, as a file of their own or with the data.",),
)
"""The answer to questions on accuracy where no true classes are known."""


def payers(claims: dict[tuple[str, str], Claim], label: str) -> list[Sentence | None]:
    """The class and the group whose recall falls most under a scheme, and how many are shown to be harmed."""
    sentences: list[Sentence | None] = []
    for kind, plural, quantity, count in (
        ("class", "classes", "worst_class_net_change", "harmed_classes_q"),
        ("group", "groups", "worst_group_net_change", "harmed_groups_q"),
    ):
        change, harmed = claims.get((quantity, label)), claims.get((count, label))
        if change:
            where: Sentence = (f"the worst {kind}, ", Name(change.detail)) if change.detail else (f"the worst {kind}",)
            start: Sentence = ("Under ", scheme(label), ", the accuracy on ")
            sentences.append((*start, *where, ", changes by ", Quote(change), "."))
        if harmed and harmed.estimate == 0:
            sentences.append((f"Corrected for their number, no {kind} is shown to lose.",))
        elif harmed:
            verb = f"{kind} is" if harmed.estimate == 1 else f"{plural} are"
            sentences.append(("Corrected for their number, ", Quote(harmed, False), f" {verb} shown to lose."))
    return sentences
