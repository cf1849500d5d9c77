"""Low rank: against tensorly, the Eckart-Young theorem, and costs counted by hand."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import tensorly
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.decomposition import partial_tucker
from tensorly.tenalg import multi_mode_dot  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor, nn

from remnant.lab.compress import compress
from remnant.lab.compress.factors import Extent, factorable
from remnant.lab.compress.low_rank import (
    WHOLE,
    Ranks,
    Spectrum,
    decomposed,
    low_rank,
    ranks_for_cost,
    restore_low_rank,
)
from remnant.lab.footprint import measure
from remnant.lab.train import accuracy
from remnant.schemes import DynamicInt8
from remnant.schemes.low_rank import LowRank
from tests.lab.toys import MODELS, NUM_CLASSES, SHAPE, answers, built, context, evaluation_images, trained


def weight(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def product_of(parts: list[Tensor], ranks: Ranks) -> Tensor:
    """The weight that factors stand for, by explicit sums."""
    left = parts[-1].flatten(1) if ranks[0] is not None else None
    right = parts[0].flatten(1) if ranks[1] is not None else None
    core = parts[0 if right is None else 1]
    core = core.flatten(2) if core.dim() > 2 else core.unsqueeze(2)
    if left is not None:
        core = torch.einsum("nr,rck->nck", left, core)
    if right is not None:
        core = torch.einsum("nrk,rc->nck", core, right)
    return core


def error(tensor: Tensor, ranks: Ranks) -> float:
    given = tensor.flatten(2) if tensor.dim() > 2 else tensor.unsqueeze(2)
    return float((product_of(decomposed(tensor, ranks), ranks) - given).norm())


# Decompositions


@pytest.mark.parametrize("shape", [(7, 5), (5, 9), (6, 4, 1, 1), (6, 4, 3, 3), (8, 3, 5)])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_error_of_the_svd_is_the_tail_of_the_singular_values(shape, rank):
    """Eckart & Young (1936): no matrix of this rank is closer. Singular values by NumPy."""
    tensor = weight(*shape)
    values = np.linalg.svd(tensor.flatten(1).numpy(), compute_uv=False)
    assert error(tensor, (rank, None)) == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), abs=1e-9)


@pytest.mark.parametrize("ranks", [(1, 1), (3, 2), (2, 4), (7, 1), (8, 6)])
def test_error_of_tucker_is_that_of_tensorly(ranks):
    """Oracle: partial_tucker of tensorly 0.10 (HOOI from HOSVD) on the first two modes."""
    tensor = weight(8, 6, 3, 3)
    (core, factors), _ = partial_tucker(
        tensorly.tensor(tensor.numpy()), rank=list(ranks), modes=[0, 1], n_iter_max=200, tol=1e-10
    )
    theirs = np.linalg.norm(multi_mode_dot(core, factors, modes=[0, 1]) - tensor.numpy())
    assert error(tensor, ranks) <= theirs * 1.002 + 1e-9


def test_tucker_finds_the_factors_of_a_tensor_that_has_them():
    parts = [weight(8, 2, seed=1), weight(2, 3, 3, 3, seed=2), weight(6, 3, seed=3)]
    tensor = torch.einsum("nr,rcxy,dc->ndxy", *parts)
    assert error(tensor, (2, 3)) < 1e-9 * float(tensor.norm())
    assert error(tensor, (1, 3)) > 0.1


def test_sweeps_improve_on_the_higher_order_svd():
    tensor = weight(12, 10, 3, 3)
    bases = [np.linalg.svd(np.moveaxis(tensor.numpy(), side, 0).reshape(n, -1))[0] for side, n in ((0, 12), (1, 10))]
    outputs, inputs = bases[0][:, :3] @ bases[0][:, :3].T, bases[1][:, :3] @ bases[1][:, :3].T
    truncated = np.einsum("ncxy,mn,dc->mdxy", tensor.numpy(), outputs, inputs)
    assert error(tensor, (3, 3)) < np.linalg.norm(truncated - tensor.numpy()) - 1e-3


def test_two_factors_have_the_same_norm_in_each_component():
    core, left = decomposed(weight(8, 6, 3, 3), (3, None))
    np.testing.assert_allclose(left.flatten(1).norm(dim=0), core.flatten(1).norm(dim=1), rtol=1e-9)
    right, core = decomposed(weight(8, 6, 3, 3), (None, 2))
    np.testing.assert_allclose(right.flatten(1).norm(dim=1), core.transpose(0, 1).flatten(1).norm(dim=1))


def test_a_weight_of_zeros_stays_zero():
    assert error(torch.zeros(6, 4, 3, 3, dtype=torch.float64), (2, 2)) == 0
    (spectrum,) = [Spectrum((torch.zeros(4, dtype=torch.float64),), Extent(6, 4, 1, 1, 1))]
    assert spectrum.ranks_for_energy(0.9) == [1]
    assert spectrum.ranks_above(0.1) == [1]


# Ranks


def spectrum(shape: tuple[int, int, int], *, sides: int = 1, read: int = 1, written: int = 1, seed: int = 0):
    tensor = weight(*shape, seed=seed)
    values = [torch.linalg.svdvals(tensor.transpose(0, side).flatten(1)) for side in range(sides)]
    return Spectrum(tuple(values), Extent(*shape, read, written))


def test_rank_by_energy_is_worked_by_hand():
    # Squares 16, 4, 4, 1 of 25: 0.64, 0.8, 0.96, 1
    found = Spectrum((torch.tensor([4.0, 2.0, 2.0, 1.0], dtype=torch.float64),), Extent(9, 9, 1, 1, 1))
    ranks = {energy: found.ranks_for_energy(energy)[0] for energy in (0.1, 0.64, 0.65, 0.8, 0.9, 0.97, 1.0)}
    assert ranks == {0.1: 1, 0.64: 1, 0.65: 2, 0.8: 2, 0.9: 3, 0.97: 4, 1.0: 4}


def test_rank_by_threshold_is_worked_by_hand():
    # Over their l2 norm 5: 0.8, 0.4, 0.4, 0.2
    found = Spectrum((torch.tensor([4.0, 2.0, 2.0, 1.0], dtype=torch.float64),), Extent(9, 9, 1, 1, 1))
    assert [found.ranks_above(threshold)[0] for threshold in (0.0, 0.2, 0.3, 0.4, 0.8, 0.9)] == [4, 4, 3, 3, 1, 1]


def test_costs_are_worked_by_hand():
    # 3x3 convolution of 16 to 32 channels, 8x8 positions to 4x4 (stride 2)
    extent = Extent(32, 16, 9, 64, 16)
    found = Spectrum((torch.ones(32), torch.ones(16)), extent)
    assert found.cost(WHOLE) == 32 * 16 * 9 * 16
    assert found.cost((5, None)) == 16 * 5 * 9 * 16 + 5 * 32 * 16
    assert found.cost((5, 4)) == 16 * 4 * 64 + 4 * 5 * 9 * 16 + 5 * 32 * 16
    assert found.cost((None, 4)) == 16 * 4 * 64 + 4 * 32 * 9 * 16


def test_layers_whose_factors_cost_as_much_stay_whole():
    # 4x4: rank 2 costs 2 (4 + 4) = 16 = 4 x 4; rank 1 costs 8
    found = Spectrum((torch.ones(4),), Extent(4, 4, 1, 1, 1))
    assert found.cheapest([2]) == WHOLE
    assert found.cheapest([1]) == (1, None)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 9])), min_size=1, max_size=4),
    st.floats(0.05, 1),
    st.integers(0, 200),
)
def test_budget_is_used_up_to_one_singular_value(shapes, share, fixed):
    spectra = [spectrum(shape, sides=1 + (shape[2] > 1), seed=i) for i, shape in enumerate(shapes)]
    total = fixed + sum(s.cost(WHOLE) for s in spectra)
    by_threshold = []  # slow: every threshold, from the highest
    for threshold in sorted({0.0, *np.concatenate([np.concatenate(s.relative) for s in spectra]), np.inf})[::-1]:
        ranks = [s.cheapest(s.ranks_above(threshold)) for s in spectra]
        by_threshold.append((fixed + sum(s.cost(r) for s, r in zip(spectra, ranks, strict=True)), ranks))
    costs = [cost for cost, _ in by_threshold]
    assert costs == sorted(costs)
    if costs[0] > share * total:
        with pytest.raises(ValueError, match=rf"Expected `share` >= {costs[0] / total:.4f} \(rank 1"):
            ranks_for_cost(spectra, total, share)
    else:
        assert ranks_for_cost(spectra, total, share) == [r for c, r in by_threshold if c <= share * total][-1]


# Models


class Convolutions(nn.Module):
    """Every way to call a convolution, a layer called twice, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 12, 3, stride=2, padding=1, padding_mode="reflect")
        self.dilated = nn.Conv2d(12, 12, (3, 1), padding=(2, 0), dilation=(2, 1), bias=False)
        self.pointwise = nn.Conv2d(12, 16, 1, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.twice = nn.Linear(16, 16)
        self.line = nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.grouped(self.pointwise(self.dilated(self.strided(images)).relu()).relu()).relu()
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = self.twice(self.twice(tokens).relu())
        return self.head(self.line(tokens.transpose(1, 2)).mean(2))


def convolutions() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Convolutions()


@pytest.fixture(scope="module")
def place():
    return context()


@pytest.mark.parametrize("method", ["tucker", "svd"])
def test_factors_answer_as_their_product(method, place):
    """Layers of low rank are split without loss, whatever their stride, padding, dilation and bias."""
    model = convolutions()
    with torch.no_grad():
        for layer in factorable(model, place)[0].values():
            ranks = (2, None) if method == "svd" or layer.weight[0, 0].numel() == 1 else (2, 2)
            layer.weight.copy_(product_of(decomposed(layer.weight, ranks), ranks).reshape(layer.weight.shape))
    images = evaluation_images(place)
    compressed = low_rank(LowRank(energy=0.99999999, method=method, epochs=0), model, place)
    split = {name for name, module in compressed.named_children() if isinstance(module, nn.Sequential)}
    assert split == {"strided", "dilated", "pointwise", "twice", "line", "head"}
    np.testing.assert_allclose(answers(compressed, images), answers(model, images), atol=1e-5)


def test_what_cannot_be_split_is_listed(place):
    place = replace(place, skipped=[])
    low_rank(LowRank(energy=0.5, epochs=0), convolutions(), place)
    assert place.skipped == [
        "grouped: a convolution in 4 groups",
        "attention.out_proj: its weight is read without calling the layer",
    ]


def test_layers_with_shared_weights_stay_whole(place):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    model[3].weight = model[2].weight  # pyright: ignore
    place = replace(place, skipped=[])
    compressed = low_rank(LowRank(energy=0.5, epochs=0), model, place)
    assert place.skipped == [f"{i}: its weight is shared: 2.weight, 3.weight" for i in (2, 3)]
    assert isinstance(compressed.get_submodule("1"), nn.Sequential)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["tucker", "svd"])
def test_all_energy_is_the_dense_model(name, method, place):
    model = trained(name, place)
    same = low_rank(LowRank(energy=1.0, method=method, epochs=0), model, place)
    images = evaluation_images(place)
    np.testing.assert_allclose(answers(same, images), answers(model, images), atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cost", ["parameters", "flops"])
@pytest.mark.parametrize("method", ["tucker", "svd"])
def test_share_of_the_cost_is_reached(name, cost, method, place):
    model = built(name)
    dense = measure(model, SHAPE)[cost]
    shares = []
    for share in (0.6, 0.8, 1.0):
        compressed = low_rank(LowRank(share=share, cost=cost, method=method, epochs=0), model, place)
        shares.append(measure(compressed, SHAPE)[cost] / dense)
        assert shares[-1] <= share
    assert shares == sorted(shares)
    assert shares[0] > 0.3
    assert shares[-1] == 1


def test_strided_factors_cost_what_footprint_counts(place):
    model = convolutions()
    for method in ("tucker", "svd"):
        compressed = low_rank(LowRank(share=0.7, cost="flops", method=method, epochs=0), model, place)  # pyright: ignore
        _, extents = factorable(model, place)
        spent = 0
        for name, extent in extents.items():
            rows = compressed.get_submodule(name)
            if isinstance(rows, nn.Sequential):
                weights = [row.weight for row in rows]  # pyright: ignore
                inner = weights[0].shape[0] if len(weights) == 3 else None  # pyright: ignore
                found = Spectrum((), extent).cost((weights[-1].shape[1], inner))  # pyright: ignore
            else:
                found = extent.multiplications() // getattr(rows, "groups", 1)
            spent += 2 * found
        assert measure(compressed, SHAPE)["flops"] == spent


def test_fine_tuning_recovers_accuracy(place):
    model = trained("residual", place)
    split = low_rank(LowRank(share=0.3, epochs=0), model, place)
    tuned = low_rank(LowRank(share=0.3, epochs=4.0, learning_rate=0.05), model, place)
    before, after = (accuracy(m, place.dataset, "test") for m in (split, tuned))
    assert after > before + 0.1


@pytest.mark.parametrize("name", MODELS)
def test_restored_model_answers_with_the_same_bits(name, place):
    scheme = LowRank(share=0.7, epochs=0.5)
    model = trained(name, place)
    compressed = low_rank(scheme, model, place)
    state = {key: tensor.clone() for key, tensor in compressed.state_dict().items()}
    again = restore_low_rank(scheme, model, state)
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(again, images), answers(compressed, images))
    assert [(n, type(m)) for n, m in again.named_modules()] == [(n, type(m)) for n, m in compressed.named_modules()]


def test_a_model_that_is_one_layer_is_split_and_restored(place):
    layer = nn.Linear(8, 6)
    data = replace(place.dataset, train=replace(place.dataset.train, images=place.dataset.train.images[..., 0, :, 0]))
    data = replace(data, train=replace(data.train, images=torch.rand(400, 8)), mean=torch.zeros(8), std=torch.ones(8))
    compressed = low_rank(LowRank(energy=0.3, epochs=0), layer, replace(place, dataset=data))
    assert list(compressed.state_dict()) == ["0.weight", "1.weight", "1.bias"]
    again = restore_low_rank(LowRank(energy=0.3), layer, compressed.state_dict())
    assert torch.equal(again(data.train.images), compressed(data.train.images))


def test_modes_of_modules_stay(place):
    model = built("residual").eval()
    model.get_submodule("conv").train()
    compressed = low_rank(LowRank(energy=0.5, epochs=0.2), model, place)
    modes = {name: module.training for name, module in compressed.named_modules()}
    assert {name for name, training in modes.items() if training} == {"conv", *(n for n in modes if n[:5] == "conv.")}
    assert isinstance(compressed.get_submodule("conv"), nn.Sequential)


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Expected exactly one of `energy` and `share`, but got energy=None and share=None"),
        ({"energy": 0.5, "share": 0.5}, "Expected exactly one of `energy` and `share`, but got energy=0.5"),
        ({"energy": 0.0}, r"Expected `energy` in \(0, 1\], but got 0.0"),
        ({"share": 1.5}, r"Expected `share` in \(0, 1\], but got 1.5"),
        ({"share": 0.5, "method": "cp"}, "cp"),
        ({"share": 0.5, "cost": "seconds"}, "seconds"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        LowRank(**settings)


def test_a_share_that_cannot_be_reached_says_what_can(place):
    with pytest.raises(ValueError, match=r"Expected `share` >= 0.0\d+ \(rank 1 in every layer"):
        low_rank(LowRank(share=0.001, epochs=0), built("mlp"), place)


def test_models_without_a_layer_to_split_are_refused(place):
    model = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"a layer that can be split .* 0 \(a convolution in 3 groups\)"):
        low_rank(LowRank(energy=0.5), model, place)


def test_parametrized_quantized_and_infinite_weights_are_refused(place):
    model = nn.utils.parametrizations.weight_norm(nn.Linear(192, 4))
    with pytest.raises(ValueError, match="those of layer '1' are parametrized"):
        low_rank(LowRank(energy=0.5), nn.Sequential(nn.Flatten(), model), place)
    with pytest.raises(ValueError, match="it has quantized layers. Quantize last"):
        low_rank(LowRank(energy=0.5), compress(DynamicInt8(), built("mlp"), place), place)
    broken = copy.deepcopy(built("mlp"))
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        low_rank(LowRank(energy=0.5), broken, place)
