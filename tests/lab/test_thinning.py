"""Pruned models with smaller tensors."""

import copy
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remnant.lab import footprint, models
from remnant.lab.compress import Context, pruning, restore, structures, thinning
from remnant.lab.compress.layers import named_layers
from remnant.lab.compress.structures import output_layers
from remnant.lab.compress.wiring import examples_of, wiring
from remnant.schemes import Align
from remnant.schemes.pruning import GradualPruning, IterativePruning, OneShotPruning
from tests.lab.toys import NUM_CLASSES, SHAPE, ResidualNet, answers, built, context, evaluation_images, trained

torch_pruning = pytest.importorskip("torch_pruning", reason="needs the extra `structured`")

ARCHITECTURES = ["cnn", "resnet8", "wide-resnet-10-1", "resnext11", "densenet-bc-10-4", "resnet8-4", "lean-resnet-8"]


class Gated(nn.Module):
    """Channels that are concatenated, gated by a small network (squeeze and excitation) and put through a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.squeeze, self.excite = nn.Linear(10, 4), nn.Linear(4, 10)
        self.act = nn.PReLU(10)
        self.mix = nn.Conv2d(10, 8, 1)
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8 * 4, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.norm(torch.cat([self.left(images), self.right(images)], 1)))
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        x = torch.sigmoid(self.mix(x * gates[:, :, None, None])) * self.scale.view(1, -1, 1, 1)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class LastConvolution(nn.Module):
    """A network without linear layers: its last convolution gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, NUM_CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(images))).mean((2, 3))


class NormalisedTogether(nn.Module):
    """Group normalisation: without a channel the others' mean is another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)
        self.second, self.head = nn.Conv2d(8, 8, 3), nn.Linear(8, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(images))))).mean((2, 3)))


def unsettled(model: nn.Module) -> nn.Module:
    """The model with norms as after a training, so that silence is not their default."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, 0, 0.3, generator=generator)  # pyright: ignore
    return model.eval()


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        if name == "gated":
            return unsettled(Gated())
        if name in ARCHITECTURES:
            return unsettled(models.build(name, SHAPE, NUM_CLASSES, np.random.default_rng(0)))
        return unsettled(built(name))


def thin(model: nn.Module, sparsity: float = 0.5, place: Context | None = None, **fields: Any) -> nn.Module:
    scheme = OneShotPruning(sparsity, physical=True, epochs=0, **{"structure": "filter"} | fields)  # pyright: ignore
    return pruning.one_shot(scheme, model, place or context())


def masked_and_thinned(model: nn.Module, sparsity: float, **fields: Any) -> tuple[nn.Module, nn.Module]:
    """The model with groups at zero, all that is tied to them among them, and the one without them."""
    scheme = OneShotPruning(sparsity, physical=True, **{"structure": "filter"} | fields)  # pyright: ignore
    zeroed = copy.deepcopy(model)
    ranking = pruning.ranking_of(scheme, zeroed, context())
    for (module, name), mask in structures.masks_of(ranking.structures, ranking.kept(sparsity)).items():
        getattr(module, name).data.mul_(mask)
    return zeroed, thin(model, sparsity, **fields)


CASES = [("mlp", "neuron"), ("gated", "neuron"), *((name, "filter") for name in ("residual", "gated", *ARCHITECTURES))]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("name", "structure"), CASES)
def test_a_thinned_model_answers_as_the_masked_one_with_fewer_parameters_and_flops(name, structure, scope):
    model = model_of(name)
    images = evaluation_images(context())
    zeroed, small = masked_and_thinned(model, 0.5, structure=structure, scope=scope)
    np.testing.assert_allclose(answers(small, images), answers(zeroed, images), atol=1e-4)
    assert np.abs(answers(small, images) - answers(model, images)).max() > 1e-3
    cost, dense, masked = (footprint.measure(m, SHAPE) for m in (small, model, zeroed))
    assert cost["parameters"] < dense["parameters"]
    assert cost["flops"] == masked["effective_flops"] < dense["flops"]


@pytest.mark.parametrize("name", ["cnn", "lean-resnet-8", "wide-resnet-10-1", "residual", "densenet-bc-10-4"])
def test_shapes_are_those_that_torch_pruning_makes(name):
    """Oracle: `Group.prune` of torch-pruning 1.6 for the same channels."""
    model = model_of(name)
    small = thin(model, 0.5, scope="layer")
    scheme = OneShotPruning(0.5, "layer", structure="filter", physical=True)
    theirs = copy.deepcopy(model)
    ranking = pruning.ranking_of(scheme, theirs, context())
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, torch.randn(1, *SHAPE), verbose=False)
    for structure, kept in zip(ranking.structures, ranking.kept(0.5), strict=True):
        root = theirs.get_submodule(structure.name)
        function = torch_pruning.prune_conv_out_channels
        group = graph.get_pruning_group(root, function, (~kept).nonzero().flatten().tolist())
        group.prune()
    expected = {name: tensor.tolist() for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.tolist() for name, tensor in small.state_dict().items()} == expected
    sizes = [(str(a), str(b)) for a, b in zip(small.modules(), theirs.modules(), strict=True)]
    assert all(a == b for a, b in sizes)


def test_filters_that_nothing_is_tied_to_are_those_that_masks_alone_would_take():
    model = model_of("cnn")
    masked = pruning.one_shot(OneShotPruning(0.5, structure="filter", epochs=0), model, context())
    small = thin(model)
    kept = [int(layer.weight.flatten(1).any(1).sum()) for layer in list(named_layers(masked).values())[:-1]]
    assert [len(layer.weight) for layer in list(named_layers(small).values())[:-1]] == kept
    images = evaluation_images(context())
    np.testing.assert_allclose(answers(small, images), answers(masked, images), atol=1e-4)


def test_channels_that_are_added_are_ranked_by_the_sum_of_their_sizes():
    model: Any = model_of("residual")
    (group,) = pruning.ranking_of(
        OneShotPruning(0.5, structure="filter", criterion="l1", physical=True), model, context()
    ).structures
    expected: Any = sum(
        layer.weight.detach().abs().sum((1, 2, 3)) for layer in (model.stem, model.conv, model.depthwise)
    )
    torch.testing.assert_close(group.sizes("l1"), expected.double())
    small: Any = thin(model, 0.75, criterion="l1")
    stay = expected.topk(2).indices.sort().values
    assert torch.equal(small.stem.weight, model.stem.weight[stay])
    assert torch.equal(small.conv.weight, model.conv.weight[stay][:, stay])
    assert small.depthwise.groups == small.depthwise.in_channels == small.depthwise.out_channels == 2
    assert torch.equal(small.norm3.running_var, model.norm3.running_var[stay])
    assert torch.equal(small.head.weight, model.head.weight[:, stay])


def test_what_a_shortcut_pads_is_skipped_and_the_rest_reaches_the_share():
    place = context()
    model = model_of("resnet8")
    small: Any = thin(model, 0.5, place, scope="layer")
    assert len(place.skipped) == 1
    assert place.skipped[0].startswith("0, 3.conv2, 4.conv2, 5.conv2: without some of its channels")
    assert [small[i].conv1.out_channels for i in (3, 4, 5)] == [8, 16, 32]
    assert [small[i].conv2.out_channels for i in (3, 4, 5)] == [16, 32, 64]


def test_what_cannot_be_taken_out_is_named_with_the_reason():
    place = context()
    small: Any = thin(NormalisedTogether(), 0.5, place)
    assert place.skipped == ["first: GroupNorm reads it, whose channels cannot be taken out"]
    assert (small.first.out_channels, small.second.out_channels) == (8, 4)
    place = context()
    thin(model_of("resnext11"), 0.5, place)
    assert any("tied to a convolution of 32 groups of several channels" in reason for reason in place.skipped)


def test_the_convolution_that_gives_the_logits_keeps_its_outputs():
    small: Any = thin(LastConvolution(), 0.5)
    assert (small.first.out_channels, small.last.in_channels, small.last.out_channels) == (3, 3, NUM_CLASSES)
    with pytest.raises(ValueError, match=r"Expected linear layers before the logits for structure='neuron'"):
        thin(LastConvolution(), 0.5, structure="neuron")


def test_a_model_whose_every_channel_is_bound_is_refused():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, NUM_CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.conv(images).mean((2, 3)) * torch.arange(4))

    with pytest.raises(ValueError, match=r"channels that can be taken out for physical=True, but found none. conv: "):
        thin(Fixed())


def test_without_torch_pruning_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ValueError, match=r"'torch_pruning' for 'physical=True'.*remnant\[structured\]"):
        thin(model_of("cnn"))


def test_what_torch_pruning_cannot_follow_is_an_error_of_its_own(monkeypatch):
    def fail(*args: Any, **options: Any) -> None:
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr(torch_pruning.DependencyGraph, "build_dependency", fail)
    with pytest.raises(
        ValueError, match=r"that torch-pruning can follow .* Sequential with ZeroDivisionError: integer"
    ):
        thin(model_of("cnn"))


@pytest.mark.parametrize(
    "scheme",
    [
        OneShotPruning(0.5, structure="filter", physical=True, epochs=0.5),
        GradualPruning(0.5, structure="filter", physical=True, frequency=1),
        IterativePruning(0.5, "layer", structure="filter", physical=True, epochs=0.5, rounds=2),
    ],
    ids=lambda scheme: scheme.kind,
)
def test_thinned_models_are_tuned_and_come_back_from_their_tensors(scheme):
    place = context()
    model = trained("residual", place)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compress: Any = {"one-shot": pruning.one_shot, "gradual": pruning.gradual, "iterative": pruning.iterative}
    small = compress[scheme.kind.removesuffix("-pruning")](scheme, model, place)
    assert small.stem.out_channels == 4
    assert [module.training for module in small.modules()] == [module.training for module in model.modules()]
    again = restore(scheme, model, small.state_dict())
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(again, images), answers(small, images))
    assert str(again) == str(small)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("terms", [("logits",), ("features",), ("cross-entropy", "attribution")])
def test_every_alignment_loss_works_with_thinned_models(terms):
    place = context()
    model = trained("residual", place)
    scheme = OneShotPruning(0.5, structure="filter", physical=True, epochs=0.3, align=Align(terms))
    small: Any = pruning.one_shot(scheme, model, place)
    assert small.head.in_features == 4
    assert np.isfinite(answers(small, evaluation_images(place))).all()


def test_masked_models_come_back_too():
    place = context()
    model = trained("residual", place)
    scheme = OneShotPruning(0.5, structure="filter", epochs=0)
    small = pruning.one_shot(scheme, model, place)
    again = restore(scheme, model, small.state_dict())
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(small, images), answers(again, images))


def test_tensors_that_are_not_stored_are_named():
    scheme = OneShotPruning(0.5, structure="filter", physical=True)
    with pytest.raises(ValueError, match=r"Expected a tensor `0.weight` among those stored"):
        restore(scheme, model_of("cnn"), {})


def test_frozen_parameters_stay_frozen_and_memory_stays_channels_last():
    model = model_of("cnn").requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    small = thin(model)
    assert not any(p.requires_grad for p in small.parameters())
    weight: Any = small.get_parameter("3.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_every_structure_found_is_sound_on_its_own():
    model = model_of("densenet-bc-10-4")
    examples = examples_of(SHAPE, model)
    wires = wiring(model, examples)
    found, skipped = thinning.coupled(model, examples, output_layers(named_layers(model), "filter", wires), wires)
    assert skipped == []
    assert all(thinning._agrees(model, [structure], examples) for structure in found)


def test_halves_are_tried_until_what_is_bound_is_alone():
    model = ResidualNet()
    good = structures.Structure(
        "good", 8, (structures.member_along(model.norm1, "weight", 0, torch.full((8,), -1), scored=True),)
    )
    bad = structures.Structure(
        "bad", 8, (structures.member_along(model.norm1, "weight", 0, torch.arange(8), scored=True),)
    )
    examples = examples_of(SHAPE, model)
    assert thinning._sound(model, [good, bad, good], examples) == [good, good]


@pytest.mark.slow
def test_a_thinned_network_is_really_faster():
    shape = (3, 32, 32)
    model = models.build("wide-resnet-10-4", shape, 10, np.random.default_rng(0)).eval()
    small = copy.deepcopy(model)
    examples = examples_of(shape, model, 16)
    wires = wiring(small, examples)
    found, _ = thinning.coupled(small, examples, output_layers(named_layers(small), "filter", wires), wires)
    thinning.thin(found, structures.Ranking(found, "layer").kept(0.5))
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for _ in range(8):  # by turns, in processor time: other programs slow both alike
            for network, taken in zip((model, small), seconds, strict=True):
                start = time.process_time()
                network(examples)
                taken.append(time.process_time() - start)
    assert footprint.measure(small, shape)["flops"] < 0.35 * footprint.measure(model, shape)["flops"]
    assert min(seconds[1]) < 0.8 * min(seconds[0])
