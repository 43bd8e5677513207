"""Making a server show an atlas: assemble, plan, sync; and the names it has there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.assemble import assemble
from atlas.errors import BadInput
from atlas.folder import Folder
from atlas.progress import SILENT, Progress
from atlas.renaming import read_names, renamed
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
    dry_run
        Only work out what would change.
    progress
        Told how far it is.

    Returns
    -------
    dict
        ``added``, ``replaced``, ``removed``, ``kept``: names of SAEs; ``rows`` to write
        and the estimated ``seconds``; ``url``.
    """
    if not is_server(url):
        raise BadInput(
            f"{url!r} is not the URL of a server; expected neo4j://…, neo4j+s://… or bolt://…."
        )
    folder = Folder.open(path)
    sound = folder.sound()
    for key, reason in sound.stale.items():
        progress.say(f"{key} is stale and left out: {reason}.")
    graph = renamed(assemble(folder, sound), read_names(names, saes=sound.saes))
    store = open_server(url, username=username, password=password, database=database)
    try:
        plan = store.plan(graph)
        if plan.changes:
            progress.say(
                f"{plan.rows:,} nodes and edges to write, about {plan.seconds:.0f} seconds."
            )
        if not dry_run:  # without changes too: a push that was killed may have left something
            store.sync(plan, progress)
        return {
            "url": store.url,
            "added": list(plan.add),
            "replaced": list(plan.replace),
            "removed": list(plan.remove),
            "kept": list(plan.keep),
            "rows": plan.rows,
            "seconds": plan.seconds,
        }
    finally:
        store.close()
