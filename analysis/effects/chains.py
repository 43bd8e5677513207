"""Chains of effects over two layers, by threshold, compared with chains of permuted features."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ingest.statistics.permutation import exceedance_p

__all__ = ["chains_by_threshold"]

_DRAWS = 999


def chains_by_threshold(
    first: Iterable[Mapping[str, Any]],
    second: Iterable[Mapping[str, Any]],
    *,
    features: int,
    thresholds: Sequence[float] = (0.05, 0.1, 0.2, 0.3, 0.5),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Count the chains of two edges AFFECTS that meet in a feature, for several thresholds of q.

    The null assigns the edges to random features of the SAE between, and retains how many edges
    meet in one feature. It shows whether the two sets of edges meet more often than chance. It
    does not show that an edge is real: of the sources with an edge at q, a share of up to q is
    expected to be false.

    Parameters
    ----------
    first
        Edges to the SAE between, as rows of AFFECTS with ``target`` and ``q``.
    second
        Edges from it, with ``source`` and ``q``.
    features
        Measured features of the SAE between.
    thresholds
        Largest q of an edge.
    seed
        Seed of the random assignments.

    Returns
    -------
    list of dict
        A row for each threshold: ``q``; ``first`` and ``second``, the edges; ``chains``;
        ``chance``, the mean number of chains of 999 random assignments; ``p``, (1 + assignments
        with at least as many chains) / (1 + 999).

    Examples
    --------
    >>> first = [{"target": "m/1", "q": 0.01}, {"target": "m/2", "q": 0.2}]
    >>> second = [{"source": "m/1", "q": 0.04}]
    >>> (row,) = chains_by_threshold(first, second, features=100, thresholds=(0.05,))
    >>> row["first"], row["second"], row["chains"], row["p"] < 0.05
    (1, 1, 1, True)
    """
    to, since = list(first), list(second)
    rows = []
    for threshold in thresholds:
        ends = [edge["target"] for edge in to if edge["q"] <= threshold]
        starts = [edge["source"] for edge in since if edge["q"] <= threshold]
        number = {name: i for i, name in enumerate(dict.fromkeys([*ends, *starts]))}
        width = max(features, len(number), 1)
        into, out = (
            np.bincount([number[name] for name in names], minlength=width).astype(np.int64)
            if names
            else np.zeros(width, dtype=np.int64)
            for names in (ends, starts)
        )
        rng = np.random.default_rng(seed)
        drawn = np.array([rng.permutation(into) @ out for _ in range(_DRAWS)])
        chains = int(into @ out)
        rows.append(
            {
                "q": threshold,
                "first": len(ends),
                "second": len(starts),
                "chains": chains,
                "chance": float(drawn.mean()),
                "p": exceedance_p(int((drawn >= chains).sum()), _DRAWS),
            }
        )
    return rows
