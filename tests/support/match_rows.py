"""Small codes for tests of matching: rows from dense arrays, random ones, bursty ones."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ingest.match.aligned_codes import CodeRows
from ingest.match.correlate import Correlator
from ingest.match.pairs import Pairs


def rows_of(dense: NDArray[np.floating]) -> CodeRows:
    """The codes of a dense array, units x features."""
    codes = csr_array(dense.astype(np.float32))
    return CodeRows(
        codes.indptr.astype(np.int64), codes.indices.astype(np.uint32), codes.data, dense.shape[1]
    )


def random_dense(
    rng: np.random.Generator, units: int, d_sae: int, *, rate: float
) -> NDArray[np.float32]:
    """Independent features, active at about this rate, some often and some rarely."""
    rates = rate * rng.exponential(size=d_sae)
    active = rng.random((units, d_sae)) < rates
    return (active * np.exp(rng.standard_normal((units, d_sae)))).astype(np.float32)


def correlated(a: NDArray[np.floating], b: NDArray[np.floating], **settings: object) -> Correlator:
    """Two dense arrays, ready to be correlated."""
    arguments = {"best": 3, "min_joint": 1, "memory": 1 << 28, **settings}
    return Correlator(rows_of(a), rows_of(b), **arguments)  # type: ignore[arg-type]


def pairs_with(a: NDArray[np.int64], b: NDArray[np.int64], pearson: NDArray[np.float64]) -> Pairs:
    """Pairs with these correlations, ascending by (a, b); no other field is set."""
    none = np.zeros(len(a), dtype=np.int64)
    by = np.lexsort((b, a))
    return Pairs(a[by], b[by], pearson[by], pearson[by], none, none, none, none, none)


def bursty(
    rng: np.random.Generator, lengths: NDArray[np.int64], d_sae: int, *, run: int, rate: float
) -> NDArray[np.float32]:
    """Features active in runs, each document a circle: any turn of it is as likely.

    Each feature has its documents, and in these its runs.
    """
    dense = np.zeros((int(lengths.sum()), d_sae), dtype=np.float32)
    start = 0
    for length in lengths:
        here = rng.random(d_sae) < 0.5
        begins = (rng.random((length, d_sae)) < rate / run) * here
        active = sum(np.roll(begins, k, axis=0) for k in range(run)) > 0
        dense[start : start + length] = active * np.exp(0.5 * rng.standard_normal(active.shape))
        start += length
    return dense
