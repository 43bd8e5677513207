"""The connection to a Neo4j server: login, reading, writing, and its errors in our words.

The password is handed to the driver and kept nowhere else: it is in no URL,
message or log.
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
    OutOfRoom,
    QueryFailed,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    UnknownName,
)
from atlas.stores.cypher import PROCEDURES, WRITES
from atlas.stores.query_process import too_many_rows, too_slow

__all__ = ["SCHEMES", "Answer", "Bolt"]

SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")

# The driver logs what it retries and what servers remark; what matters is in our errors.
logging.getLogger("neo4j").addHandler(logging.NullHandler())
logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)

TRIES = 5
LATENESS = 2.0
"""Seconds that a server has to report a time limit itself before its connection is closed."""
T = TypeVar("T")


class _Unsaid(list[Any]):
    """Rows whose ``repr`` is short: the driver writes parameters out for its log, read or not.

    That alone took longer than sending them.
    """

    def __repr__(self) -> str:
        return f"[{len(self)} rows]"


@dataclass(frozen=True)
class Answer:
    """The rows a query gave, as the driver's values."""

    names: list[str]
    rows: list[list[Any]]


class Bolt:
    """A login at one database of a server.

    Parameters
    ----------
    url
        Its address, by one of ``SCHEMES``, without name and password.
    username, password
        The login; without a password none is offered.
    database
        Which database; the login's own if None.

    Raises
    ------
    BadInput
        If the URL is of another kind or holds a login, or there is no such database.
    StoreUnreachable, StoreDenied
        If no server answers, or it refuses the login.
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
        # On a cluster a session may read from another server than the last one wrote to;
        # bookmarks make it wait until that server has what was written.
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
        steady: str = "RETURN 0",
        strict: bool = False,
    ) -> Answer:
        """Run a query in a reading transaction.

        Parameters
        ----------
        cypher, params
            The query.
        timeout
            Seconds after which it is given up.
        steady
            A query whose answer must be the same before and after: Neo4j shows a
            long query what is committed while it runs, so it is run again if it was not.
        rows
            How many rows the answer may have.
        strict
            For a user's query: refuse it before it runs if the server's plan writes,
            loads a file or calls a procedure that is not allowed; refuse labels and
            edge types that neither server nor schema knows.

        Raises
        ------
        QueryFailed
            If it is wrong, writes, runs longer than ``timeout`` seconds or has too many rows.
        Locked
            If the server never keeps still.
        """

        def ask() -> Answer:
            with self._translated(timeout), self._session(neo4j.READ_ACCESS, strict) as session:
                for _ in range(TRIES):
                    with session.begin_transaction(timeout=timeout) as transaction:
                        if strict:
                            plan = transaction.run(f"EXPLAIN {cypher}", dict(params or {}))
                            _check_plan(plan.consume())
                        before = transaction.run(steady).values()
                        result = transaction.run(cypher, _unsaid(params))
                        answer = Answer(list(result.keys()), _values(result, rows))
                        summary = result.consume()
                        if strict:
                            _check_labels(summary)
                        if transaction.run(steady).values() == before:
                            return answer
            raise Locked(
                f"{self.url} was changed each of the {TRIES} times the query ran; ask again when the push "
                "that is going on has ended."
            )

        if strict and timeout is not None:
            return self._in_time(timeout + LATENESS, ask)
        return ask()

    def _in_time(self, limit: float, work: Callable[[], Answer]) -> Answer:
        """Do the work in a thread; when it takes too long, close the connections under it.

        Neo4j ends a query at its time limit, but not while it plans it, and one long
        list is sent to its end.
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
        """Run a writing statement in a transaction of its own; return its first value, if any.

        It is not tried twice: the caller counts what was written, and a statement
        that was carried out although its answer was lost would count double.
        """
        with self._translated(), self._session(neo4j.WRITE_ACCESS) as session:
            # Not session.execute_write: statements with `IN TRANSACTIONS` open their own.
            record = session.run(cypher, _unsaid(params)).single(strict=False)
            return record[0] if record else None

    def together(self, work: Callable[[neo4j.Transaction], T]) -> T:
        """Do several statements in one transaction: all of them or, if it raises, none."""
        with (
            self._translated(),
            self._session(neo4j.WRITE_ACCESS) as session,
            session.begin_transaction(timeout=0) as transaction,
        ):
            done = work(transaction)
            transaction.commit()
        return done

    @contextmanager
    def alone(self, *, wait: float) -> Iterator[None]:
        """Keep every other writer of atlases out of this database until the block ends.

        The lock is a node in a transaction that stays open and is never committed:
        a server rolls it back when its client dies, so no lock outlives its owner.

        Raises
        ------
        Locked
            If another one writes for longer than ``wait`` seconds.
        """
        with self._session(neo4j.WRITE_ACCESS) as session:
            with self._translated():
                transaction = self._locked(session, wait)
            yield
            with self._translated():
                transaction.close()

    def _locked(self, session: neo4j.Session, wait: float) -> neo4j.Transaction:
        """Return a transaction that holds the lock and has no time limit.

        A time limit holds for a transaction's whole life, so waiting has one of its
        own, and the lock is taken once it is seen to be free. Those who wait do so
        one after the other (``turn``), so nobody takes it in between.
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
                left = max(0.1, end - time.monotonic())
                with session.begin_transaction(timeout=left) as probe:
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
        """Give a session, and close it; what it left open on a lost connection the server ends."""
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
            for _ in range(2):  # the first breaks off, unclosed, where a rollback fails
                with suppress(Neo4jError, DriverError, OSError):
                    session.close()

    @contextmanager
    def _translated(self, timeout: float | None = None) -> Iterator[None]:
        """Turn the driver's and the server's errors into ours."""
        try:
            yield
        except Neo4jError as error:
            raise self._said_by_server(error, timeout) from error
        except (DriverError, OSError) as error:
            raise self._said_by_driver(error) from error

    def _said_by_driver(self, error: Exception) -> AtlasError:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].rstrip(".")
        if isinstance(error, ConfigurationError):
            return BadInput(f"{self.url} cannot be used: {reason}.")
        if isinstance(error, ServiceUnavailable | SessionExpired | OSError):
            if self._answered:
                return StoreUnreachable(
                    f"The connection to {self.url} was lost ({reason}); what it shows is whole. Run the "
                    "same command again once the server answers."
                )
            return StoreUnreachable(
                f"No server answers at {self.url} ({reason}); start one with `docker compose up -d`, or "
                "check the URL or NEO4J_URI."
            )
        return StoreError(f"The connection to {self.url} failed: {reason}.")

    def _said_by_server(self, error: Neo4jError, timeout: float | None) -> AtlasError:
        code = error.code or ""
        said = (error.message or str(error)).splitlines()[0].rstrip(".")
        if code.endswith("CredentialsExpired"):
            return StoreDenied(
                f"{self.url} wants a new password before anything else; log in once with Neo4j Browser or "
                "cypher-shell and set one."
            )
        if isinstance(error, AuthError) or ".Security." in code:
            return StoreDenied(
                f"{self.url} refused the login ({said}); check NEO4J_USERNAME and NEO4J_PASSWORD."
            )
        if code.endswith("DatabaseNotFound"):
            return BadInput(
                f"{self.url} has no database {self.database!r}; name another one with --database, or "
                "leave it out for the login's own."
            )
        if code.endswith(("AccessMode", "ForbiddenOnReadOnlyDatabase")):
            return QueryFailed(WRITES)
        if _is_timeout(error) and timeout is not None:
            return QueryFailed(too_slow(timeout))
        if "OutOfMemory" in code or "MemoryPool" in code:
            return OutOfRoom(
                f"{self.url} ran out of memory ({said}); ask for less, or give the server a larger heap."
            )
        if ".TransientError." in code or ".DatabaseError." in code:
            return StoreError(f"{self.url} could not go on ({said}); try again.")
        return QueryFailed(f"The query failed: {said}.")


def _unsaid(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: _Unsaid(v) if isinstance(v, list) else v for k, v in (params or {}).items()}


def _values(result: neo4j.Result, rows: int) -> list[list[Any]]:
    """Fetch an answer; more rows than the limit are an error, and are not fetched."""
    values: list[list[Any]] = []
    for record in result:
        if len(values) == rows:
            raise QueryFailed(too_many_rows(rows))
        values.append(record.values())
    return values


def _check_plan(summary: neo4j.ResultSummary) -> None:
    """Refuse a query by what the server would do for it, whatever its text looks like.

    Raises
    ------
    QueryFailed
        If it writes, loads a file, or calls a procedure that is not allowed.
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
                f"The query would run {operator} ({details[:80]}), which reaches outside the graph; remove it."
            )


def _take(transaction: neo4j.Transaction, name: str) -> None:
    transaction.run(f"MERGE (l:AtlasLock {{name: '{name}'}}) SET l.taken = true").consume()


def _is_timeout(error: Neo4jError) -> bool:
    """Return whether a transaction was ended for its time, at work or waiting for a lock."""
    code = (error.code or "").rpartition(".")[2]
    return "TimedOut" in code or code in ("Terminated", "LockClientStopped")


def _checked(url: str) -> str:
    """Return the URL if it is one of a server and holds no login."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme not in SCHEMES:
        raise BadInput(
            f"{shown} is no address of a Neo4j server; it begins with {', '.join(SCHEMES)}."
        )
    if "@" in parts.netloc:
        raise BadInput(
            f"The URL of {shown} holds a login; give it as NEO4J_USERNAME and NEO4J_PASSWORD instead, "
            "where no list of processes shows it."
        )
    return url


def _check_labels(summary: neo4j.ResultSummary) -> None:
    """Refuse labels, edge types and properties that neither server nor schema knows.

    Neo4j answers a misspelt name with no rows and a warning, kuzu with an error.
    """
    properties = {p.name for of in schema.TABLES for p in of.properties}
    names = {
        "01N50": ("node label", {n.label for n in schema.NODES}),
        "01N51": ("edge type", {e.type for e in schema.EDGES}),
        "01N52": ("property", properties),
    }
    for status in summary.gql_status_objects:
        what, known = names.get(status.gql_status, ("", properties))
        named = re.search(r"`([^`]+)`", status.status_description)
        if what and named and named[1] not in known:
            raise QueryFailed(str(UnknownName(what, named[1], known=known)))
