"""Group sparsity: the factored model, the proximal steps, the search for a FLOP ratio and the smaller model."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab import models
from remnant.lab.compress.group_sparsity import (
    FILTERS,
    RANKS,
    Budget,
    Hinge,
    ProximalSteps,
    _hinged,
    _smaller,
    group_sparsity,
    kept_groups,
    largest_of,
    restore_group_sparsity,
    split,
)
from remnant.lab.compress.layers import replaced
from remnant.lab.footprint import measure
from remnant.lab.train import accuracy, learning_rate
from remnant.schemes import Align
from remnant.schemes.group_sparsity import GroupSparsity
from tests.lab.toys import MODELS, NUM_CLASSES, RECIPE, SHAPE, answers, built, context, evaluation_images, trained


class Plain(nn.Module):
    """A plain network: convolutions in a row, and linear layers behind flattened pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.conv3 = nn.Conv2d(12, 12, 1)
        self.hidden, self.head = nn.Linear(192, 16), nn.Linear(16, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(self.norm2(self.conv2(x)))
        x = functional.relu(self.conv3(x)).flatten(1)
        return self.head(functional.relu(self.hidden(x)))


def resnet() -> nn.Module:
    return models.build("resnet8", SHAPE, NUM_CLASSES, np.random.default_rng(0))


def plain() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Plain()


def with_moved_norms(model: nn.Module) -> nn.Module:
    """Statistics of batch norms as if they had seen data."""
    rng = np.random.default_rng(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, len(tensor))))  # pyright: ignore
    return model.eval()


NETWORKS = {"plain": plain, "resnet": resnet, **MODELS}
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="module")
def place():
    return context()


# The factored model


@pytest.mark.parametrize("start", ["svd", "identity"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="circular"), (2, 4, 8, 8)),
        (nn.Conv2d(8, 4, 1, stride=2, padding=1, bias=False), (2, 8, 8, 8)),
        (nn.Conv2d(1, 16, (3, 1), dilation=2), (2, 1, 8, 8)),
        (nn.Conv1d(4, 6, 3), (2, 4, 9)),
        (nn.Linear(9, 5), (2, 3, 9)),
    ],
)
def test_both_factors_together_answer_as_the_layer(layer, shape, start):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pair = split(layer, start)
    torch.testing.assert_close(pair(inputs), layer(inputs), atol=1e-5, rtol=1e-4)
    assert [p.requires_grad for p in pair.parameters()][:2] == [False, True]


def test_groups_of_the_svd_are_norms_of_filters_and_singular_values():
    """Singular values by NumPy."""
    layer = nn.Conv2d(4, 6, 3)
    factor = split(layer, "svd")[1].weight.detach().flatten(1)  # pyright: ignore
    matrix = layer.weight.detach().flatten(1)
    np.testing.assert_allclose(factor.norm(dim=1), matrix.norm(dim=1), rtol=1e-5)
    np.testing.assert_allclose(factor.norm(dim=0), np.linalg.svd(matrix.numpy(), compute_uv=False), rtol=1e-5)


def test_filters_go_inside_blocks_and_ranks_before_sums(place):
    hinges, _ = _hinged(GroupSparsity(0.5), resnet(), place)
    inner = {f"{block}.conv1" for block in (3, 4, 5)}
    assert {hinge.name for hinge in hinges if hinge.dim == FILTERS} == inner
    assert {hinge.name for hinge in hinges if hinge.dim == RANKS} == {"0", *(n.replace("1", "2") for n in inner)}
    only = {g: _hinged(GroupSparsity(0.5, groups=g), resnet(), place)[0] for g in ("filters", "factors")}  # pyright: ignore
    assert {hinge.name for hinge in only["filters"]} == inner
    assert {hinge.dim for hinge in only["factors"]} == {RANKS}
    assert len(only["factors"]) == 7


def test_balanced_norms_have_mean_one(place):
    for hinge in _hinged(GroupSparsity(0.5), resnet(), place)[0]:
        assert float(hinge.norms.mean()) == pytest.approx(1, rel=1e-5)
    for hinge in _hinged(GroupSparsity(0.5, balanced=False), resnet(), place)[0]:
        assert hinge.unit == 1


# Proximal steps


def hinge(dim: int = FILTERS, unit: float = 1.0) -> Hinge:
    layer = nn.Linear(6, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=(5, 6))))
    return Hinge("layer", layer, split(layer, "svd"), dim, None, unit)  # pyright: ignore


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("dim", [FILTERS, RANKS])
def test_without_gradients_all_steps_take_the_limit_off_every_norm(schedule, dim):
    one = hinge(dim, unit=2.0)
    before = one.norms
    recipe = replace(RECIPE, schedule=schedule, learning_rate=0.03)
    hook = ProximalSteps([one], GroupSparsity(0.5, regularizer="l1"), recipe, 1.0, lambda: False)
    for step in range(20):
        hook.before_step(step, 20)
        assert not hook.settled(step + 1, 20)
    hook.finish()
    np.testing.assert_allclose(one.norms, (before - 1).clamp_min(0), atol=1e-5)
    assert (one.norms == 0).any()


def test_a_step_is_as_long_as_the_learning_rate_before_it():
    one = hinge()
    recipe = replace(RECIPE, schedule="cosine", learning_rate=0.5)
    hook = ProximalSteps([one], GroupSparsity(0.5, regularizer="l1", regularization=0.1), recipe, 9.0, lambda: False)
    norms = [one.norms]
    for step in range(3):
        hook.before_step(step, 3)
        norms.append(one.norms)
    hook.finish()
    norms.append(one.norms)
    taken = [float(a[0] - b[0]) for a, b in pairwise(norms)]
    assert taken == pytest.approx([0, *(0.1 * learning_rate(recipe, step, 3) for step in range(3))], abs=1e-6)


def test_groups_stop_shrinking_once_enough_are_zero():
    one = hinge()
    enough = lambda: bool((one.norms == 0).sum() >= 2)  # noqa: E731
    recipe = replace(RECIPE, schedule="constant", learning_rate=0.01)
    hook = ProximalSteps([one], GroupSparsity(0.5, regularizer="l1"), recipe, float(one.norms.max()), enough)
    for step in range(50):
        hook.before_step(step, 50)
    hook.finish()
    assert 2 <= (one.norms == 0).sum() < len(one.norms)


@pytest.mark.parametrize("learning_rate", [0.01, 0.1])
def test_no_more_goes_than_was_asked_for(learning_rate):
    """Norms that are much alike once all reached zero together, and what was left was the smallest that is allowed."""
    network = models.build("cnn-8", SHAPE, NUM_CLASSES, np.random.default_rng(0)).eval()
    scheme = GroupSparsity(0.6, epochs=4.0, learning_rate=learning_rate)
    left = measure(group_sparsity(scheme, network, context()), SHAPE)["flops"] / measure(network, SHAPE)["flops"]
    assert 0.35 < left <= 0.6


def test_penalty_of_zero_shrinks_nothing():
    one = hinge()
    before = one.matrix.clone()
    hook = ProximalSteps([one], GroupSparsity(0.5, regularization=0.0), RECIPE, 9.0, lambda: False)
    hook.before_step(0, 2)
    hook.before_step(1, 2)
    hook.finish()
    assert torch.equal(one.matrix, before)


@pytest.mark.parametrize("regularizer", ["l1", "l1/2", "l1-2", "logsum"])
def test_sparsifying_makes_weak_groups_weaker(regularizer, place):
    """More of the norm of a layer is in its strongest half than before."""
    scheme = GroupSparsity(0.5, regularizer=regularizer, epochs=2.0, sparsifying=1.0, learning_rate=0.02)
    model = trained("mlp", place)
    seen: list[float] = []

    def spread(matrix: Tensor) -> float:
        norms = matrix.norm(dim=1).sort().values
        return float(norms[: len(norms) // 2].sum() / norms.sum())

    original = ProximalSteps.finish

    def finish(self: ProximalSteps) -> None:
        original(self)
        seen.append(spread(self.hinges[0].matrix))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProximalSteps, "finish", finish)
        group_sparsity(scheme, model, place)
    assert seen[0] < spread(model[1].weight.detach())  # pyright: ignore


# The search


@every_network
@pytest.mark.parametrize("groups", ["hinge", "factors"])
@pytest.mark.parametrize("flops", [0.8, 0.5])
def test_flop_ratio_is_reached_within_one_group(name, groups, flops, place):
    scheme = GroupSparsity(flops, groups=groups, epochs=0)
    model = with_moved_norms(NETWORKS[name]())
    dense = measure(model, SHAPE)["flops"]
    assert measure(group_sparsity(scheme, model, place), SHAPE)["flops"] <= flops * dense

    hinges, budget = _hinged(scheme, model, place)
    removed = budget.search(hinges, scheme)
    sparse = copy.deepcopy(model)
    sparse = replaced(sparse, {sparse.get_submodule(h.name): h.pair for h in hinges})
    more = _smaller(sparse, model, hinges, kept_groups(hinges, removed - 1, scheme.smallest))
    assert measure(more, SHAPE)["flops"] > flops * dense


@every_network
def test_predicted_cost_is_what_footprint_counts(name, place):
    scheme = GroupSparsity(0.5)
    model = NETWORKS[name]()
    hinges, budget = _hinged(scheme, model, place)
    number = sum(len(h.norms) for h in hinges)
    costs = []
    for removed in range(0, number + 1, max(1, number // 4)):
        kept = kept_groups(hinges, removed, 0.1)
        pairs = {h.name: copy.deepcopy(h.pair) for h in hinges}
        sparse = copy.deepcopy(model)
        sparse = replaced(sparse, {sparse.get_submodule(n): pair for n, pair in pairs.items()})
        smaller = _smaller(sparse, model, [replace(h, pair=pairs[h.name]) for h in hinges], kept)
        costs.append(budget.cost(hinges, kept))
        assert measure(smaller, SHAPE)["flops"] == 2 * costs[-1]
    assert costs[0] == budget.total
    assert costs == sorted(costs, reverse=True)


def test_smallest_norms_go_first_and_the_declared_share_stays():
    one, two = hinge(), replace(hinge(), name="other", unit=0.1)
    kept = kept_groups([one, two], 2, 0.2)
    assert kept["layer"].sum() == 3
    assert set(one.norms[~kept["layer"]].tolist()) == set(one.norms.sort().values[:2].tolist())
    assert kept["other"].all()
    assert largest_of([one, two], 2) == pytest.approx(float(one.norms.sort().values[1]))
    all_gone = kept_groups([one, two], 10, 0.4)
    assert [int(mask.sum()) for mask in all_gone.values()] == [2, 2]
    assert all_gone["layer"].nonzero().squeeze(1).tolist() == sorted(one.norms.argsort()[-2:].tolist())


def test_groups_that_are_zero_go_in_any_case(place):
    hinges, budget = _hinged(GroupSparsity(0.99), plain(), place)
    with torch.no_grad():
        hinges[0].matrix[:5] = 0
    assert isinstance(budget, Budget)
    assert int(kept_groups(hinges, budget.search(hinges, GroupSparsity(0.99)), 0.1)["conv1"].sum()) <= 3


# The smaller model


@pytest.mark.parametrize("name", ["plain", "resnet"])
def test_smaller_model_answers_as_the_sparse_one(name, place):
    """Groups set to zero, and the constants that batch norms make of channels of zeros, against groups gone."""
    model = with_moved_norms(NETWORKS[name]())
    scheme = GroupSparsity(0.4, epochs=0)
    hinges, budget = _hinged(scheme, model, place)
    kept = kept_groups(hinges, budget.search(hinges, scheme), scheme.smallest)
    sparse = copy.deepcopy(model)
    sparse = replaced(sparse, {sparse.get_submodule(h.name): h.pair for h in hinges})
    smaller = _smaller(copy.deepcopy(sparse), model, hinges, kept)
    with torch.no_grad():
        for one in hinges:
            gone = ~kept[one.name]
            if one.dim == RANKS and not isinstance(smaller.get_submodule(one.name), nn.Sequential):
                continue  # merged with all its ranks
            one.matrix.movedim(one.dim, 0)[gone] = 0
            if one.dim == FILTERS:
                norms = [sparse.get_submodule(n) for n in one.readers.norms]
                for tensor in [one.pair[1].bias, *(t for n in norms for t in (n.bias, n.running_mean))]:
                    if tensor is not None:
                        tensor.data[gone] = 0  # pyright: ignore
    assert sum(p.numel() for p in smaller.parameters()) < 0.8 * sum(p.numel() for p in model.parameters())
    images = evaluation_images(place)
    np.testing.assert_allclose(answers(smaller, images), answers(sparse, images), atol=1e-4)


@every_network
def test_nothing_removed_is_the_dense_model(name, place):
    model = with_moved_norms(NETWORKS[name]())
    images = evaluation_images(place)
    same = group_sparsity(GroupSparsity(1.0, epochs=0), model, place)
    np.testing.assert_array_equal(answers(same, images), answers(model, images))


def test_training_the_smaller_model_recovers_accuracy(place):
    model = trained("residual", place)
    schemes = [GroupSparsity(0.4, epochs=epochs, learning_rate=0.02, sparsifying=0.3) for epochs in (0.0, 10.0)]
    before, after = (accuracy(group_sparsity(s, model, place), place.dataset, "train", place.indices) for s in schemes)
    assert after > before + 0.1


@every_network
def test_restored_model_answers_with_the_same_bits(name, place):
    scheme = GroupSparsity(0.5, epochs=1.0)
    model = NETWORKS[name]()
    compressed = group_sparsity(scheme, model, place)
    state = {key: tensor.clone() for key, tensor in compressed.state_dict().items()}
    again = restore_group_sparsity(scheme, model, state)
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(again, images), answers(compressed, images))
    assert [repr(m) for m in again.modules()] == [repr(m) for m in compressed.modules()]


def test_same_streams_same_bits_and_the_given_model_is_untouched(place):
    model = trained("residual", place)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.zero_grad(set_to_none=True)
    scheme = GroupSparsity(0.5, align=Align(("cross-entropy", "distillation")))
    images = evaluation_images(place)
    first, again = (answers(group_sparsity(scheme, model, place), images) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_all_weights_of_the_smaller_model_can_be_trained(place):
    compressed = group_sparsity(GroupSparsity(0.5, epochs=0), resnet(), place)
    assert all(parameter.requires_grad for parameter in compressed.parameters())


def test_modes_of_modules_stay(place):
    model = resnet().eval()
    model.get_submodule("3.conv2").train()
    compressed = group_sparsity(GroupSparsity(0.3, groups="factors"), model, place)
    modes = {name for name, module in compressed.named_modules() if module.training}
    assert modes == {"3.conv2", "3.conv2.0", "3.conv2.1"}


# What cannot be done


def test_what_stays_whole_is_listed(place):
    place = replace(place, skipped=[])
    group_sparsity(GroupSparsity(0.9, groups="filters", epochs=0), resnet(), place)
    assert place.skipped == [
        f"{name}: not all that reads its filters can shrink" for name in ("0", "3.conv2", "4.conv2", "5.conv2")
    ]
    place.skipped.clear()
    group_sparsity(GroupSparsity(0.9, epochs=0), built("residual"), place)
    assert place.skipped == ["depthwise: a convolution in 8 groups"]


def test_a_ratio_that_cannot_be_reached_says_what_can(place):
    with pytest.raises(ValueError, match=r"Expected `flops` >= 0.\d+, which is reached when .* but got 0.01"):
        group_sparsity(GroupSparsity(0.01), resnet(), place)


def test_models_with_nothing_to_remove_are_refused(place):
    one = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(ValueError, match=r"whose filters or ranks can go, but Sequential has none. .*the last layer"):
        group_sparsity(GroupSparsity(0.5), one, replace(place, skipped=[]))
    with pytest.raises(ValueError, match=r"whose filters can go, but ResidualNet has none. Skipped: .*stem: not all"):
        group_sparsity(GroupSparsity(0.5, groups="filters"), built("residual"), replace(place, skipped=[]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flops": 0.0}, r"Expected `flops` in \(0, 1\], but got 0.0"),
        ({"flops": 0.5, "groups": "rows"}, "rows"),
        ({"flops": 0.5, "regularizer": "l0"}, "l0"),
        ({"flops": 0.5, "start": "random"}, "random"),
        ({"flops": 0.5, "regularization": -1.0}, "Expected `regularization` >= 0, but got -1.0"),
        ({"flops": 0.5, "smallest": 0.0}, r"Expected `smallest` in \(0, 1\]"),
        ({"flops": 0.5, "sparsifying": 1.5}, r"Expected `sparsifying` in \[0, 1\]"),
        ({"flops": 0.5, "epochs": -1.0}, "Expected `epochs` >= 0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        GroupSparsity(**settings)
