"""The co-activation graph of an SAE: edges, weights and token counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analysis.communities.settings import Weight
from analysis.graph.igraph_conversion import as_igraph
from analysis.statistics.document_splits import document_subset
from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import BadInput, Mismatch, Missing
from atlas.graphs import edge_ends
from ingest.codes.store import read_shard
from ingest.codes.topk_membership import (
    Membership,
    edges,
    of_documents,
    open_membership,
    rule_of,
)
from ingest.reduce import sorted_pair_counts
from ingest.reduce.coactivation import Coactivation
from ingest.reduce.protocol import Sizes

if TYPE_CHECKING:
    import igraph
    import pyarrow as pa

__all__ = [
    "CoactivationGraph",
    "at_equal_tokens",
    "equal_scale",
    "graph_of_documents",
    "graph_of_membership",
    "has_codes",
    "read_graph",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class CoactivationGraph:
    """A co-activation graph: of an SAE, of a subset of its documents, or of a null.

    Parameters
    ----------
    pairs
        int64, (edges, 2). The two features of each edge; unique, without loops.
    count
        int64, (edges,). Number of tokens with both features among their most active ones.
    active
        int64, (features,). Number of tokens on which each feature is active.
    tokens
        Number of tokens of the graph.
    weight
        float64, (edges,). Weight of each edge: the mean cosine of its features, until
        ``weighted`` replaces it. None for a graph without weights, such as a null graph.
    sae
        The name of the SAE; empty for other graphs.
    counted
        Number of tokens counted in the atlas, if it was read from one.
    min_count
        Smallest count of an edge.
    membership
        The most active features of each token; None if codes are not stored or were not read.
    """

    pairs: NDArray[np.int64]
    count: NDArray[np.int64]
    active: NDArray[np.int64]
    tokens: int
    weight: NDArray[np.float64] | None = None
    sae: str = ""
    counted: int = 0
    min_count: int = 1
    membership: Membership | None = None

    @classmethod
    def of(
        cls,
        graph: Any,
        *,
        weight: NDArray[np.float64] | None = None,
        active: NDArray[np.int64] | None = None,
    ) -> "CoactivationGraph":
        """Convert a graph of igraph or networkx, with nodes and edges in the same order.

        Parameters
        ----------
        graph
            An undirected graph. In igraph, the edge attribute ``count`` is the number of tokens
            of each edge; otherwise it is 1.
        weight
            float64, (edges,). Weights of the edges.
        active
            int64, (nodes,). Number of active tokens of each node; None for 1.

        Raises
        ------
        BadInput
            If it is not a graph, is directed, or has loops or multiple edges. Also if a count is
            not a whole number above 0, or there is not one weight per edge or one number of
            active tokens per node.
        """
        g = as_igraph(graph)
        pairs = np.array(g.get_edgelist(), dtype=np.int64).reshape(-1, 2)
        if weight is not None and len(weight) != len(pairs):
            raise BadInput(
                f"There are {len(weight):,} weights and {len(pairs):,} edges; pass one weight per edge."
            )
        active = np.ones(g.vcount(), dtype=np.int64) if active is None else np.asarray(active)
        if active.shape != (g.vcount(),):
            raise BadInput(
                f"The graph has {g.vcount()} nodes, but `active` has the shape {active.shape}; expected "
                "one number per node."
            )
        return cls(
            pairs=np.sort(pairs, axis=1),
            count=_counts(g),
            active=active,
            tokens=int(active.max(initial=1)),
            weight=weight,
        )

    @property
    def features(self) -> int:
        """Number of features, with or without edges."""
        return len(self.active)

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """int64, ascending. The features that are active on a token."""
        return np.flatnonzero(self.active > 0)

    @cached_property
    def graph(self) -> "igraph.Graph":
        """The unweighted graph; vertex i is feature i, with or without edges."""
        import igraph

        return igraph.Graph(n=self.features, edges=self.pairs)

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """int64, (features,). Number of edges of each feature."""
        return np.bincount(self.pairs.ravel(), minlength=self.features)

    @cached_property
    def clustering(self) -> NDArray[np.float64]:
        """float64, (features,). Share of pairs of neighbours with an edge; 0 for fewer than two."""
        local = self.graph.transitivity_local_undirected(mode="zero")
        return np.array(local, dtype=np.float64)

    @cached_property
    def core(self) -> NDArray[np.int64]:
        """int64, (features,). Core number of each feature."""
        return np.array(self.graph.coreness(), dtype=np.int64)

    @cached_property
    def matrix(self) -> csr_array:
        """float64, (features, features). The symmetric weight matrix; 1 without weights."""
        weight = np.ones(len(self.pairs)) if self.weight is None else self.weight
        one, two = self.pairs.T
        ends = np.concatenate([one, two]), np.concatenate([two, one])
        return csr_array(
            (np.concatenate([weight, weight]), ends), shape=(self.features, self.features)
        )

    @cached_property
    def strength(self) -> NDArray[np.float64]:
        """float64, (features,). Sum of the weights of each feature's edges."""
        weight = np.ones(len(self.pairs)) if self.weight is None else self.weight
        total = np.bincount(
            self.pairs.ravel(), weights=np.repeat(weight, 2), minlength=self.features
        )
        return total.astype(np.float64)

    @cached_property
    def steps(self) -> csr_array:
        """Transition probabilities of the random walk: rows of ``matrix`` divided by their sums."""
        return csr_array(
            self.matrix.multiply(1 / np.where(self.strength > 0, self.strength, 1)[:, None])
        )

    def edge_weights(self, by: Weight) -> NDArray[np.float64]:
        """Return edge weights for community detection; (edges,).

        Parameters
        ----------
        by
            The kind of weight; see ``CommunitySettings.weight``. All are 1 for ``"none"``, and a
            missing mean cosine counts as 1.
        """
        cosine = np.ones(len(self.pairs)) if self.weight is None else self.weight
        if by == "weight":
            return cosine
        if by == "none":
            return np.ones(len(self.pairs))
        counts = self.count.astype(np.float64)
        return counts * cosine if by == "total" else counts

    def weighted(self, by: Weight) -> "CoactivationGraph":
        """Return the graph with these edge weights; without weights for ``"none"``."""
        return replace(self, weight=None if by == "none" else self.edge_weights(by))

    def relabelled(self, label: NDArray[np.int64]) -> "CoactivationGraph":
        """Relabel feature i as ``label[i]``; without a membership."""
        active = np.empty_like(self.active)
        active[label] = self.active
        return replace(self, pairs=label[self.pairs], active=active, membership=None)

    def among(self, features: NDArray[np.int64]) -> "CoactivationGraph":
        """Return the subgraph induced by ``features``, in their order; without a membership."""
        number = np.full(self.features, -1, dtype=np.int64)
        number[features] = np.arange(len(features))
        inner = (number[self.pairs] >= 0).all(axis=1)
        return replace(
            self,
            pairs=number[self.pairs[inner]],
            count=self.count[inner],
            active=self.active[features],
            weight=None if self.weight is None else self.weight[inner],
            membership=None,
        )


def graph_of_membership(
    membership: Membership, *, min_count: int = 1, documents: NDArray[np.int64] | None = None
) -> CoactivationGraph:
    """Compute the graph from the most active features of each token; it has no weights.

    Parameters
    ----------
    membership
        The most active features of each token.
    min_count
        Smallest count of an edge.
    documents
        Numbers of the documents to count; all if None. ``active`` remains that of all tokens.
    """
    if documents is not None:
        membership = document_subset(membership, documents)
    pairs, count = edges(membership, min_count=min_count)
    return CoactivationGraph(
        pairs=pairs,
        count=count,
        active=membership.active,
        tokens=len(membership),
        min_count=min_count,
    )


def graph_of_documents(
    folder: Folder, sae: str, *, documents: NDArray[np.int64] | None = None, min_count: int = 1
) -> CoactivationGraph:
    """Compute the graph of a subset of documents from stored codes, weighted as in the atlas.

    Parameters
    ----------
    folder
        The atlas; it must store the codes of the SAE.
    sae
        The name of the SAE.
    documents
        Numbers of the documents; all if None.
    min_count
        Smallest count of an edge. If the minimum of the atlas is larger, that is used.

    Returns
    -------
    The graph, with edges sorted by both features. The weight of an edge is the mean, over its
    tokens, of the cosine of the two activation columns within the block of the token.
    """
    rule = rule_of(folder, sae)
    min_count = max(min_count, rule.min_count)
    (row,) = folder.sound().parts[f"sae/{sae}"].table("SAE").to_pylist()
    counting = Coactivation(k=rule.k, min_count=rule.min_count)
    # A pass reads only the number of features from the sizes.
    sizes = Sizes(1, int(row["d_sae"]), tokens=0, l0=1.0, vocabulary=1, codes_stored=True)
    # The first of two passes counts pairs and sums their cosines; this graph needs no second pass.
    state = counting.start(0, [], sizes=sizes, passes=2)
    active, tokens = np.zeros(int(row["d_sae"]), dtype=np.int64), 0
    for shard in sorted(folder.codes(sae).glob("*.arrow")):
        for full_block in read_shard(shard):
            block = full_block if documents is None else of_documents(full_block, documents)
            counting.update(state, block)
            active += np.bincount(block.indices, minlength=len(active))
            tokens += len(block)
    key, count, total = sorted_pair_counts.take(state)
    frequent = count >= min_count
    key, count, total = key[frequent], count[frequent], total[frequent]
    return CoactivationGraph(
        pairs=np.stack([key >> 32, key & 0xFFFFFFFF], axis=1),
        count=count,
        active=active,
        tokens=tokens,
        weight=np.minimum(total / count, 1.0),
        sae=sae,
        min_count=min_count,
    )


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
    pairs, count, weight = (edge_ends(table), table["count"].to_numpy(), table["weight"].to_numpy())
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
        pairs=pairs,
        count=count,
        active=active,
        tokens=tokens or counted,
        weight=weight,
        sae=sae,
        counted=counted,
        min_count=min_count,
        membership=membership,
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
        "are not stored. Ingest it again with `keep_codes=True` and `replace=True`."
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
        f"{where} has no statistics of the features of {sae}; ingest it again with `replace=True`."
    )


def _edges(atlas: Atlas | Folder, sae: str) -> "pa.Table":
    if isinstance(atlas, Folder):
        return atlas.sound().parts[f"coactivation/{sae}"].table("CO_ACTIVATES")
    return atlas.table("CO_ACTIVATES", sae=sae)


def _counts(g: "igraph.Graph") -> NDArray[np.int64]:
    """Return the edge attribute ``count``, or 1 for each edge."""
    if "count" not in g.es.attributes():
        return np.ones(g.ecount(), dtype=np.int64)
    count = np.asarray(g.es["count"], dtype=np.float64)
    if not (np.isfinite(count) & (count >= 1) & (count == np.rint(count))).all():
        raise BadInput(
            "The `count` of an edge is not a whole number above 0. Set it to one, or remove the edge."
        )
    return count.astype(np.int64)


def _key(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return (pairs[:, 0] << 32) + pairs[:, 1]
