import numpy as np
import pytest
import torch

from remnant.lab.soft_tree import Balance, Settings, Tree, fit, one_hot, path_loss, reach


def tree(depth=3, inputs=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    nodes = 2**depth - 1

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    return Tree(normal(nodes, inputs), normal(nodes), normal(nodes + 1, classes), 1.5)


def slow_paths(found, x):
    """Probability of each leaf by walking from it to the root."""
    depth = int(np.log2(len(found.leaves)))
    weights, biases = found.filters.numpy(), found.biases.numpy()
    probabilities = []
    for leaf in range(2**depth):
        node, probability = 0, 1.0
        for level in reversed(range(depth)):
            right = 1 / (1 + np.exp(-found.inverse_temperature * (x @ weights[node] + biases[node])))
            goes_right = leaf >> level & 1
            probability *= right if goes_right else 1 - right
            node = 2 * node + 1 + goes_right
        probabilities.append(probability)
    return np.array(probabilities)


def test_path_probabilities_equal_those_of_a_walk():
    found, x = tree(), np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    paths = found.path_probabilities(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(paths, [slow_paths(found, row) for row in x], rtol=1e-5)
    np.testing.assert_allclose(paths.sum(1), 1, rtol=1e-5)


def test_answers_are_those_of_the_most_likely_leaf():
    found, x = tree(), torch.from_numpy(np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32))
    answer, leaf, probability = found.answers(x)
    paths = found.path_probabilities(x)
    assert (leaf == paths.argmax(1).numpy()).all()
    np.testing.assert_allclose(probability, paths.amax(1))
    assert (answer == found.leaves.argmax(1).numpy()[leaf]).all()


def test_loss_is_the_cross_entropy_of_each_leaf_by_its_path():
    rng = np.random.default_rng(3)
    reached = torch.from_numpy(rng.dirichlet(np.ones(4), 5))
    leaves, targets = torch.from_numpy(rng.normal(size=(4, 3))), torch.from_numpy(rng.dirichlet(np.ones(3), 5))
    q = torch.softmax(leaves, 1).numpy()
    slow = [
        sum(
            float(reached[i, leaf]) * -sum(float(targets[i, k]) * np.log(q[leaf, k]) for k in range(3))
            for leaf in range(4)
        )
        for i in range(5)
    ]
    assert float(path_loss(reached, leaves, targets)) == pytest.approx(np.mean(slow))


def test_balance_is_the_penalty_of_the_paper():
    """-lambda 2^-d / 2 (log a + log(1 - a)) with a = sum P p / sum P, for the first batch."""
    right = torch.from_numpy(np.random.default_rng(4).uniform(0.1, 0.9, (20, 7)))
    nodes, leaves = reach(right)
    expected = 0.0
    for node in range(7):
        a = float((nodes[:, node] * right[:, node]).sum() / nodes[:, node].sum())
        expected -= 0.3 * 0.5 ** int(np.log2(node + 1)) / 2 * (np.log(a) + np.log(1 - a))
    assert float(Balance(3, 0.3)(nodes, right)) == pytest.approx(expected, rel=1e-6)
    assert leaves.shape == (20, 8)
    half = torch.full((20, 7), 0.5, dtype=torch.float64)
    assert float(Balance(3, 0.3)(reach(half)[0], half)) < expected


def test_deep_nodes_remember_more_batches():
    """The root's share is that of the batch; that of depth 1 the mean of this one and the one before."""
    balance = Balance(2, 1.0)
    for share in (0.2, 0.6):
        right = torch.full((10, 3), share)
        nodes, _ = reach(right)
        value = float(balance(nodes, right))
    # Depth 1, left: 10 * 0.8 come and 0.2 of them go right; then 10 * 0.4 and 0.6. Right: 2 and 0.2, then 6 and 0.6.
    left, second = (8 * 0.2 + 4 * 0.6) / 12, (2 * 0.2 + 6 * 0.6) / 8
    penalties = [-0.5 * (np.log(a) + np.log(1 - a)) for a in (0.6, left, second)]
    assert value == pytest.approx(penalties[0] + 0.5 * (penalties[1] + penalties[2]))


def data(num=600, seed=0):
    """Four classes in the quadrants of a plane, in a space of 10 inputs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, 10)).astype(np.float32)
    label = 2 * (x[:, 0] > 0) + (x[:, 1] > 0)
    return torch.from_numpy(x), torch.from_numpy(label.astype(np.int64))


def test_a_tree_learns_what_two_decisions_tell_apart():
    x, label = data()
    settings = Settings(depth=3, steps=200, learning_rate=0.3, weight_decay=0.0)
    found = fit(x, one_hot(label, 4), settings, np.random.default_rng(0))
    other, truth = data(seed=1)
    answers, leaves, _ = found.answers(other)
    assert (answers == truth.numpy()).mean() > 0.85
    assert len(np.unique(leaves)) == 8


def test_the_same_stream_gives_the_same_tree():
    x, label = data(200)
    one, two, other = (
        fit(x, one_hot(label, 4), Settings(depth=2, steps=20), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one.filters, two.filters)
    assert not torch.equal(one.filters, other.filters)
    assert not one.filters.requires_grad


def test_without_the_penalty_a_tree_may_use_one_leaf():
    """All examples of one class but for a few: the penalty makes the root split anyway."""
    x, _ = data(300)
    targets = one_hot(torch.zeros(300, dtype=torch.int64), 4)
    shares = {}
    for penalty in (0.0, 1.0):
        found = fit(
            x + 2, targets, Settings(depth=1, steps=100, penalty=penalty, learning_rate=0.2), np.random.default_rng(1)
        )
        right = float(found.path_probabilities(x + 2)[:, 1].mean())
        shares[penalty] = abs(right - 0.5)
    assert shares[1.0] < 0.05 < shares[0.0]
