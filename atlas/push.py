"""Making a server show an atlas: assemble, plan, sync; and the names it has there."""

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
    """Make a server show what an atlas holds.

    Parameters
    ----------
    path
        The folder of the atlas.
    url
        The server.
    username, password, database
        How to log in, and where to.
    names
        ``SAE=NAME`` for SAEs that bear another name there; give them at every push.
    edges_per_feature
        Keep only CO_ACTIVATES edges that are among so many heaviest of at least one of
        their ends; give it at every push. All edges if None.
    dry_run
        Only work out what would change.
    progress
        Told how far it is.

    Returns
    -------
    dict
        ``added``, ``replaced``, ``removed``, ``kept``: names of SAEs; ``shared``: whether
        edges between what SAEs share, such as maps between sites, differ; ``rows`` to write
        and the estimated ``seconds``; ``left_out``: CO_ACTIVATES edges of the atlas that
        the server does not show; ``url``.

    Raises
    ------
    BadInput, UnknownName
        If the URL is no server's, or a name or number cannot be used.
    Mismatch
        If another atlas has an SAE of the same name there.
    StoreError
        If the server does not answer, refuses the login, or is lost on the way. Each
        SAE is then shown as it was or as it should be; the same call goes on.
    """
    if not is_server(url):
        raise BadInput(
            f"{url!r} is not the URL of a server; expected neo4j://…, neo4j+s://… or bolt://…."
        )
    folder = Folder.open(path)
    sound = folder.sound()
    for key, reason in sound.stale.items():
        progress.report(f"{key} is stale and left out: {reason}.")
    graph = renamed(assemble(folder, sound), read_names(names, saes=sound.saes))
    graph, left_out = _trimmed(graph, edges_per_feature, progress)
    store = open_server(url, username=username, password=password, database=database)
    try:
        plan = store.plan(graph)
        if plan.changes:
            progress.report(f"{plan.rows:,} nodes and edges to write, {rough(plan.seconds)}.")
        if not dry_run:  # without changes too: a push that was killed may have left something
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
    """Return the graph as it is to be shown, and how many edges that leaves out."""
    if edges_per_feature is None:
        return graph, 0
    whole, graph = graph, trimmed(graph, edges_per_feature)
    every, kept = (g.tables["CO_ACTIVATES"].num_rows for g in (whole, graph))
    progress.report(
        f"{every - kept:,} of {every:,} CO_ACTIVATES edges are left out: those not among the "
        f"{edges_per_feature} heaviest of one of their features."
    )
    return graph, every - kept
