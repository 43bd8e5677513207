"""Restriction of the table of most active features to a subset of documents."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.codes.topk_membership import Membership

__all__ = ["document_subset"]


def document_subset(membership: Membership, documents: NDArray[np.int64]) -> Membership:
    """Return the tokens of a subset of documents; ``active`` remains that of all tokens.

    Parameters
    ----------
    membership
        The most active features of each token.
    documents
        Numbers of the documents.
    """
    selected = np.isin(membership.document, documents)
    sizes = np.diff(membership.indptr)
    return replace(
        membership,
        indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[selected])]),
        features=membership.features[np.repeat(selected, sizes)],
        document=membership.document[selected],
    )
