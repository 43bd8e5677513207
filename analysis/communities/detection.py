"""Statistics, stability and characteristic tokens of communities in a co-activation graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from atlas.errors import BadInput

__all__ = [
    "Shape",
    "agreement",
    "best_overlap",
    "distinguishing_tokens",
    "inner_edges",
    "mean_overlap",
    "permuted",
    "shape",
]

Labels = NDArray[np.int64]
"""The community of each node, or -1; (nodes,)."""


@dataclass(frozen=True, eq=False)
class Shape:
    """Size, edges and separation of each community; (communities,) each.

    Parameters
    ----------
    size, edges
        int64. Number of its nodes, and of edges between them.
    inner_share
        float64. Share of the edge weight of its nodes that is within the community, per edge end.
    conductance
        float64. Weight of its outgoing edges, divided by the smaller of the volumes of the
        community and of the rest, as in networkx. NaN if the rest has volume 0.
    """

    size: NDArray[np.int64]
    edges: NDArray[np.int64]
    inner_share: NDArray[np.float64]
    conductance: NDArray[np.float64]


def shape(labels: Labels, pairs: NDArray[np.int64], weights: NDArray[np.float64]) -> Shape:
    """Compute the size, edges and separation of each community.

    Parameters
    ----------
    labels
        The community of each node; -1 for exactly the nodes without an edge.
    pairs, weights
        Edges and their weights; (edges, 2) and (edges,).
    """
    n = int(labels.max(initial=-1)) + 1
    one, two = labels[pairs].T
    within = one == two
    inner = np.bincount(one[within], weights=weights[within], minlength=n)
    volume = np.bincount(one, weights=weights, minlength=n)
    volume = volume + np.bincount(two, weights=weights, minlength=n)
    others = volume.sum() - volume
    # Summed directly, since volume - 2 * inner can round to nonzero for a complete component.
    leaves = np.bincount(one[~within], weights=weights[~within], minlength=n)
    leaves = leaves + np.bincount(two[~within], weights=weights[~within], minlength=n)
    lesser = np.minimum(volume, others)
    conductance = np.full(n, np.nan)
    if n > 1:  # for a single community, the rest has volume 0
        np.divide(leaves, lesser, out=conductance, where=lesser > 0)
    return Shape(
        size=np.bincount(labels[labels >= 0], minlength=n),
        edges=np.bincount(one[within], minlength=n),
        inner_share=np.divide(2 * inner, volume, out=np.zeros(n), where=volume > 0),
        conductance=conductance,
    )


def inner_edges(
    labels: Labels, pairs: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number of edges of each node within its community, and their share of weight.

    Parameters
    ----------
    labels, pairs, weights
        See ``shape``.

    Returns
    -------
    degree
        int64, (nodes,).
    share
        float64, (nodes,); NaN for nodes without an edge.
    """
    n = len(labels)
    ends = pairs.T.ravel()
    within = np.tile(labels[pairs[:, 0]] == labels[pairs[:, 1]], 2)
    both = np.tile(weights, 2)
    strength = np.bincount(ends, weights=both, minlength=n)
    inner = np.bincount(ends, weights=both * within, minlength=n)
    share = np.divide(inner, strength, out=np.full(n, np.nan), where=strength > 0)
    return np.bincount(ends[within], minlength=n), share


def agreement(a: Labels, b: Labels) -> float | None:
    """Return the adjusted mutual information of two partitions.

    It is 1 for equal partitions, and 0 on average for random partitions with the same sizes.

    Parameters
    ----------
    a, b
        The community of each node, as an array or a list; nodes with -1 in either partition are excluded.

    Returns
    -------
    float or None
        None if either partition has fewer than two communities among the shared nodes.

    Raises
    ------
    BadInput
        If the partitions are not of the same nodes.

    Examples
    --------
    >>> agreement([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    from sklearn.metrics import adjusted_mutual_info_score

    a, b = np.asarray(a), np.asarray(b)
    if (
        a.shape != b.shape
        or a.ndim != 1
        or not all(np.issubdtype(x.dtype, np.integer) for x in (a, b))
    ):
        raise BadInput(
            f"The partitions have the shapes {a.shape} and {b.shape}, of {a.dtype} and {b.dtype}; expected a "
            "whole number for each node, and equal numbers of nodes."
        )
    both = (a >= 0) & (b >= 0)
    # With one community on a side, scikit-learn returns 0 or 1.
    if len(np.unique(a[both])) < 2 or len(np.unique(b[both])) < 2:
        return None
    return float(adjusted_mutual_info_score(a[both], b[both]))


def best_overlap(labels: Labels, other: Labels) -> NDArray[np.float64]:
    """Return the Jaccard overlap of each community with its best match in another partition.

    Parameters
    ----------
    labels, other
        The community of each node; nodes with -1 in either partition are excluded.

    Returns
    -------
    array
        float64, (communities of ``labels``,). Nodes in both / nodes in either; NaN for a
        community without a shared node.
    """
    n = int(labels.max(initial=-1)) + 1
    m = max(int(other.max(initial=-1)) + 1, 1)
    both = (labels >= 0) & (other >= 0)
    joint = np.bincount(labels[both] * m + other[both], minlength=n * m).reshape(n, m)
    size, other_size = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    either = size + other_size - joint
    jaccard = np.divide(joint, either, out=np.zeros(joint.shape), where=either > 0)
    best: NDArray[np.float64] = np.where(size[:, 0] > 0, jaccard.max(axis=1), np.nan)
    return best


def mean_overlap(labels: Labels, others: Sequence[Labels]) -> NDArray[np.float64]:
    """Return the mean of ``best_overlap`` over partitions; NaN if no partition has a value."""
    found = np.array([best_overlap(labels, other) for other in others])
    known = ~np.isnan(found)
    total = np.where(known, found, 0.0).sum(axis=0)
    times = known.sum(axis=0)
    mean: NDArray[np.float64] = np.divide(
        total, times, out=np.full(len(total), np.nan), where=times > 0
    )
    return mean


def permuted(labels: Labels, rng: np.random.Generator) -> Labels:
    """Permute the labels of a partition among the nodes that have a community."""
    drawn = labels.copy()
    drawn[labels >= 0] = rng.permutation(labels[labels >= 0])
    return drawn


def distinguishing_tokens(
    labels: Labels,
    features: NDArray[np.int64],
    tokens: NDArray[np.int64],
    *,
    share: NDArray[np.float64],
    most: int = 8,
    prior: float = 10.0,
) -> list[list[int]]:
    """Return the most characteristic tokens of each community, in descending order.

    Log odds ratios with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008,
    "Fightin' Words"). The sample of a community is the tokens on which its features are active.
    Each feature has one vote, spread over its tokens, so frequent and rare features count
    equally. The prior is the token distribution of all features, worth ``prior`` votes. The
    z score of a token is the difference between its log odds in the community and in the
    other communities, divided by its standard error. Tokens with z of at least 1 are returned.

    Parameters
    ----------
    labels
        The community of each feature; features with -1 are excluded.
    features, tokens, share
        Pairs of a feature and a token on which it is active, and the share of the feature's active
        tokens that are this token; (rows,) each. Token numbers start at 0.
    most
        Largest number of tokens per community.
    prior
        Weight of the prior, in votes.
    """
    n = int(labels.max(initial=-1)) + 1
    labelled = labels[features] >= 0
    community = labels[features[labelled]]
    tokens, share = tokens[labelled], share[labelled]
    if not n or not len(tokens):
        return [[] for _ in range(n)]
    width = int(tokens.max()) + 1
    votes = csr_array((share, (community, tokens)), shape=(n, width))
    total = np.bincount(tokens, weights=share, minlength=width)
    background = prior * total / total.sum()
    named = []
    for number in range(n):
        own = votes[[number]].toarray()[0]
        z = _log_odds(own, total - own, background)
        order = np.lexsort((np.arange(len(z)), -z))[:most]
        named.append([int(t) for t in order if z[t] >= 1.0 and own[t] > 0])
    return named


def _log_odds(
    own: NDArray[np.float64], others: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the z score of each token's log odds ratio; 0 for unseen tokens."""
    z = np.zeros(len(own))
    seen = prior > 0
    a, b = (own + prior)[seen], (others + prior)[seen]
    rest = [x.sum() - x for x in (a, b)]
    # A token that is the only one in a sample has no odds.
    defined = (rest[0] > 0) & (rest[1] > 0)
    safe = [np.where(defined, r, 1.0) for r in rest]
    odds = np.log(a / safe[0]) - np.log(b / safe[1])
    z[seen] = np.where(defined, odds / np.sqrt(1 / a + 1 / b), 0.0)
    return z
