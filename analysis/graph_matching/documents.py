"""Splits of the documents into three sets: graph of A, graph of B, and truth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import document_splits
from atlas.errors import BadInput

__all__ = ["Sets", "split"]


class Sets(NamedTuple):
    """Disjoint sets of document numbers, each in ascending order."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    truth: NDArray[np.int64]


def split(documents: int, *, seed: int, repeat: int = 0) -> Sets:
    """Split documents at random into three sets of equal size.

    Parameters
    ----------
    documents
        Number of documents.
    seed, repeat
        Seed of the split, and the number of the repeat.

    Raises
    ------
    BadInput
        If there are fewer than three, or the seed is below 0.
    """
    if seed < 0:
        raise BadInput(f"seed is {seed}; expected 0 or more.")
    if documents < 3:
        raise BadInput(
            f"The text has {documents} documents, but counterparts need at least three: one for each "
            "graph and one for the truth. Ingest more documents."
        )
    return Sets(*document_splits.split(np.arange(documents), 3, seed=seed, repeat=repeat))
