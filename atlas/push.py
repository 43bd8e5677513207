"""Push an atlas to a server: assemble its graph, plan the changes, and write them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.assemble import assemble
from atlas.edge_pruning import trimmed
from atlas.errors import BadInput
from atlas.folder import Folder
from atlas.pace import rough
from atlas.progress import SILENT, Progress
from atlas.rename_saes import read_names, renamed
from atlas.stores import Graph
from atlas.stores.opening import is_server, open_server

__all__ = ["push_atlas"]


def push_atlas(
    path: Path,
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    database: str | None = None,
    names: Sequence[str] = (),
    edges_per_feature: int | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Update a server to the contents of an atlas.

    Parameters
    ----------
    path
        The folder of the atlas.
    url
        URL of the server.
    username, password, database
        Login and database of the server.
    names
        ``SAE=NAME`` for SAEs with another name on the server; pass them at every push.
    edges_per_feature
        Push only CO_ACTIVATES edges that are among this number of heaviest edges of at
        least one of their ends; pass it at every push. All edges if None.
    dry_run
        Compute the changes without writing them.
    progress
        Reports progress.

    Returns
    -------
    dict
        ``added``, ``replaced``, ``removed`` and ``kept`` are names of SAEs. ``shared`` is
        whether edges between shared nodes, such as maps between sites, differ. ``rows`` and
        ``seconds`` are the number of rows to write and the estimated time. ``left_out`` is
        the number of excluded CO_ACTIVATES edges, ``url`` the server.

    Raises
    ------
    BadInput, UnknownName
        If the URL is not that of a server, or a name or number is invalid.
    Mismatch
        If another atlas on the server has an SAE of the same name.
    StoreError
        If the server does not answer, refuses the login, or the connection is lost. The
        server then shows the old or the new version of each SAE; repeat the call to finish.
    """
    if not is_server(url):
        raise BadInput(
            f"{url!r} is not the URL of a server; expected neo4j://…, neo4j+s://… or bolt://…"
        )
    folder = Folder.open(path)
    sound = folder.sound()
    for key, reason in sound.stale.items():
        progress.report(f"Excluded {key}, which is stale: {reason}.")
    graph = renamed(assemble(folder, sound), read_names(names, saes=sound.saes))
    graph, left_out = _trimmed(graph, edges_per_feature, progress)
    store = open_server(url, username=username, password=password, database=database)
    try:
        plan = store.plan(graph)
        if plan.changes:
            progress.report(f"{plan.rows:,} nodes and edges to write, {rough(plan.seconds)}.")
        if not dry_run:  # even without changes, to clean up after a killed push
            store.sync(plan, progress)
        return {
            "url": store.url,
            "added": list(plan.add),
            "replaced": list(plan.replace),
            "removed": list(plan.remove),
            "kept": list(plan.keep),
            "shared": plan.shared,
            "rows": plan.rows,
            "seconds": plan.seconds,
            "left_out": left_out,
        }
    finally:
        store.close()


def _trimmed(graph: Graph, edges_per_feature: int | None, progress: Progress) -> tuple[Graph, int]:
    """Return the pruned graph, and the number of edges removed from it."""
    if edges_per_feature is None:
        return graph, 0
    complete, graph = graph, trimmed(graph, edges_per_feature)
    total, retained = (g.tables["CO_ACTIVATES"].num_rows for g in (complete, graph))
    progress.report(
        f"Excluded {total - retained:,} of {total:,} CO_ACTIVATES edges, which are not among the "
        f"{edges_per_feature} heaviest of either of their features."
    )
    return graph, total - retained
