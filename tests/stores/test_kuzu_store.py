"""The embedded store builds its file completely or not at all, shares it, and rebuilds a damaged one."""

import errno
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import kuzu
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from filelock import FileLock
from store_graphs import OTHER, assert_shows, make_graph, put

from atlas import schema
from atlas.errors import Locked, Mismatch, OutOfSpace, QueryFailed, StoreError
from atlas.progress import SILENT
from atlas.stores import Graph
from atlas.stores.kuzu.engine import translation
from atlas.stores.kuzu.store import KuzuSettings, KuzuStore
from atlas.stores.opening import is_server, open_store

READ = """
import sys
from pathlib import Path
from atlas.stores.kuzu.store import KuzuStore
store = KuzuStore.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
print(store.query("MATCH (f:Feature) RETURN count(*) AS n", {}).to_pylist()[0]["n"])
store.close()
"""


class Calls:
    """Return a graph, and count the calls."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.count = graph, 0

    def __call__(self) -> Graph:
        self.count += 1
        return self.graph


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "graph-0.kuzu"


def test_a_file_is_built_once_and_then_opened(path: Path) -> None:
    graph = Calls(make_graph())
    for _ in range(2):
        store = KuzuStore.open(path, graph=graph)
        assert_shows(store, graph.graph)
        store.close()
    assert graph.count == 1
    store = KuzuStore.open(path)  # the second open needs no graph
    assert_shows(store, graph.graph)
    store.close()
    assert not [f for f in path.parent.iterdir() if ".new" in f.name]


def test_a_path_is_the_embedded_store(path: Path) -> None:
    assert not is_server(str(path))
    store = open_store(path, graph=make_graph)
    assert isinstance(store, KuzuStore)
    assert store.url == str(path)
    store.close()


def _foreign(path: Path) -> None:
    database = kuzu.Database(str(path), buffer_pool_size=64 << 20)
    connection = kuzu.Connection(database)
    connection.execute("CREATE NODE TABLE SAE (name STRING PRIMARY KEY)")
    connection.close()
    database.close()


def _complete_file(path: Path) -> bytes:
    KuzuStore.open(path, graph=make_graph).close()
    content = path.read_bytes()
    path.unlink()
    return content


UNSOUND = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello" * 3000),
    "cut short": lambda path: path.write_bytes(_complete_file(path)[:20_000]),
    "first page only": lambda path: path.write_bytes(_complete_file(path)[:4096]),
    "another's": _foreign,
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_an_unsound_file_is_refused_or_built_again(path: Path, kind: str) -> None:
    path.parent.mkdir()
    UNSOUND[kind](path)
    with pytest.raises(StoreError, match="is missing or damaged; open the folder of its atlas"):
        KuzuStore.open(path)
    store = KuzuStore.open(path, graph=make_graph)
    assert_shows(store, make_graph())
    store.close()


def test_a_missing_file_is_refused_and_not_created(path: Path) -> None:
    with pytest.raises(StoreError, match="is missing or damaged"):
        KuzuStore.open(path)
    assert not path.exists()


def test_the_log_of_an_older_file_is_not_replayed(path: Path) -> None:
    path.parent.mkdir()
    for suffix in (".wal", ".new", ".new.wal", ".shadow"):
        path.with_name(path.name + suffix).write_bytes(b"left by a killed process" * 400)
    store = KuzuStore.open(path, graph=make_graph)
    assert_shows(store, make_graph())
    store.close()
    assert sorted(f.name for f in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.sum",
    ]


def test_a_failed_build_preserves_the_current_file(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    bad = make_graph({"a1": "v2"})
    doubled = bad.tables["Feature"].take([0, 0])
    with pytest.raises(QueryFailed, match="duplicated primary key"):
        put(
            store,
            Graph(bad.atlas, bad.name, dict(bad.tables) | {"Feature": doubled}, bad.fingerprints),
        )
    assert_shows(store, make_graph())
    store.close()
    assert not [f for f in path.parent.iterdir() if ".new" in f.name]


def test_a_file_shows_one_atlas(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    with pytest.raises(Mismatch, match="is the view of another atlas"):
        store.plan(make_graph(("z1",), atlas=OTHER))
    store.close()


@pytest.mark.slow
def test_processes_read_the_file_that_they_opened(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READ, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout.readline() == "open\n"
    put(store, make_graph({"a1": "v2"}))  # replaces the file
    assert_shows(store, make_graph({"a1": "v2"}))
    for reader in readers:
        out, err = reader.communicate("go\n")
        assert (out, err) == ("21\n", "")
    store.close()


def test_simultaneous_opens_build_once(path: Path) -> None:
    graph = Calls(make_graph())
    stores: list[KuzuStore] = []
    threads = [
        threading.Thread(target=lambda: stores.append(KuzuStore.open(path, graph=graph)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert graph.count == 1
    assert len(stores) == 3
    for store in stores:
        assert_shows(store, graph.graph)
        store.close()


def test_open_waits_for_another_build_and_then_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with (
        FileLock(f"{path}.lock"),
        pytest.raises(
            Locked, match=r"Another process has been building .*graph-0\.kuzu for more than"
        ),
    ):
        KuzuStore.open(path, graph=make_graph, settings=KuzuSettings(wait=0.2))


@pytest.mark.slow
def test_too_little_memory_is_reported(path: Path) -> None:
    KuzuStore.open(path, graph=make_graph).close()
    store = KuzuStore.open(path, settings=KuzuSettings(buffer_pool=16 << 20))
    with pytest.raises(OutOfSpace, match=r"KuzuSettings\.buffer_pool"):
        store.query("UNWIND range(1, 1000000) AS x RETURN collect(x) AS l", {})
    assert_shows(store, make_graph())
    store.close()


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not be written \(File exists\)"):
        KuzuStore.open(tmp_path / "file" / "graph.kuzu", graph=make_graph)


def test_a_full_disk_preserves_the_current_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = KuzuStore.open(path, graph=make_graph)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OutOfSpace, match="The disk is full"):
            put(store, make_graph({"a1": "v2"}))
    assert_shows(store, make_graph())
    store.close()
    assert not [f for f in path.parent.iterdir() if ".new" in f.name]


@pytest.mark.slow
@pytest.mark.parametrize("kibibytes", [4, 100, 1200])
def test_a_disk_that_fills_during_a_build_is_reported(
    path: Path, kibibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use a small tmpfs; the engine aborts its process (SIGABRT) when it is full."""
    monkeypatch.setattr("atlas.stores.kuzu.store.check_space", lambda *_: None)
    path.parent.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path.parent)]
    mount = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here: {mount.stderr.strip()}")
    try:
        with pytest.raises(OutOfSpace, match="The disk is full"):
            KuzuStore.open(path, graph=make_graph)
        assert {f.name for f in path.parent.iterdir()} <= {f"{path.name}.lock"}
        subprocess.run(["mount", "-o", "remount,size=100m", str(path.parent)], check=True)
        store = KuzuStore.open(path, graph=make_graph)
        assert_shows(store, make_graph())
        store.close()
    finally:
        subprocess.run(["umount", str(path.parent)], check=True)


def test_a_crashed_build_is_one_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("atlas.stores.child_process.sys.executable", "/bin/false")
        with pytest.raises(StoreError, match=r"crashed while it built .*\(exit 1: no message\)"):
            KuzuStore.open(path, graph=make_graph)
    assert {f.name for f in path.parent.iterdir()} <= {f"{path.name}.lock"}
    store = KuzuStore.open(path, graph=make_graph)
    assert_shows(store, make_graph())
    store.close()


def test_files_of_a_killed_build_are_removed(path: Path) -> None:
    folder = path.parent / f".{path.name}.new-killed"
    folder.mkdir(parents=True)
    (folder / f"{path.name}.wal").write_text("incomplete")
    KuzuStore.open(path, graph=make_graph).close()
    assert not folder.exists()


def test_a_closed_store_raises(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    store.close()
    with pytest.raises(StoreError, match="is closed; open it again"):
        store.contents()


def test_threads_query_at_the_same_time(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    found: list[int] = []

    def ask() -> None:
        for _ in range(20):
            found.extend(store.query("MATCH (f:Feature) RETURN count(*) AS n", {})["n"].to_pylist())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [21] * 80
    store.close()


@pytest.mark.slow
def test_headings_are_the_typed_text(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    for start, params in {
        "MATCH (f:Feature)": {},
        "MATCH (f:Feature) WHERE f.id CONTAINS $t": {"t": ""},
    }.items():
        found = store.query(f"{start} RETURN count(f), 1+2, max( f.id ) AS m", params)
        assert found.column_names == ["count(f)", "1+2", "m"]
        assert found["count(f)"].to_pylist() == [21]
    store.close()


def test_columns_have_the_typed_order(path: Path) -> None:
    store = KuzuStore.open(path, graph=make_graph)
    query = "MATCH (f:Feature) RETURN count(DISTINCT f) AS n, 1 AS k, count(f.id) AS m, max(f.id) AS x ORDER BY k"
    (row,) = store.query(query, {}).to_pylist()
    last = store.query("MATCH (f:Feature) RETURN max(f.id) AS x", {})["x"].to_pylist()
    assert list(row.items()) == [("n", 21), ("k", 1), ("m", 21), ("x", last[0])]
    store.close()


def test_names_of_many_saes_are_stored(path: Path) -> None:
    graph = make_graph({f"a{i}": 'it\'s \\ "v" é\n' for i in range(200)}, features=1)
    store = KuzuStore.open(path, graph=lambda: graph)
    assert {n: loaded.fingerprint for n, loaded in store.contents().items()} == graph.fingerprints
    assert store.plan(graph).keep == tuple(sorted(graph.fingerprints))
    store.sync(store.plan(graph), SILENT)
    assert os.listdir(path.parent) != []
    store.close()


def test_numbers_in_long_lists_of_many_rows_are_stored(path: Path) -> None:
    """With several COPYs into one node group, kuzu 0.11.3 returned zeros for these lists."""
    graph = make_graph(("a1",))
    rows, length = 140_000, 55
    rng = np.random.default_rng(0)
    values = rng.random(rows * length) * (rng.random(rows * length) < 0.05)
    numbers = pa.array(np.arange(rows))
    lists = pa.ListArray.from_arrays(
        np.arange(0, rows * length + 1, length, dtype=np.int32), values
    )
    spec = schema.arrow_schema("Example")
    columns = {
        "id": pc.binary_join_element_wise("a1/0", pc.cast(numbers, pa.string()), "/"),
        "sae": pa.array(["a1"] * rows),
        "idx": pa.array(np.zeros(rows, dtype=np.int64)),
        "rank": numbers,
        "activations": lists,
    }
    examples = pa.table(
        {f.name: columns.get(f.name, pa.nulls(rows, f.type)) for f in spec}, schema=spec
    )
    tables = {**graph.tables, "Example": examples, "SHOWN_BY": graph.tables["SHOWN_BY"].slice(0, 0)}
    store = KuzuStore.open(path, graph=lambda: replace(graph, tables=tables))
    found = store.query("MATCH (e:Example) RETURN e.rank AS rank, e.activations AS x", {})
    store.close()
    found = found.sort_by("rank")
    assert found["rank"].to_pylist() == list(range(rows))
    assert np.array_equal(found["x"].combine_chunks().flatten().to_numpy(), values)


def test_an_engine_assertion_is_not_reported_as_a_damaged_file():
    message = 'Assertion failed in file "kuzu/src/planner.cpp" on line 73: KU_UNREACHABLE'
    of_query = translation(message, "graph.kuzu", 60, cypher="MATCH (f:Feature) RETURN f.id")
    assert isinstance(of_query, QueryFailed)
    assert "the engine cannot run it" in str(of_query)
    assert "cannot be read" in str(translation(message, "graph.kuzu", 0))


def test_negative_zeros_are_stored_as_zeros(tmp_path):
    """The engine sorts ``-0.0`` before negative numbers."""
    graph = make_graph()
    name = "frequency"
    numbers = [[-0.0, -1.5, 0.0, 2.0, None][n % 5] for n in range(graph.tables["Feature"].num_rows)]
    at = graph.tables["Feature"].column_names.index(name)
    column = pa.array(numbers, pa.float64())
    features = graph.tables["Feature"].set_column(at, name, column)
    graph = replace(graph, tables={**graph.tables, "Feature": features})
    store = KuzuStore.open(tmp_path / "g.kuzu", graph=lambda: graph)
    query = f"MATCH (f:Feature) WHERE f.{name} IS NOT NULL RETURN f.{name} AS x ORDER BY x"
    found = store.query(query, {})["x"].to_pylist()
    store.close()
    assert found == sorted(n for n in numbers if n is not None)
    assert not any(math.copysign(1, x) < 0 for x in found if x == 0)
