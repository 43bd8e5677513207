"""The graph of an SAE as its statistics need it: edges, frequencies, and at which number of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atlas.api import Atlas
from atlas.errors import BadInput, Mismatch, Missing
from atlas.graphs import edge_ends
from ingest.codes.topk_membership import Membership, edges, open_membership, rule_of

if TYPE_CHECKING:
    import igraph

__all__ = ["GraphOf", "at_equal_tokens", "graph_of"]


@dataclass(frozen=True, eq=False)
class GraphOf:
    """An SAE's graph.

    Parameters
    ----------
    sae
        The SAE's name.
    tokens, counted
        Tokens its edges are of, the first of the corpus, and those the atlas counted.
    pairs
        int64, (edges, 2). Its edges.
    active
        int64, (features,). On how many of the tokens each feature is active.
    min_count
        An edge is a pair among the most active features of at least so many tokens.
    membership
        The most active features of each token; None if codes were not kept, or not read.
    """

    sae: str
    tokens: int
    counted: int
    pairs: NDArray[np.int64]
    active: NDArray[np.int64]
    min_count: int
    membership: Membership | None

    @cached_property
    def graph(self) -> "igraph.Graph":
        """The graph: vertex i is feature i, also where it has no edge."""
        import igraph

        return igraph.Graph(n=len(self.active), edges=self.pairs)


def graph_of(
    atlas: Atlas, sae: str, *, min_count: int = 1, tokens: int | None = None, codes: bool = True
) -> GraphOf:
    """Read the graph of an SAE.

    Parameters
    ----------
    atlas
        The atlas. On a server there are no codes, so no membership.
    sae
        The SAE's name.
    min_count
        Only edges of pairs met on so many tokens; never fewer than the atlas keeps.
    tokens
        The graph of the first so many tokens of the corpus, which needs codes; of all if None.
    codes
        Whether the most active features of each token are read too, where codes were kept.

    Raises
    ------
    UnknownName
        If there is no such SAE.
    Missing
        If its features are not there, or the tokens are cut and codes are not there.
    BadInput
        If it has fewer tokens.
    """
    features = atlas.features(sae)
    if not features.num_rows or features["active_tokens"].null_count:
        raise Missing(
            f"{atlas.url} does not say how often the features of {sae} are active; ingest it again "
            "with --replace."
        )
    (row,) = atlas.table("SAE", sae=sae).to_pylist()
    found = int(row["tokens"] or 0)
    if tokens is not None and not 0 < tokens <= found:
        raise BadInput(f"{sae} was counted over {found:,} tokens, so {tokens:,} cannot be taken.")
    membership = None
    if atlas.folder is not None:
        min_count = max(min_count, rule_of(atlas.folder, sae).min_count)
        if codes or tokens not in (None, found):
            membership = _membership(atlas, sae, tokens)
    if tokens is None or tokens == found:
        table = atlas.table("CO_ACTIVATES", sae=sae)
        pairs = edge_ends(table)[table["count"].to_numpy() >= min_count]
        active = features["active_tokens"].to_numpy()
    elif membership is None:
        raise Missing(
            f"{sae} was counted over {found:,} tokens, and without its codes its graph at "
            f"{tokens:,} cannot be made. Ingest it again with --keep-codes --replace."
        )
    else:
        pairs, _ = edges(membership, min_count=min_count)
        active = membership.active
    return GraphOf(sae, tokens or found, found, pairs, active, min_count, membership)


def at_equal_tokens(
    atlas: Atlas,
    saes: Sequence[str],
    *,
    min_count: int = 1,
    tokens: int | None = None,
    codes: bool = True,
) -> list[GraphOf]:
    """Read the graphs of several SAEs, over the same number of tokens.

    Edges grow with tokens. Where SAEs were counted over different numbers of them (their
    tokenizers differ, say), all are cut to the smallest number, over the beginning of the
    corpus. And where atlases keep only pairs met on different numbers of tokens, the largest of
    these numbers holds for all.

    Parameters
    ----------
    atlas, min_count, tokens, codes
        See ``graph_of``.
    saes
        The SAEs' names.

    Raises
    ------
    Mismatch
        If one would have to be cut and its codes were not kept.
    """
    rows = [row for name in saes for row in atlas.table("SAE", sae=name).to_pylist()]
    counted = {int(row["tokens"] or 0) for row in rows}
    cut = tokens is None and len(counted) > 1
    if cut:
        tokens = min(counted)
    try:
        if atlas.folder is not None:
            min_count = max([min_count, *(rule_of(atlas.folder, n).min_count for n in saes)])
        return [
            graph_of(atlas, name, min_count=min_count, tokens=tokens, codes=codes) for name in saes
        ]
    except Missing as error:
        if not cut:
            raise
        raise Mismatch(
            f"Graphs are compared over equal numbers of tokens, here {tokens:,}, since edges grow with "
            f"them. {error} Or ask for one SAE at a time."
        ) from error


def _membership(atlas: Atlas, sae: str, tokens: int | None) -> Membership | None:
    assert atlas.folder is not None
    if f"codes/{sae}" not in atlas.folder.sound().parts:
        return None
    return open_membership(atlas.folder, sae, tokens=tokens)
