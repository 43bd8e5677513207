"""Three disjoint sets of documents: for the graph of A, for the graph of B, and for the truth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import document_splits
from atlas.errors import BadInput

__all__ = ["Sets", "split"]


class Sets(NamedTuple):
    """Numbers of documents, ascending; no document is in two sets."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    truth: NDArray[np.int64]


def split(documents: int, *, seed: int, repeat: int = 0) -> Sets:
    """Draw three sets of equal size.

    Parameters
    ----------
    documents
        How many there are.
    seed, repeat
        What the draw is made from; each repeat has its own.

    Raises
    ------
    BadInput
        If there are fewer than three, or the seed is below 0.
    """
    if seed < 0:
        raise BadInput(f"A seed is 0 or more; {seed} was given.")
    if documents < 3:
        raise BadInput(
            f"The text has {documents} documents, and counterparts need three sets of them: one for "
            "each graph, one for the truth. Ingest a text of more documents."
        )
    return Sets(*document_splits.split(np.arange(documents), 3, seed=seed, repeat=repeat))
