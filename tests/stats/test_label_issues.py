import numpy as np
import pytest

from remnant.stats.label_issues import NOT_CONFIDENT, class_thresholds, confident_joint, label_issues


def noisy(seed=0, num=600, classes=4, wrong=0.1):
    """Labels of which some are wrong, and probabilities that know better."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, num)
    logits = rng.normal(0, 1, (num, classes))
    logits[np.arange(num), true] += rng.uniform(0, 5, num)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flipped = rng.random(num) < wrong
    return probabilities, np.where(flipped, (true + 1) % classes, true), flipped


@pytest.mark.parametrize("seed", range(5))
def test_issues_and_joint_equal_cleanlab(seed):
    """cleanlab 2.9.0, the authors' implementation: off-diagonals of the confident joint, and both quality scores."""
    pytest.importorskip("cleanlab")
    from cleanlab.count import compute_confident_joint, get_confident_thresholds
    from cleanlab.rank import get_normalized_margin_for_each_label, get_self_confidence_for_each_label

    probabilities, label, _ = noisy(seed)
    found = label_issues(probabilities, label)
    own = probabilities[np.arange(len(label)), label]
    np.testing.assert_allclose(class_thresholds(own, label, 4), get_confident_thresholds(label, probabilities))
    joint, rows = compute_confident_joint(label, probabilities, calibrate=False, return_indices_of_off_diagonals=True)
    np.testing.assert_array_equal(np.flatnonzero(found.issue), np.sort(rows))
    np.testing.assert_array_equal(confident_joint(label, found.suggested, 4), joint)
    np.testing.assert_allclose(found.quality, get_self_confidence_for_each_label(label, probabilities))
    np.testing.assert_allclose((found.margin + 1) / 2, get_normalized_margin_for_each_label(label, probabilities))


def test_suggestions_equal_the_loop_of_the_definition():
    """Northcutt et al. (2021), equation 1: thresholds are mean self-confidences; of several classes the likeliest."""
    probabilities, label, _ = noisy(3, num=150)
    thresholds = [probabilities[label == c, c].mean() for c in range(4)]
    found = label_issues(probabilities, label)
    for i, row in enumerate(probabilities):
        confident = [c for c in range(4) if row[c] >= thresholds[c] - 1e-6]
        best = NOT_CONFIDENT if not confident else confident[0] if len(confident) == 1 else int(row.argmax())
        assert found.suggested[i] == best
        assert found.issue[i] == (best not in (NOT_CONFIDENT, label[i]))


def test_by_hand():
    """Thresholds 0.7 and 0.6: the second example has label 0 and 0.7 for class 1."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.9, 0.1], [0.4, 0.6]])
    label = np.array([0, 0, 0, 1])
    found = label_issues(probabilities, label)
    assert found.issue.tolist() == [False, True, False, False]
    assert found.suggested.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(found.quality, [0.9, 0.3, 0.9, 0.6])
    np.testing.assert_allclose(found.margin, [0.8, -0.4, 0.8, 0.2])


def test_of_several_confident_classes_the_likeliest_is_suggested():
    found = label_issues(np.array([[0.4, 0.6], [0.6, 0.4]]), np.array([0, 0]), np.array([0.3, 0.3]))
    assert found.suggested.tolist() == [1, 0]
    assert found.issue.tolist() == [True, False]


def test_wrong_labels_are_found():
    probabilities, label, flipped = noisy(num=4000)
    found = label_issues(probabilities, label)
    assert flipped[found.issue].mean() > 0.5
    assert found.issue[flipped].mean() > 5 * found.issue[~flipped].mean()


def test_blocks_with_thresholds_of_all_give_the_same():
    probabilities, label, _ = noisy()
    whole = label_issues(probabilities, label)
    thresholds = class_thresholds(whole.quality, label, 4)
    parts = [label_issues(probabilities[s], label[s], thresholds) for s in (slice(0, 50), slice(50, None))]
    np.testing.assert_array_equal(np.concatenate([p.suggested for p in parts]), whole.suggested)
    np.testing.assert_array_equal(np.concatenate([p.margin for p in parts]), whole.margin)


def test_a_class_without_examples_needs_certainty():
    assert class_thresholds(np.array([0.5]), np.array([0]), 3).tolist() == [0.5, 1.0, 1.0]


def test_errors():
    probabilities = np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="shape"):
        label_issues(probabilities, np.zeros(2, int))
    with pytest.raises(ValueError, match=r"labels in \[0, 2\)"):
        label_issues(probabilities, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"`probabilities` in \[0, 1\]"):
        label_issues(probabilities * 4, np.zeros(3, int))
