"""``atlas push --fit``: what a real server then shows, compared with a brute force over the atlas."""

import json
import os
import signal
import subprocess
import sys

import neo4j
import pytest
from command_results import result
from fit_by_brute_force import chosen, part_of, parts, size
from neo4j_server import leftovers
from small_ingest import model, named, run, texts, topk

from atlas import schema
from atlas.assemble import assemble
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.stores.neo4j.edge_selection import ENOUGH, Capacity

pytestmark = [pytest.mark.neo4j, pytest.mark.slow]

#: A push that dies in one of its reports of progress, after it has limited the server.
DYING = """
import json, os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from atlas.stores.neo4j import edge_selection, staged_swap
from atlas.push import push_atlas
nodes, edges, reports, path = json.loads(sys.argv[1])
edge_selection.TIERS["aura-free"] = edge_selection.Capacity("A server", nodes, edges)
staged_swap.BATCH_ROWS = 50
class Dying:
    @contextmanager
    def stage(self, title, *, total=None, unit=""):
        yield self
    def advance(self, by=1):
        global reports
        reports -= 1
        if reports < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def report(self, sentence):
        pass
push_atlas(Path(path), os.environ["NEO4J_URI"], fit="aura-free", progress=Dying())
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The folder of an ingested atlas of two SAEs with matches, its graph, and the levels of its edges."""
    path = tmp_path_factory.mktemp("fit") / "a.atlas"
    saes = [named(topk(seed=i, d_sae=24), name) for i, name in enumerate("ab")]
    run(path, model(), saes, texts(60))
    folder = Folder.open(path)
    read = folder.read(lambda sound: assemble(folder, sound))
    assert all(read.tables[n].num_rows > 30 for n in ("CO_ACTIVATES", "MATCHES", "SHOWN_BY"))
    return path, read, parts(read)


@pytest.fixture
def push(graph, empty_neo4j, monkeypatch, capsys):
    """Run ``atlas push --fit`` with a capacity; return the JSON, and what it states on stderr."""
    monkeypatch.setenv("NEO4J_URI", empty_neo4j.url)
    monkeypatch.setenv("NEO4J_USERNAME", empty_neo4j.username)
    monkeypatch.setenv("NEO4J_PASSWORD", empty_neo4j.password)

    def run(capacity):
        tiers = {"aura-free": Capacity("A server", *capacity)}
        monkeypatch.setattr("atlas.push.TIERS", tiers)
        with pytest.raises(SystemExit) as done:
            main(["push", "--fit", "aura-free", "-a", str(graph[0]), "--json"])
        out, err = capsys.readouterr()
        return result((done.value.code, out, err)), err

    return run


@pytest.fixture
def ask(empty_neo4j):
    auth = (empty_neo4j.username, empty_neo4j.password)
    with neo4j.GraphDatabase.driver(
        empty_neo4j.url, auth=auth, notifications_min_severity="OFF"
    ) as driver:
        yield lambda cypher: [list(r.values()) for r in driver.execute_query(cypher).records]


def expected(graph, levels, capacity):
    """Return the tables of the largest part that fits, and its two levels."""
    found = chosen(graph, levels, Capacity("A server", *capacity), ENOUGH)
    assert found is not None
    return part_of(graph, levels, *found), found


def keys(tables):
    nodes = {n.label: sorted(row[n.key] for row in tables[n.label]) for n in schema.NODES}
    edges = {
        e.type: sorted((row["source"], row["target"]) for row in tables[e.type])
        for e in schema.EDGES
    }
    return nodes, edges


def shown(ask):
    """Return the keys of all nodes and edges of the database, by the driver."""
    nodes = {
        n.label: sorted(key for (key,) in ask(f"MATCH (n:{n.label}) RETURN n.{n.key}"))
        for n in schema.NODES
    }
    edges = {}
    for e in schema.EDGES:
        a, b = schema.node(e.source), schema.node(e.target)
        rows = ask(f"MATCH (a:{a.label})-[:{e.type}]->(b:{b.label}) RETURN a.{a.key}, b.{b.key}")
        edges[e.type] = sorted(map(tuple, rows))
    return nodes, edges


def capacities(graph, levels):
    """Return capacities of three kinds: few co-activations, few of every type, and all."""
    least, most = size(part_of(graph, levels, 0, 0)), size(part_of(graph, levels, None, None))
    without = size(part_of(graph, levels, ENOUGH, None))
    return {
        "fewer co-activations": (most[0], (without[1] + most[1]) // 2),
        "fewer of every type": tuple((a + b) // 2 for a, b in zip(least, most, strict=True)),
        "all": most,
    }


def test_the_server_shows_the_largest_part_that_fits(graph, push, ask):
    """Three pushes with other limits, each over the one before."""
    _, complete, levels = graph
    total = {name: table.num_rows for name, table in complete.tables.items()}
    outcomes = set()
    for kind, capacity in capacities(complete, levels).items():
        tables, (co_activations, others) = expected(complete, levels, capacity)
        done, stated = push(capacity)
        assert shown(ask) == keys(tables), kind
        assert leftovers(lambda cypher: ask(cypher)) == []
        ((nodes,),), ((edges,),) = (
            ask("MATCH (n) RETURN count(n)"),
            ask("MATCH ()-->() RETURN count(*)"),
        )
        assert (nodes, edges) == size(tables)
        assert nodes <= capacity[0]
        assert edges <= capacity[1]
        lost = {n: total[n] - len(t) for n, t in tables.items() if len(t) < total[n]}
        assert done["excluded"] == lost
        text = " ".join(stated.split())
        for name, number in lost.items():
            assert f"{number:,} of {total[name]:,} {name}" in text
        if lost:
            assert f"{nodes:,} nodes and {edges:,} edges are pushed" in text
            assert f"among the {co_activations} heaviest of a feature" in text
        else:
            assert "fits on A server completely" in text
        outcomes.add((co_activations is None, others is None))
        again, _ = push(capacity)
        assert (again["added"], again["replaced"], again["unchanged"]) == ([], [], ["a", "b"])
    assert outcomes == {(False, True), (False, False), (True, True)}


@pytest.mark.parametrize("reports", [0, 4, 12])
def test_a_killed_push_is_completed_by_the_same_command(graph, push, ask, reports):
    path, complete, levels = graph
    first, second = (
        capacities(complete, levels)[kind]
        for kind in ("fewer co-activations", "fewer of every type")
    )
    push(first)
    old, new = (keys(expected(complete, levels, c)[0])[1]["CO_ACTIVATES"] for c in (first, second))
    died = subprocess.run(
        [sys.executable, "-c", DYING, json.dumps([*second, reports, str(path)])],
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    between = shown(ask)[1]["CO_ACTIVATES"]
    for sae in "ab":  # each SAE has its old or its new edges
        of = [[e for e in edges if e[0].startswith(f"{sae}/")] for edges in (between, old, new)]
        assert of[0] in of[1:]
    push(second)
    assert shown(ask) == keys(expected(complete, levels, second)[0])
    assert leftovers(lambda cypher: ask(cypher)) == []
