"""L-C: training and compression in turn."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress import compress, restore
from remnant.lab.compress import learning_compression as module
from remnant.lab.compress.decompressed import decompressed, decompressed_weights
from remnant.lab.compress.learning_compression import (
    alternated,
    batches_per_step,
    cross_entropy,
    learning_compression,
    penalty_weights,
    step_recipe,
)
from remnant.lab.train import accuracy, learning_rate
from remnant.schemes import (
    SCHEMES,
    Align,
    Compose,
    Dense,
    DynamicInt8,
    Float16,
    LowRank,
    MagnitudePruning,
    OneShotPruning,
    scheme_from_dict,
)
from remnant.schemes.learning_compression import LearningCompression
from remnant.trial import to_dict
from tests.lab.toys import answers, built, context, dataset, evaluation_images, trained

PRUNE = OneShotPruning(0.9, epochs=0)
SHORT = LearningCompression(PRUNE, steps=4, epochs=2, learning_rate=0.05)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def num_zeros(model: nn.Module) -> int:
    return sum(int((p == 0).sum()) for p in model.parameters() if p.dim() >= 2)


# A problem with a known answer: least squares with at most k weights that are not 0


def least_squares(seed: int, num_weights: int = 8) -> tuple[Tensor, Tensor]:
    """Correlated inputs A (60, d), so that the largest weights of the full solution are not the best ones, and b."""
    rng = np.random.default_rng(seed)
    correlation = 0.6 ** np.abs(np.subtract.outer(range(num_weights), range(num_weights)))
    inputs = rng.normal(size=(60, num_weights)) @ np.linalg.cholesky(correlation).T
    targets = inputs @ rng.normal(size=num_weights) + rng.normal(size=60) / 2
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def squares(inputs: Tensor, targets: Tensor, weights: Tensor) -> float:
    return (inputs @ weights - targets).square().sum().item()


def optimum(inputs: Tensor, targets: Tensor, kept: int) -> float:
    """Least squares over all supports of `kept` weights."""
    found = []
    for support in combinations(range(inputs.shape[1]), kept):
        part = inputs[:, support]
        found.append(squares(part, targets, torch.linalg.lstsq(part, targets[:, None]).solution[:, 0]))
    return min(found)


def solved(inputs: Tensor, targets: Tensor, kept: int, penalties: tuple[float, ...], *, multipliers: bool = True):
    """`alternated` with L-steps that are solved exactly: the normal equations with mu on the diagonal."""
    weights = torch.linalg.lstsq(inputs, targets[:, None]).solution[:, 0].requires_grad_()
    gram = inputs.T @ inputs

    def learn(number: int, penalty) -> None:
        mu = penalties[number - 1]
        (gradient,) = torch.autograd.grad(penalty(), weights)  # mu (w - target)
        with torch.no_grad():
            right = inputs.T @ targets + mu * weights - gradient
            weights.copy_(torch.linalg.solve(gram + mu * torch.eye(len(weights)), right))

    def project(found):
        smallest = found["w"].abs().argsort()[: len(weights) - kept]
        return {"w": found["w"].index_fill(0, smallest, 0.0)}

    return alternated({"w": weights}, learn, project, penalties, multipliers=multipliers)["w"]


MUS = tuple(1.1**step for step in range(80))


def test_sparse_least_squares_come_near_the_optimum_of_all_supports():
    """The problem is not convex: L-C need not find the best support, but it does for most of 20 random problems.

    The quadratic penalty does not: at a finite mu the weights that are kept are biased.
    """
    excess: dict[str, list[float]] = {"direct": [], "penalty": [], "lagrangian": []}
    for seed in range(20):
        problem = least_squares(seed)
        best = optimum(*problem, kept=3)
        excess["direct"].append(squares(*problem, solved(*problem, 3, ())) / best - 1)
        excess["penalty"].append(squares(*problem, solved(*problem, 3, MUS, multipliers=False)) / best - 1)
        excess["lagrangian"].append(squares(*problem, solved(*problem, 3, MUS)) / best - 1)
    found = np.array(excess["lagrangian"])
    assert found.min() > -1e-9
    assert (found < 1e-6).mean() > 0.6
    assert found.mean() < 0.04 < 0.08 < np.mean(excess["penalty"]) < 0.3 < np.mean(excess["direct"])
    assert (found <= excess["direct"]).all()


def test_one_step_is_the_published_update_worked_by_hand():
    """w = (3, 1), keep 1, L(w) = 0, mu = 2 then 4; exact L-steps go to the target theta + lambda / mu.

    theta_0 = (3, 0). Step 1: w = (3, 0), theta = (3, 0), lambda = -2 (0, 0) = 0. With L-steps that stop half way, w_1 =
    ((3 + 3) / 2, (1 + 0) / 2) = (3, 1/2), theta_1 = (3, 0), lambda_1 = -2 (0, 1/2) = (0, -1). The target of step 2 is
    theta_1 + lambda_1 / 4 = (3, -1/4); half way: w_2 = (3, 1/8); theta_2 = Pi(w_2 - lambda_1 / 4) = Pi(3, 3/8).
    """
    weights, mus, seen, projected = torch.tensor([3.0, 1.0], requires_grad=True), (2.0, 4.0), [], []

    def learn(number: int, penalty) -> None:
        (gradient,) = torch.autograd.grad(penalty(), weights)
        target = weights.detach() - gradient / mus[number - 1]
        seen.append(target.tolist())
        with torch.no_grad():
            weights.copy_((weights + target) / 2)

    def project(found):
        projected.append(found["w"].tolist())
        return {"w": found["w"] * torch.tensor([1.0, 0.0])}

    theta = alternated({"w": weights}, learn, project, mus)["w"]
    assert seen == [[3.0, 0.0], [3.0, -0.25]]
    assert projected == [[3.0, 1.0], [3.0, 0.5], [3.0, 0.375]]
    assert theta.tolist() == [3.0, 0.0]


# Schedules


def test_mu_follows_the_published_recurrence():
    """github.com/NVlabs/condensa, opt/lc/lc.py: mu_init if mu == 0 else (mu if mu > mu_cap else mu * multiplier)."""
    published = replace(SHORT, steps=35, mu_init=1e-3, mu_multiplier=1.1, mu_cap=1e4)
    mu, expected = 0.0, []
    for _ in range(34):
        mu = 1e-3 if mu == 0 else (mu if mu > 1e4 else mu * 1.1)
        expected.append(mu)
    assert penalty_weights(published) == pytest.approx(tuple(expected))
    assert penalty_weights(published)[-1] == pytest.approx(1e-3 * 1.1**33)  # 0.0232 in the last of 35 steps


def test_mu_does_not_exceed_its_cap():
    """The published recurrence gives 1, 4, 16 and stays there with a cap of 10."""
    assert penalty_weights(replace(SHORT, steps=6, mu_init=1, mu_multiplier=4, mu_cap=10)) == (1, 4, 10, 10, 10)
    assert penalty_weights(replace(SHORT, steps=4, mu_init=2, mu_multiplier=5, mu_cap=2)) == (2, 2, 2)


def test_batches_are_shared_as_published():
    """CIFAR-10: 30,000 batches in the first of 34 L-steps and 3,000 in each other."""
    total = 30_000 + 33 * 3_000
    published = replace(SHORT, steps=35, first=30_000 / total)
    assert batches_per_step(published, total) == (30_000, *[3_000] * 33)


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("total", [1, 5, 100, 1001])
def test_batches_add_up(steps, total):
    parts = batches_per_step(replace(SHORT, steps=steps), total)
    assert len(parts) == steps - 1
    assert min(parts) >= 1
    if total >= 100:
        assert sum(parts) == total


def test_the_learning_rate_of_an_l_step_falls_exponentially():
    """0.01 to 1e-4, as on CIFAR-10: rate(t) = 0.01 exp(t / n ln(1e-4 / 0.01)); half way 0.001."""
    recipe = replace(context().recipe, warmup=0.2, checkpoint="test-selected", schedule="cosine")
    scheme = replace(SHORT, learning_rate=0.01, decay=0.01)
    made = step_recipe(scheme, recipe, mu=1.0, batches=10)
    assert [learning_rate(made, step, 10) for step in (0, 5, 10)] == pytest.approx([0.01, 1e-3, 1e-4])
    assert (made.steps, made.checkpoint) == (10, "last")
    assert step_recipe(scheme, recipe, mu=1000.0, batches=10).learning_rate == 1e-3


# The scheme


@pytest.mark.parametrize("method", ["augmented-lagrangian", "quadratic-penalty"])
def test_it_is_sparse_and_better_than_direct_compression(method):
    place = context()
    model = trained("residual", place)
    inner = OneShotPruning(0.7, epochs=0)
    scheme = LearningCompression(inner, method=method, steps=8, mu_init=1.0, epochs=8, learning_rate=0.05)
    direct = compress(inner, model, place)
    found = learning_compression(scheme, model, place)
    assert num_zeros(found) == num_zeros(direct) > 0
    held_out, _ = module._held_out(scheme, place)
    assert cross_entropy(found, place.dataset, held_out) < 0.1 * cross_entropy(direct, place.dataset, held_out)
    assert accuracy(found, place.dataset, "test") > 0.95 > 0.45 > accuracy(direct, place.dataset, "test")


def test_nothing_of_the_model_is_changed():
    """Condensa's published optimizer trains the user's model in place."""
    place = context()
    model = trained("residual", place).train()
    model.get_submodule("norm2").eval()
    model.get_parameter("head.bias").requires_grad_(False)
    before, modes = values(model), [m.training for m in model.modules()]
    gradients = [p.grad for p in model.parameters()]
    found = learning_compression(SHORT, model, place)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes == [m.training for m in found.modules()]
    assert all(p.grad is gradient for p, gradient in zip(model.parameters(), gradients, strict=True))
    assert all(p.grad is None for p in found.parameters())
    assert not model.get_parameter("head.bias").requires_grad


def test_test_examples_do_not_matter():
    """Condensa's published optimizer chooses theta by the test loss where no validation data are given."""
    place = context()
    model = trained("mlp", place)
    other = dataset()
    wrong = replace(other, test=replace(other.test, labels=other.test.labels.flip(0), images=other.test.images * 0))  # pyright: ignore
    for checkpoint in ("last", "test-selected"):
        recipe = replace(place.recipe, checkpoint=checkpoint)
        a = learning_compression(SHORT, model, replace(place, recipe=recipe))
        b = learning_compression(SHORT, model, replace(place, recipe=recipe, dataset=wrong))
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_l_steps_do_not_see_the_held_out_examples(share, monkeypatch):
    place = context()
    place = replace(place, recipe=replace(place.recipe, validation=share))
    held_out, _ = module._held_out(SHORT, place)
    assert len(held_out) == round((share or SHORT.validation) * len(place.indices))
    spoiled = dataset()
    spoiled.train.labels[held_out] = (spoiled.train.labels[held_out] + 1) % 4
    model, seen = trained("mlp", place), []

    def consider(best, candidate) -> None:
        seen.append(values(candidate))
        best.model = candidate

    monkeypatch.setattr(module._Best, "consider", consider)
    for data in (place.dataset, spoiled):
        learning_compression(SHORT, model, replace(place, dataset=data))
    first, second = seen[: SHORT.steps], seen[SHORT.steps :]
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_best_step_on_the_held_out_examples_is_kept(monkeypatch):
    place = context()
    losses, seen = iter([3.0, 2.0, 2.0, 5.0]), []

    def loss(candidate, data, indices) -> float:
        seen.append(candidate)
        return next(losses)

    monkeypatch.setattr(module, "cross_entropy", loss)
    found = learning_compression(SHORT, trained("mlp", place), place)
    assert [candidate is found for candidate in seen] == [False, True, False, False]


def test_without_epochs_it_is_direct_compression():
    place = context()
    model = trained("residual", place)
    direct = compress(PRUNE, model, place)
    found = learning_compression(replace(SHORT, epochs=0), model, place)
    assert all(torch.equal(values(direct)[name], tensor) for name, tensor in values(found).items())


def test_the_same_seed_gives_the_same_bits():
    model = trained("mlp", context())
    a, b = (values(learning_compression(SHORT, model, context())) for _ in range(2))
    other = values(learning_compression(SHORT, model, context(seed=1)))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], other[name]) for name in a)


def test_each_l_step_has_streams_of_its_own():
    place, names = context(), []

    def rng(name: str) -> np.random.Generator:
        names.append(name)
        return place.rng(name)

    learning_compression(SHORT, trained("mlp", place), replace(place, rng=rng))
    assert {name.split("/")[0] for name in names} == {"learning-compression", "l-step-1", "l-step-2", "l-step-3"}


def test_the_number_of_batches_is_that_of_the_epochs(monkeypatch):
    place, steps = context(), []
    monkeypatch.setattr(module, "tuned", lambda *args, recipe, **kwargs: steps.append(recipe.steps))
    learning_compression(SHORT, trained("mlp", place), place)
    assert sum(steps) == 2 * (200 // 32)


def test_alignment_terms_reach_the_l_steps():
    """Trained towards wrong labels, only the model that looks at its reference answers as the reference does."""
    place = context()
    model = trained("mlp", place)
    wrong = dataset()
    wrong.train.labels.add_(1).remainder_(4)
    place = replace(place, dataset=wrong)
    scheme = replace(SHORT, epochs=8)
    images = evaluation_images(place)
    expected = answers(model, images).argmax(1)
    agreements = [
        (answers(learning_compression(replace(scheme, align=align), model, place), images).argmax(1) == expected).mean()
        for align in (None, Align(("distillation",)))
    ]
    assert agreements[0] < 0.5 < 0.9 < agreements[1]


# Other C-steps


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("residual", Float16()),
        ("mlp", DynamicInt8(per_channel=False)),
        ("residual", DynamicInt8()),
        ("mlp", Compose((PRUNE, Float16()))),
        ("residual", Compose((PRUNE, DynamicInt8()))),
        ("residual", LowRank(energy=0.7, epochs=0)),
    ],
)
def test_any_scheme_can_be_the_c_step(name, inner):
    place = context()
    model = trained(name, place)
    held_out, _ = module._held_out(SHORT, place)
    found = learning_compression(replace(SHORT, scheme=inner), model, place)
    assert type(found) is type(compress(inner, model, place))
    assert cross_entropy(found, place.dataset, held_out) <= cross_entropy(
        compress(inner, model, place), place.dataset, held_out
    )


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_quantized_weights_stand_for_weights_within_half_a_step(name):
    """Also where batch norms were folded into the layers: their scale is divided out again."""
    place = context()
    model = trained(name, place)
    for inner, error in ((Float16(), 2**-10), (DynamicInt8(), 1 / 127)):
        found = decompressed_weights(model, compress(inner, model, place), place)
        for layer, weight in found.items():
            raw = model.get_parameter(f"{layer}.weight")
            assert (weight - raw).abs().max() <= error * raw.abs().max()
            assert not torch.equal(weight, raw)


def test_factors_stand_for_their_product():
    """The product answers as the row of factors does: a linear layer, and 1x1, 3x3 with stride, 1x1."""
    rows = nn.Sequential(nn.Linear(5, 2, bias=False), nn.Linear(2, 4))
    inputs = torch.randn(3, 5)
    weight = decompressed(rows)
    assert weight is not None
    torch.testing.assert_close(rows(inputs), functional.linear(inputs, weight, rows[1].bias))  # pyright: ignore
    rows = nn.Sequential(
        nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.Conv2d(4, 5, 1)
    )
    images, weight = torch.randn(2, 3, 7, 7), decompressed(rows)
    assert weight is not None
    expected = functional.conv2d(images, weight, rows[2].bias, stride=2, padding=1)  # pyright: ignore
    torch.testing.assert_close(rows(images), expected)
    assert decompressed(nn.Sequential(nn.Linear(3, 3), nn.ReLU())) is None
    assert decompressed(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))) is None


def test_layers_that_the_c_step_leaves_as_they_are_get_no_penalty():
    weights = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(2, requires_grad=True)}

    def learn(number: int, penalty) -> None:
        penalty().backward()

    alternated(weights, learn, lambda found: {"a": found["a"] / 2, "b": found["b"].clone()}, (1.0,))
    assert weights["a"].grad is not None
    assert weights["b"].grad is None


def test_skipped_layers_are_listed_once(monkeypatch):
    def compressed(scheme, model, context):
        context.skipped.append("5: too small")
        return compress(scheme, model, context)

    monkeypatch.setattr(module, "_compressed", compressed)
    place = context()
    learning_compression(SHORT, trained("mlp", place), place)
    assert place.skipped == ["5: too small"]


def test_layers_of_another_shape_are_refused():
    place = context()
    model, other = built("mlp"), built("mlp")
    other.set_submodule("1", nn.Linear(192, 12))
    with pytest.raises(ValueError, match=r"weights of the same shapes, but got 1: shape \(12, 192\) for \(24, 192\)"):
        decompressed_weights(model, other, place)
    other.set_submodule("1", nn.Bilinear(2, 2, 2))
    with pytest.raises(ValueError, match="1: Bilinear"):
        decompressed_weights(model, other, place)


def test_parametrized_weights_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(192, 4)))
    with pytest.raises(ValueError, match="weight of layer '1' is parametrized"):
        learning_compression(replace(SHORT, scheme=Float16()), model, context())


def test_a_finished_model_is_restored_from_its_tensors():
    place = context()
    model = trained("residual", place)
    found = learning_compression(SHORT, model, place)
    again = restore(SHORT, model, found.state_dict())
    images = evaluation_images(place)
    assert np.array_equal(answers(again, images), answers(found, images))


def test_it_is_read_back_from_plain_data(monkeypatch):
    monkeypatch.setitem(SCHEMES, LearningCompression.kind, LearningCompression)
    inner = {"kind": "compose", "parts": [{"kind": "one-shot-pruning", "sparsity": 0.9, "epochs": 0}, "float16"]}
    scheme = scheme_from_dict({"kind": "learning-compression", "scheme": inner, "align": {"terms": ["distillation"]}})
    assert scheme == LearningCompression(Compose((PRUNE, Float16())), align=Align(("distillation",)))
    assert scheme_from_dict(to_dict(scheme)) == scheme
    assert scheme.label.startswith(f"learning-compression(scheme=({scheme.scheme.label})")  # pyright: ignore


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": OneShotPruning(0.5)}, r"without training, but got 'one-shot-pruning\(sparsity=0.5\)'. Set its `ep"),
        ({"scheme": Compose((OneShotPruning(0.5, epochs=1), Float16()))}, "without training"),
        ({"scheme": MagnitudePruning(0.5)}, "compress a trained model in one go, but got 'magnitude-pruning"),
        ({"scheme": Dense()}, "in one go, but got 'dense'"),
        ({"scheme": replace(SHORT, epochs=0)}, "in one go, but got 'learning-compression"),
        ({"method": "lagrange"}, "Expected `method` to be one of"),
        ({"steps": 1}, "Expected `steps` >= 2, but got 1"),
        ({"mu_multiplier": 0.9}, "Expected `mu_multiplier` >= 1"),
        ({"mu_init": 2.0, "mu_cap": 1.0}, r"Expected `mu_init, mu_cap` with 0 < mu_init <= mu_cap, but got \(2.0, 1.0"),
        ({"mu_init": 0.0}, "Expected `mu_init, mu_cap`"),
        ({"first": 0.0}, r"Expected `first` in \(0, 1\]"),
        ({"decay": 1.5}, r"Expected `decay` in \(0, 1\]"),
        ({"validation": 1.0}, r"Expected `validation` in \(0, 1\)"),
        ({"epochs": -1.0}, "Expected `epochs` >= 0"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)
