"""Which store a URL means: a path is the embedded one, ``neo4j://`` and its kin a server."""

import os
from collections.abc import Callable
from pathlib import Path

from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.stores import Graph, Store

__all__ = ["is_server", "open_embedded", "open_server", "open_store"]


def is_server(url: str) -> bool:
    """Return whether this names a server and not a path."""
    return "://" in url


def open_embedded(
    path: Path, *, graph: Callable[[], Graph] | None = None, progress: Progress = SILENT
) -> Store:
    """Open the embedded store at a path, built from the graph if it is not there yet.

    Raises
    ------
    StoreError
        If it is missing or damaged and no graph is given.
    Locked
        If another process does not finish building it.
    """
    from atlas.stores.kuzu import KuzuStore

    return KuzuStore.open(path, graph=graph, progress=progress)


def open_server(
    url: str | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    database: str | None = None,
) -> Store:
    """Open the store on a Neo4j server.

    Parameters
    ----------
    url
        ``neo4j://``, ``neo4j+s://``, ``neo4j+ssc://``, ``bolt://``, ``bolt+s://`` or
        ``bolt+ssc://``; ``NEO4J_URI`` if not given.
    username, password, database
        ``NEO4J_USERNAME`` (or neo4j), ``NEO4J_PASSWORD`` and ``NEO4J_DATABASE`` (or the
        server's default) if not given.

    Raises
    ------
    BadInput
        If no URL is given, or one of another kind, or there is no such database.
    StoreUnreachable, StoreDenied
        If no server answers there, or it refuses the login.
    """
    from atlas.stores.neo4j.connection import Bolt
    from atlas.stores.neo4j.store import Neo4jStore

    url = url or os.environ.get("NEO4J_URI")
    if not url:
        raise BadInput(
            "No server is named; give its URL, such as neo4j://localhost, or set NEO4J_URI."
        )
    bolt = Bolt(
        url,
        username=username or os.environ.get("NEO4J_USERNAME") or "neo4j",
        password=password or os.environ.get("NEO4J_PASSWORD"),
        database=database or os.environ.get("NEO4J_DATABASE") or None,
    )
    return Neo4jStore(bolt)


def open_store(
    url: str | Path,
    *,
    username: str | None = None,
    password: str | None = None,
    database: str | None = None,
    graph: Callable[[], Graph] | None = None,
    progress: Progress = SILENT,
) -> Store:
    """Open the store that a URL means; see ``open_embedded`` and ``open_server``."""
    if is_server(str(url)):
        return open_server(str(url), username=username, password=password, database=database)
    return open_embedded(Path(url), graph=graph, progress=progress)
