import numpy as np
import pytest
from scipy import optimize, special

from remnant.stats import odds


def simulated(seed=0, num=400, factors=3, trials=1):
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(num), rng.normal(size=(num, factors))])
    beta = np.r_[-1, rng.normal(0, 0.7, factors)]
    m = np.full(num, trials) if trials == 1 else rng.integers(0, trials + 1, num)
    return design, rng.binomial(m, special.expit(design @ beta)).astype(float), m.astype(float), beta


def penalized(beta, design, y, m):
    """Minus the logarithm of the likelihood times Jeffreys' prior."""
    eta = design @ beta
    chance = special.expit(eta)
    information = (design.T * (m * chance * (1 - chance))) @ design
    return -(y @ eta - m @ np.logaddexp(0, eta) + np.linalg.slogdet(information)[1] / 2)


def test_maximum_likelihood_equals_statsmodels():
    """statsmodels 0.15.0, Logit."""
    statsmodels = pytest.importorskip("statsmodels.api")
    design, y, m, _ = simulated()
    expected = statsmodels.Logit(y, design).fit(disp=0, tol=1e-12)
    fit = odds.logistic(design, y, m, firth=False)
    np.testing.assert_allclose(fit.coefficients[0], expected.params, atol=1e-8)
    found = odds.odds_ratios(fit, design, y, m, robust=False)
    np.testing.assert_allclose(np.log(np.stack([found.low, found.high], 1)), expected.conf_int(), atol=1e-7)
    np.testing.assert_allclose(found.p, expected.pvalues, atol=1e-8)


def test_sandwich_of_grouped_trials_equals_statsmodels():
    """GLM of binomial counts with covariance HC1 (statsmodels 0.15.0)."""
    statsmodels = pytest.importorskip("statsmodels.api")
    design, y, m, _ = simulated(trials=6)
    kept = m > 0
    family = statsmodels.families.Binomial()
    counts = np.column_stack([y, m - y])[kept]
    model = statsmodels.GLM(counts, design[kept], family=family)
    # HC0 is the sandwich without the factor n / (n - p).
    expected = model.fit(cov_type="HC0", tol=1e-12)
    fit = odds.logistic(design, y, m, firth=False)
    found = odds.odds_ratios(fit, design, y, m, robust=True)
    np.testing.assert_allclose(fit.coefficients[0], expected.params, atol=1e-7)
    error = np.log(found.high / found.low) / (2 * special.ndtri(0.975))
    used = kept.sum()
    np.testing.assert_allclose(error, expected.bse * np.sqrt(used / (used - 4)), rtol=1e-5)


@pytest.mark.parametrize("cells", [(7, 3, 2, 8), (10, 0, 4, 6), (5, 0, 0, 5)])
def test_firth_of_a_two_by_two_table_adds_one_half_to_each_cell(cells):
    """The saturated model with Jeffreys' prior: Haldane's and Anscombe's correction (Firth 1993, section 3.3)."""
    a, b, c, d = cells
    design = np.array([[1, 1], [1, 0]], float)
    fit = odds.logistic(design, np.array([a, c]), np.array([a + b, c + d]))
    expected = np.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
    assert fit.coefficients[0, 1] == pytest.approx(expected, abs=1e-7)
    assert fit.converged.all()


@pytest.mark.parametrize("trials", [1, 4])
def test_firth_is_the_maximum_of_the_penalized_likelihood(trials):
    design, y, m, _ = simulated(1, num=80, factors=2, trials=trials)

    slow = optimize.minimize(penalized, np.zeros(3), (design, y, m), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(odds.logistic(design, y, m).coefficients[0], slow.x, atol=1e-4)


@pytest.mark.parametrize("ones_first", [True, False])
def test_rare_events_and_skewed_factors_reach_the_maximum(ones_first):
    """Steps that are halved whenever they grow stop short of it."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        skewed = np.exp(rng.standard_normal((200, 2)))
        columns = [np.ones(200), *((skewed - skewed.mean(axis=0)) / skewed.std(axis=0)).T]
        design = np.column_stack(columns if ones_first else columns[::-1])
        chance = special.expit(-4 - 3 * columns[1] + 3 * columns[2])
        y = rng.binomial(1, chance).astype(float)
        fit = odds.logistic(design, y, np.ones(200))
        assert fit.converged.all()
        start = fit.coefficients[0] + 0.1
        slow = optimize.minimize(penalized, start, (design, y, np.ones(200)), method="Nelder-Mead", tol=1e-8)
        np.testing.assert_allclose(fit.coefficients[0], slow.x, atol=1e-4)


def test_few_examples_and_skewed_factors_reach_the_maximum():
    """Full Newton steps go to and fro across it there, for every third seed."""
    for seed in range(12, 24):
        rng = np.random.default_rng(seed)
        skewed = np.exp(1.5 * rng.standard_normal((60, 3)))
        design = np.column_stack([np.ones(60), (skewed - skewed.mean(axis=0)) / skewed.std(axis=0)])
        y = rng.binomial(1, special.expit(3 * design[:, 1] - 3)).astype(float)
        fit = odds.logistic(design, y, np.ones(60))
        assert fit.converged.all()
        nearby = fit.coefficients[0] + 1e-3 * rng.standard_normal((50, 4))
        best = penalized(fit.coefficients[0], design, y, np.ones(60))
        assert all(penalized(beta, design, y, np.ones(60)) > best for beta in nearby)


def test_separation_gives_finite_intervals():
    x = np.r_[np.zeros(20), np.ones(20)]
    design = np.column_stack([np.ones(40), x])
    fit = odds.logistic(design, x, np.ones(40))
    found = odds.odds_ratios(fit, design, x, np.ones(40), robust=False)
    assert np.isfinite([found.low[1], found.estimate[1], found.high[1]]).all()
    assert found.low[1] > 1


def test_many_outcomes_at_once_equal_one_at_a_time():
    design, y, m, _ = simulated(trials=3)
    orders = np.stack([np.random.default_rng(k).permutation(len(y)) for k in range(5)])
    together = odds.logistic(design, y[orders], m[orders])
    for place, order in enumerate(orders):
        alone = odds.logistic(design, y[order], m[order])
        np.testing.assert_allclose(together.coefficients[place], alone.coefficients[0], atol=1e-7)


def test_blocks_do_not_change_the_result(monkeypatch):
    design, y, m, _ = simulated()
    whole = odds.logistic(design, y, m).coefficients
    monkeypatch.setattr(odds, "_VALUES", 500)
    np.testing.assert_allclose(odds.logistic(design, y, m).coefficients, whole, atol=1e-10)


def test_the_number_of_outcomes_at_a_time_does_not_change_the_result(monkeypatch):
    design, y, m, _ = simulated()
    outcomes = np.stack([y, 1 - y, np.roll(y, 1)])
    whole = odds.logistic(design, outcomes, np.tile(m, (3, 1)))
    monkeypatch.setattr(odds, "_AT_A_TIME", 2 * len(y))
    parts = odds.logistic(design, outcomes, np.tile(m, (3, 1)))
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-10)
    assert parts.information.shape == whole.information.shape


def test_odds_ratios_follow_the_unit_of_a_column():
    design, y, m, _ = simulated()
    scaled = design * np.array([1, 1, 10, 1])
    one, two = (odds.odds_ratios(odds.logistic(d, y, m), d, y, m, robust=False) for d in (design, scaled))
    np.testing.assert_allclose(two.estimate[2] ** 10, one.estimate[2], rtol=1e-4)
    np.testing.assert_allclose(two.z, one.z, rtol=1e-3)


def test_intervals_cover_and_p_values_hold_their_level():
    covered, small, num = 0, 0, 200
    for seed in range(num):
        rng = np.random.default_rng(seed)
        design = np.column_stack([np.ones(150), rng.normal(size=(150, 2))])
        y = rng.binomial(1, special.expit(-1.5 + 0.8 * design[:, 1])).astype(float)
        fit = odds.logistic(design, y, np.ones(150))
        found = odds.odds_ratios(fit, design, y, np.ones(150), robust=False)
        covered += found.low[1] <= np.exp(0.8) <= found.high[1]
        small += found.p[2] <= 0.05
    assert covered >= num * 0.95 - 2.5 * np.sqrt(num * 0.0475)
    assert small <= num * 0.05 + 2.5 * np.sqrt(num * 0.0475)


def test_clustered_trials_need_the_sandwich():
    """All trials of an example give the same answer: the information counts them as independent, and is too sure."""
    small = {True: 0, False: 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        design = np.column_stack([np.ones(120), rng.normal(size=120)])
        m = np.full(120, 8.0)
        y = 8.0 * (rng.random(120) < 0.3)
        fit = odds.logistic(design, y, m)
        for robust in small:
            small[robust] += odds.odds_ratios(fit, design, y, m, robust=robust).p[1] <= 0.05
    assert small[False] > 30
    assert small[True] <= 5 + 2.5 * np.sqrt(100 * 0.0475)


def test_auc_equals_scikit_learn_with_weights():
    """roc_auc_score of scikit-learn 1.9, successes and failures as weights."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    m = rng.integers(1, 5, 200)
    y, scores = rng.binomial(m, 0.4), rng.integers(0, 30, 200).astype(float)
    classes, weights = np.repeat([1, 0], 200), np.concatenate([y, m - y])
    expected = roc_auc_score(classes, np.tile(scores, 2), sample_weight=weights)
    assert odds.auc(scores, y, m).estimate == pytest.approx(expected)
    assert odds.aucs(np.stack([scores, -scores]), np.stack([y, y]), np.stack([m, m])) == pytest.approx(
        [expected, 1 - expected]
    )


def test_auc_of_certain_scores_has_no_width():
    found = odds.auc(np.arange(6.0), np.array([0, 0, 0, 1, 1, 1]), np.ones(6))
    assert (found.estimate, found.low, found.high) == (1, 1, 1)
    with pytest.raises(ValueError, match="only ones of a kind"):
        odds.auc(np.arange(6.0), np.ones(6), np.ones(6))


def test_auc_intervals_cover():
    """Two normal scores, one apart: the area is Phi(1 / sqrt(2))."""
    truth, covered = special.ndtr(1 / np.sqrt(2)), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = (np.arange(120) < 40).astype(float)
        found = odds.auc(rng.normal(y), y, np.ones(120))
        covered += found.low <= truth <= found.high
    assert covered >= 300 * 0.95 - 2.5 * np.sqrt(300 * 0.0475)


def test_cross_validated_scores_do_not_see_their_own_outcome():
    design, y, m, _ = simulated(num=120)
    folds = odds.stratified_folds(y, m, 4, np.random.default_rng(0))
    scores = odds.cross_validated_scores(design, y, m, folds)[0]
    out = folds == 2
    alone = odds.logistic(design[~out], y[~out], m[~out]).coefficients[0]
    np.testing.assert_allclose(scores[out], design[out] @ alone, atol=1e-3)


def test_a_column_that_a_fold_does_not_know_is_left_out_there():
    design, y, m, _ = simulated(num=60)
    rare = np.zeros(60)
    rare[0] = 1
    folds = np.arange(60) % 3
    scores = odds.cross_validated_scores(np.column_stack([design, rare]), y, m, folds)
    assert np.isfinite(scores).all()


def test_noise_predicts_nothing_and_permutations_say_so():
    above = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        design = np.column_stack([np.ones(150), rng.normal(size=(150, 3))])
        y, m = (rng.random(150) < 0.3).astype(float), np.ones(150)
        folds = odds.stratified_folds(y, m, 5, rng)
        orders = odds.permuted_rows(folds, m, 19, rng)
        every = np.concatenate([np.arange(150)[None], orders])
        found = odds.aucs(odds.cross_validated_scores(design, y[every], m[every], folds), y[every], m[every])
        above.append((found >= found[0]).mean())
    for level in (0.05, 0.2):
        assert np.mean(np.array(above) <= level) <= level + 2.5 * np.sqrt(level / 60)
    assert 0.35 < np.mean(above) < 0.7


def test_folds_hold_as_many_events_and_permutations_keep_them():
    rng = np.random.default_rng(0)
    m = rng.integers(1, 4, 203)
    y = rng.binomial(m, 0.2)
    folds = odds.stratified_folds(y, m, 5, rng)
    assert np.ptp(np.bincount(folds)) <= 1
    assert np.ptp(np.bincount(folds, weights=y > 0)) <= 1
    for order in odds.permuted_rows(folds, m, 4, rng):
        assert sorted(order.tolist()) == list(range(203))
        np.testing.assert_array_equal(m[order], m)
        np.testing.assert_array_equal(folds[order], folds)
        assert (y[order] != y).any()


def test_errors():
    design, y, m, _ = simulated(num=30)
    with pytest.raises(ValueError, match="shape"):
        odds.logistic(design, y[:5], m[:5])
    with pytest.raises(ValueError, match="finite `design`"):
        odds.logistic(np.where(design == design[3, 1], np.nan, design), y, m)
    with pytest.raises(ValueError, match="numbers of successes"):
        odds.logistic(design, y + 2, m)
    with pytest.raises(ValueError, match="linearly independent"):
        odds.logistic(np.column_stack([design, design[:, 1]]), y, m)
    with pytest.raises(ValueError, match="`num` >= 2 folds"):
        odds.stratified_folds(y, m, 1, np.random.default_rng(0))
