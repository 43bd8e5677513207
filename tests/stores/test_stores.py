"""Every store loads and shows a graph equally: one suite, run on kuzu and on Neo4j."""

import inspect
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from edge_graphs import FEATURE_EDGES, edge_graph, shown_edges
from store_graphs import ATLAS, OTHER, RUNS, TABLES, assert_shows, make_graph, put, rows_of

from atlas import schema
from atlas.errors import Mismatch, UnknownName
from atlas.progress import SILENT
from atlas.stores import Graph, Store
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.neo4j.store import Neo4jStore


@pytest.mark.parametrize("adapter", [KuzuStore, Neo4jStore])
def test_adapters_have_the_protocol_s_signatures(adapter: type) -> None:
    def shape(method: object) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
        return [(p.name, p.kind, p.default) for p in parameters]

    public = [n for n in vars(Store) if not n.startswith("_") and callable(getattr(Store, n))]
    assert set(public) == {"contents", "plan", "sync", "query", "table", "close"}
    for name in public:
        assert shape(getattr(adapter, name)) == shape(getattr(Store, name)), name


# ---- contents


def test_an_empty_store_has_empty_tables(store: Store) -> None:
    assert store.contents() == {}
    assert_shows(store, make_graph(()))


@pytest.mark.parametrize("nulls", [0.0, 0.3, 1.0])
def test_tables_equal_the_input(store: Store, nulls: float) -> None:
    graph = make_graph(nulls=nulls, features=12)
    put(store, graph)
    assert_shows(store, graph)


@pytest.mark.parametrize("sae", ["a1", "b1"])
def test_tables_of_one_sae(store: Store, sae: str) -> None:
    graph = make_graph()
    put(store, graph)
    for name in TABLES:
        found = store.table(name, sae)
        assert found.schema.equals(schema.arrow_schema(name)), name
        assert found.to_pylist() == rows_of(graph, name, sae), name


def test_an_sae_without_features(store: Store) -> None:
    graph = make_graph(features=0)
    put(store, graph)
    assert_shows(store, graph)


def test_an_unknown_table_is_named(store: Store) -> None:
    with pytest.raises(UnknownName, match=r"No table is named 'Featur'\. Nearest: Feature"):
        store.table("Featur")


def test_rows_in_slices_and_chunks_are_loaded_in_order(store: Store) -> None:
    graph = make_graph()
    tables = {n: t.slice(0, 3) for n, t in graph.tables.items()}
    chunked = {
        n: pa.concat_tables([t.slice(0, 0), tables[n], t.slice(3, 2), t.slice(3, 0), t.slice(5)])
        for n, t in graph.tables.items()
    }
    put(store, Graph(graph.atlas, graph.name, chunked, graph.fingerprints))
    assert_shows(store, graph)


# ---- plan and sync


def test_a_plan_lists_new_changed_removed_and_unchanged_saes(store: Store) -> None:
    put(store, make_graph({"a1": "v1", "a2": "v1", "b1": "v1"}))
    plan = store.plan(make_graph({"a1": "v1", "a2": "v2", "c1": "v1"}))
    assert (plan.add, plan.replace, plan.remove, plan.keep) == (("c1",), ("a2",), ("b1",), ("a1",))
    assert plan.changes
    assert plan.rows > 0
    assert plan.seconds > 0


def test_a_plan_changes_nothing(store: Store) -> None:
    before = make_graph(("a1",))
    put(store, before)
    store.plan(make_graph({"a1": "v2", "b1": "v1"}))
    assert_shows(store, before)


@pytest.mark.parametrize(
    "then",
    [
        {"a1": "v1", "a2": "v1", "b1": "v1", "c1": "v1"},
        {"a1": "v2", "a2": "v1", "b1": "v1"},
        {"a1": "v2", "a2": "v2", "b1": "v2"},
        {"a2": "v1"},
        {"c1": "v1"},
        {},
    ],
    ids=["add", "replace one", "replace all", "remove", "another", "remove all"],
)
def test_sync_makes_the_store_show_the_graph(store: Store, then: dict[str, str]) -> None:
    put(store, make_graph({"a1": "v1", "a2": "v1", "b1": "v1"}))
    graph = make_graph(then)
    put(store, graph)
    assert_shows(store, graph)


# ---- edges between features, and between SAEs

V1 = {"a1": "v1", "a2": "v1", "b1": "v1"}


@pytest.mark.parametrize("nulls", [0.0, 1.0])
def test_edges_between_features_equal_the_input(store: Store, nulls: float) -> None:
    graph = edge_graph(V1, nulls=nulls)
    assert all(graph.tables[name].num_rows for name in FEATURE_EDGES)
    put(store, graph)
    assert_shows(store, graph)
    for name in FEATURE_EDGES:
        for sae in V1:
            assert store.table(name, sae).to_pylist() == rows_of(graph, name, sae)


@pytest.mark.parametrize(
    "then",
    [
        {"a1": "v2", "a2": "v1", "b1": "v1"},
        {"a1": "v1", "a2": "v1", "b1": "v1", "c1": "v1"},
        {"a1": "v1", "b1": "v1"},
        {"a2": "v2"},
        {},
    ],
    ids=["one changed", "one more", "one removed", "one remains, changed", "none"],
)
def test_edges_between_features_follow_their_saes(store: Store, then: dict[str, str]) -> None:
    put(store, edge_graph(V1))
    graph = edge_graph(then)
    put(store, graph)
    assert_shows(store, graph)
    for name in FEATURE_EDGES:
        shown_edges(store.table(name))
    assert not store.plan(graph).changes


def test_matches_of_a_partner_that_does_not_change_are_pushed_once(store: Store) -> None:
    """Only the SAE that changes is staged, with its matches with the others."""
    before, after = edge_graph(V1), edge_graph(V1 | {"a1": "v2"})
    unchanged = {s: before.fingerprints[s] for s in ("a2", "b1")}
    after = replace(after, fingerprints={**after.fingerprints, **unchanged})
    put(store, before)
    plan = store.plan(after)
    assert (plan.replace, plan.keep) == (("a1",), ("a2", "b1"))
    put(store, after)
    assert_shows(store, after)


def test_edges_are_queried_in_both_directions(store: Store) -> None:
    graph = edge_graph(V1)
    put(store, graph)
    for name, other in (("CO_ACTIVATES", "a2"), ("MATCHES", "a1"), ("MATCHES", "b1")):
        cypher = (
            f"MATCH (f:Feature {{id: $id}})-[e:{name}]-(g:Feature {{sae: $other}}) "
            "RETURN g.id AS id ORDER BY id"
        )
        found = store.query(cypher, {"id": "a2/3", "other": other})["id"].to_pylist()
        ends = [(r["source"], r["target"]) for r in rows_of(graph, name)]
        both = ends + [(b, a) for a, b in ends]
        assert found
        assert found == sorted(b for a, b in both if a == "a2/3" and b.startswith(f"{other}/"))


# ---- several edges between the same two nodes


def test_edges_that_differ_only_in_their_run_are_all_stored(store: Store) -> None:
    """Equal in all other columns, to detect edges that were merged or overwritten."""
    graph = make_graph({"a1": "v1", "a2": "v1"}, probed=False)
    same = dict.fromkeys(schema.arrow_schema("PREDICTED_FROM").names) | {"tokens": 7}
    ends = [{"source": f"{s}/{i}", "target": "model a/hook"} for s in ("a1", "a2") for i in (0, 1)]
    rows = [same | e | {"run": r} for e in ends for r in (*RUNS, "z")]
    edges = pa.Table.from_pylist(rows[::-1], schema=schema.arrow_schema("PREDICTED_FROM"))
    graph = replace(graph, tables={**graph.tables, "PREDICTED_FROM": edges})
    put(store, graph)
    assert_shows(store, graph)
    for sae in ("a1", "a2"):
        found = store.table("PREDICTED_FROM", sae).to_pylist()
        assert found == rows_of(graph, "PREDICTED_FROM", sae)
        assert len(found) == 2 * 4
    runs = store.query(
        "MATCH (f:Feature {id: 'a1/0'})-[e:PREDICTED_FROM]->(p:Site) RETURN e.run AS run ORDER BY run",
        {},
    )
    assert runs["run"].to_pylist() == sorted((*RUNS, "z"))


def test_probes_follow_their_sae(store: Store) -> None:
    put(store, make_graph({"a1": "v1", "a2": "v1", "b1": "v1"}))
    for then in ({"a1": "v2", "a2": "v1"}, {"a2": "v1"}, {"a2": "v1", "b1": "v2"}):
        graph = make_graph(then)
        assert {e["source"].split("/")[0] for e in rows_of(graph, "PREDICTED_FROM")} == set(then)
        put(store, graph)
        assert_shows(store, graph)


def test_a_site_that_no_sae_reads_is_stored_only_while_probed(store: Store) -> None:
    def graph(version: str, *, probed: bool) -> Graph:
        """Return a graph whose a1 is probed or not; a2 and b1 are not probed."""
        made = make_graph({"a1": version}, probed=probed)
        other = make_graph({"a2": "v1", "b1": "v1"}, probed=False)
        tables = {n: pa.concat_tables([t, made.tables[n]]) for n, t in other.tables.items()}
        for name in ("Model", "Corpus", "Site", "Token", "OF_MODEL"):
            keys = schema.table(name).keys
            rows = {tuple(r[k] for k in keys): r for r in tables[name].to_pylist()}
            tables[name] = pa.Table.from_pylist([*rows.values()], schema=schema.arrow_schema(name))
        return replace(
            made, tables=tables, fingerprints={**other.fingerprints, **made.fingerprints}
        )

    bare, probed, again = (
        graph("v1", probed=False),
        graph("v2", probed=True),
        graph("v3", probed=False),
    )
    read = ["model a/hook", "model b/hook"]
    for now, sites in ((bare, read), (probed, ["model a/embed", *read]), (again, read)):
        put(store, now)
        assert_shows(store, now)
        assert store.table("Site")["id"].to_pylist() == sites
        assert store.table("OF_MODEL")["source"].to_pylist() == sites


def mapped(saes: dict[str, str], *scores: float, atlas: str = ATLAS) -> Graph:
    """Return a graph with maps from a site to another and to itself, one run for each score."""
    graph = make_graph(saes, atlas=atlas, nulls=0.0)
    bare = dict.fromkeys(schema.arrow_schema("MAPS_TO").names)
    rows = [
        bare | {"source": "model a/embed", "target": to, "run": f"run {i}", "r2": r2, "rank": i}
        for i, r2 in enumerate(scores)
        for to in ("model a/hook", "model a/embed")
    ]
    edges = pa.Table.from_pylist(rows[::-1], schema=schema.arrow_schema("MAPS_TO"))
    return replace(graph, tables={**graph.tables, "MAPS_TO": edges})


@pytest.mark.slow
def test_maps_between_sites_change_without_a_change_of_saes(store: Store) -> None:
    saes = {"a1": "v1", "b1": "v1"}
    put(store, mapped(saes))
    for scores in ((0.5,), (0.5, 0.25), (0.75, 0.25), (0.75,), ()):
        graph = mapped(saes, *scores)
        plan = store.plan(graph)
        assert plan.changes
        assert plan.shared
        assert plan.rows > 0
        assert (plan.add, plan.replace, plan.remove) == ((), (), ())
        put(store, graph)
        assert_shows(store, graph)
        assert not store.plan(graph).changes
        assert store.table("MAPS_TO", "a1").num_rows == 0  # maps start at no SAE
        found = store.query(
            "MATCH (a:Site)-[e:MAPS_TO]->(b:Site {id: 'model a/hook'}) RETURN e.r2 AS r2 ORDER BY e.run",
            {},
        )
        assert found["r2"].to_pylist() == list(scores)


def test_maps_follow_their_model(store: Store) -> None:
    for saes in ({"a1": "v1", "b1": "v1"}, {"a1": "v2", "b1": "v1"}, {"a1": "v2"}):
        graph = mapped(saes, 0.5)
        put(store, graph)
        assert_shows(store, graph)
    put(store, make_graph({"b1": "v2"}))
    assert store.table("MAPS_TO").num_rows == 0


def test_unused_shared_nodes_are_deleted(store: Store) -> None:
    put(store, make_graph(("a1", "a2", "b1")))
    assert set(store.table("Model")["name"].to_pylist()) == {"model a", "model b"}
    put(store, make_graph(("a1", "a2")))
    assert store.table("Model")["name"].to_pylist() == ["model a"]
    assert store.table("Site")["id"].to_pylist() == ["model a/embed", "model a/hook"]
    assert {t[0] for t in store.table("Token")["id"].to_pylist()} == {"a"}


def test_a_second_sync_changes_nothing(store: Store) -> None:
    graph = make_graph()
    put(store, graph)
    again = store.plan(graph)
    assert not again.changes
    assert again.rows == 0
    assert again.keep == ("a1", "a2", "b1")
    store.sync(again, SILENT)
    assert_shows(store, graph)


def test_a_name_of_another_atlas_is_refused(store: Store) -> None:
    mine = make_graph(("a1",))
    put(store, mine)
    with pytest.raises(Mismatch, match=r"a1.*another atlas|another atlas.*a1") as refusal:
        store.plan(make_graph({"a1": "v2", "b1": "v1"}, atlas=OTHER, name="second"))
    assert "`names`" in str(refusal.value)
    assert store.contents()["a1"].atlas == ATLAS
    assert_shows(store, mine)


def test_a_sync_reports_its_progress(store: Store) -> None:
    class Recorded:
        def __init__(self) -> None:
            self.done, self.total = Counter[str](), {}

        def stage(self, title: str, *, total: float | None = None, unit: str = "") -> "Recorded":
            self.total[title], self.title = total, title
            return self

        def __enter__(self) -> "Recorded":
            return self

        def __exit__(self, *failure: object) -> None: ...

        def advance(self, by: float = 1) -> None:
            self.done[self.title] += by

        def report(self, sentence: str) -> None: ...

    recorded = Recorded()
    store.sync(store.plan(make_graph()), recorded)
    counted = {title: total for title, total in recorded.total.items() if total is not None}
    assert counted
    for title, total in counted.items():
        assert recorded.done[title] == total, title


def test_closing_twice_is_no_error(store: Store) -> None:
    store.close()
    store.close()
