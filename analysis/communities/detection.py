"""Communities of a co-activation graph: how they lie in it, how stable they are, what names them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.communities.settings import Weight

__all__ = [
    "Shape", "agreement", "best_overlap", "edge_weights", "halves", "inner_edges", "mean_overlap", "permuted",
    "set_apart", "shape",
]  # fmt: skip

Labels = NDArray[np.int64]
"""The community of each node, -1 for none; (nodes,)."""


@dataclass(frozen=True, eq=False)
class Shape:
    """How each community lies in the graph; (communities,) each.

    Parameters
    ----------
    size, edges
        int64. Nodes in it, and edges between these.
    inner_share
        float64. Weight of the edges within / weight of all edges of its nodes, each end counted.
    conductance
        float64. Weight of the edges that leave it / the lesser of both sides' weight, ends
        counted, as networkx gives; NaN where the others have none.
    """

    size: NDArray[np.int64]
    edges: NDArray[np.int64]
    inner_share: NDArray[np.float64]
    conductance: NDArray[np.float64]


def edge_weights(
    by: Weight, count: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what edges weigh where communities are sought; see ``CommunitySettings.weight``.

    Parameters
    ----------
    by
        Which of these.
    count, weight
        The properties of the edges; (edges,) each.
    """
    if by == "weight":
        return weight
    if by == "none":
        return np.ones(len(count))
    times = count.astype(np.float64)
    return times * weight if by == "total" else times


def shape(labels: Labels, pairs: NDArray[np.int64], weights: NDArray[np.float64]) -> Shape:
    """Return how each community lies in the graph.

    Parameters
    ----------
    labels
        The community of each node; -1 for nodes without an edge, and no others.
    pairs, weights
        Edges and what they weigh; (edges, 2) and (edges,).
    """
    n = int(labels.max(initial=-1)) + 1
    one, two = labels[pairs].T
    within = one == two
    held = np.bincount(one[within], weights=weights[within], minlength=n)
    volume = np.bincount(one, weights=weights, minlength=n)
    volume = volume + np.bincount(two, weights=weights, minlength=n)
    others = volume.sum() - volume
    # Of a community that is a whole component, sums in two orders may differ in the last digit.
    leaves = np.bincount(one[~within], weights=weights[~within], minlength=n)
    leaves = leaves + np.bincount(two[~within], weights=weights[~within], minlength=n)
    lesser = np.minimum(volume, others)
    conductance = np.full(n, np.nan)
    if n > 1:  # one alone has all the weight, and the others none
        np.divide(leaves, lesser, out=conductance, where=lesser > 0)
    return Shape(
        size=np.bincount(labels[labels >= 0], minlength=n),
        edges=np.bincount(one[within], minlength=n),
        inner_share=np.divide(2 * held, volume, out=np.zeros(n), where=volume > 0),
        conductance=conductance,
    )


def inner_edges(
    labels: Labels, pairs: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return, for each node, its edges within its community, and their share of its weight.

    Parameters
    ----------
    labels, pairs, weights
        See ``shape``.

    Returns
    -------
    degree
        int64, (nodes,).
    share
        float64, (nodes,); NaN without an edge.
    """
    n = len(labels)
    ends = pairs.T.ravel()
    within = np.tile(labels[pairs[:, 0]] == labels[pairs[:, 1]], 2)
    both = np.tile(weights, 2)
    strength = np.bincount(ends, weights=both, minlength=n)
    held = np.bincount(ends, weights=both * within, minlength=n)
    share = np.divide(held, strength, out=np.full(n, np.nan), where=strength > 0)
    return np.bincount(ends[within], minlength=n), share


def agreement(a: Labels, b: Labels) -> float | None:
    """Return how much two partitions agree: their adjusted mutual information.

    1 if they are the same, about 0 if they agree as two of these sizes do by chance.

    Parameters
    ----------
    a, b
        The community of each node; nodes that either leaves out are left out.

    Returns
    -------
    float or None
        None if either has but one community among the nodes they share, so that there is
        nothing to agree on.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    both = (a >= 0) & (b >= 0)
    # With one community on a side, scikit-learn says 0 or 1.
    if len(np.unique(a[both])) < 2 or len(np.unique(b[both])) < 2:
        return None
    return float(adjusted_mutual_info_score(a[both], b[both]))


def best_overlap(labels: Labels, other: Labels) -> NDArray[np.float64]:
    """Return, for each community, its overlap with the likest one of another partition.

    Parameters
    ----------
    labels, other
        The community of each node; nodes that either leaves out are left out.

    Returns
    -------
    array
        float64, (communities of ``labels``,). Nodes in both / nodes in either; NaN for a
        community of which no node is left.
    """
    n = int(labels.max(initial=-1)) + 1
    m = max(int(other.max(initial=-1)) + 1, 1)
    both = (labels >= 0) & (other >= 0)
    met = np.bincount(labels[both] * m + other[both], minlength=n * m).reshape(n, m)
    size, theirs = met.sum(axis=1, keepdims=True), met.sum(axis=0, keepdims=True)
    either = size + theirs - met
    jaccard = np.divide(met, either, out=np.zeros(met.shape), where=either > 0)
    best: NDArray[np.float64] = np.where(size[:, 0] > 0, jaccard.max(axis=1), np.nan)
    return best


def mean_overlap(labels: Labels, others: Sequence[Labels]) -> NDArray[np.float64]:
    """Return ``best_overlap`` as a mean over several partitions; NaN where none has a value."""
    found = np.array([best_overlap(labels, other) for other in others])
    known = ~np.isnan(found)
    total = np.where(known, found, 0.0).sum(axis=0)
    times = known.sum(axis=0)
    mean: NDArray[np.float64] = np.divide(
        total, times, out=np.full(len(total), np.nan), where=times > 0
    )
    return mean


def permuted(labels: Labels, rng: np.random.Generator) -> Labels:
    """Return the partition with its nodes permuted, those without a community left as they are."""
    drawn = labels.copy()
    drawn[labels >= 0] = rng.permutation(labels[labels >= 0])
    return drawn


def halves(
    documents: NDArray[np.int64], splits: int, *, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split documents at random into halves, several times.

    Parameters
    ----------
    documents
        Their numbers, each once. Of an odd number, the second half has one more.
    splits, seed
        How often, and the seed.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        drawn = rng.permutation(documents)
        middle = len(drawn) // 2
        found.append((np.sort(drawn[:middle]), np.sort(drawn[middle:])))
    return found


def set_apart(
    labels: Labels,
    features: NDArray[np.int64],
    tokens: NDArray[np.int64],
    *,
    share: NDArray[np.float64],
    most: int = 8,
    prior: float = 10.0,
) -> list[list[int]]:
    """Return the tokens that set each community apart, most first.

    Log odds ratios with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008,
    "Fightin' Words"). The sample of a community is what its features are active on, each
    feature one vote spread over its tokens: a frequent feature says no more than a rare
    one. The prior is what all features are active on, worth ``prior`` votes. A token's log
    odds in the community, less those in the others, are divided by their standard
    error; tokens that stand at 1 or more are given.

    Parameters
    ----------
    labels
        The community of each feature; those of none are left out.
    features, tokens, share
        Which feature is active on which token, and the share of its active tokens that are this
        one; (rows,) each, ``tokens`` as numbers from 0.
    most
        Tokens given for each, at most.
    prior
        How many votes the prior weighs.
    """
    n = int(labels.max(initial=-1)) + 1
    kept = labels[features] >= 0
    of, tokens, share = labels[features[kept]], tokens[kept], share[kept]
    if not n or not len(tokens):
        return [[] for _ in range(n)]
    width = int(tokens.max()) + 1
    votes = csr_array((share, (of, tokens)), shape=(n, width))
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
    """Return the difference in log odds of each token over its standard error; 0 for unseen ones."""
    z = np.zeros(len(own))
    seen = prior > 0
    a, b = (own + prior)[seen], (others + prior)[seen]
    rest = [x.sum() - x for x in (a, b)]
    # Where a token is all there is, it sets nothing apart.
    tells = (rest[0] > 0) & (rest[1] > 0)
    safe = [np.where(tells, r, 1.0) for r in rest]
    odds = np.log(a / safe[0]) - np.log(b / safe[1])
    z[seen] = np.where(tells, odds / np.sqrt(1 / a + 1 / b), 0.0)
    return z
