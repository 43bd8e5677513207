"""A real Neo4j for tests: the one ATLAS_TEST_NEO4J names, or one started from Maven jars.

The jars are fetched once, by Maven, into a cache outside the checkout. The server
runs on free ports with an empty data folder and a password of its own, and is
stopped when the session ends. NEO4J_VERSION names another version than the pom.
"""

import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neo4j
from filelock import FileLock
from neo4j.exceptions import DriverError, Neo4jError

POM = Path(__file__).with_name("pom.xml")
PINNED = re.search(r"<neo4j.version>(.+?)<", POM.read_text("utf-8"))[1]
VERSION = os.environ.get("NEO4J_VERSION") or PINNED
RUNS_ON, MAIN = (
    ((17, 21), "org.neo4j.server.CommunityEntryPoint")
    if VERSION.startswith("5.")
    else ((21, 25), "org.neo4j.server.Neo4jCommunity")
)
# The quick compiler alone is faster for a server that runs for minutes.
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
OPENS = ("java.base/java.nio", "java.base/java.io", "java.base/sun.nio.ch")
SETTINGS = """
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{bolt}
server.http.listen_address=127.0.0.1:{http}
server.https.enabled=false
server.memory.pagecache.size=128m
dbms.usage_report.enabled=false
"""


class CannotStart(Exception):
    """This machine cannot run a server; the message has the reason."""


@dataclass(frozen=True)
class Server:
    """Where it answers and how to log in."""

    url: str
    username: str
    password: str


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Yield a server with an empty database, and stop it when the block ends.

    Raises
    ------
    CannotStart
        If there is no JDK that it runs on or no Maven.
    """
    if url := os.environ.get("ATLAS_TEST_NEO4J"):
        login = os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ.get("NEO4J_PASSWORD", "")
        server = Server(url, *login)
        _refuse_if_used(server)
        yield server
        return
    with Own(folder) as own:
        own.start()
        yield own.server


class Own:
    """A server that a test may kill and start again on the same data.

    Parameters
    ----------
    folder
        Its home. Data that it already contains, such as an imported database, is served.
    settings
        More lines of its configuration.
    """

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        self.folder = folder
        self._java = find_java()
        self._jars = jars()
        self._process: subprocess.Popen[bytes] | None = None
        ports = {"bolt": free_port(), "http": free_port()}
        (folder / "conf").mkdir(parents=True, exist_ok=True)
        (folder / "conf" / "neo4j.conf").write_text(SETTINGS.format(**ports) + settings, "utf-8")
        self.server = Server(f"bolt://127.0.0.1:{ports['bolt']}", "neo4j", secrets.token_hex(8))
        self._new = True

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "out.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *self._command("512m"),
                    MAIN,
                    f"--home-dir={self.folder}",
                    f"--config-dir={self.folder / 'conf'}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        _wait(self.server, self._process, self.folder, new=self._new)
        self._new = False

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it properly, if it runs."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def admin(self) -> Path:
        """Return a `neo4j-admin` that works on its home."""
        script = self.folder / "neo4j-admin"
        command = shlex.join([*self._command("512m"), "org.neo4j.cli.AdminTool"])
        script.write_text(
            f"#!/bin/sh\nexport NEO4J_HOME='{self.folder}' NEO4J_CONF='{self.folder / 'conf'}'\n"
            f'exec {command} "$@"\n',
            "utf-8",
        )
        script.chmod(0o755)
        return script

    def __enter__(self) -> "Own":
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    def _command(self, heap: str) -> list[str]:
        opens = [f"--add-opens={name}=ALL-UNNAMED" for name in OPENS]
        return [self._java, "-cp", f"{self._jars}/*", f"-Xmx{heap}", *JVM, *opens]


def find_java() -> str:
    """Return a java that this version of Neo4j runs on."""
    candidates = [Path(os.environ["JAVA_HOME"], "bin", "java")] if "JAVA_HOME" in os.environ else []
    candidates += [Path(found)] if (found := shutil.which("java")) else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    seen = {str(p): _major(p) for p in candidates if p.exists()}
    for path, major in seen.items():
        if major in RUNS_ON:
            return path
    found_versions = ", ".join(f"{p} is {m}" for p, m in seen.items()) or "none is installed"
    first, second = RUNS_ON
    raise CannotStart(
        f"Neo4j {VERSION} needs Java {first} or {second}, and {found_versions}; install a JDK {first}"
    )


def jars() -> Path:
    """Return the folder of the server's jars, fetched by Maven if they are not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "feature-atlas-tests"
    name = f"neo4j-{VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{name}.lock"):
        if not (home / name).exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise CannotStart(
                    f"Neo4j {VERSION} is fetched by Maven, and there is no mvn; install it"
                )
            with tempfile.TemporaryDirectory(dir=home) as new:
                _fetch(maven, Path(new, "lib"))
                Path(new, "lib").rename(home / name)
    return home / name


def _fetch(maven: str, to: Path) -> None:
    done = subprocess.run(
        [
            maven,
            "-q",
            "-B",
            "-f",
            str(POM),
            f"-Dneo4j.version={VERSION}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={to}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotStart(
            f"Maven could not fetch Neo4j {VERSION}:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _major(java: Path) -> int:
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(found[1]) if found else 0


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(server: Server, process: "subprocess.Popen[bytes]", folder: Path, *, new: bool) -> None:
    """Wait until it answers, then set the password of a new server."""
    for _ in range(1200):  # minutes, where many other programs run
        if process.poll() is not None:
            break
        try:
            login = ("neo4j", "neo4j" if new else server.password)
            with neo4j.GraphDatabase.driver(server.url, auth=login) as driver:
                if new:
                    driver.execute_query(
                        "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $new",
                        {"new": server.password},
                        database_="system",
                    )
                else:
                    driver.execute_query("RETURN 1")
            return
        except (DriverError, Neo4jError, OSError):
            time.sleep(0.5)
    raise CannotStart(f"Neo4j did not start:\n{(folder / 'out.log').read_text('utf-8')[-3000:]}")


def _refuse_if_used(server: Server) -> None:
    with neo4j.GraphDatabase.driver(server.url, auth=(server.username, server.password)) as driver:
        if driver.execute_query("MATCH (n) RETURN count(n) AS n").records[0]["n"]:
            raise CannotStart(
                f"ATLAS_TEST_NEO4J names {server.url}, whose database is not empty, and the tests empty it; "
                "name one that holds nothing"
            )


def wipe(server: Server) -> None:
    """Delete everything in the database but its indexes."""
    with (
        neo4j.GraphDatabase.driver(server.url, auth=(server.username, server.password)) as driver,
        driver.session() as session,
    ):
        for pattern in ("()-[x]->()", "(x)"):
            session.run(
                f"MATCH {pattern} CALL (x) {{ DELETE x }} IN TRANSACTIONS OF 10000 ROWS"
            ).consume()


def leftovers(query: Callable[..., list[list[Any]]]) -> list[list[Any]]:
    """Return the nodes that belong to no SAE that is shown, and those that no atlas holds."""
    return query(
        "MATCH (s:SAE) WITH collect(s._generation) AS shown MATCH (n) "
        "WHERE any(l IN labels(n) WHERE l ENDS WITH 'Staged' OR l ENDS WITH 'Retired' OR l = 'AtlasLock')"
        " OR (n._generation IS NOT NULL AND NOT n._generation IN shown)"
        " OR (n._generation IS NULL AND coalesce(size(n._atlases), 0) = 0) RETURN labels(n), n.id"
    )
