"""Recipes by name: those of the papers, and lean ones for machines without a GPU.

What a paper does not publish is said beside the value that stands in for it.
"""

from dataclasses import replace

from remnant.registry import find, unknown
from remnant.schemes import DynamicInt8, Float16, MagnitudePruning, Scheme, StaticInt8
from remnant.trial import Recipe


def recipe(name: str) -> Recipe:
    """The recipe called `name`; `RECIPES` holds what there is.

    Raises
    ------
    UnknownNameError
        With the nearest name.
    """
    return find("recipe", name, RECIPES)


def schemes(name: str) -> tuple[Scheme, ...]:
    """The compression schemes that a paper applies to its recipe `name`, weakest pruning first.

    Raises
    ------
    UnknownNameError
        If the recipe has none of its own.
    """
    if name not in SCHEMES:
        raise unknown("recipe of a paper with schemes", name, SCHEMES)
    return SCHEMES[name]


_DAM = Recipe(
    # Dam et al. name the data, the networks, 300 epochs and the choice of the checkpoint by test accuracy. The rest
    # are the defaults of the code they compress with (Group Sparsity, Li et al. 2020).
    dataset="cifar10",
    architecture="resnet20",
    epochs=300,
    batch_size=128,
    learning_rate=0.1,
    nesterov=False,
    weight_decay=1e-4,
    schedule="step",
    milestones=(150 / 300, 225 / 300),
    decay=0.1,
    augmentation=("crop", "flip"),
    checkpoint="test-selected",
)


def _dam(architecture: str, *, nesterov: bool = False) -> Recipe:
    return replace(_DAM, architecture=architecture, nesterov=nesterov)


_IMAGENET_STEPS_PER_EPOCH = 1_281_167 / 4096
"""Of the published code, whose schedule counts epochs at a batch of 4096."""


def _imagenet(batch_size: int) -> Recipe:
    # Rates and schedule of the published code: 0.1 * batch / 256, five epochs of warm-up, a tenth after 30, 60 and 80.
    epoch = _IMAGENET_STEPS_PER_EPOCH / 32_000
    return Recipe(
        dataset="imagenet",
        architecture="torchvision:resnet50",
        steps=32_000,
        batch_size=batch_size,
        learning_rate=0.1 * batch_size / 256,
        weight_decay=1e-4,
        schedule="step",
        warmup=5 * epoch,
        milestones=(30 * epoch, 60 * epoch, 80 * epoch),
        decay=0.1,
        label_smoothing=0.1,
        augmentation=("resized-crop", "flip"),
    )


RECIPES: dict[str, Recipe] = {
    # Demonstration: 98 % of the test digits in under half a second on one core, and 90 % pruning hurts.
    "digits-mlp": Recipe("digits", "mlp-64-32", epochs=15, batch_size=128, learning_rate=0.1, weight_decay=5e-4),
    # Interpolates: without weight decay and long enough that a trial answers all that it was trained on right, so that
    # memorization is not deflated by what training leaves undone (docs/results/recipes.md).
    "digits-memorizing": Recipe("digits", "mlp", epochs=40, batch_size=128, learning_rate=0.1, weight_decay=0.0),
    # Lean: 73 % and 91 % of the test examples, in one to two minutes on one core.
    "cifar10-cnn": Recipe(
        "cifar10", "cnn", epochs=8, batch_size=128, learning_rate=0.1, weight_decay=5e-4, warmup=0.15,
        augmentation=("flip",),
    ),
    "fashion-cnn": Recipe(
        "fashion-mnist", "cnn", epochs=5, batch_size=128, learning_rate=0.1, weight_decay=5e-4, warmup=0.15,
    ),
    # 82 % of the test examples, a step at half the cost of ResNet-8; bfloat16 pays where `remnant doctor` finds it.
    "cifar10-lean": Recipe(
        "cifar10", "lean-resnet", epochs=10, batch_size=128, learning_rate=0.1, weight_decay=5e-4, schedule="linear",
        warmup=0.2, label_smoothing=0.1, augmentation=("crop", "flip"), precision="bfloat16",
    ),
    # Learn all of their training examples (CIFAR-10), or 99.87 % of them (Fashion-MNIST): docs/results/recipes.md.
    "cifar10-memorizing": Recipe(
        "cifar10", "lean-resnet", epochs=16, batch_size=64, learning_rate=0.05, weight_decay=0.0, schedule="linear",
        warmup=0.2, precision="bfloat16",
    ),
    "fashion-memorizing": Recipe(
        "fashion-mnist", "mlp-512-256", epochs=40, batch_size=128, learning_rate=0.1, weight_decay=0.0,
    ),
    # Hooker et al. publish 80,000 steps at a batch of 128, batch norm, weight decay, a falling rate and augmentation.
    # Depth and width of the wide ResNet, rates and schedule are not published; 80,000 steps are the 200 epochs of
    # Zagoruyko & Komodakis, whose values these are. The network is a small one of theirs, because the paper's 94.5 %
    # are well below the 96.0 % of WRN-28-10.
    "hooker-cifar10": Recipe(
        "cifar10", "wide-resnet-16-4", steps=80_000, batch_size=128, learning_rate=0.1, weight_decay=5e-4,
        schedule="step", milestones=(0.3, 0.6, 0.8), decay=0.2, augmentation=("crop", "flip"),
    ),
    # As the paper writes it: 32,000 steps at a batch of 1024 are 26 epochs, not the "approximately 90" it also states.
    "hooker-imagenet": _imagenet(1024),
    # As the published code has it: at a batch of 4096, 32,000 steps are 102 epochs.
    "hooker-imagenet-code": _imagenet(4096),
    # Published: ResNet-18, 10,000 steps at a batch of 256. Image size, rates and schedule are not; these are the
    # rates of the ImageNet code, and the common augmentation of faces.
    "hooker-celeba": Recipe(
        "celeba", "torchvision:resnet18", steps=10_000, batch_size=256, learning_rate=0.1, weight_decay=1e-4,
        schedule="step", warmup=0.05, milestones=(0.3, 0.6, 0.8), decay=0.1, augmentation=("flip",),
    ),
    "dam-resnet20": _dam("resnet20"),
    "dam-resnet56": _dam("resnet56"),
    # "DenseNet": depth 40 and growth 12 are those of the Group Sparsity code, which trains it with Nesterov momentum.
    "dam-densenet": _dam("densenet-40-12", nesterov=True),
    "dam-resnext20": _dam("resnext20"),
}  # fmt: skip
"""Name to recipe."""


def _hooker(sparsities: tuple[float, ...], *, begin: float, end: float, frequency: int) -> tuple[Scheme, ...]:
    pruned = [
        MagnitudePruning(sparsity, scope="layer", gradient="masked", begin=begin, end=end, frequency=frequency)
        for sparsity in sparsities
    ]
    return (*pruned, Float16(), DynamicInt8(), StaticInt8(calibration=100))


# Pruning in the published code (ImageNet only): from step 5,000 to 8,000 of 32,000, every 500 steps, the same sparsity
# in every layer, and no gradient for a pruned weight. For CIFAR-10 and CelebA nothing is published: these are the same
# shares of the training.
_BEGIN, _END = 5_000 / 32_000, 8_000 / 32_000

SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "hooker-cifar10": _hooker((0.3, 0.5, 0.7, 0.9), begin=_BEGIN, end=_END, frequency=1250),
    "hooker-imagenet": _hooker((0.3, 0.5, 0.7, 0.9), begin=_BEGIN, end=_END, frequency=500),
    "hooker-imagenet-code": _hooker((0.3, 0.5, 0.7, 0.9), begin=_BEGIN, end=_END, frequency=500),
    "hooker-celeba": _hooker((0.3, 0.5, 0.7, 0.9, 0.95, 0.99), begin=_BEGIN, end=_END, frequency=156),
}
"""Recipe to the schemes that its paper applies."""
