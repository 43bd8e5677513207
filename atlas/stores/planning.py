"""Plan a sync: compare the SAEs of a graph with those of a store."""

from collections.abc import Mapping

from atlas.errors import BadInput
from atlas.stores import Graph, StoredSae, SyncPlan

__all__ = ["compare"]


def compare(graph: Graph, there: Mapping[str, StoredSae]) -> SyncPlan:
    """Return the plan of a sync, without the number of rows and the forecast.

    Parameters
    ----------
    graph
        The graph to write.
    there
        Current SAEs of the same atlas in the store.

    Raises
    ------
    BadInput
        If the names of the fingerprints and of the SAEs differ.
    """
    wanted = graph.fingerprints
    rows = set(graph.tables["SAE"]["name"].to_pylist())
    if odd := sorted(rows ^ set(wanted)):
        raise BadInput(
            f"The graph of {graph.name!r} has only a fingerprint or only a row for {', '.join(odd)}; "
            "expected both for every SAE."
        )
    both = sorted(set(wanted) & set(there))
    return SyncPlan(
        graph,
        add=tuple(sorted(set(wanted) - set(there))),
        replace=tuple(n for n in both if wanted[n] != there[n].fingerprint),
        remove=tuple(sorted(set(there) - set(wanted))),
        keep=tuple(n for n in both if wanted[n] == there[n].fingerprint),
    )
