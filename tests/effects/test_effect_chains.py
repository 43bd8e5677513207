"""Chains of effects: the count by a loop over pairs, and the null."""

import numpy as np
import pytest

from analysis.effects.chains import chains_by_threshold


def edges(rng, number, key, *, features):
    return [
        {key: f"m/{rng.integers(features)}", "q": float(q)} for q in rng.random(number).round(2)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_chains_equal_a_loop_over_pairs(seed):
    rng = np.random.default_rng(seed)
    first, second = (edges(rng, 40, key, features=20) for key in ("target", "source"))
    rows = chains_by_threshold(first, second, features=20, thresholds=(0.1, 0.4, 1.0))
    for row in rows:
        near = [e for e in first if e["q"] <= row["q"]], [e for e in second if e["q"] <= row["q"]]
        assert (row["first"], row["second"]) == (len(near[0]), len(near[1]))
        pairs = [1 for a in near[0] for b in near[1] if a["target"] == b["source"]]
        assert row["chains"] == len(pairs)
        # An edge meets each of the others in a random feature with probability 1 / features.
        assert row["chance"] == pytest.approx(len(near[0]) * len(near[1]) / 20, rel=0.25, abs=0.1)


def test_edges_that_meet_are_found_and_random_edges_are_not():
    rng = np.random.default_rng(0)
    first = [{"target": f"m/{i}", "q": 0.01} for i in range(10)]
    second = [{"source": f"m/{i}", "q": 0.01} for i in range(10)]
    (row,) = chains_by_threshold(first, second, features=500, thresholds=(0.05,))
    assert row["p"] == 0.001
    p = [
        chains_by_threshold(
            edges(rng, 30, "target", features=60),
            edges(rng, 30, "source", features=60),
            features=60,
            thresholds=(1.0,),
            seed=seed,
        )[0]["p"]
        for seed in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.12


def test_without_edges_there_is_no_chain():
    for first, second in (([], []), ([{"target": "m/1", "q": 0.01}], [])):
        (row,) = chains_by_threshold(first, second, features=0, thresholds=(0.05,))
        assert (row["chains"], row["chance"], row["p"]) == (0, 0.0, 1.0)
