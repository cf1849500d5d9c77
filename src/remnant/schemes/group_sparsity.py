"""Filter pruning and decomposition by one group-sparse factor per layer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.schemes.scheme import TunedScheme


@dataclass(frozen=True)
class GroupSparsity(TunedScheme):
    """Whole groups of a 1x1 factor behind each convolution to zero, then smaller layers, then fine-tuning.

    A zero group is a filter that goes (filter pruning) or a rank that goes (decomposition). Training in two phases:
    one in which proximal steps make groups small, and, after the smallest were removed down to `flops`, one that
    recovers accuracy.

    References
    ----------
    li2020group
    """

    kind: ClassVar[str] = "group-sparsity"

    flops: float
    """Share of the model's FLOPs that is left at most, in (0, 1]; 1 removes nothing."""
    groups: Literal["hinge", "filters", "factors"] = "hinge"
    """What can go: filters where all that reads them can shrink and ranks elsewhere, or only one of the two."""
    regularizer: Literal["l1", "l1/2", "l1-2", "logsum"] = "l1/2"
    """Penalty on the norms of the groups. "l1/2" is that of the published CIFAR-10 settings; "l1" shrinks what stays
    as much as what goes."""
    regularization: float | None = None
    """Factor of the penalty. None: what takes the groups that have to go to zero if no gradient moves them. With any,
    no group shrinks any more once those at zero save enough."""
    start: Literal["svd", "identity"] = "svd"
    """First value of the factor: left vectors times singular values, or the identity."""
    balanced: bool = True
    """Norms of the groups in units of their mean in the layer before training, or as they are."""
    smallest: float = 0.2
    """Share of a layer's groups that always stay, in (0, 1]."""
    sparsifying: float = 0.25
    """Share of `epochs` with proximal steps; the rest is fine-tuning of the smaller model. With 0 groups go by their
    norms in the trained model, which is better where there are few epochs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("groups", "regularizer", "start"):
            check_choice(self, name)
        check(0 < self.flops <= 1, "flops", "in (0, 1]", self.flops)
        check(self.regularization is None or self.regularization >= 0, "regularization", ">= 0", self.regularization)
        check(0 < self.smallest <= 1, "smallest", "in (0, 1]", self.smallest)
        check(0 <= self.sparsifying <= 1, "sparsifying", "in [0, 1]", self.sparsifying)
