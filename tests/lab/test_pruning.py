"""Magnitude pruning."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from remnant import fields
from remnant.lab.compress import compress, pruning, take_part
from remnant.lab.compress.pruning import cubic_sparsity, geometric_sparsity, magnitude
from remnant.lab.compress.structures import largest_magnitudes, num_kept
from remnant.lab.train import accuracy
from remnant.schemes import Align, DynamicInt8, MagnitudePruning, OneShotPruning
from remnant.schemes.pruning import GradualPruning, IterativePruning
from remnant.trial import Recipe, Trial, to_dict
from tests.lab.toys import ResidualNet, built, context, mlp, trained


def zeros(model: nn.Module) -> dict[str, int]:
    return {name: int((p == 0).sum()) for name, p in model.named_parameters() if p.dim() >= 2}


# The schedule


def test_cubic_schedule_has_the_values_worked_by_hand():
    # s_f = 0.8, t_0 = 10, t_1 = 20: at 15 half of the way, 0.8 (1 - 1/8) = 0.7
    at = {t: cubic_sparsity(t, 10, 20, 0.8) for t in (0, 10, 15, 20, 30)}
    assert at == pytest.approx({0: 0, 10: 0, 15: 0.7, 20: 0.8, 30: 0.8})
    # s_i = 0.2: 0.8 - 0.6 / 8
    assert cubic_sparsity(15, 10, 20, 0.8, initial=0.2) == pytest.approx(0.725)
    assert cubic_sparsity(5, 10, 20, 0.8, initial=0.2) == pytest.approx(0.2)


def test_cubic_schedule_jumps_if_it_begins_at_its_end():
    assert [cubic_sparsity(t, 5, 5, 0.9) for t in (4, 5, 6)] == [0.0, 0.9, 0.9]


@given(st.floats(0, 0.999), st.integers(0, 50), st.integers(1, 50))
def test_cubic_schedule_rises_ever_more_slowly(final, begin, length):
    values = np.array([cubic_sparsity(t, begin, begin + length, final) for t in range(begin, begin + length + 1)])
    assert values[0] == 0
    assert values[-1] == final
    assert (np.diff(values) >= 0).all()
    assert (np.diff(values, 2) <= 1e-12).all()


# Masks


@settings(deadline=None)
@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=60),
    st.floats(0, 0.99),
    st.integers(0, 60),
)
def test_mask_keeps_exactly_the_largest_first_ones_of_ties(values, sparsity, cut):
    weights = np.array(values, np.float32)
    kept = max(1, round(len(weights) * (1 - sparsity)))
    expected = np.zeros(len(weights), bool)
    expected[np.argsort(-np.abs(weights), kind="stable")[:kept]] = True
    parts = [part for part in (torch.tensor(weights[:cut]), torch.tensor(weights[cut:])) if len(part)]
    found = largest_magnitudes(parts, sparsity)
    assert [len(mask) for mask in found] == [len(part) for part in parts]
    np.testing.assert_array_equal(torch.cat(found).numpy(), expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_masks_agree_with_torch_prune(sparsity):
    """Oracle: torch.nn.utils.prune of torch 2.14 on weights without ties."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(40, 30), nn.Linear(30, 20)
    weights = [ours.weight.detach().clone(), theirs.weight.detach().clone()]
    pruned = [weight.numel() for weight in weights]
    alone = largest_magnitudes(weights[:1], sparsity)[0]
    together = largest_magnitudes(weights, sparsity)
    prune.global_unstructured(
        [(ours, "weight"), (theirs, "weight")],
        prune.L1Unstructured,
        amount=sum(pruned) - num_kept(sum(pruned), sparsity),
    )
    for layer, mask in zip((ours, theirs), together, strict=True):
        assert torch.equal(layer.get_buffer("weight_mask").bool(), mask)
    prune.remove(ours, "weight")
    with torch.no_grad():
        ours.weight.copy_(weights[0])
    prune.l1_unstructured(ours, "weight", amount=pruned[0] - num_kept(pruned[0], sparsity))
    assert torch.equal(ours.get_buffer("weight_mask").bool(), alone)


def test_equal_weights_are_still_pruned_to_the_declared_sparsity():
    (mask,) = largest_magnitudes([torch.ones(10, 10)], 0.9)
    assert mask.sum() == 10
    assert mask[0].all()


def test_at_least_one_weight_of_a_layer_stays():
    assert num_kept(4, 0.99) == 1
    (mask,) = largest_magnitudes([torch.tensor([1.0, -3.0, 2.0])], 0.99)
    assert mask.tolist() == [False, True, False]


def test_nan_weights_are_refused():
    with pytest.raises(ValueError, match="some are NaN: the training diverged"):
        largest_magnitudes([torch.tensor([1.0, float("nan")])], 0.5)


# Gradient rules


def one_layer(gradient: str) -> tuple[nn.Linear, object]:
    """Weights (4, -3, 2, 1) of which the last two are pruned."""
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
    hook = take_part(MagnitudePruning(0.5, gradient=gradient, begin=0, end=0), layer)  # pyright: ignore
    assert hook is not None
    hook.before_step(0, 10)
    return layer, hook


@pytest.mark.parametrize(
    ("gradient", "expected"), [("masked", [1.0, 2.0, 0.0, 0.0]), ("straight-through", [1.0, 2.0, 3.0, 4.0])]
)
def test_gradient_of_pruned_weights_is_zero_or_that_of_the_masked_weight(gradient, expected):
    layer, _ = one_layer(gradient)
    inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    output = layer(inputs)
    assert output.item() == 4 - 6
    output.sum().backward()
    raw = layer.parametrizations["weight"].original  # pyright: ignore
    assert raw.grad.tolist() == [expected]


def test_masked_raw_weights_move_by_weight_decay_and_momentum_alone():
    layer, _ = one_layer("masked")
    raw = layer.parametrizations["weight"].original  # pyright: ignore
    optimizer = torch.optim.SGD([raw], lr=0.1, momentum=0.5, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    # By hand for w = 2: v1 = .2, w1 = 1.98; v2 = .1 + .198 = .298, w2 = 1.98 - .0298
    assert raw[0, 2].item() == pytest.approx(1.9502)
    assert layer.weight[0, 2].item() == 0


def test_pruned_weights_come_back_when_their_raw_magnitude_grows():
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
    hook = magnitude(MagnitudePruning(0.5, begin=0, end=0.5, frequency=1), layer)
    hook.before_step(5, 10)
    assert layer.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]
    with torch.no_grad():
        layer.parametrizations["weight"].original[0, 3] = -7.0  # pyright: ignore
    assert layer.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]
    hook.before_step(4, 10)  # s = .5 (1 - .2^3) = .496
    assert layer.weight.tolist() == [[4.0, 0.0, 0.0, -7.0]]


@pytest.mark.parametrize("gradient", ["masked", "straight-through"])
def test_masks_work_under_bfloat16_autocast(gradient):
    layer, _ = one_layer(gradient)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert output.dtype == torch.bfloat16
    assert output.item() == -2
    output.sum().backward()
    raw = layer.parametrizations["weight"].original  # pyright: ignore
    assert raw.dtype == raw.grad.dtype == torch.float32
    assert raw.grad[0].tolist() == ([1, 2, 0, 0] if gradient == "masked" else [1, 2, 3, 4])


# The hook


def test_masks_follow_the_schedule_and_rest_between_updates():
    torch.manual_seed(0)
    layer = nn.Linear(50, 40)
    hook = magnitude(MagnitudePruning(0.8, begin=0.1, end=0.75, frequency=10), layer)
    mask = layer.parametrizations["weight"][0].mask  # pyright: ignore
    for step in range(100):
        version = mask._version
        hook.before_step(step, 100)
        updated = mask._version != version
        assert updated == (step in (10, 20, 30, 40, 50, 60, 70, 75))  # every 10 from begin on, and at the end
        if updated:
            assert int((~mask).sum()) == round(2000 * cubic_sparsity(step, 10, 75, 0.8))
        assert hook.settled(step + 1, 100) == (step >= 75)
    assert int((~mask).sum()) == 1600


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("steps", "frequency", "end"), [(1, 10, 0.75), (3, 1000, 0.75), (7, 3, 1.0), (50, 1, 0.5)])
def test_final_sparsity_is_reached_however_short_the_training(scope, steps, frequency, end):
    model = built("residual")
    dense = zeros(model)
    scheme = MagnitudePruning(0.9, scope=scope, frequency=frequency, end=end)
    hook = magnitude(scheme, model)
    for step in range(steps):
        hook.before_step(step, steps)
    hook.finish()
    pruned = zeros(model)
    assert set(dense.values()) == {0}
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.dim() >= 2}
    if scope == "global":
        assert abs(sum(pruned.values()) - 0.9 * sum(sizes.values())) <= 0.5
        assert len({round(pruned[name] / sizes[name], 2) for name in sizes}) > 1
    else:
        assert all(abs(pruned[name] - 0.9 * size) <= 0.5 for name, size in sizes.items())


def test_finish_enforces_the_sparsity_after_a_restored_checkpoint():
    model = built("mlp")
    hook = magnitude(MagnitudePruning(0.9), model)
    early = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(20):
        hook.before_step(step, 20)
    model.load_state_dict(early)
    hook.finish()
    assert list(zeros(model).values()) == [round(0.9 * 192 * 24), 96 - 10]


def test_finish_keeps_the_masks_that_training_ended_with():
    """Recomputing them would put weights to work that were not trained since the last update."""
    layer, hook = one_layer("masked")
    with torch.no_grad():
        layer.parametrizations["weight"].original[0, 3] = 9.0  # pyright: ignore
    hook.finish()  # pyright: ignore
    assert layer.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]


def test_finish_leaves_ordinary_layers_with_the_same_parameters():
    model = built("residual")
    names, parameters = list(model.state_dict()), {id(p) for p in model.parameters()}
    types = [type(module) for module in model.modules()]
    hook = magnitude(MagnitudePruning(0.5), model)
    hook.before_step(0, 1)
    hook.finish()
    assert sorted(model.state_dict()) == sorted(names)
    assert {id(p) for p in model.parameters()} == parameters  # an optimizer's references stay valid
    assert [type(module) for module in model.modules()] == types
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hook.finish()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_biases_and_norms_are_not_pruned():
    model = built("residual")
    magnitude(MagnitudePruning(0.99), model).finish()
    small = [p for p in model.parameters() if p.dim() < 2]
    expected = [p for p in built("residual").parameters() if p.dim() < 2]
    assert len(small) == 9
    assert all(any(torch.equal(p, q) for q in expected) for p in small)


def test_parametrized_weights_are_refused():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="weight of layer '0' is parametrized"):
        magnitude(MagnitudePruning(0.5), model)


def test_quantized_models_are_refused():
    place = context()
    model = compress(DynamicInt8(), trained("mlp", place), place)
    with pytest.raises(ValueError, match="Prune first, then quantize"):
        compress(OneShotPruning(0.5), model, place)


def test_models_without_layers_are_refused():
    with pytest.raises(ValueError, match="but ReLU has none"):
        magnitude(MagnitudePruning(0.5), nn.ReLU())


def test_training_with_the_hook_prunes_and_learns():
    place = context()
    recipe = replace(place.recipe, checkpoint="validation", validation=0.2)
    model = trained("residual", replace(place, recipe=recipe), MagnitudePruning(0.5, frequency=2))
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert zeros(model)["conv.weight"] == 288
    assert accuracy(model, place.dataset, "test") > 0.6


def test_a_model_that_was_not_pruned_in_training_is_refused():
    place = context()
    with pytest.raises(ValueError, match=r"only 0 of its 4704 weights are 0.*OneShotPruning"):
        compress(MagnitudePruning(0.5), mlp(), place)


# One-shot


def test_one_shot_without_fine_tuning_sets_the_smallest_weights_of_the_model_to_zero():
    place = context()
    model = trained("mlp", place)
    pruned = compress(OneShotPruning(0.75, epochs=0), model, place)
    kept = torch.cat([p.flatten() for p in pruned.parameters() if p.dim() >= 2])
    raw = torch.cat([p.flatten() for p in model.parameters() if p.dim() >= 2])
    assert int((kept == 0).sum()) == 4704 * 3 // 4
    assert torch.equal(kept[kept != 0], raw[kept != 0])
    assert raw[kept == 0].abs().max() <= raw[kept != 0].abs().min()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_fine_tuning_moves_kept_weights_and_holds_the_masks(scope):
    place = context()
    model = trained("residual", place)
    at_once = compress(OneShotPruning(0.8, scope=scope, epochs=0), model, place)
    tuned = compress(OneShotPruning(0.8, scope=scope, epochs=1, learning_rate=0.02), model, place)
    for name, p in tuned.named_parameters():
        before = at_once.get_parameter(name)
        if p.dim() >= 2:
            assert torch.equal(p == 0, before == 0)
        assert not torch.equal(p, before)


@pytest.mark.parametrize("epochs", [0, 0.5])
def test_one_shot_keeps_the_mode_of_each_module(epochs):
    model = built("residual").train()
    model.get_submodule("norm2").eval()
    pruned = compress(OneShotPruning(0.5, epochs=epochs), model, context())
    assert [module.training for module in pruned.modules()] == [module.training for module in model.modules()]


def test_fine_tuning_uses_streams_of_its_own_and_keeps_held_out_examples_out():
    place = context()
    recipe = replace(place.recipe, validation=0.25, checkpoint="validation", steps=1000)
    names: list[str] = []

    def rng(name: str) -> np.random.Generator:
        names.append(name)
        return place.rng(name)

    compress(OneShotPruning(0.5, epochs=0.5), mlp(), replace(place, recipe=recipe, rng=rng))
    assert "validation" in names
    assert "fine-tune/order" in names
    assert all(name == "validation" or name.startswith("fine-tune/") for name in names)


def test_one_shot_refuses_nan_weights():
    model = ResidualNet()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"`conv.weight` holds NaN or infinity"):
        compress(OneShotPruning(0.5, epochs=0), model, context())


def test_pruned_weights_answer_as_masked_weights_would():
    model, images = built("mlp"), torch.randn(5, 192)
    magnitude(MagnitudePruning(0.5, begin=0, end=0), model).finish()
    model.eval()
    first, last = model[1], model[4]  # pyright: ignore
    dense = built("mlp")
    masks = [largest_magnitudes([layer.weight], 0.5)[0] for layer in (dense[1], dense[4])]  # pyright: ignore
    hidden = functional.relu(images @ (dense[1].weight * masks[0]).T + first.bias)  # pyright: ignore
    expected = hidden @ (dense[4].weight * masks[1]).T + last.bias  # pyright: ignore
    torch.testing.assert_close(model(images), expected)


# Gradual


def test_gradual_pruning_follows_the_cubic_schedule_in_its_fine_tuning(monkeypatch):
    place = context()
    model = trained("residual", place)
    found: list[int] = []
    original = pruning.tuned

    def recorded(model: nn.Module, *args: Any, hook: pruning.Pruner, **options: Any) -> nn.Module:
        before_step = hook.before_step

        def counted(step: int, num_steps: int) -> None:
            before_step(step, num_steps)
            found.append(sum(int((~kept).sum()) for kept in hook.masks.kept()))

        wrapped = SimpleNamespace(before_step=counted, settled=hook.settled, finish=hook.finish)
        return original(model, *args, hook=wrapped, **options)  # pyright: ignore

    monkeypatch.setattr(pruning, "tuned", recorded)
    scheme = GradualPruning(0.8, epochs=2, begin=0.25, end=0.75, frequency=2)  # 12 steps
    pruned = pruning.gradual(scheme, model, place)
    size = sum(p.numel() for p in model.parameters() if p.dim() >= 2)
    at = [0, 0, 0, 3, 3, 5, 5, 7, 7, 9, 9, 9]  # updates from step 3 on, every second one, and at 9
    assert found == [size - num_kept(size, cubic_sparsity(t, 3, 9, 0.8)) for t in at]
    assert sum(zeros(pruned).values()) == size - num_kept(size, 0.8)


@pytest.mark.parametrize("structure", ["weight", "filter", "block"])
@pytest.mark.parametrize("gradient", ["masked", "straight-through"])
def test_gradual_pruning_reaches_the_share_and_keeps_modes(structure, gradient):
    place = context()
    model = trained("residual", place).train()
    model.get_submodule("norm2").eval()
    # Of 216 + 576 + 72 + 32 weights, 8 + 8 + 8 filters, and 2 x 7 + 2 x 18 + 2 x 3 + 1 x 2 tiles of 4 x 4.
    scheme = GradualPruning(0.5, structure=structure, gradient=gradient, epochs=0.5, frequency=1)
    pruned = pruning.gradual(scheme, model, place)
    assert [module.training for module in pruned.modules()] == [module.training for module in model.modules()]
    assert not any(parametrize.is_parametrized(module) for module in pruned.modules())
    assert gone(pruned, structure) == {"weight": 448, "filter": 12, "block": 29}[structure]


def gone(model: nn.Module, structure: str) -> int:
    """Number of groups of weights of the small residual network that are zero."""
    scheme = OneShotPruning(0.5, structure=structure)  # pyright: ignore
    groups = pruning.ranking_of(scheme, model, context()).structures
    return sum(int((group.sizes("max" if structure != "weight" else "l2") == 0).sum()) for group in groups)


def test_gradual_pruning_without_epochs_is_one_shot_pruning():
    place = context()
    model = trained("mlp", place)
    one, other = OneShotPruning(0.7, epochs=0), GradualPruning(0.7, epochs=0)
    a, b = pruning.one_shot(one, model, place), pruning.gradual(other, model, place)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_checkpoint_from_before_the_end_is_pruned_to_the_share():
    place = context()
    place = replace(place, recipe=replace(place.recipe, validation=0.25, checkpoint="validation"))
    pruned = pruning.gradual(GradualPruning(0.8, end=1.0, frequency=1), trained("residual", place), place)
    assert sum(zeros(pruned).values()) == 896 - num_kept(896, 0.8)


# Iterative


def test_geometric_sparsities_remove_the_same_share_of_what_is_left():
    # 1 - .512^(1/3) = .2: Frankle & Carbin's 20 % a round
    found = [geometric_sparsity(number, 3, 0.488) for number in (1, 2, 3)]
    assert found == pytest.approx([0.2, 0.36, 0.488])
    assert found[-1] == 0.488
    assert geometric_sparsity(1, 1, 0.9) == 0.9
    assert [geometric_sparsity(number, 2, 0.0) for number in (1, 2)] == [0, 0]


@pytest.mark.parametrize("structure", ["weight", "filter"])
def test_one_round_of_fine_tuning_is_one_shot_pruning_bit_for_bit(structure):
    place = context()
    model = trained("residual", place)
    one = pruning.one_shot(OneShotPruning(0.6, structure=structure), model, place)
    rounds = pruning.iterative(IterativePruning(0.6, structure=structure, rounds=1), model, place)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), rounds.state_dict().values(), strict=True))


def test_rounds_train_with_streams_of_their_own():
    place = context()
    names: list[str] = []

    def rng(name: str) -> np.random.Generator:
        names.append(name)
        return place.rng(name)

    scheme = IterativePruning(0.5, rounds=3, epochs=0.2)
    pruning.iterative(scheme, mlp(), replace(place, rng=rng))
    assert [name for name in names if "order" in name] == [
        "fine-tune/order",
        "fine-tune-2/order",
        "fine-tune-3/order",
    ]


@pytest.mark.parametrize("kind", ["one-shot", "gradual", "iterative"])
def test_alignment_losses_change_what_is_learned_and_not_how_much_is_pruned(kind):
    place = context()
    model = trained("residual", place)
    found = []
    for align in (None, Align(("distillation", "features"))):
        common: dict[str, Any] = {"structure": "filter", "scope": "layer", "align": align}
        if kind == "one-shot":
            found.append(pruning.one_shot(OneShotPruning(0.5, **common), model, place))
        elif kind == "gradual":
            found.append(pruning.gradual(GradualPruning(0.5, frequency=2, **common), model, place))
        else:
            found.append(pruning.iterative(IterativePruning(0.5, rounds=2, epochs=0.5, **common), model, place))
    assert [gone(pruned, "filter") for pruned in found] == [12, 12]
    assert not torch.equal(found[0].get_parameter("head.weight"), found[1].get_parameter("head.weight"))


# The values


def test_keys_of_stored_trials_do_not_change():
    """A changed key orphans every published trial. Written down before structures were added."""
    recipe = Recipe("digits", "cnn", epochs=2, learning_rate=0.05)
    keys = {
        MagnitudePruning(0.7, frequency=3): "d58dec9d7b0ca0f4",
        OneShotPruning(0.9): "bb47c7d89ada0ecb",
        OneShotPruning(0.5, scope="layer", epochs=2): "b10293eefb61a32c",
        OneShotPruning(0.9, "layer", epochs=0): "5d672c714e2c969d",
    }
    assert {scheme: Trial(recipe, scheme).key for scheme in keys} == keys


@pytest.mark.parametrize("cls", [OneShotPruning, GradualPruning, IterativePruning])
def test_pruning_comes_back_from_plain_data(cls):
    scheme = cls(0.5, structure="filter", criterion="l1", physical=True, target="flops", align=Align(("logits",)))
    assert fields.build(cls, {k: v for k, v in to_dict(scheme).items() if k != "kind"}, "scheme") == scheme
    assert scheme.label.startswith(f"{cls.kind}(sparsity=0.5, structure=filter, criterion=l1, physical=True")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShotPruning(1.0), r"Expected `sparsity` in \[0, 1\), but got 1.0"),
        (lambda: GradualPruning(0.5, begin=0.8, end=0.2), r"Expected `begin, end` with 0 <= begin <= end <= 1"),
        (lambda: GradualPruning(0.5, frequency=0), r"Expected `frequency` >= 1, but got 0"),
        (lambda: GradualPruning(0.5, gradient="none"), r"Expected `gradient` to be one of .*but got 'none'"),  # pyright: ignore
        (lambda: IterativePruning(0.5, rounds=0), r"Expected `rounds` >= 1, but got 0"),
        (lambda: IterativePruning(0.5, rewind="start"), r"Expected `rewind` to be one of .*but got 'start'"),  # pyright: ignore
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
