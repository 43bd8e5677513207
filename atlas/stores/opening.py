"""Open the store of a URL: a path is the embedded store, ``neo4j://…`` or ``bolt://…`` a server."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.stores import Graph, Store

__all__ = ["is_server", "open_embedded", "open_server", "open_store"]


def is_server(url: str) -> bool:
    """Return whether a URL names a server, not a path."""
    return "://" in url


def open_embedded(
    path: Path,
    *,
    graph: Callable[[], Graph] | None = None,
    older: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> Store:
    """Open the embedded store at a path; build it from the graph if it is missing.

    Parameters
    ----------
    path
        The file.
    graph
        Returns the graph to build from.
    older
        Views of older parts of the same atlas; a copy of one is updated where that suffices.
    progress
        Reports the progress of the build.

    Raises
    ------
    StoreError
        If it is missing or damaged and ``graph`` is None.
    Locked
        If another process does not finish building it.
    """
    from atlas.stores.kuzu.store import KuzuStore

    return KuzuStore.open(path, graph=graph, older=older, progress=progress)


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
        ``bolt+ssc://``; ``NEO4J_URI`` if None.
    username, password, database
        If None: ``NEO4J_USERNAME`` (or neo4j), ``NEO4J_PASSWORD`` and ``NEO4J_DATABASE`` (or
        the default of the server).

    Raises
    ------
    BadInput
        If the URL is missing or of another kind, or the database does not exist.
    StoreUnreachable, StoreDenied
        If the server does not answer or refuses the login.
    """
    from atlas.stores.neo4j.connection import Bolt
    from atlas.stores.neo4j.store import Neo4jStore

    url = url or os.environ.get("NEO4J_URI")
    if not url:
        raise BadInput(
            "No server is selected; pass its URL, such as neo4j://localhost, or set NEO4J_URI."
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
    """Open the store of a URL; see ``open_embedded`` and ``open_server``."""
    if is_server(str(url)):
        return open_server(str(url), username=username, password=password, database=database)
    return open_embedded(Path(url), graph=graph, progress=progress)
