"""The connection to a Neo4j server: login, reading, writing, and translation of errors.

Only the driver receives the password. No URL, message or log contains it.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from atlas import schema
from atlas.errors import (
    AtlasError,
    BadInput,
    Locked,
    OutOfSpace,
    QueryFailed,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    UnknownName,
)
from atlas.stores.cypher import PROCEDURES, WRITES
from atlas.stores.cypher_errors import explained
from atlas.stores.query_process import too_many_rows, too_slow

__all__ = ["SCHEMES", "Answer", "Bolt"]

SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")

# The driver logs retries and remarks of servers; the errors of this module suffice.
logging.getLogger("neo4j").addHandler(logging.NullHandler())
logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)

_EXPLAIN = "EXPLAIN "
TRIES = 5
SWAP_WAIT = 60.0
"""Seconds that a query waits for a swap to end; see ``staged_swap``."""
SWAP_POLL = 0.05
MIN_TIMEOUT = 0.001
"""Smallest time limit in seconds that is sent to the server, which takes 0 for no limit."""
UNCHANGING = "RETURN false"
"""The query whose answer never changes."""
LATENESS = 2.0
"""Seconds after the time limit in which the server can report it before the connection closes."""
T = TypeVar("T")


class _ShortRepr(list[Any]):
    """Rows with a short ``repr``.

    The driver formats all parameters for its log, even if nothing is logged. This would
    take longer than sending them.
    """

    def __repr__(self) -> str:
        return f"[{len(self)} rows]"


@dataclass(frozen=True)
class Answer:
    """The rows of an answer, as values of the driver."""

    names: list[str]
    rows: list[list[Any]]


class Bolt:
    """A connection to one database of a server.

    Parameters
    ----------
    url
        URL with one of ``SCHEMES``, without user name and password.
    username, password
        The login; not sent if the password is None.
    database
        Name of the database; the default database of the user if None.

    Raises
    ------
    BadInput
        If the URL is of another kind or contains a login, or the database does not exist.
    StoreUnreachable, StoreDenied
        If the server does not answer or refuses the login.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str = "neo4j",
        password: str | None,
        database: str | None = None,
    ) -> None:
        self.url = _checked(url)
        self.database = database
        self._answered = False
        auth = (username, password) if password else None

        def connect() -> neo4j.Driver:
            return neo4j.GraphDatabase.driver(url, auth=auth, connection_timeout=10.0)

        self._connect = connect
        with self._translated():
            self._driver = self._connect()
        # On a cluster, a session may read from another server than the one last written to.
        # Bookmarks make it wait until that server has the written data.
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()
        try:
            with self._translated(), self._session(neo4j.READ_ACCESS) as session:
                session.run("RETURN 1").consume()
        except AtlasError:
            self.close()
            raise
        self._answered = True

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()

    def ask(
        self,
        cypher: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        rows: int = sys.maxsize,
        steady: str = UNCHANGING,
        strict: bool = False,
    ) -> Answer:
        """Run a query in a read transaction.

        Parameters
        ----------
        cypher, params
            The query.
        timeout
            Time limit in seconds, for the wait for a swap and all tries of the query together.
        steady
            A query whose answer must be equal before and after. If it is not, the query
            runs again, because Neo4j shows a long query what is committed meanwhile. It
            returns one row, whose last value is whether a swap is under way; the query waits
            until it ends.
        rows
            Maximum number of rows of the answer.
        strict
            For a user's query: refuse it before it runs if the plan of the server writes,
            loads a file or calls a procedure that is not allowed. Also refuse labels and
            edge types that neither the server nor the schema has.

        Raises
        ------
        QueryFailed
            If it is wrong, writes, runs longer than ``timeout`` seconds or has too many rows.
        Locked
            If the contents of the server change during every try.
        """

        end = None if timeout is None else time.monotonic() + timeout

        def remaining() -> float | None:
            return None if end is None else max(MIN_TIMEOUT, end - time.monotonic())

        def ask() -> Answer:
            with (
                self._translated(timeout, query=(cypher, len(_EXPLAIN) if strict else 0)),
                self._session(neo4j.READ_ACCESS, strict) as session,
            ):
                for _ in range(TRIES):
                    if steady != UNCHANGING:
                        self._await_swap(
                            session, steady, wait=min(SWAP_WAIT, remaining() or SWAP_WAIT)
                        )
                    with session.begin_transaction(timeout=remaining()) as transaction:
                        if strict:
                            plan = transaction.run(f"{_EXPLAIN}{cypher}", dict(params or {}))
                            _check_plan(plan.consume())
                        before = transaction.run(steady).values()
                        if before[0][-1]:
                            continue
                        result = transaction.run(cypher, _with_short_repr(params))
                        answer = Answer(list(result.keys()), _values(result, rows))
                        summary = result.consume()
                        if strict:
                            _check_labels(summary)
                        if transaction.run(steady).values() == before:
                            return answer
            raise Locked(
                f"{self.url} changed during each of {TRIES} tries of the query; run the query again after the "
                "current push has finished."
            )

        if strict and timeout is not None:
            return self._in_time(timeout + LATENESS, ask)
        return ask()

    def _await_swap(self, session: neo4j.Session, steady: str, *, wait: float) -> None:
        """Wait until no swap is under way.

        Raises
        ------
        Locked
            If one is under way for longer than ``wait`` seconds.
        """
        end = time.monotonic() + wait
        while session.run(steady).values()[0][-1]:
            if time.monotonic() > end:
                raise Locked(
                    f"{self.url} has been replacing an SAE for more than {wait:.0f} seconds, or a push was "
                    "killed during it. Run the query again later; if no push runs, run `atlas push` again."
                )
            time.sleep(SWAP_POLL)

    def _in_time(self, limit: float, work: Callable[[], Answer]) -> Answer:
        """Run the work in a thread; close its connections if it takes too long.

        Neo4j enforces its time limit while a query runs, but not during planning or while it
        sends one long list.
        """
        done: list[Answer | BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                done.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(limit)
        if not done:
            abandoned, self._driver = self._driver, self._connect()
            with suppress(Neo4jError, DriverError, OSError):
                abandoned.close()
            raise QueryFailed(too_slow(limit - LATENESS))
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]

    def write(self, cypher: str, params: Mapping[str, Any] | None = None) -> Any:
        """Run a write statement in its own transaction; return its first value, if any.

        It is not retried. The caller counts the written rows, and a statement that was
        committed although its answer was lost would be counted twice.
        """
        with self._translated(), self._session(neo4j.WRITE_ACCESS) as session:
            # Not session.execute_write, because `IN TRANSACTIONS` opens its own transactions.
            record = session.run(cypher, _with_short_repr(params)).single(strict=False)
            return record[0] if record else None

    def transact(self, work: Callable[[neo4j.Transaction], T], *, timeout: float = 0) -> T:
        """Run several statements in one transaction, which is rolled back if one raises.

        The server ends it after ``timeout`` seconds; 0 means no limit.
        """
        with (
            self._translated(),
            self._session(neo4j.WRITE_ACCESS) as session,
            session.begin_transaction(timeout=timeout) as transaction,
        ):
            done = work(transaction)
            transaction.commit()
        return done

    @contextmanager
    def alone(self, *, wait: float) -> Iterator[None]:
        """Hold the write lock for atlases in this database until the block ends.

        The lock is a node in an open transaction that is never committed. The server
        rolls the transaction back when its client dies, so a lock never outlives its owner.

        Raises
        ------
        Locked
            If another process holds the lock for longer than ``wait`` seconds.
        """
        with self._session(neo4j.WRITE_ACCESS) as session:
            with self._translated():
                transaction = self._locked(session, wait)
            yield
            with self._translated():
                transaction.close()

    def _locked(self, session: neo4j.Session, wait: float) -> neo4j.Transaction:
        """Return a transaction that holds the lock and has no time limit.

        A time limit applies to the complete life of a transaction. A separate transaction
        therefore waits for the lock with a time limit, and the final one takes it when it is
        free. Waiting processes queue for ``turn``, so that none takes the lock in between.
        """
        session.run(
            "CREATE CONSTRAINT `atlas_lock` IF NOT EXISTS FOR (l:AtlasLock) REQUIRE l.name IS UNIQUE"
        ).consume()
        end = time.monotonic() + wait
        try:
            with (
                self._session(neo4j.WRITE_ACCESS) as waiting,
                waiting.begin_transaction(timeout=wait + 5) as turn,
            ):
                _take(turn, "turn")
                remaining = max(0.1, end - time.monotonic())
                with session.begin_transaction(timeout=remaining) as probe:
                    _take(probe, "sync")
                    probe.rollback()
                transaction = session.begin_transaction(timeout=0)
                _take(transaction, "sync")
                turn.rollback()
                return transaction
        except Neo4jError as error:
            if not _is_timeout(error):
                raise
            raise Locked(
                f"Another process is writing an atlas to {self.url}; wait until it ends, then try again."
            ) from error

    @contextmanager
    def _session(self, access: str, strict: bool = False) -> Iterator[neo4j.Session]:
        """Yield a session and close it; after a lost connection, the server ends its transactions."""
        session = self._driver.session(
            notifications_min_severity="WARNING" if strict else "OFF",
            database=self.database,
            default_access_mode=access,
            bookmark_manager=self._bookmarks,
            fetch_size=10_000,
        )
        try:
            yield session
        finally:
            for _ in range(2):  # the first close stops early if a rollback fails
                with suppress(Neo4jError, DriverError, OSError):
                    session.close()

    @contextmanager
    def _translated(
        self, timeout: float | None = None, *, query: tuple[str, int] = ("", 0)
    ) -> Iterator[None]:
        """Translate errors of the driver and the server."""
        try:
            yield
        except Neo4jError as error:
            raise self._server_error(error, timeout, query) from error
        except (DriverError, OSError) as error:
            raise self._driver_error(error) from error

    def _driver_error(self, error: Exception) -> AtlasError:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].rstrip(".")
        if isinstance(error, ConfigurationError):
            return BadInput(f"{self.url} cannot be used: {reason}.")
        if isinstance(error, ServiceUnavailable | SessionExpired | OSError):
            if self._answered:
                return StoreUnreachable(
                    f"The connection to {self.url} was lost ({reason}); the SAEs on it are complete. Run the "
                    "same command again once the server answers."
                )
            return StoreUnreachable(
                f"No server answers at {self.url} ({reason}); start one with `docker compose up -d`, or "
                "check the URL or NEO4J_URI."
            )
        return StoreError(f"The connection to {self.url} failed: {reason}.")

    def _server_error(
        self, error: Neo4jError, timeout: float | None, query: tuple[str, int]
    ) -> AtlasError:
        code = error.code or ""
        message = (error.message or str(error)).splitlines()[0].rstrip(".")
        if code.endswith("CredentialsExpired"):
            return StoreDenied(
                f"{self.url} requires a new password; log in once with Neo4j Browser or cypher-shell and set "
                "one."
            )
        if isinstance(error, AuthError) or ".Security." in code:
            return StoreDenied(
                f"{self.url} refused the login ({message}); check NEO4J_USERNAME and NEO4J_PASSWORD."
            )
        if code.endswith("DatabaseNotFound"):
            return BadInput(
                f"{self.url} has no database {self.database!r}; select another one with `database`, or "
                "omit the option to use the default database."
            )
        if code.endswith(("AccessMode", "ForbiddenOnReadOnlyDatabase")):
            return QueryFailed(WRITES)
        if _is_timeout(error) and timeout is not None:
            return QueryFailed(too_slow(timeout))
        if "OutOfMemory" in code or "MemoryPool" in code:
            return OutOfSpace(
                f"{self.url} ran out of memory ({message}); request less data, or increase the heap of the "
                "server."
            )
        if ".TransientError." in code or ".DatabaseError." in code:
            return StoreError(f"{self.url} could not complete the request ({message}); try again.")
        cypher, prefix = query
        return QueryFailed(explained(error.message or message, cypher, prefix=prefix))


def _with_short_repr(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: _ShortRepr(v) if isinstance(v, list) else v for k, v in (params or {}).items()}


def _values(result: neo4j.Result, rows: int) -> list[list[Any]]:
    """Fetch an answer; raise without fetching the rest if it has more rows than the limit."""
    values: list[list[Any]] = []
    for record in result:
        if len(values) == rows:
            raise QueryFailed(too_many_rows(rows))
        values.append(record.values())
    return values


def _check_plan(summary: neo4j.ResultSummary) -> None:
    """Refuse a query by the server's plan, independently of its text.

    Raises
    ------
    QueryFailed
        If the plan writes, loads a file, or calls a procedure that is not allowed.
    """
    if summary.query_type != "r":
        raise QueryFailed(WRITES)
    plans = [summary.plan] if summary.plan else []
    while plans:
        plan = plans.pop()
        plans.extend(plan.get("children", ()))
        operator = str(plan["operatorType"]).partition("@")[0]
        details = str(plan.get("args", {}).get("Details", ""))
        called = details.partition("(")[0].strip().replace("`", "")
        if operator == "LoadCSV" or (
            operator == "ProcedureCall" and called.lower() not in PROCEDURES
        ):
            raise QueryFailed(
                f"The query would run {operator} ({details[:80]}), which has effects outside the graph; "
                "remove it."
            )


def _take(transaction: neo4j.Transaction, name: str) -> None:
    transaction.run(f"MERGE (l:AtlasLock {{name: '{name}'}}) SET l.taken = true").consume()


def _is_timeout(error: Neo4jError) -> bool:
    """Return whether a transaction reached its time limit, running or waiting for a lock."""
    code = (error.code or "").rpartition(".")[2]
    return "TimedOut" in code or code in ("Terminated", "LockClientStopped")


def _checked(url: str) -> str:
    """Return the URL; raise BadInput if it is malformed, has another scheme or contains a login."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked when it is read
    except ValueError:
        # Neither the message nor its cause shows the URL, which may contain a password.
        raise BadInput(
            "The URL of the server is malformed: its port must be a number up to 65535, and brackets may only "
            "enclose an IPv6 address. Pass a URL such as neo4j://localhost or bolt://[::1]:7687."
        ) from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme not in SCHEMES:
        raise BadInput(
            f"{shown} is not the URL of a Neo4j server; expected one of the schemes {', '.join(SCHEMES)}."
        )
    if "@" in parts.netloc:
        raise BadInput(
            f"The URL of {shown} contains a login, which lists of processes show; set NEO4J_USERNAME and "
            "NEO4J_PASSWORD instead."
        )
    return url


def _check_labels(summary: neo4j.ResultSummary) -> None:
    """Refuse labels, edge types and properties that neither the server nor the schema has.

    For a misspelt name, Neo4j returns no rows and a warning, while kuzu returns an error.
    """
    properties = {p.name for spec in schema.TABLES for p in spec.properties}
    names = {
        "01N50": ("node label", {n.label for n in schema.NODES}),
        "01N51": ("edge type", {e.type for e in schema.EDGES}),
        "01N52": ("property", properties),
    }
    for status in summary.gql_status_objects:
        kind, known = names.get(status.gql_status, ("", properties))
        named = re.search(r"`([^`]+)`", status.status_description)
        if kind and named and named[1] not in known:
            raise QueryFailed(str(UnknownName(kind, named[1], known=known)))
