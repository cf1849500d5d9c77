import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

from remnant.stats.roc import roc

SCORES = arrays.arrays(float, 12, elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]))
MEMBERS = arrays.arrays(bool, 12).filter(lambda member: 0 < member.sum() < 12)


@given(SCORES, MEMBERS)
def test_area_equals_that_of_scikit_learn(scores, member):
    assert roc(scores, member).area == pytest.approx(roc_auc_score(member, scores))


@given(SCORES, MEMBERS)
def test_true_positive_rate_is_the_best_of_all_thresholds(scores, member):
    found = roc(scores, member)
    for level in (0.0, 0.1, 0.25, 0.5, 1.0):
        best = 0.0
        for threshold in np.unique(scores):
            called = scores >= threshold
            if called[~member].mean() <= level + 1e-12:
                best = max(best, called[member].mean())
        assert found.true_positive_rate(level) == pytest.approx(best)


@given(SCORES, MEMBERS)
def test_monotone_changes_of_the_score_change_nothing(scores, member):
    one, two = roc(scores, member), roc(np.exp(3 * scores), member)
    assert one.true_positives.tolist() == two.true_positives.tolist()
    assert one.false_positives.tolist() == two.false_positives.tolist()


def test_a_curve_by_hand():
    found = roc(np.array([3.0, 2, 2, 1, 0]), np.array([True, True, False, True, False]))
    assert found.threshold.tolist() == [np.inf, 3, 2, 1, 0]
    assert found.true_positives.tolist() == [0, 1, 2, 3, 3]
    assert found.false_positives.tolist() == [0, 0, 1, 1, 2]
    # Pairs of a member and another: 6, of which 4 in order, one tied, one reversed.
    assert found.area == pytest.approx(4.5 / 6)
    assert found.advantage == pytest.approx(1 - 1 / 2)
    assert (found.num_members, found.num_others) == (3, 2)


def test_ends():
    member = np.arange(6) < 3
    assert roc(member.astype(float), member).area == 1
    assert roc(-member.astype(float), member).area == 0
    assert roc(np.zeros(6), member).area == 0.5
    assert roc(np.zeros(6), member).true_positive_rate([0, 0.99, 1]).tolist() == [0, 0, 1]


def test_a_rate_that_is_a_whole_number_of_examples_is_reached():
    """0.29 x 100 is 28.999999999999996 in floating point."""
    scores = np.arange(200)[::-1].astype(float)
    member = np.arange(200) % 2 == 1
    assert roc(scores, member).false_positives[roc(scores, member).point(0.29)] == 29


def test_examples_without_a_score_are_left_out():
    scores = np.array([1.0, np.nan, 0.0, np.nan])
    found = roc(scores, np.array([True, True, False, False]))
    assert (found.num_members, found.num_others, found.area) == (1, 1, 1.0)


@pytest.mark.parametrize("member", [np.zeros(3, bool), np.ones(3, bool)])
def test_one_kind_alone_is_refused(member):
    with pytest.raises(ValueError, match=f"got {member.sum()} members among 3 scores"):
        roc(np.arange(3.0), member)
