"""Statistics of ranks against SciPy, and without variation."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.statistics.ranks import rank_correlation


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 40), rng.normal(size=40)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_few_or_equal_values_have_no_correlation():
    assert rank_correlation(np.arange(2), np.arange(2)) is None
    assert rank_correlation(np.arange(9), np.arange(9), least=10) is None
    assert rank_correlation(np.ones(9), np.arange(9)) is None
    assert rank_correlation(np.arange(9), np.full(9, -1.5)) is None
