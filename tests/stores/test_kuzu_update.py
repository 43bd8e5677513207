"""A view updated from an older copy equals a complete build."""

import dataclasses
import hashlib
import random

import pyarrow as pa
import pytest
from click.testing import CliRunner
from small_graph import random_graph, small_graph

from atlas import schema
from atlas.assemble import assemble, assemble_lazily, table_sources
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.errors import StoreError
from atlas.stores.kuzu import update as kuzu_update
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.partition import in_order, tables


def with_sources(graph):
    """Return a graph whose sources are hashes of its tables."""
    sources = {
        name: hashlib.sha256(in_order(schema.table(name), table).to_pandas().to_json().encode())
        for name, table in graph.tables.items()
    }
    return dataclasses.replace(graph, sources={n: s.hexdigest() for n, s in sources.items()})


def changed(graph, rng):
    """Return a graph with changed edge tables and node properties, as after a study."""
    new = dict(graph.tables)
    for edge in rng.sample(schema.EDGES, 3):
        rows = new[edge.type]
        chosen = sorted(rng.sample(range(rows.num_rows), rng.randint(0, rows.num_rows)))
        new[edge.type] = rows.take(pa.array(chosen, pa.int64()))
    for label in rng.sample(["Feature", "SAE", "Token", "Site"], 2):
        node = schema.node(label)
        numbers = [p.name for p in node.properties if p.type in ("int64", "double", "bool")]
        names = [name for name in numbers if name != "idx"]
        for name in rng.sample(names, min(3, len(names))):
            field = new[label].schema.field(name)
            values = [drawn(field.type, rng) for _ in range(new[label].num_rows)]
            at = new[label].schema.get_field_index(name)
            new[label] = new[label].set_column(at, field, pa.array(values, field.type))
    if rng.random() < 0.5:
        token = new["Token"].slice(0, 1).to_pylist()[0]
        token["id"] = f"new/{rng.random()}"
        token["text"] = rng.choice(["", "it's", "a\\b", "ü☃", "x" * rng.randint(0, 300)])
        new["Token"] = pa.concat_tables(
            [new["Token"], pa.Table.from_pylist([token], new["Token"].schema)]
        )
    return with_sources(dataclasses.replace(graph, tables=new))


def drawn(type, rng):
    if rng.random() < 0.2:
        return None
    if pa.types.is_boolean(type):
        return rng.random() < 0.5
    return rng.randint(-(2**40), 2**40) if pa.types.is_integer(type) else rng.gauss(0, 1e6)


def assert_equal(store, graph):
    for spec in tables():
        assert store.table(spec.name).equals(in_order(spec, graph.tables[spec.name])), spec.name


def check_chain(folder, graph, rng, steps):
    """Update a view several times, and compare every table with the graph after each update."""
    path = folder / "graph-0.kuzu"
    KuzuStore.open(path, graph=lambda: graph).close()
    for step in range(1, steps + 1):
        graph = changed(graph, rng)
        new = folder / f"graph-{step}.kuzu"
        store = KuzuStore.open(new, graph=lambda graph=graph: graph, older=[path])
        assert store._record()["updates"] == step
        assert_equal(store, graph)
        store.close()
        path = new


def test_successive_updates_equal_the_graph(tmp_path):
    check_chain(tmp_path, with_sources(random_graph(0, features=40)), random.Random(0), 5)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(10))
def test_many_successive_updates_equal_the_graph(tmp_path, seed):
    graph = with_sources(random_graph(seed, features=300))
    check_chain(tmp_path, graph, random.Random(seed), kuzu_update.MAX_UPDATES)


def opened(folder, before, after):
    """Return the view of ``after``, updated from the view of ``before``."""
    old = folder / "graph-old.kuzu"
    KuzuStore.open(old, graph=lambda: before).close()
    return KuzuStore.open(folder / "graph-new.kuzu", graph=lambda: after, older=[old])


def replaced(graph, name, rows):
    return with_sources(dataclasses.replace(graph, tables={**graph.tables, name: rows}))


def fewer_corpora(graph):
    return replaced(graph, "Corpus", graph.tables["Corpus"].slice(1))


def other_examples(graph):
    return replaced(graph, "Example", graph.tables["Example"].slice(1))


def another_text(graph):
    names = graph.tables["Site"]["hook"].to_pylist()
    at = graph.tables["Site"].schema.get_field_index("hook")
    rows = graph.tables["Site"].set_column(at, "hook", pa.array([*names[:-1], "another"]))
    return replaced(graph, "Site", rows.cast(graph.tables["Site"].schema))


def without_sources(graph):
    return dataclasses.replace(graph, sources={})


@pytest.mark.parametrize("change", [fewer_corpora, other_examples, another_text, without_sources])
def test_other_changes_build_the_view_completely(tmp_path, change):
    graph = with_sources(small_graph())
    after = change(graph)
    if change is not without_sources:  # edges that end at removed nodes
        dropped = {e.type: after.tables[e.type].slice(0, 0) for e in schema.EDGES}
        after = with_sources(dataclasses.replace(after, tables={**after.tables, **dropped}))
    store = opened(tmp_path, graph, after)
    assert store._record()["updates"] == 0
    assert_equal(store, after)
    store.close()


def test_an_update_that_fails_its_check_is_followed_by_a_complete_build(tmp_path, monkeypatch):
    monkeypatch.setattr("atlas.stores.kuzu.store.is_updated", lambda *_: False)
    graph = with_sources(small_graph())
    after = changed(graph, random.Random(1))
    store = opened(tmp_path, graph, after)
    assert store._record()["updates"] == 0
    assert_equal(store, after)
    store.close()


def test_an_update_that_the_engine_refuses_is_followed_by_a_complete_build(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise StoreError("The engine crashed.")

    monkeypatch.setattr("atlas.stores.kuzu.build.Builder.update", fail)
    graph = with_sources(small_graph())
    store = opened(tmp_path, graph, changed(graph, random.Random(2)))
    assert store._record()["updates"] == 0
    store.close()


def test_the_check_finds_a_wrong_table():
    graph = with_sources(small_graph())

    class Old:
        def table(self, name, sae=None):
            return in_order(schema.table(name), graph.tables[name])

        def rows(self, name):
            return graph.tables[name].num_rows

    after = replaced(graph, "MATCHES", graph.tables["MATCHES"].slice(1))
    update = kuzu_update.plan_update(Old(), graph.sources, after)
    assert update.names == ["MATCHES"]
    assert not kuzu_update.is_updated(Old(), after, update)
    assert kuzu_update.is_updated(Old(), graph, update)


def test_a_damaged_older_view_is_not_copied(tmp_path):
    graph = with_sources(small_graph())
    old = tmp_path / "graph-old.kuzu"
    KuzuStore.open(old, graph=lambda: graph).close()
    data = bytearray(old.read_bytes())
    data[len(data) // 2] ^= 1
    old.write_bytes(data)
    after = changed(graph, random.Random(3))
    store = KuzuStore.open(tmp_path / "graph-new.kuzu", graph=lambda: after, older=[old])
    assert store._record()["updates"] == 0
    store.close()


def test_a_copy_with_a_wrong_byte_is_not_updated(tmp_path, monkeypatch):
    def copy(source, target):
        data = bytearray(source.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)

    monkeypatch.setattr("atlas.stores.kuzu.store.copyfile", copy)
    graph = with_sources(small_graph())
    after = changed(graph, random.Random(6))
    store = opened(tmp_path, graph, after)
    assert store._record()["updates"] == 0
    assert_equal(store, after)
    store.close()


def test_after_some_updates_the_view_is_built_completely(tmp_path, monkeypatch):
    monkeypatch.setattr("atlas.stores.kuzu.store.MAX_UPDATES", 0)
    graph = with_sources(small_graph())
    store = opened(tmp_path, graph, changed(graph, random.Random(4)))
    assert store._record()["updates"] == 0
    store.close()


def test_no_lock_remains(tmp_path):
    graph = with_sources(small_graph())
    opened(tmp_path, graph, changed(graph, random.Random(5))).close()
    assert not list(tmp_path.glob("*.lock"))


def test_lazily_joined_tables_equal_the_joined_ones(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("He saw the big dog. She saw the big dog. " * 9)
    words = ["ingest", "--sae", "tiny-a-l1-s0", "--text", str(text), "-q"]
    done = CliRunner().invoke(command(), [*words, "-a", str(tmp_path / "d.atlas")])
    assert done.exit_code == 0
    folder = Folder.open(tmp_path / "d.atlas")
    sound = folder.sound()
    graph, lazy = assemble(folder, sound), assemble_lazily(folder, sound)
    assert set(lazy.tables) == set(graph.tables)
    for name, rows in graph.tables.items():
        assert lazy.tables[name].equals(rows)
    assert lazy.sources == table_sources(sound)
    assert set(lazy.sources) == set(graph.tables)
