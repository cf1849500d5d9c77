"""How well a score tells members from others: the ROC curve of each target model, and summaries over targets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Roc:
    """What a threshold on a score finds, from the strictest threshold to the loosest.

    An example is called a member if its score is at least the threshold. Equal scores pass together: each point has
    a threshold of its own, and the first one calls nothing a member.
    """

    threshold: NDArray[np.float64]
    """Shape (point,), falling; the first is infinite."""
    true_positives: NDArray[np.int64]
    """Members found, shape (point,)."""
    false_positives: NDArray[np.int64]
    """Others taken for members, shape (point,)."""

    @property
    def num_members(self) -> int:
        """Number of members."""
        return int(self.true_positives[-1])

    @property
    def num_others(self) -> int:
        """Number of examples that are not members."""
        return int(self.false_positives[-1])

    @property
    def area(self) -> float:
        """Area under the curve: the probability that a member has the higher score, with ties as one half.

        1/2 for a score that knows nothing, 1 for one that knows all, below 1/2 for one that is the wrong way round.
        """
        tpr, fpr = self.true_positives / self.num_members, self.false_positives / self.num_others
        return float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))

    @property
    def advantage(self) -> float:
        """Largest true minus false positive rate over all thresholds, >= 0; also for a score that knows nothing.

        References
        ----------
        yeom2018privacy, definition 4
        """
        return float(np.max(self.true_positives / self.num_members - self.false_positives / self.num_others))

    def point(self, false_positive_rate: ArrayLike) -> NDArray[np.intp]:
        """The loosest point whose false positive rate is at most this, for each rate. No interpolation."""
        most = np.floor(np.asarray(false_positive_rate, float) * self.num_others + 1e-9)
        return np.searchsorted(self.false_positives, most, side="right") - 1

    def true_positive_rate(self, false_positive_rate: ArrayLike) -> NDArray[np.float64]:
        """Share of members found with at most this false positive rate, for each rate."""
        return self.true_positives[self.point(false_positive_rate)] / self.num_members


def roc(scores: NDArray[np.floating], member: NDArray[np.bool_]) -> Roc:
    """The curve of one target; examples without a score (NaN) are left out.

    Parameters
    ----------
    scores, member
        Shape (example,).

    Raises
    ------
    ValueError
        If no member or no other example has a score.
    """
    defined = ~np.isnan(scores)
    values, is_member = scores[defined], member[defined]
    num_members = np.count_nonzero(is_member)
    if num_members in (0, len(values)):
        raise ValueError(
            f"Expected scores of members and of others, but got {num_members} members among {len(values)} scores."
        )
    # Two sorts of values are several times as fast as one of indices.
    members, others = np.sort(values[is_member]), np.sort(values[~is_member])
    threshold = np.unique(values)[::-1]
    return Roc(
        np.append(np.inf, threshold).astype(np.float64),
        np.append(0, len(members) - np.searchsorted(members, threshold)).astype(np.int64),
        np.append(0, len(others) - np.searchsorted(others, threshold)).astype(np.int64),
    )
