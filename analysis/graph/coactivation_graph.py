"""The co-activation graph of an SAE: edges, weights and token counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.api import Atlas
from atlas.errors import BadInput, Mismatch, Missing
from atlas.folder import Folder
from atlas.graphs import edge_ends
from ingest.codes.topk_membership import Membership, edges, open_membership, rule_of

if TYPE_CHECKING:
    import igraph
    import pyarrow as pa

__all__ = ["CoactivationGraph", "at_equal_tokens", "equal_scale", "has_codes", "read_graph"]


@dataclass(frozen=True, eq=False)
class CoactivationGraph:
    """The co-activation graph of an SAE.

    Parameters
    ----------
    sae
        The name of the SAE.
    tokens, counted
        Number of tokens of this graph, from the start of the corpus; and number of tokens
        counted in the atlas.
    pairs
        int64, (edges, 2). The two features of each edge.
    count
        int64, (edges,). Number of tokens with both features among their most active ones.
    weight
        float64, (edges,). Mean cosine of the two features, over all tokens counted in the atlas.
    active
        int64, (features,). Number of tokens on which each feature is active.
    min_count
        Smallest count of an edge.
    membership
        The most active features of each token; None if codes are not stored or were not read.
    """

    sae: str
    tokens: int
    counted: int
    pairs: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: NDArray[np.float64]
    active: NDArray[np.int64]
    min_count: int
    membership: Membership | None

    @property
    def features(self) -> int:
        """Number of features of the SAE."""
        return len(self.active)

    @cached_property
    def graph(self) -> "igraph.Graph":
        """The unweighted graph; vertex i is feature i, with or without edges."""
        import igraph

        return igraph.Graph(n=self.features, edges=self.pairs)


def read_graph(
    atlas: Atlas | Folder,
    sae: str,
    *,
    min_count: int = 1,
    tokens: int | None = None,
    codes: bool = True,
) -> CoactivationGraph:
    """Read the graph of an SAE.

    Parameters
    ----------
    atlas
        The atlas, or its folder. A server has no codes, so the graph has no membership.
    sae
        The name of the SAE.
    min_count
        Smallest count of an edge. If the minimum of the atlas is larger, that is used.
    tokens
        Number of tokens from the start of the corpus; None for all. A subset needs codes.
    codes
        Whether to read the most active features of each token as well, if codes are stored.

    Returns
    -------
    The graph. Edges are in the order of the atlas table, or of the part for a folder.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its statistics are missing, or ``tokens`` needs codes that are not stored.
    BadInput
        If the SAE was counted over fewer tokens.
    """
    folder = atlas if isinstance(atlas, Folder) else atlas.folder
    if folder is not None:
        min_count = max(min_count, rule_of(folder, sae).min_count)
    active, counted = _activity(atlas, sae)
    _check_tokens(sae, counted, tokens)
    cut = tokens is not None and tokens < counted
    membership = None
    if (codes or cut) and has_codes(atlas, sae):
        assert folder is not None
        membership = open_membership(folder, sae, tokens=tokens if cut else None)
    table = _edges(atlas, sae)
    pairs, count, weight = (
        edge_ends(table), table["count"].to_numpy(), table["weight"].to_numpy()
    )  # fmt: skip
    if not cut:
        which = count >= min_count
        pairs, count, weight = pairs[which], count[which], weight[which]
    elif membership is None:
        raise Missing(_no_codes(sae, counted, tokens or 0))
    else:
        key, active = _key(pairs), membership.active
        pairs, count = edges(membership, min_count=min_count)
        order = np.argsort(key)
        # Every edge over a subset of the tokens is also an edge over all of them.
        weight = weight[order[np.searchsorted(key[order], _key(pairs))]]
    return CoactivationGraph(
        sae, tokens or counted, counted, pairs, count, weight, active, min_count, membership
    )


def at_equal_tokens(
    atlas: Atlas,
    saes: Sequence[str],
    *,
    min_count: int = 1,
    tokens: int | None = None,
    codes: bool = True,
) -> list[CoactivationGraph]:
    """Read the graphs of several SAEs over the same number of tokens; see ``equal_scale``.

    Parameters
    ----------
    atlas, min_count, tokens, codes
        See ``read_graph``.
    saes
        The names of the SAEs.

    Raises
    ------
    Mismatch
        If an SAE was counted over more tokens and its codes are not stored.
    """
    if not saes:
        return []
    tokens, min_count = equal_scale(atlas, saes, min_count=min_count, tokens=tokens)
    return [
        read_graph(atlas, name, min_count=min_count, tokens=tokens, codes=codes) for name in saes
    ]


def equal_scale(
    atlas: Atlas, saes: Sequence[str], *, min_count: int = 1, tokens: int | None = None
) -> tuple[int, int]:
    """Return the number of tokens and the smallest count at which graphs can be compared.

    The number of edges grows with the number of tokens. If SAEs were counted over
    different numbers of tokens (for example, with different tokenizers), all are cut to the
    smallest number. If they were ingested with different smallest counts, the largest is used.

    Parameters
    ----------
    atlas, min_count, tokens
        See ``read_graph``.
    saes
        The names of the SAEs, one or more.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If the statistics or the edges of an SAE are missing.
    BadInput
        If an SAE was counted over fewer than ``tokens`` tokens.
    Mismatch
        If an SAE was counted over more tokens and its codes are not stored.
    """
    counted = {name: _counted(atlas, name) for name in saes}
    if atlas.folder is not None:
        min_count = max([min_count, *(rule_of(atlas.folder, name).min_count for name in saes)])
    for name, each in counted.items():
        _check_tokens(name, each, tokens)
    if tokens is not None:
        return tokens, min_count
    tokens = min(counted.values())
    for name, each in counted.items():
        if each > tokens and not has_codes(atlas, name):
            raise Mismatch(
                f"Graphs are compared over equal numbers of tokens, here {tokens:,}, since edges grow with "
                f"tokens. {_no_codes(name, each, tokens)} Or select one SAE at a time."
            )
    return tokens, min_count


def has_codes(atlas: Atlas | Folder, sae: str) -> bool:
    """Return whether the codes of an SAE are stored; a server stores none."""
    folder = atlas if isinstance(atlas, Folder) else atlas.folder
    return folder is not None and f"codes/{sae}" in folder.sound().parts


def _check_tokens(sae: str, counted: int, tokens: int | None) -> None:
    if tokens is not None and not 0 < tokens <= counted:
        raise BadInput(
            f"{tokens:,} tokens were requested, but {sae} was counted over {counted:,} tokens. "
            f"Request 1 to {counted:,} tokens."
        )


def _no_codes(sae: str, counted: int, tokens: int) -> str:
    return (
        f"{sae} was counted over {counted:,} tokens, and its graph over {tokens:,} needs its codes, which "
        "are not stored. Ingest it again with --keep-codes --replace."
    )


def _activity(atlas: Atlas | Folder, sae: str) -> tuple[NDArray[np.int64], int]:
    """Return the number of active tokens of each feature, and the number of tokens counted."""
    if isinstance(atlas, Folder):
        part = atlas.sound().parts.get(f"statistics/{sae}")
        if part is None:
            raise _no_statistics(atlas.path, sae)
        (row,) = part.table("SAE").to_pylist()
        return part.table("Feature")["active_tokens"].to_numpy(), int(row["tokens"])
    counted = _counted(atlas, sae)
    active = atlas.features(sae)["active_tokens"]
    if active.null_count:
        raise _no_statistics(atlas.url, sae)
    return active.to_numpy(), counted


def _counted(atlas: Atlas, sae: str) -> int:
    (row,) = atlas.table("SAE", sae=sae).to_pylist()
    if not row["tokens"]:
        raise _no_statistics(atlas.url, sae)
    return int(row["tokens"])


def _no_statistics(where: object, sae: str) -> Missing:
    return Missing(
        f"{where} has no statistics of the features of {sae}; ingest it again with --replace."
    )


def _edges(atlas: Atlas | Folder, sae: str) -> "pa.Table":
    if isinstance(atlas, Folder):
        return atlas.sound().parts[f"coactivation/{sae}"].table("CO_ACTIVATES")
    return atlas.table("CO_ACTIVATES", sae=sae)


def _key(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return (pairs[:, 0] << 32) + pairs[:, 1]
