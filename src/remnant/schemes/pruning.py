"""Magnitude pruning: during training, or of a trained model."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.schemes.scheme import Scheme, TunedScheme, check_share


@dataclass(frozen=True)
class MagnitudePruning(Scheme):
    """Smallest weights to zero during training, on the cubic schedule of Zhu & Gupta (2017).

    The weights of all linear and convolution layers are pruned; biases and norms are not.
    """

    kind: ClassVar[str] = "magnitude-pruning"
    post_training: ClassVar[bool] = False

    sparsity: float
    """Share of weights that are zero at the end, in [0, 1)."""
    scope: Literal["layer", "global"] = "layer"
    """The same sparsity in every layer, or one threshold for all layers."""
    gradient: Literal["masked", "straight-through"] = "masked"
    """Gradient of a pruned weight: zero (the code of Hooker et al.), or as if it were not pruned (their text)."""
    begin: float = 0.2
    """Share of all steps at which pruning begins."""
    end: float = 0.75
    """Share of all steps at which the final sparsity is reached."""
    frequency: int = 10
    """Steps between two updates of the masks."""

    def __post_init__(self) -> None:
        check_share(self.sparsity, "sparsity")
        check_choice(self, "scope")
        check_choice(self, "gradient")
        check(0 <= self.begin <= self.end <= 1, "begin, end", "with 0 <= begin <= end <= 1", (self.begin, self.end))
        check(self.frequency >= 1, "frequency", ">= 1", self.frequency)


@dataclass(frozen=True)
class PostTrainingPruning(TunedScheme):
    """Magnitude pruning of the trained model. Abstract: use one of its subclasses.

    What is pruned are groups of weights: single weights, output channels of convolutions, rows of linear layers, or
    tiles of a layer's matrix. Exactly the declared share of the groups goes, the smallest ones; of equal ones the
    first stay. A layer keeps at least one group, and the layers that give the logits keep all their outputs. With a
    filter or a neuron go its bias and its channel of a batch norm that reads it directly: else the norm's shift would
    go on speaking for it.

    References
    ----------
    li2017pruning; joseph2020programmable
    """

    sparsity: float
    """Share of groups that are zero, in [0, 1); with target="flops" the share of FLOPs that are."""
    scope: Literal["layer", "global"] = "global"
    """The same sparsity in every layer, or one threshold for all layers."""
    structure: Literal["weight", "filter", "neuron", "block"] = "weight"
    """What goes as a whole: a weight, an output channel of a convolution, a row of a linear layer, or a tile of
    `block_size` x `block_size` of the matrix (outputs, inputs x kernel) of either."""
    criterion: Literal["l1", "l2", "max", "min", "mean", "sum"] = "l2"
    """Size of a group: a norm or another aggregate of its magnitudes ("sum" is "l1"). A weight's is its magnitude."""
    block_size: int = 4
    """Rows and columns of a tile; tiles at the edges are smaller."""
    physical: bool = False
    """Smaller tensors instead of zeros, for filters and neurons. Channels that are added to each other go together and
    are ranked by the sum of their sizes; needs the extra `structured`."""
    target: Literal["groups", "flops"] = "groups"
    """What `sparsity` is a share of: the groups, or the FLOPs of the layers (multiplications by zeros left out)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.sparsity, "sparsity")
        for name in ("scope", "structure", "criterion", "target"):
            check_choice(self, name)
        check(self.block_size >= 1, "block_size", ">= 1", self.block_size)
        single = self.structure == "weight"
        check(not single or self.criterion == "l2", "criterion", "as it is with structure='weight'", self.criterion)
        check(not single or self.target == "groups", "target", "= 'groups' with structure='weight'", self.target)
        check(self.structure == "block" or self.block_size == 4, "block_size", "only for blocks", self.block_size)
        if self.physical and self.structure not in ("filter", "neuron"):
            raise ValueError(
                f"Expected `structure` = 'filter' or 'neuron' with physical=True, but got {self.structure!r}: "
                "tensors without single weights or tiles are no smaller."
            )


@dataclass(frozen=True)
class OneShotPruning(PostTrainingPruning):
    """Smallest weights of the trained model to zero at once, then fine-tuning with the masks held."""

    kind: ClassVar[str] = "one-shot-pruning"


@dataclass(frozen=True)
class GradualPruning(PostTrainingPruning):
    """Smallest weights of the trained model to zero during fine-tuning, on the cubic schedule of Zhu & Gupta (2017).

    References
    ----------
    zhu2017prune
    """

    kind: ClassVar[str] = "gradual-pruning"

    gradient: Literal["masked", "straight-through"] = "masked"
    """Gradient of a pruned weight: zero, or as if it were not pruned."""
    begin: float = 0.0
    """Share of the steps of fine-tuning at which pruning begins."""
    end: float = 0.75
    """Share of the steps of fine-tuning at which the final sparsity is reached."""
    frequency: int = 10
    """Steps between two updates of the masks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "gradient")
        check(0 <= self.begin <= self.end <= 1, "begin, end", "with 0 <= begin <= end <= 1", (self.begin, self.end))
        check(self.frequency >= 1, "frequency", ">= 1", self.frequency)


@dataclass(frozen=True)
class IterativePruning(PostTrainingPruning):
    """Rounds of pruning and retraining, each removing the same share of what is left.

    After round r of R the sparsity is 1 - (1 - `sparsity`)^(r / R). Each round retrains for `epochs`:

    - rewind="none": fine-tuning from `learning_rate` (Han et al.).
    - rewind="learning-rate": the last `epochs` of the recipe once more, with the learning rates they had.
    - rewind="weights": the same, from the weights of the dense training at that time: a lottery ticket. They are
      remade by training the recipe up to there, which gives the same bits.

    References
    ----------
    renda2020comparing, section 2; frankle2020linear, section 4; han2015learning
    """

    kind: ClassVar[str] = "iterative-pruning"

    rounds: int = 5
    """Number of rounds."""
    rewind: Literal["none", "learning-rate", "weights"] = "none"
    """What each retraining starts from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "rewind")
        check(self.rounds >= 1, "rounds", ">= 1", self.rounds)
        if self.rewind != "none":
            given = self.learning_rate
            check(given == TunedScheme.learning_rate, "learning_rate", "as it is: rewinding takes the recipe's", given)
