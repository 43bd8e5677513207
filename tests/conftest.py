"""Fixtures that several test files share, how tests are grouped, and how many threads they use."""

import os

# Before NumPy, torch and numba are imported: two test processes on two cores, one thread each.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
# Tests leave the cache folder of the user alone; those of the cache set a folder of their own.
os.environ["ATLAS_NO_DIGEST_CACHE"] = "1"

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from neo4j_server import CannotStart, Own, Server, running, wipe
from store_graphs import make_graph as make

from atlas.stores import Graph, Store
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore

# No test fails because the machine is slow.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

ENGINES = [
    pytest.param("kuzu", id="kuzu"),
    pytest.param("neo4j", id="neo4j", marks=pytest.mark.neo4j),
]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a pytest whose tests pytest-xdist does not group; pyproject.toml says which and why."""
    if config.getoption("dist", "no") == "loadgroup" and pytest.version_tuple >= (9, 2):
        raise pytest.UsageError(
            f"pytest-xdist does not group tests with pytest {pytest.__version__}: install what "
            "constraints.txt names, or run pytest without -n"
        )


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group tests for `pytest -n 2 --dist loadgroup`: a group runs in one process, in order.

    All tests that use the Neo4j server are one group: Neo4j Community has one database, and
    tests empty it. Otherwise a group is a file, so that the fixtures of a module are made once
    and the Ray of ``test_workers.py`` and the Chromium of a file are started in one process.
    """
    if not getattr(config.option, "loadgroup", False):  # set in the processes of `--dist loadgroup`
        return
    for item in items:
        group = "neo4j" if item.get_closest_marker("neo4j") else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, for the whole session; a machine that has no Java skips, but never under CI."""
    with ExitStack() as stack:
        with needed():
            server = stack.enter_context(running(tmp_path_factory.mktemp("neo4j") / "home"))
        yield server


@contextmanager
def needed() -> Iterator[None]:
    """Skip where a server cannot be started, and fail under CI."""
    try:
        yield
    except CannotStart as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"tests on Neo4j must run under CI: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own_neo4j(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A server of the module's own, not started yet: to be killed, or to serve what is imported."""
    with needed():
        own = Own(tmp_path_factory.mktemp("own") / "home")
    with own:
        yield own


@pytest.fixture
def empty_neo4j(neo4j_server: Server) -> Server:
    """The server, with nothing in its database."""
    wipe(neo4j_server)
    return neo4j_server


@pytest.fixture
def neo4j_url(empty_neo4j: Server) -> str:
    """The URL of the emptied server."""
    return empty_neo4j.url


@pytest.fixture
def neo4j_auth(empty_neo4j: Server) -> tuple[str, str]:
    """User name and password of the emptied server."""
    return empty_neo4j.username, empty_neo4j.password


@pytest.fixture
def open_neo4j(empty_neo4j: Server) -> Iterator[Callable[[], Neo4jStore]]:
    """Opens a store on the emptied server, as often as it is called."""
    opened: list[Neo4jStore] = []

    def open() -> Neo4jStore:
        bolt = Bolt(empty_neo4j.url, username=empty_neo4j.username, password=empty_neo4j.password)
        opened.append(Neo4jStore(bolt, wait=300))
        return opened[-1]

    yield open
    for store in opened:
        store.close()


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, once on each engine."""
    if request.param == "neo4j":
        yield request.getfixturevalue("open_neo4j")()
        return
    embedded = KuzuStore.open(tmp_path / "graph.kuzu", graph=lambda: make(()))
    yield embedded
    embedded.close()


@pytest.fixture
def make_graph() -> Callable[..., Graph]:
    """``make_graph(saes, atlas=…, features=…)``: a small valid graph."""
    return make
