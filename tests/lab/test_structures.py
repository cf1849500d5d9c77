"""Groups of weights that are pruned together."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from remnant.lab import footprint
from remnant.lab.compress import pruning, structures
from remnant.lab.compress.layers import named_layers
from remnant.lab.compress.pruning import ranking_of
from remnant.lab.compress.structures import Ranking, masks_of
from remnant.lab.compress.wiring import examples_of, wiring
from remnant.schemes.pruning import OneShotPruning
from tests.lab.toys import NUM_CLASSES, SHAPE, ResidualNet, answers, built, context, evaluation_images, trained

CRITERIA = ("l1", "l2", "max", "min", "mean", "sum")
every_criterion = pytest.mark.parametrize("criterion", CRITERIA)


class TwoHeads(nn.Module):
    """Logits that are the sum of a convolution's and a linear layer's, and a norm without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.conv_head = nn.Conv2d(6, NUM_CLASSES, 1)
        self.hidden = nn.Linear(6, 10)
        self.head = nn.Linear(10, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(images)))
        deep = self.head(torch.relu(self.hidden(x.mean((2, 3)))))
        return self.conv_head(x).mean((2, 3)) + deep


def conv_and_linear() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(192, 10), nn.Linear(10, 4)
        )


def ranking(model: nn.Module, **fields: Any) -> Ranking:
    return ranking_of(OneShotPruning(0.5, **fields), model, context())


def pruned(model: nn.Module, sparsity: float, **fields: Any) -> nn.Module:
    return pruning.one_shot(OneShotPruning(sparsity, epochs=0, **fields), model, context())


def layers_of(model: nn.Module) -> list[Any]:
    return list(named_layers(model).values())


# Sizes of groups


def slow_criterion(values: np.ndarray, criterion: str) -> float:
    values = np.abs(values.astype(np.float64)).ravel()
    return {
        "l1": values.sum(),
        "sum": values.sum(),
        "l2": math.sqrt((values**2).sum()),
        "max": values.max(),
        "min": values.min(),
        "mean": values.mean(),
    }[criterion]


@every_criterion
def test_sizes_of_filters_and_neurons_are_the_criterion_of_their_magnitudes(criterion):
    model = conv_and_linear()
    for structure, names in (("filter", ["0", "2"]), ("neuron", ["4"])):
        groups = ranking(model, structure=structure).structures
        assert [group.name for group in groups] == names
        for group in groups:
            weight = model.get_submodule(group.name).weight.detach().numpy()  # pyright: ignore
            expected = [slow_criterion(row, criterion) for row in weight]
            np.testing.assert_allclose(group.sizes(criterion).numpy(), expected, rtol=1e-12)


@every_criterion
@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_sizes_of_tiles_are_the_criterion_of_their_magnitudes(criterion, size):
    model = nn.Sequential(nn.Conv2d(3, 5, (2, 3)), nn.Flatten(), nn.Linear(7, 6))
    found = structures.blocks(named_layers(model), size)
    for group, layer in zip(found, layers_of(model), strict=True):
        matrix = layer.weight.detach().flatten(1).numpy()
        rows, columns = (range(0, length, size) for length in matrix.shape)
        expected = [slow_criterion(matrix[r : r + size, c : c + size], criterion) for r, c in product(rows, columns)]
        assert group.size == len(expected)
        np.testing.assert_allclose(group.sizes(criterion).numpy(), expected, rtol=1e-12)


def test_a_single_weight_is_as_large_as_its_magnitude():
    layer = nn.Linear(3, 2)
    (group,) = structures.weights({"": layer})
    assert torch.equal(group.sizes("l2"), layer.weight.detach().abs().flatten())


# Which groups stay


@pytest.mark.parametrize(("criterion", "order"), [("l1", 1), ("sum", 1), ("l2", 2), ("max", float("inf"))])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_filters_and_neurons_of_a_layer_agree_with_torch_prune(criterion, order, sparsity):
    """Oracle: torch.nn.utils.prune.ln_structured of torch 2.14."""
    for structure, position in (("filter", 2), ("neuron", 4)):
        model, theirs = conv_and_linear(), conv_and_linear()
        ours = pruned(model, sparsity, structure=structure, criterion=criterion, scope="layer")
        layer: Any = theirs[position]  # pyright: ignore
        number = len(layer.weight) - structures.num_kept(len(layer.weight), sparsity)
        prune.ln_structured(layer, "weight", amount=number, n=order, dim=0)
        assert torch.equal(ours[position].weight, layer.weight)  # pyright: ignore


@pytest.mark.parametrize("structure", ["filter", "block"])
@every_criterion
def test_global_pruning_removes_the_smallest_groups_of_all_layers(structure, criterion):
    model = conv_and_linear()
    found = ranking(model, structure=structure, criterion=criterion)
    sizes = [group.sizes(criterion).numpy() for group in found.structures]
    together = np.concatenate(sizes)
    forced = np.cumsum([0, *map(len, sizes[:-1])]) + [part.argmax() for part in sizes]
    number = round(len(together) * 0.4)
    order = [i for i in np.argsort(-together, kind="stable") if i not in forced]
    expected = np.zeros(len(together), bool)
    expected[[*forced, *order[: number - len(forced)]]] = True
    np.testing.assert_array_equal(torch.cat(found.kept(0.6)).numpy(), expected)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("structure", ["filter", "neuron", "block"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.77, 0.99])
def test_exactly_the_declared_share_of_groups_goes(structure, scope, sparsity):
    found = ranking(conv_and_linear(), structure=structure, scope=scope)
    kept = found.kept(sparsity)
    assert sum(int(part.sum()) for part in kept) == found.num_groups(sparsity)
    assert all(part.any() for part in kept)
    sizes = [group.size for group in found.structures]
    if scope == "layer":
        assert [int(part.sum()) for part in kept] == [max(1, round(size * (1 - sparsity))) for size in sizes]
    else:
        assert found.num_groups(sparsity) == max(len(sizes), round(sum(sizes) * (1 - sparsity)))


def test_of_equal_groups_the_first_stay():
    model = conv_and_linear()
    with torch.no_grad():
        for layer in layers_of(model):
            layer.weight.fill_(0.5)
    (first, second) = ranking(model, structure="filter", scope="layer").kept(0.5)
    assert first.tolist() == [True] * 4 + [False] * 4
    assert second.tolist() == [True] * 6 + [False] * 6


def test_no_layer_loses_everything_however_small_its_weights():
    """Without this rule the last layer of a small network on digits lost all weights at 90 %."""
    model = built("mlp")
    with torch.no_grad():
        model[4].weight.mul_(1e-6)  # pyright: ignore
    for structure in ("weight", "block"):
        counts = [int((layer.weight != 0).sum()) for layer in layers_of(pruned(model, 0.9, structure=structure))]
        assert counts[1] == (1 if structure == "weight" else 16)
        assert min(counts) >= 1
    masks = structures.largest_magnitudes([layer.weight for layer in layers_of(model)], 0.9)
    assert [bool(mask.any()) for mask in masks] == [True, False]


# Layers that give the logits


@pytest.mark.parametrize("frozen", [False, True])
def test_layers_that_give_the_logits_keep_all_outputs(frozen):
    model = TwoHeads().requires_grad_(not frozen)
    assert [group.name for group in ranking(model, structure="filter").structures] == ["stem"]
    assert [group.name for group in ranking(model, structure="neuron").structures] == ["hidden"]
    found = wiring(model, examples_of(SHAPE, model))
    assert found.logits == {model.conv_head, model.head}
    assert found.norms == {model.stem: (model.norm,)}


def test_uses_of_weights_give_the_flops_of_the_footprint():
    model = ResidualNet()
    uses = wiring(model, examples_of(SHAPE, model)).uses
    flops = sum(2 * number * layer.weight.numel() for layer, number in uses.items())
    assert flops == footprint.measure(model, SHAPE)["flops"]


@pytest.mark.parametrize(("structure", "what"), [("filter", "convolutions"), ("neuron", "linear layers")])
def test_models_without_such_layers_are_refused_with_their_layers(structure, what):
    model = built("mlp" if structure == "filter" else "residual")
    with pytest.raises(ValueError, match=rf"Expected {what} before the logits .*only the layers \['.*'\], of which"):
        pruned(model, 0.5, structure=structure)


# What goes with a group


def outputs_after_norm(model: nn.Module, name: str, images: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda *call: kept.append(call[2]))  # pyright: ignore
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("training", [False, True])
def test_a_removed_filter_is_silent_behind_its_norm(training):
    place = context()
    for model, norm in ((trained("residual", place), "norm1"), (TwoHeads(), "norm")):
        if norm == "norm":
            model.get_submodule(norm).running_mean.fill_(0.7)  # pyright: ignore
        small = pruned(model, 0.5, structure="filter", scope="layer")
        gone = small.stem.weight.flatten(1).abs().sum(1) == 0  # pyright: ignore
        assert int(gone.sum()) == len(gone) // 2
        after = outputs_after_norm(small.train(training), norm, evaluation_images(place))
        assert not after[:, gone].any()
        assert after[:, ~gone].any()


def test_biases_and_norms_of_removed_filters_stay_zero_in_fine_tuning():
    place = context()
    model = trained("residual", place)
    scheme = OneShotPruning(0.5, scope="layer", structure="filter", learning_rate=0.05)
    small: Any = pruning.one_shot(scheme, model, place)
    gone = small.conv.weight.flatten(1).abs().sum(1) == 0
    assert int(gone.sum()) == 4
    for values in (small.conv.bias, small.norm2.weight, small.norm2.bias):
        assert torch.equal(values == 0, gone)
    assert not torch.equal(small.norm2.bias, model.norm2.bias)  # pyright: ignore
    assert (small.norm3.bias != 0).all()  # it reads a ReLU
    assert type(small.norm2) is nn.BatchNorm2d


def test_tiles_leave_biases_and_norms_alone():
    place = context()
    model = trained("residual", place)
    small = pruned(model, 0.5, structure="block", block_size=3, scope="layer")
    for name, p in small.named_parameters():
        if p.dim() < 2:
            assert torch.equal(p, model.get_parameter(name))
        else:
            assert bool((p == 0).any())


# Shares of FLOPs


@pytest.mark.parametrize("structure", ["filter", "block"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_flops_is_reached_with_the_fewest_groups(structure, scope, share):
    model = built("residual")
    found = ranking(model, structure=structure, scope=scope, target="flops")
    kept = found.kept(share)
    assert found.flops_removed(kept) >= share
    plain = ranking(model, structure=structure, scope=scope)
    total = sum(group.size for group in found.structures)
    number = sum(int(part.sum()) for part in kept)
    more = [plain.kept(s) for s in np.arange(0, 1, 0.2 / total)]
    assert not any(
        found.flops_removed(part) >= share for part in more if sum(int(mask.sum()) for mask in part) > number
    )


def test_the_footprint_shows_the_share_of_flops_that_went():
    model = conv_and_linear()
    small = pruned(nn.Sequential(model, nn.Flatten()), 0.6, structure="filter", target="flops")
    cost = footprint.measure(small, SHAPE)
    assert 0.6 <= 1 - cost["effective_flops"] / cost["flops"] < 0.75


def test_a_share_of_flops_that_cannot_be_reached_is_refused_with_the_largest():
    with pytest.raises(ValueError, match=r"Expected `sparsity` <= 0\.\d{3} with target='flops'.*but got 0\.99"):
        pruned(built("residual"), 0.99, structure="filter", target="flops")


# All together


@pytest.mark.parametrize("structure", ["filter", "neuron", "block"])
def test_nothing_pruned_is_the_dense_model_bit_for_bit(structure):
    place = context()
    model = conv_and_linear()
    same = pruned(model, 0.0, structure=structure)
    assert {n: t.tolist() for n, t in same.state_dict().items()} == {
        n: t.tolist() for n, t in model.state_dict().items()
    }
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(same, images), answers(model, images))


def test_masks_of_a_tensor_in_two_structures_hold_both():
    layer = nn.Linear(3, 2)
    rows = structures.Structure("rows", 2, (structures.member_along(layer, "weight", 0, torch.arange(2)),))
    columns = structures.Structure(
        "columns", 2, (structures.member_along(layer, "weight", 1, torch.tensor([0, -1, 1])),)
    )
    masks = masks_of((rows, columns), (torch.tensor([True, False]), torch.tensor([False, True])))
    assert masks[layer, "weight"].tolist() == [[False, True, True], [False, False, False]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"structure": "channel"}, r"Expected `structure` to be one of .*but got 'channel'"),
        ({"criterion": "max"}, r"Expected `criterion` as it is with structure='weight', but got 'max'"),
        ({"target": "flops"}, r"Expected `target` = 'groups' with structure='weight', but got 'flops'"),
        ({"block_size": 8}, r"Expected `block_size` only for blocks, but got 8"),
        ({"structure": "block", "block_size": 0}, r"Expected `block_size` >= 1, but got 0"),
        ({"physical": True}, r"Expected `structure` = 'filter' or 'neuron' with physical=True, but got 'weight'"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OneShotPruning(0.5, **fields)
