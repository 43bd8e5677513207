"""What a sync would change: the SAEs of a graph compared with those a store shows."""

from collections.abc import Mapping

from atlas.errors import BadInput
from atlas.stores import Graph, Loaded, SyncPlan

__all__ = ["compare"]


def compare(graph: Graph, there: Mapping[str, Loaded]) -> SyncPlan:
    """Return the plan that makes a store show a graph, rows and seconds still to be filled in.

    Parameters
    ----------
    graph
        What should be there.
    there
        What is there of the same atlas.

    Raises
    ------
    BadInput
        If the graph's fingerprints are not those of its SAEs.
    """
    wanted = graph.fingerprints
    rows = set(graph.tables["SAE"]["name"].to_pylist())
    if odd := sorted(rows ^ set(wanted)):
        raise BadInput(
            f"The graph of {graph.name!r} has a fingerprint or a row, but not both, for {', '.join(odd)}; "
            "give both for every SAE."
        )
    both = sorted(set(wanted) & set(there))
    return SyncPlan(
        graph,
        add=tuple(sorted(set(wanted) - set(there))),
        replace=tuple(n for n in both if wanted[n] != there[n].fingerprint),
        remove=tuple(sorted(set(there) - set(wanted))),
        keep=tuple(n for n in both if wanted[n] == there[n].fingerprint),
    )
