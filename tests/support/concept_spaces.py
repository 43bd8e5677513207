"""Spaces of two SAEs with matched features, for tests of concept subspaces."""

import numpy as np
from scipy import sparse

from analysis.similarity.comparison import Spaces
from analysis.similarity.pairs import Directions, MatchedPairs


def spaces_of(x, y, *, rng):
    """SAEs whose features i are matched, with decoder rows x and y."""
    n = len(x)
    pairs = MatchedPairs(np.arange(n), np.arange(n), np.ones(n))
    nothing = MatchedPairs(*(np.zeros(0, dtype=t) for t in (int, int, float)))
    codes = [sparse.csc_array(sparse.random(400, n, density=0.1, random_state=rng)) for _ in "ab"]
    no = np.zeros(n, dtype=bool)
    directions = Directions(pairs, nothing, nothing, None, None, None, None)
    return Spaces(
        directions,
        (x.astype(np.float32), y.astype(np.float32)),
        True,
        tuple(codes),
        np.full(20, 20),
        (no, no),
    )


def row_of(rows, concept, measure="rsa"):
    (row,) = (r for r in rows if (r["concept"], r.get("measure")) == (concept, measure))
    return row
