import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from remnant.lab.attacks import Points, Target, draw, ensemble, escalate, fgsm, pgd, square, worse
from remnant.lab.attacks.adaptive import adaptive, looks_of
from remnant.lab.attacks.losses import cross_entropy, lead, margin, runners_up, targeted
from remnant.lab.attacks.square import side_of
from remnant.lab.dataset import take
from remnant.probes.adversarial import Adversarial
from tests.lab import toys
from tests.lab.attacks.models import bent, draws, largest_change, linear, plain, right

ATTACKS = {
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=4),
    "square": square,
    "ensemble": partial(ensemble, steps=5, targets=2),
}
DRAWS = {"restarts": 2, "queries": 12}


def worst_margin(model, clean: Points, budget: float) -> np.ndarray:
    """Highest lead that any wrong class can reach within the budget, for a linear model: every pixel goes its own way.

    The lead of class t is (w_t - w_y) . x; with x in [max(0, x0 - b), min(1, x0 + b)] it is largest at the end of
    that interval on the side of the sign of the weight.
    """
    weight = model[1].weight.detach().double().numpy()
    x = clean.pixels.flatten(1).double().numpy()
    low, high = np.maximum(x - budget, 0), np.minimum(x + budget, 1)
    found = np.full(len(x), -np.inf)
    for row, label in enumerate(clean.labels.tolist()):
        for other in set(range(len(weight))) - {label}:
            w = weight[other] - weight[label]
            found[row] = max(found[row], w @ np.where(w > 0, high[row], low[row]))
    return found


@pytest.mark.parametrize("name", ["fgsm", "pgd", "ensemble"])
def test_two_linear_classes_reach_the_exact_worst_case(name):
    model = linear(0, 2)
    target = plain(model)
    clean = right(target, 40)
    for budget in (0.01, 0.05, 0.3):
        exact = worst_margin(model, clean, budget)
        found = ATTACKS[name](target, clean, budget, draws(40, **DRAWS))
        np.testing.assert_array_equal(found.broken.numpy(), exact > 0)
        if name != "ensemble":  # which stops at the first wrong answer
            np.testing.assert_allclose(found.loss.numpy(), exact, atol=1e-3)


def test_the_ensemble_finds_the_exact_worst_case_of_many_linear_classes():
    model = linear(1, 5)
    target = plain(model)
    clean = right(target, 60)
    numbers = draws(60, restarts=1, queries=1)
    for budget in (0.01, 0.03):
        exact = worst_margin(model, clean, budget)
        found = ensemble(target, clean, budget, numbers, steps=30, targets=4)
        np.testing.assert_array_equal(found.broken.numpy(), exact > 0)
        assert 0 < found.broken.float().mean() < 1
        for other in (fgsm, square, partial(pgd, steps=5)):
            loss = other(target, clean, budget, draws(60, **DRAWS)).loss.numpy()
            assert (loss <= exact + 1e-4).all()


@pytest.mark.parametrize("name", ATTACKS)
@settings(max_examples=20)
@given(seed=st.integers(0, 50), budget=st.floats(1e-3, 1))
def test_no_attack_leaves_the_budget_or_the_range_of_pixels(name, seed, budget):
    target = plain(bent(seed))
    clean = right(target, 5, seed)
    found = ATTACKS[name](target, clean, budget, draws(5, **DRAWS))
    assert largest_change(found, clean) <= budget + 1e-6
    assert found.pixels.min() >= 0
    assert found.pixels.max() <= 1
    torch.testing.assert_close(found.logits, target.points(found.pixels, found.labels).logits)


def test_pgd_is_never_weaker_than_fgsm_and_more_starts_never_weaker_than_fewer():
    target = plain(bent(3))
    clean = right(target, 50)
    for budget in (0.01, 0.03, 0.1):
        one = fgsm(target, clean, budget, draws(50))
        two = pgd(target, clean, budget, draws(50), steps=3)
        three = pgd(target, clean, budget, draws(50, restarts=3), steps=3)
        for weak, strong in ((one, two), (two, three)):
            assert (strong.broken | ~weak.broken).all()
            assert (strong.loss >= weak.loss)[strong.broken == weak.broken].all()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("early_stop", [True, False])
def test_larger_budgets_never_repair(name, early_stop):
    target = plain(bent(5))
    clean = right(target, 40)
    budgets = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    found = [*escalate(ATTACKS[name], target, clean, budgets, draws(40, **DRAWS), early_stop=early_stop)]
    broken = torch.stack([points.broken for points in found])
    assert (broken[1:] | ~broken[:-1]).all()
    assert broken[0].float().mean() < broken[-1].float().mean()
    for points, budget in zip(found, budgets, strict=True):
        assert largest_change(points, clean) <= budget + 1e-6


def test_a_worse_point_of_a_smaller_budget_is_kept():
    target = plain(bent(5))
    clean = right(target, 6)

    def tiring(target, points, budget, draws):
        return fgsm(target, points, 0.5, draws) if budget < 0.6 else points

    first, second = escalate(tiring, target, clean, (0.5, 0.7), draws(6), early_stop=False)
    assert first.broken.any()
    torch.testing.assert_close(first.pixels, second.pixels)


def test_wrong_examples_are_left_alone_and_broken_ones_not_attacked_again():
    target = plain(bent(5))
    clean = right(target, 6)
    clean = target.points(clean.pixels, torch.where(torch.arange(6) < 2, (clean.labels + 1) % 4, clean.labels))
    seen = []

    def breaking(target, points, budget, draws):
        seen.append(len(points))
        assert len(draws.starts) == len(points)
        return fgsm(target, points, 1.0 if len(points) == 4 else 0.0, draws)

    for early_stop in (True, False):
        found = [*escalate(breaking, target, clean, (0.1, 0.2), draws(6), early_stop=early_stop)]
        torch.testing.assert_close(found[1].pixels[:2], clean.pixels[:2])
    left = int((~found[0].broken).sum())
    assert seen == [4, left, 4, 4] if left else seen == [4, 4, 4]


@pytest.fixture(scope="module")
def oracle():
    """Foolbox, its view of a trained model, ours, and the images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
        context = toys.context()
        model = toys.trained("residual", context)
        data = context.dataset
        moments = {"mean": data.mean.tolist(), "std": data.std.tolist(), "axis": -3}
        shown = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu", preprocessing=moments)
        target = Target.of(model, data)
        clean = target.points(take(data.test.images, range(64)).float() / 255, data.test.labels)
        yield foolbox.attacks, shown, target, clean


@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_fgsm_makes_the_images_of_foolbox(oracle, budget):
    """Foolbox 3.3.4, LinfFastGradientAttack: x + eps * sign(gradient of the cross-entropy), clipped to the bounds."""
    attacks, shown, target, clean = oracle
    expected, _, wrong = attacks.LinfFastGradientAttack()(shown, clean.pixels, clean.labels, epsilons=budget)
    found = fgsm(target, clean, budget, draws(64))
    # The sign of a gradient of almost 0 is a matter of the last bits.
    assert ((found.pixels - expected).abs() < 1e-5).float().mean() > 0.999
    assert (found.broken == wrong).float().mean() >= 0.98


def test_pgd_breaks_as_much_as_that_of_foolbox(oracle):
    """Foolbox 3.3.4, LinfProjectedGradientDescentAttack with the same steps, and random starts of its own."""
    attacks, shown, target, clean = oracle
    budget, steps = 0.02, 10
    starts = draw(Adversarial().rng, range(64), toys.SHAPE)
    torch.manual_seed(0)
    attack = attacks.LinfProjectedGradientDescentAttack(steps=steps, rel_stepsize=2.5 / steps)
    _, _, wrong = attack(shown, clean.pixels, clean.labels, epsilons=budget)
    found = pgd(target, clean, budget, starts, steps=steps)
    assert 0.1 < wrong.float().mean() < 0.95
    assert -0.02 <= found.broken.float().mean() - wrong.float().mean() <= 0.05


def test_square_equals_a_search_example_by_example():
    """Algorithms 1 and 2 of Andriushchenko et al. (2020), written as loops."""
    target, budget, queries = plain(bent(7)), 0.15, 40
    clean = right(target, 12)
    numbers = draws(12, queries=queries)
    found = square(target, clean, budget, numbers)

    def project(x, image):
        return np.clip(np.clip(x, image - np.float32(budget), image + np.float32(budget)), 0, 1)

    def ask(x, label):
        points = target.points(torch.from_numpy(x[None]), torch.tensor([label]))
        return float(points.loss[0]), bool(points.broken[0])

    for row in range(12):
        image, label = clean.pixels[row].numpy(), int(clean.labels[row])
        best = project(image + np.float32(budget) * numbers.stripes[row].numpy(), image)
        loss, wrong = ask(best, label)
        for query in range(1, queries):
            if wrong:
                break
            top, left, *signs = numbers.squares[row, query].tolist()
            side = side_of(query, queries, clean.pixels)
            top, left = int(top * (7 - side)), int(left * (7 - side))
            moved = best.copy()
            for channel, sign in enumerate(signs):
                change = np.float32(2 * budget * (-1 if sign < 0.5 else 1))
                moved[channel, top : top + side, left : left + side] += change
            moved = project(moved, image)
            new, now_wrong = ask(moved, label)
            if now_wrong or new > loss:
                best, loss, wrong = moved, new, now_wrong
        np.testing.assert_allclose(found.pixels[row].numpy(), best, atol=1e-6)
    assert 0 < found.broken.float().mean() < 1


def test_sides_of_squares_shrink_as_in_the_paper():
    """Section 5 of Andriushchenko et al. (2020): p = 0.8, halved at 10, 50, 200, ... of 10,000 queries."""
    images = torch.zeros(1, 3, 224, 224)
    sides = [side_of(query, 10_000, images) for query in (0, 11, 51, 201, 501, 1001, 9000)]
    assert sides == [round((share * 224 * 224) ** 0.5) for share in (0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.8 / 512)]
    assert side_of(5, 10, torch.zeros(1, 1, 2, 2)) == 1


def run_slowly(target, image, label, budget, start, steps, loss, aim):
    """Algorithm 1 of Croce & Hein (2020) on one example, after its text: conditions of section 3.2, rho = 0.75."""

    def ask(x):
        points, gradient = target.gradient(x, label, loss, aim)
        return loss(points.logits, label, aim).item(), gradient, bool(points.broken)

    def project(x):
        return torch.minimum(torch.maximum(x, image - budget), image + budget).clamp(0, 1)

    before = now = project(image + budget * start / start.abs().max())
    value, gradient, wrong = ask(now)
    if wrong:
        return now
    best, best_value, best_gradient = now, value, gradient
    size, values, bests, sizes = 2 * budget, [value], [best_value], [2 * budget]
    looks, at, wait = [0], 0, int(0.22 * steps)
    while at + wait <= steps:
        at += wait
        looks.append(at)
        wait = max(wait - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    halved_before = True
    for k in range(1, steps + 1):
        ahead = project(now + size * gradient.sign())
        alpha = 1.0 if k == 1 else 0.75
        before, now = now, project(now + alpha * (ahead - now) + (1 - alpha) * (now - before))
        value, gradient, wrong = ask(now)
        values.append(value)
        if wrong:
            return now
        if value > best_value:
            best, best_value, best_gradient = now, value, gradient
        if k in looks:
            last = looks[looks.index(k) - 1]
            rises = sum(values[i] > values[i - 1] for i in range(last + 1, k + 1))
            same = not halved_before and bests[-1] >= best_value
            halved_before = rises <= 0.75 * (k - last) or same
            if halved_before:
                size, now, gradient = size / 2, best, best_gradient
            bests.append(best_value)
            sizes.append(size)
    return best


@pytest.mark.parametrize("loss", [cross_entropy, targeted])
def test_adaptive_ascent_equals_the_algorithm_example_by_example(loss):
    target, budget, steps = plain(bent(11, gain=20)), 0.01, 25
    clean = right(target, 15)
    starts = draws(15).starts[:, 0]
    aims = runners_up(clean.logits, clean.labels)[:, 0]
    found = adaptive(target, clean, budget, starts, steps=steps, loss=loss, aims=aims)
    same = []
    for row in range(15):
        one = slice(row, row + 1)
        image, label, aim = clean.pixels[one], clean.labels[one], aims[one]
        expected = run_slowly(target, image, label, budget, starts[one], steps, loss, aim)
        same.append(((found.pixels[one] - expected).abs() < 1e-5).float().mean().item())
    # The sign of a gradient of almost 0 is a matter of the last bits, which batches change.
    assert np.mean(same) > 0.97
    assert 0 < found.broken.float().mean() < 1


def test_adaptive_ascent_equals_the_algorithm_where_the_loss_is_wavy():
    """No answer ever becomes wrong, so that all steps are taken."""

    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng(0).normal(0, 3, (108, 20))).float())

        def forward(self, images):
            height = (images.flatten(1) @ self.weight).sin().sum(1)
            return torch.stack([torch.full_like(height, 50.0), height], 1)

    target, budget, steps = plain(Waves()), 0.1, 40
    clean = right(target, 10)
    starts, aims = draws(10).starts[:, 0], torch.ones(10, dtype=torch.int64)
    found = adaptive(target, clean, budget, starts, steps=steps, loss=lead, aims=aims)
    expected = [
        run_slowly(target, clean.pixels[one], clean.labels[one], budget, starts[one], steps, lead, aims[one])
        for one in (slice(row, row + 1) for row in range(10))
    ]
    assert ((found.pixels - torch.cat(expected)).abs() < 1e-4).float().mean() > 0.97


def test_looks_come_closer_as_in_the_paper():
    """Section 3.2 of Croce & Hein (2020): p = 0, 0.22, 0.22 + 0.19, ... of 100 steps, at least 0.06 apart."""
    assert list(looks_of(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_losses_by_hand():
    logits = torch.tensor([[1.0, 5.0, 3.0, 2.0, 0.0]])
    label, aim = torch.tensor([1]), torch.tensor([3])
    assert lead(logits, label, aim).item() == -3
    assert margin(logits, label).item() == -2
    assert runners_up(logits, label).tolist() == [[2, 3, 0, 4]]
    assert targeted(logits, label, aim).item() == pytest.approx(-3 / (5 - (2 + 1) / 2))
    assert targeted(100 * logits + 7, label, aim).item() == pytest.approx(-3 / 3.5)
    assert targeted(logits[:, :3], label, torch.tensor([2])).item() == -2
    assert cross_entropy(logits, label, aim).item() == pytest.approx(-functional.log_softmax(logits, 1)[0, 1].item())


def test_what_is_broken_stays_broken_whatever_its_loss():
    labels = torch.zeros(3, dtype=torch.int64)
    pixels = torch.zeros(3, 1, 1, 1)
    # With equal logits the first class wins, so that the margin is 0 and the answer right.
    old = Points(pixels, torch.tensor([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), labels)
    new = Points(pixels + 1, torch.tensor([[0.0, 3.0], [5.0, 0.0], [1.0, 0.0]]), labels)
    assert worse(old, new).pixels.flatten().tolist() == [1, 0, 1]
    assert worse(old, old).pixels.flatten().tolist() == [0, 0, 0]
