"""Names of schemes, columns and quantities as people read them."""

import re
from collections.abc import Iterable

from remnant.registry import names
from remnant.schemes import SCHEMES
from remnant.schemes.parsing import pieces

_WORDS = {
    "auc": "AUC",
    "cka": "CKA",
    "ece": "ECE",
    "nll": "NLL",
    "tpr": "TPR",
    "cie": "CIE",
    "cies": "CIEs",
    "csr": "CSR",
    "flops": "FLOPs",
    "fpr": "FPR",
    "id": "id",
    "int8": "int8",
    "kl": "KL",
    "mcnemar": "McNemar",
    "pie": "PIE",
    "pies": "PIEs",
    "snr": "SNR",
    "tost": "TOST",
}
_UNITS = {
    "bytes": "bytes",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "µs",
    "percent": "%",
    "nats": "nats",
    "points": "points",
}


def scheme_name(label: str) -> str:
    """The label of a scheme as a name: "magnitude-pruning(sparsity=0.9)" is "Magnitude pruning, sparsity 0.9".

    The name of a model made elsewhere stays as it is.
    """
    if not _is_scheme(label):
        return label
    parts = [", ".join([kind, *settings]) for kind, settings in map(_parts, _chain(label))]
    return ", then ".join([_capital(parts[0]), *parts[1:]])


def scheme_phrase(label: str) -> str:
    """The label of a scheme as part of a sentence, such as "magnitude pruning at sparsity 0.9".

    The name of a model made elsewhere stays as it is.
    """
    if not _is_scheme(label):
        return label
    phrases = []
    for kind, settings in map(_parts, _chain(label)):
        sparsity = [f"at {setting}" for setting in settings if setting.startswith("sparsity ")]
        others = [setting for setting in settings if not setting.startswith("sparsity ")]
        phrases.append(" ".join([kind, *sparsity, *([f"with {' and '.join(others)}"] if others else [])]))
    return ", then ".join(phrases)


def with_scheme_phrases(text: str, labels: Iterable[str]) -> str:
    """`text` with the exact labels of schemes replaced by phrases; "dense" is a word and stays."""
    found = sorted((label for label in labels if label != "dense" and _is_scheme(label)), key=len, reverse=True)
    if not found:
        return text
    pattern = rf"(?<![\w-])({'|'.join(map(re.escape, found))})(?![\w(-])"
    return re.sub(pattern, lambda match: scheme_phrase(match[1]), text)


def title(name: str) -> str:
    """A snake_case name of a column, quantity or table as a heading: "cie_u_rate" is "CIE-U rate"."""
    words = name.replace("-", "_").split("_")
    unit = ""
    if len(words) > 1 and words[-1] in _UNITS:
        unit = f" ({_UNITS[words.pop()]})"
    if len(words) > 1 and words[-1] == "null":
        words[-1] = "by chance"
    text = " ".join(_WORDS.get(word.lower(), word) for word in words)
    text = re.sub(r"\bCIE ([ucw])\b", lambda match: f"CIE-{match[1].upper()}", text)
    if re.match(r"[pqnkxy]\b", text):
        return text + unit
    return _capital(text) + unit


def _is_scheme(label: str) -> bool:
    """The label is that of a scheme, known by its kind or its settings, not a name that a user gave to a model."""
    known = {"dense", *names("scheme", SCHEMES)}
    return all(
        part.strip() in known or re.fullmatch(r"[\w-]+\(\w+=.*\)", part.strip(), re.DOTALL) for part in _chain(label)
    )


def _chain(label: str) -> list[str]:
    """The schemes of a label, one after another; names with parentheses that do not match stay whole."""
    try:
        return pieces(label, "+")
    except ValueError:
        return [label]


def _parts(label: str) -> tuple[str, list[str]]:
    """Kind and settings of one scheme in words."""
    kind, _, inner = label.strip().partition("(")
    given = pieces(inner.removesuffix(")"), ",") if inner else []
    settings = [_setting(setting.strip()) for setting in given if not setting.strip().startswith("selection=")]
    words = kind.replace("-", " ").replace("_", " ").replace("one shot", "one-shot")
    return words, settings


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _setting(setting: str) -> str:
    name, equals, value = setting.partition("=")
    name = name.replace("_", " ")
    if not equals:
        return name
    if value in ("True", "False"):
        return name if value == "True" else f"not {name}"
    if value.startswith("(") and _is_scheme(value[1:-1]):
        return f"{name} ({scheme_name(value[1:-1]).lower()})"
    return f"{name} {value}"
