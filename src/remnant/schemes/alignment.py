"""Losses that hold a compressed model to the answers of its reference, as a frozen value."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from remnant.fields import build, check, check_choice, non_default
from remnant.registry import unknown

TERMS = ("cross-entropy", "distillation", "logits", "labels", "attribution", "features")
"""Names of the terms of a loss; `remnant.lab.alignment.terms` has their formulas."""


@dataclass(frozen=True)
class Align:
    """What a compressed model is trained towards, besides or instead of the labels of the data.

    The loss is a weighted sum of `terms`. All but "cross-entropy" look at the reference: the dense model that the
    compressed one was made from, on the same augmented inputs. The terms are those that Joseph et al. name
    (definitions reconstructed from the abstract and the survey) and attribution matching by Park et al.

    References
    ----------
    joseph2020reliable; park2020attribution; heydari2019softadapt
    """

    terms: tuple[str, ...] = ("cross-entropy", "distillation", "logits")
    """"cross-entropy" (labels of the data), "distillation" (softened probabilities of the reference), "logits"
    (squared differences), "labels" (cross-entropy to the classes that the reference predicts), "attribution" (maps of
    the last convolution), "features" (inputs of the last linear layer)."""
    weights: Literal[
        "uniform", "fixed", "uncertainty", "softadapt", "softadapt-loss-weighted", "softadapt-normalized"
    ] = "uniform"
    """How the terms are weighted: 1/n each; `fixed`; learned variances (Kendall et al.); or by how fast each falls."""
    fixed: tuple[float, ...] = ()
    """One weight for each term, with weights="fixed"."""
    temperature: float = 4.0
    """Softens the probabilities of "distillation"."""
    beta: float = 0.1
    """SoftAdapt's inverse temperature; above 0 the term that falls slowest gets the largest weight."""
    update: int = 20
    """Steps between two updates of SoftAdapt's weights; each of its losses is the mean over so many steps. Trainings
    of fewer than `update` x `history` steps keep uniform weights."""
    history: int = 5
    """Number of losses whose slope SoftAdapt takes, 2 to 6."""
    focus: Literal["none", "forgotten", "near-boundary", "worst-class", "selected"] = "none"
    """Examples that count more: harmful flips at this moment; a small margin of the reference; classes with most
    harmful flips; or those that `examples` lists, such as the most memorized ones of a population."""
    strength: float = 2.0
    """By how much they count more: an example in focus has the weight 1 + `strength` before the batch is normalised.
    Selected examples come 1 + `strength` times, in as many steps of training as without."""
    examples: str = ""
    """With focus="selected": key of a stored selection of training examples, see `remnant data select`."""
    mix: float = 0.0
    """Alpha of the Beta distribution that mixes pairs of inputs (mixup); the reference answers the mixture. 0: none."""
    attribution: Literal["sensitivity", "energy"] = "sensitivity"
    """Maps of the term "attribution": weighted by gradients (SWA, as Grad-CAM), or mean squared activations (EWA)."""

    def __post_init__(self) -> None:
        for name in ("weights", "focus", "attribution"):
            check_choice(self, name)
        check(len(self.terms) > 0, "terms", "to hold at least one term", self.terms)
        check(len(set(self.terms)) == len(self.terms), "terms", "without repetitions", self.terms)
        for term in self.terms:
            if term not in TERMS:
                raise unknown("term", term, TERMS)
        self._check_weights()
        check(self.temperature > 0, "temperature", "> 0", self.temperature)
        check(self.update >= 1, "update", ">= 1", self.update)
        check(2 <= self.history <= 6, "history", "in [2, 6]", self.history)
        check(self.strength >= 0, "strength", ">= 0", self.strength)
        check(self.mix >= 0, "mix", ">= 0", self.mix)
        selected = self.focus == "selected"
        check(selected == bool(self.examples), "examples", "with focus='selected', and only then", self.examples)
        whole = self.strength == int(self.strength)
        check(not selected or whole, "strength", "to be whole with focus='selected'", self.strength)
        if self.mix > 0 and "attribution" in self.terms:
            raise ValueError("Expected `mix` = 0 with the term 'attribution': maps of mixed pictures mean nothing.")

    def _check_weights(self) -> None:
        if self.weights == "fixed":
            check(len(self.fixed) == len(self.terms), "fixed", f"with {len(self.terms)} weights", self.fixed)
            check(all(weight >= 0 for weight in self.fixed), "fixed", ">= 0", self.fixed)
            check(any(self.fixed), "fixed", "with a weight above 0", self.fixed)
        else:
            check(not self.fixed, "fixed", "empty unless weights='fixed'", self.fixed)

    def __str__(self) -> str:
        """All that differs from the defaults in words, such as "distillation+logits, softadapt" without the comma."""
        given = non_default(self)
        words = ["+".join(self.terms)]
        for name, value in given.items():
            if name == "weights":
                words.append(str(value))
            elif name == "fixed":
                words.append("/".join(f"{weight:g}" for weight in self.fixed))
            elif name != "terms":
                words.append(f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}")
        return " ".join(words)


def parse_align(text: str) -> Align:
    """The alignment that its own text names, such as "cross-entropy+logits softadapt focus forgotten mix 1".

    Raises
    ------
    ValueError
        If a word is not that of a term, a weighting or a setting.
    """
    first, *words = text.replace(",", " ").split() or [""]
    found: dict[str, Any] = {"terms": first.split("+")}
    weightings = next(f.type for f in fields(Align) if f.name == "weights").__args__  # pyright: ignore
    settings = ("temperature", "beta", "update", "history", "focus", "strength", "examples", "mix", "attribution")
    while words:
        word = words.pop(0)
        if word in weightings:
            found["weights"] = word
            if word == "fixed" and words:
                found["fixed"] = [_number(part) for part in words.pop(0).split("/")]
        elif word in settings and words:
            value = words.pop(0)
            found[word] = value if word in ("focus", "examples", "attribution") else _number(value)
        else:
            raise unknown("setting of an alignment", word, (*weightings, *settings))
    return build(Align, found, "align")


def _number(text: str) -> float | int:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        raise ValueError(f"Expected a number in an alignment, but got {text!r}.") from None
