"""The pooled p against a reference, over octaves that are merged, and for few draws or features."""

import math

import numpy as np
import pytest
from pooled_by_hand import claims_by_hand

from ingest.match.pooling import End, claims, merged, octaves


def random_ends(rng: np.random.Generator, *, a: int, b: int, draws: int, counts, values=None):
    """Return two ends of random pairs, with random draws; values are the possible correlations."""

    def end(features: int, feature) -> End:
        count = np.asarray(rng.choice(counts, features), dtype=np.int64)
        best = np.abs(rng.standard_normal((draws, features))) / (10 + np.sqrt(count))
        if values is not None:
            best = rng.choice(values, best.shape)
        eligible = rng.random(features) < 0.85
        return End(best, feature, count, eligible)

    every = np.array([(i, j) for i in range(a) for j in range(b)], dtype=np.int64).reshape(-1, 2)
    some = every[rng.random(len(every)) < 2 / max(b, 1)]
    observed = np.abs(rng.standard_normal(len(some))) / 8
    if values is not None:
        observed = rng.choice(values, len(some))
    return end(a, some[:, 0]), end(b, some[:, 1]), observed


def assert_as_by_hand(a: End, b: End, observed) -> None:
    found, expected = vars(claims(a, b, observed)), claims_by_hand(a, b, observed)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or found[name] is None:
            assert found[name] is value, name
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


WIDE, ONE = [20, 40, 41, 90, 200, 5000], [33]


@pytest.mark.parametrize("draws", [0, 1, 2, 3, 7, 20])
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 3), (1, 1), (1, 5), (6, 4), (25, 30)])
@pytest.mark.parametrize("counts", [WIDE, ONE], ids=["many counts", "one count"])
def test_claims_equal_a_reference(draws: int, a: int, b: int, counts) -> None:
    for seed in range(3):
        rng = np.random.default_rng((seed, draws, a, b))
        assert_as_by_hand(*random_ends(rng, a=a, b=b, draws=draws, counts=counts))


@pytest.mark.parametrize("draws", [1, 2, 3, 6])
@pytest.mark.parametrize("values", [[0.0], [0.25], [0.0, 0.25], [0.0, 0.125, 0.5]])
def test_claims_equal_a_reference_with_ties_and_constant_draws(draws: int, values) -> None:
    # These values and their variances are exact, so that equal draws have equal results.
    rng = np.random.default_rng(draws)
    a, b, observed = random_ends(rng, a=9, b=7, draws=draws, counts=WIDE, values=values)
    assert_as_by_hand(a, b, observed)
    if len(values) == 1:
        assert (claims(a, b, observed).p_pooled == 1).all()


def test_without_eligible_features_nothing_is_claimed() -> None:
    rng = np.random.default_rng(0)
    a, b, observed = random_ends(rng, a=5, b=5, draws=4, counts=WIDE)
    a = End(a.best, a.feature, a.count, np.zeros(5, dtype=bool))
    assert_as_by_hand(a, b, observed)
    found = claims(a, b, observed)
    assert (found.p_pooled == 1).all()
    assert (found.floor_pooled == 1).all()
    assert found.draws_needed is None


def test_constant_draws_that_the_match_exceeds_give_the_lowest_p() -> None:
    n = 12
    one = np.arange(n)
    a, b = (End(np.full((20, n), 0.3), one, np.full(n, 50), np.ones(n, bool)) for _ in range(2))
    found = claims(a, b, np.full(n, 0.4))
    np.testing.assert_allclose(found.p_pooled, 1 / (1 + 20 * n))
    np.testing.assert_allclose(found.p_pooled, found.floor_pooled)


def sizes(pools) -> list[int]:
    return np.bincount(pools[pools >= 0]).tolist()


def test_octaves_are_merged_with_the_smaller_neighbour() -> None:
    octave = np.repeat([-1, 4, 5, 6, 9], [2, 5, 1, 3, 8])
    assert sizes(merged(octave, enough=0)) == sizes(merged(octave, enough=1)) == [5, 1, 3, 8]
    # The octave of 1 goes to that of 3, then both to that of 5.
    assert sizes(merged(octave, enough=2)) == sizes(merged(octave, enough=4)) == [5, 4, 8]
    assert sizes(merged(octave, enough=5)) == sizes(merged(octave, enough=8)) == [9, 8]
    assert sizes(merged(octave, enough=9)) == sizes(merged(octave, enough=10**9)) == [17]
    assert (merged(octave, enough=9)[:2] == -1).all()
    assert merged(np.full(3, -1), enough=2).tolist() == [-1] * 3
    assert len(merged(np.zeros(0, dtype=np.int64), enough=2)) == 0


def test_octaves_count_from_powers_of_two() -> None:
    count = np.array([1, 2, 3, 4, 7, 8, 2**40])
    every = np.ones(7, dtype=bool)
    assert octaves(count, every).tolist() == [1, 2, 2, 3, 3, 4, 41]
    assert octaves(count, ~every).tolist() == [-1] * 7


@pytest.mark.parametrize(("features", "matches"), [(12, 10), (60, 10), (60, 4), (700, 10)])
def test_draws_needed_and_matches_needed_are_the_smallest(features: int, matches: int) -> None:
    """Compare with q itself, for matches far above all their draws."""
    rng = np.random.default_rng(features)
    pair = np.arange(matches)
    count = np.full(features, 64)

    def found(draws: int, good: int):
        best = rng.random((draws, features)) / 10
        end = End(best, pair, count, np.ones(features, dtype=bool))
        return claims(end, end, np.where(pair < good, 0.9, 0.0))

    needed = found(20, 0).draws_needed
    assert found(needed, matches).q[0] <= 0.05
    if needed > 3:
        assert found(needed - 1, matches).q[0] >= 0.05 - 1e-9
    least = found(needed, matches).matches_needed
    assert least <= matches
    assert found(needed, least).q[0] <= 0.05
    if least > 1:
        assert (found(needed, least - 1).q >= 0.05 - 1e-9).all()
    assert math.isclose(found(needed, 0).floor_pooled[0], 1 / (1 + needed * features))
