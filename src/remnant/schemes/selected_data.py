"""Training on chosen examples: compression of the data set."""

import re
from dataclasses import dataclass
from typing import ClassVar

from remnant.fields import check
from remnant.schemes.scheme import Scheme


@dataclass(frozen=True)
class SelectedData(Scheme):
    """Training on a chosen part of the training examples only: a compressed data set, not a compressed model."""

    kind: ClassVar[str] = "selected-data"
    post_training: ClassVar[bool] = False

    method: str
    """How the examples were chosen, such as "forgetting-hard"."""
    share: float
    """Share of the training examples that are kept, in (0, 1]."""
    selection: str
    """Key of the list of their ids, which the store holds; see `remnant.lab.selection.Selection`."""

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, "share", "in (0, 1]", self.share)
        for name, pattern in (("method", r"[A-Za-z0-9._-]+"), ("selection", r"[0-9a-f]{16}")):
            value = getattr(self, name)
            check(bool(re.fullmatch(pattern, value)), name, f"of the form {pattern}", value)
