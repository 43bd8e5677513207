"""The recipes of the page on Neo4j's tools: what runs here is run, and the rest is parsed."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import neo4j
import pytest
import yaml
from neo4j.exceptions import ClientError
from small_demo import make_small_demo
from small_graph import small_graph

from atlas.progress import SILENT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "neo4j-snippets.md").read_text("utf-8")
SAE, FEATURE = "tiny-a-l1-s0", "tiny-a-l1-s0/16"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


CYPHER = blocks("cypher") + re.findall(r"`((?:MATCH|CALL)\s[^`]+)`", PAGE)
GDS = [text for text in CYPHER if "gds." in text]
OTHERS = [text for text in CYPHER if "gds." not in text]


@pytest.fixture
def driver(open_neo4j, empty_neo4j):
    """A driver at a server that stores the small graph."""
    store = open_neo4j()
    store.sync(store.plan(small_graph()), SILENT)
    auth = (empty_neo4j.username, empty_neo4j.password)
    with neo4j.GraphDatabase.driver(
        empty_neo4j.url, auth=auth, notifications_min_severity="OFF"
    ) as opened:
        yield opened


def test_the_page_has_the_expected_snippets():
    assert len(GDS) == 4
    assert len(OTHERS) == 1
    assert len(blocks("python")) == 2


def test_the_plugin_is_a_setting_of_the_service():
    (added,) = map(yaml.safe_load, blocks("yaml"))
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    assert set(added) == {"NEO4J_PLUGINS"}
    assert not set(added) & set(services["neo4j"]["environment"])
    assert yaml.safe_load(added["NEO4J_PLUGINS"]) == ["graph-data-science"]


@pytest.mark.neo4j
@pytest.mark.parametrize("text", GDS, ids=lambda t: re.search(r"gds\.[\w.]+", t)[0])
def test_the_only_error_is_that_gds_is_not_installed(driver, text):
    """Neo4j resolves names after it has parsed a query, so nothing else is wrong with it."""
    name = re.search(r"gds\.[\w.]+", text)[0]
    with pytest.raises(ClientError) as failure:
        driver.execute_query(f"EXPLAIN {text}")
    assert re.search(
        rf"(Unknown function|no procedure with the name|not registered).*{name}|"
        rf"{name}.*(not found|no procedure)",
        failure.value.message,
        re.DOTALL,
    ), failure.value


@pytest.mark.neo4j
def test_the_projection_reads_every_feature_and_every_edge_once(driver):
    (text,) = [t for t in GDS if "gds.graph.project(" in t]
    before, project = text.split("WITH gds.graph.project(")
    arguments = (
        project.split("{undirectedRelationshipTypes")[0].split("'coactivation',")[1].strip(" ,\n")
    )
    assert arguments.startswith("f, g,")
    rows = driver.execute_query(f"{before}RETURN f.id, g.id, r {{.weight}}").records
    graph = small_graph()
    features = [f["id"] for f in graph.tables["Feature"].to_pylist() if f["sae"] == SAE]
    edges = [
        (e["source"], e["target"], e["weight"])
        for e in graph.tables["CO_ACTIVATES"].to_pylist()
        if e["source"].startswith(f"{SAE}/")
    ]
    assert {f for f, _, _ in rows} == set(features)
    found = [(f, g, r["weight"]) for f, g, r in rows if g is not None]
    assert sorted(found, key=str) == sorted(edges, key=str)
    assert len(edges) > 3


@pytest.mark.neo4j
def test_the_statement_for_a_full_instance_deletes_everything(driver):
    (text,) = OTHERS
    with driver.session() as session:
        session.run(text).consume()
    assert driver.execute_query("MATCH (n) RETURN count(n) AS n").records[0]["n"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of fonts without some characters
def test_the_pictures_of_a_notebook_are_drawn(tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    make_small_demo(tmp_path / "demo.atlas")
    monkeypatch.chdir(tmp_path)
    drawn, interactive = blocks("python")
    names = {}
    exec(drawn, names)
    edges = {(e.source, e.target): e["weight"] for e in names["graph"].es if 16 in e.tuple}
    heaviest = sorted(edges, key=lambda pair: -edges[pair])[:20]
    shown = {16, *(end for pair in heaviest for end in pair)}
    assert len(shown) > 2
    assert sorted(names["near"].vs["idx"]) == sorted(shown)
    labels = {text.get_text() for text in names["axes"].findobj(matplotlib.text.Text)}
    assert {t for t in names["near"].vs["top_token"] if t} <= labels
    names["figure"].savefig("near.png")
    assert Path("near.png").stat().st_size > 5000

    passed = []

    class Drawing:
        def render(self):
            passed.append("rendered")

    def from_dfs(nodes, edges):
        passed.extend([nodes, edges])
        return Drawing()

    # A stand-in, because the licence of neo4j-viz does not permit it here.
    monkeypatch.setitem(sys.modules, "neo4j_viz", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "neo4j_viz.pandas", SimpleNamespace(from_dfs=from_dfs))
    exec(interactive, names)
    nodes, edges, done = passed
    assert done == "rendered"
    assert {"source", "target", "weight"} <= set(edges)
    assert set(nodes["id"]) == set(edges["source"]) | set(edges["target"])
    assert nodes["id"].is_unique
    assert FEATURE in interactive
