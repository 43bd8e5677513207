"""An export imported by neo4j-admin equals the database that a push writes."""

import os
import subprocess
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_results import result
from conftest import needed
from edge_graphs import edge_graph
from small_graph import small_graph
from small_parts import small_atlas
from store_graphs import assert_shows, put

import queries
from atlas.cli.main import main
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.neo4j.admin_import import empty_texts, import_files, import_script
from atlas.stores.opening import open_server


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command on an atlas with the tables of a graph."""
    monkeypatch.chdir(tmp_path)
    small_atlas(tmp_path / "a.atlas")

    def run(graph, *words):
        monkeypatch.setattr("atlas.export.assemble", lambda folder, sound: graph)
        monkeypatch.setattr("atlas.push.assemble", lambda folder, sound: graph)
        with pytest.raises(SystemExit) as done:
            main([*words, "--json", "-a", "a.atlas"])
        return done.value.code, *capsys.readouterr()

    return run


def without_empty_texts(graph):
    """Replace empty texts, because the importer reads them as null."""
    for name, table in graph.tables.items():
        for i, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                texts = [t or "empty" if t == "" else t for t in table.column(i).to_pylist()]
                graph.tables[name] = table = table.set_column(i, field, pa.array(texts, field.type))
    return graph


def both_graphs():
    """Return the union of the small graph and a graph with every type of value."""
    by_hand, random = small_graph(), edge_graph({"a1": "v1", "b1": "v1"}, atlas=small_graph().atlas)
    tables = {n: pa.concat_tables([t, random.tables[n]]) for n, t in by_hand.tables.items()}
    prints = {**by_hand.fingerprints, **random.fingerprints}
    return without_empty_texts(type(by_hand)(by_hand.atlas, "both", tables, prints))


@pytest.mark.neo4j
@pytest.mark.slow
def test_an_imported_database_equals_a_pushed_one(command, own_neo4j, tmp_path, monkeypatch):
    graph = both_graphs()
    written = result(command(graph, "export", "import", "--for", "neo4j-admin"))
    assert written == {n: t.num_rows for n, t in graph.tables.items() if t.num_rows}
    done = subprocess.run(
        ["sh", "import/import.sh", "neo4j"],
        env=os.environ | {"NEO4J_ADMIN": str(own_neo4j.admin())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with needed():
        own_neo4j.start()
    server = own_neo4j.server
    monkeypatch.setenv("NEO4J_USERNAME", server.username)
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    store = open_server(server.url)
    embedded = KuzuStore.open(tmp_path / "g.kuzu", graph=lambda: graph)
    try:
        assert_shows(store, graph)
        answered = 0
        for name in queries.names():
            query = queries.get(name)
            params = {p.name: p.example for p in query.parameters}
            here, there = (s.query(query.cypher, params) for s in (embedded, store))
            assert here.to_pylist() == there.to_pylist(), name
            answered += here.num_rows > 0
        assert answered > 20
        # A push changes no SAE, but creates the constraints and indexes.
        pushed = result(command(graph, "push", server.url))
        assert (pushed["added"], pushed["replaced"], pushed["removed"]) == ([], [], [])
        assert pushed["unchanged"] == sorted(graph.fingerprints)
        keys = store.query("MATCH (f:Feature {id: 'a1/3'}) RETURN f.idx AS idx", {})
        assert keys.to_pylist() == [{"idx": 3}]
        # The next push changes, adds and removes SAEs as on any server.
        after = edge_graph({"a1": "v2", "b1": "v1", "c1": "v1"}, atlas=graph.atlas)
        put(store, after)
        assert_shows(store, after)
    finally:
        store.close()
        embedded.close()


def test_files_have_the_headings_of_the_importer():
    graph = edge_graph({"a1": "v1", "b1": "v2"})
    graph = replace(graph, models={"model a": ("d0", "d1")})
    files = {f.of.name: f.rows for f in import_files(graph)}
    assert files["Feature"].schema.names[:3] == ["id:ID(Feature)", "sae:string", "idx:long"]
    assert files["Feature"].schema.names[-1] == "_generation:string"
    assert {"tokens:string[]", "activations:double[]"} < set(files["Example"].schema.names)
    assert files["Token"]["_atlases:string[]"].to_pylist()[0] == [graph.atlas]
    models = {r["name:ID(Model)"]: r["_parameters:string[]"] for r in files["Model"].to_pylist()}
    assert models == {"model a": [f"{graph.atlas} d0 d1"], "model b": []}
    edges = files["CO_ACTIVATES"]
    assert edges.schema.names[:3] == [":START_ID(Feature)", ":END_ID(Feature)", "count:long"]
    assert (
        edges[":START_ID(Feature)"].to_pylist()
        == graph.tables["CO_ACTIVATES"]["source"].to_pylist()
    )
    saes = {r["name:ID(SAE)"]: r for r in files["SAE"].to_pylist()}
    assert {n: r["_fingerprint:string"] for n, r in saes.items()} == graph.fingerprints
    features = files["Feature"].to_pylist()
    assert all(
        r["_generation:string"] == saes[r["sae:string"]]["_generation:string"] for r in features
    )
    assert len({r["_generation:string"] for r in saes.values()}) == 2


def test_tables_without_rows_are_omitted(command, tmp_path):
    graph = edge_graph({"a1": "v1"})  # one SAE has no matches
    code, out, err = command(graph, "export", "import", "--for", "neo4j-admin")
    assert code == 0, err
    assert not {"MATCHES", "COMPARED_WITH"} & set(result((code, out, err)))
    names = {p.name for p in (tmp_path / "import").iterdir()}
    assert names == {f"{n}.parquet" for n in result((code, out, err))} | {"import.sh"}
    script = (tmp_path / "import" / "import.sh").read_text("utf-8")
    assert "--relationships=CO_ACTIVATES=./CO_ACTIVATES.parquet" in script
    assert "MATCHES" not in script
    assert pq.read_table(tmp_path / "import" / "Feature.parquet").num_rows == 7


def test_empty_texts_are_counted_and_reported(command):
    graph = edge_graph({"a1": "v1"})
    texts = [
        v
        for t in graph.tables.values()
        for c in t.columns
        if pa.types.is_string(c.type)
        for v in c.to_pylist()
    ]
    assert empty_texts(graph) == texts.count("") > 0
    code, _, err = command(graph, "export", "import", "--for", "neo4j-admin")
    assert code == 0
    assert f"drops empty texts: {texts.count('')} become null" in err


def test_the_script_requires_a_database_and_forwards_options(tmp_path):
    files = [(f.of, f.name) for f in import_files(edge_graph({"a1": "v1"}))]
    (tmp_path / "import.sh").write_text(import_script(files), "utf-8")
    admin = tmp_path / "neo4j-admin"
    admin.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    admin.chmod(0o755)

    def run(*words):
        env = os.environ | {"NEO4J_ADMIN": str(admin)}
        command = ["sh", str(tmp_path / "import.sh"), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert run().returncode == 2
    assert "Expected the name of the database" in run().stderr
    output = run("graph", "--overwrite-destination=true").stdout.splitlines()
    assert output[0] == str(tmp_path)
    assert output[1:6] == ["database", "import", "full", "graph", "--overwrite-destination=true"]
    assert "--nodes=Feature=./Feature.parquet" in output


def test_other_formats_and_a_file_as_folder_are_refused(command, tmp_path):
    graph = edge_graph({"a1": "v1"})
    code, out, err = command(graph, "export", "x", "--for", "neo4j-admin", "--format", "csv")
    assert code == 2
    assert "omit --format" in out + err
    (tmp_path / "file").write_text("")
    assert command(graph, "export", "file", "--for", "neo4j-admin")[0] == 2
