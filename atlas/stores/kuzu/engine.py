"""The engine of the embedded store: its module, its database files and its errors."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import AtlasError, OutOfSpace, QueryFailed, StoreError
from atlas.stores.cypher import WRITES
from atlas.stores.cypher_errors import explained
from atlas.stores.query_process import too_slow

if TYPE_CHECKING:
    import kuzu

__all__ = ["engine", "open_database", "translation"]

DAMAGED = (
    "not a valid Kuzu database",
    "past the end of the file",
    "storage version",
    "UNREACHABLE",
)


def engine() -> Any:
    """Return the module of the engine: kuzu, or its fork ladybug where kuzu has no wheel."""
    try:
        return importlib.import_module("kuzu")
    except ImportError:
        return importlib.import_module("ladybug")


def open_database(path: Path, *, buffer_pool: int, read_only: bool) -> "kuzu.Database":
    """Open a database file; the engine creates a missing one unless ``read_only``.

    Parameters
    ----------
    path
        The file.
    buffer_pool
        Memory for pages, in bytes.
    read_only
        Whether to refuse writes; several processes can then open the file at once.
    """
    database: kuzu.Database = engine().Database(
        str(path),
        buffer_pool_size=buffer_pool,
        max_db_size=1 << 38,  # address space that is reserved; the default is 8 TB
        read_only=read_only,
    )
    return database


def translation(message: str, url: str, timeout: float, *, cypher: str = "") -> AtlasError:
    """Return the error for a message of the engine, whose errors are all ``RuntimeError``.

    Parameters
    ----------
    message
        The message.
    url
        The file, for the text.
    timeout
        Time limit of the query in seconds.
    cypher
        The query of a user, if there is one.
    """
    first = message.splitlines()[0] if message else "no reason reported"
    short = first.split(" expecting {")[0].partition("exception: ")[2] or first
    if "read-only database" in message:
        return QueryFailed(WRITES)
    if message.startswith("Interrupted"):
        return QueryFailed(too_slow(timeout))
    if "bad_alloc" in message or "bad allocation" in message:
        return OutOfSpace("The query needs more memory than its limit; request less data.")
    if "buffer pool is full" in message:
        return OutOfSpace(
            f"The query or table needs more memory than the limit of the store ({short}); request less data, "
            "or increase KuzuSettings.buffer_pool."
        )
    if "No space left" in message:
        return OutOfSpace(
            f"The disk is full, so {url} could not be written; free some space and try again."
        )
    if (
        "UNREACHABLE" in message and cypher
    ):  # an assertion of the engine, while a sound file is open
        return QueryFailed(explained(message, cypher))
    if message.startswith(("IO exception", "Cannot create")) or any(d in message for d in DAMAGED):
        return StoreError(
            f"{url} cannot be read ({short}); remove it, and the next query builds it again."
        )
    return QueryFailed(explained(message, cypher))
