"""The address of Neo4j Browser, and the query that a push names, which draws something."""

from dataclasses import replace

import pytest
from small_graph import small_graph
from small_parts import small_atlas

from atlas import Atlas, push
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.push import push_atlas
from atlas.stores.neo4j.browser.first_steps import browser_address, first_query
from atlas.stores.opening import open_embedded, open_server

SAES = "MATCH p = (:SAE)-[:READS]->(:Site) RETURN p LIMIT 20"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("bolt://localhost:7687", "http://localhost:7474"),
        ("neo4j://graphs.example.org", "http://graphs.example.org:7474"),
        ("bolt://10.0.0.7:9999", "http://10.0.0.7:7474"),
        ("bolt://user:secret@host", "http://host:7474"),
        ("bolt://[::1]:7687", "http://[::1]:7474"),
        ("neo4j+s://graphs.example.org", "https://graphs.example.org:7473"),
        ("bolt+ssc://host:7687", "https://host:7473"),
        ("neo4j+s://abcd1234.databases.neo4j.io", "https://console.neo4j.io"),
        ("neo4j+s://databases.neo4j.io.example.org", "https://databases.neo4j.io.example.org:7473"),
    ],
)
def test_the_address_of_browser(url, address):
    assert browser_address(url) == address


def test_the_first_query_has_an_answer_on_any_atlas(tmp_path):
    graph = small_graph()
    query = first_query(graph)
    assert "CO_ACTIVATES" in query
    store = open_embedded(tmp_path / "graph", graph=lambda: graph)
    try:
        counted = query.replace("p = ", "").replace("RETURN p LIMIT 20", "RETURN count(*) AS n")
        assert store.query(counted, {})["n"].to_pylist()[0] > 0
    finally:
        store.close()


def test_without_edges_or_with_a_hostile_name_the_saes_are_drawn():
    graph = small_graph()
    edges = graph.tables["CO_ACTIVATES"]
    assert first_query(replace(graph, tables={**graph.tables, "CO_ACTIVATES": edges[:0]})) == SAES
    hostile = edges.set_column(
        edges.schema.get_field_index("source"), "source", [["a'}) DETACH DELETE n //"] * len(edges)]
    )
    assert first_query(replace(graph, tables={**graph.tables, "CO_ACTIVATES": hostile})) == SAES


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--quiet"]])
def test_push_prints_where_to_see_the_atlas(words, tmp_path, monkeypatch, capsys):
    Folder.create(tmp_path / "a.atlas")
    none = {"added": [], "replaced": [], "removed": [], "shared": False}
    more = {"browser": "http://localhost:7474", "first_query": SAES}
    monkeypatch.setattr(push, "push_atlas", lambda *_, **__: none | more)
    with pytest.raises(SystemExit) as done:
        main(["push", "bolt://localhost", "-a", str(tmp_path / "a.atlas"), *words])
    out, err = capsys.readouterr()
    assert (done.value.code, out) == (0, "The server is up to date with this atlas.\n")
    if words:
        assert err == ""
        return
    assert "Open http://localhost:7474 for Neo4j Browser, and run first:\n  MATCH" in err
    assert "atlas export browser --for neo4j-browser" in err


@pytest.mark.neo4j
def test_the_first_query_draws_on_a_server(tmp_path, neo4j_url, neo4j_auth):
    small_atlas(tmp_path / "a.atlas")
    login = {"username": neo4j_auth[0], "password": neo4j_auth[1]}
    done = push_atlas(tmp_path / "a.atlas", neo4j_url, **login)
    store = open_server(neo4j_url, **login, database=None)
    with Atlas(neo4j_url, store=store):
        counted = done["first_query"].replace("RETURN p LIMIT 20", "RETURN count(p) AS n")
        assert store.query(counted, {})["n"].to_pylist()[0] > 0
