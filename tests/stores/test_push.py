"""A pushed atlas returns the same answers from the server and from its folder."""

import json

import pytest
from command_results import result
from edited_models import edited, negate
from small_ingest import model, named, run, texts, topk
from small_parts import filled, small_atlas, write_sae, write_statistics

from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, read_manifest, write_part
from atlas.errors import Mismatch
from atlas.push import push_atlas
from atlas.stores.opening import open_server

pytestmark = pytest.mark.neo4j

CYPHER = (
    "MATCH (f:Feature)-[:IN_SAE]->(s:SAE) "
    "RETURN s.name AS sae, f.idx AS idx, f.frequency AS frequency ORDER BY sae, idx"
)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, neo4j_url, neo4j_auth):
    """Run a command on an atlas, with the login of the server in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)
    monkeypatch.setenv("NEO4J_URI", neo4j_url)
    monkeypatch.setenv("NEO4J_USERNAME", neo4j_auth[0])
    monkeypatch.setenv("NEO4J_PASSWORD", neo4j_auth[1])
    small_atlas(tmp_path / "a.atlas")

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([*words, "--json", "--quiet"])
        out = capsys.readouterr()
        assert neo4j_auth[1] not in out.out + out.err
        return done.value.code, out.out, out.err

    return run


def test_the_server_answers_as_the_folder_after_a_push(command, neo4j_url):
    assert result(command("push", "--dry-run"))["added"] == ["one", "two"]
    assert result(command("list", "-a", neo4j_url)) == []
    assert result(command("push"))["added"] == ["one", "two"]
    here = result(command("query", "--cypher", CYPHER))
    assert len(here) == 5
    assert result(command("query", "--cypher", CYPHER, "-a", neo4j_url)) == here
    assert result(command("list", "-a", neo4j_url)) == result(command("list"))
    again = result(command("push"))
    assert (again["added"], again["replaced"], again["unchanged"]) == ([], [], ["one", "two"])


def test_only_changes_are_pushed(command, tmp_path):
    command("push")
    folder = Folder.open(tmp_path / "a.atlas")
    write_statistics(folder, read_manifest(folder.part("sae", "one")), [1, 1, 1])
    assert result(command("push"))["replaced"] == ["one"]
    command("rm", "two", "--yes")
    assert result(command("push"))["removed"] == ["two"]


def test_a_name_of_another_atlas_is_refused_and_as_renames_it(command, tmp_path, neo4j_url):
    command("push")
    other = small_atlas(tmp_path / "b.atlas")
    write_sae(other, "one", 4)
    write_statistics(other, read_manifest(other.part("sae", "one")), [4, 4, 4, 4])
    code, out, _ = command("push", "-a", "b.atlas")
    assert code == 2
    assert "--as" in json.loads(out)["error"]["message"]
    done = result(command("push", "-a", "b.atlas", "--as", "one=uno", "--as", "two=due"))
    assert done["added"] == ["due", "uno"]
    names = [r["sae"] for r in result(command("list", "-a", neo4j_url))]
    assert names == ["due", "one", "two", "uno"]
    rows = result(command("query", "--cypher", CYPHER, "-a", neo4j_url))
    assert [r["frequency"] for r in rows if r["sae"] == "uno"] == [0.4] * 4


def test_a_model_that_differs_above_the_first_block_is_refused(
    command, tmp_path, neo4j_url, neo4j_auth
):
    login = {"username": neo4j_auth[0], "password": neo4j_auth[1]}
    lm = model()
    upper = edited(lm, negate("layers.1.mlp.down_proj.weight"))
    for name, each in (("first", lm), ("second", upper)):
        run(tmp_path / f"{name}.atlas", each, [named(topk(), name)], texts(), match=None)
    push_atlas(tmp_path / "first.atlas", neo4j_url, **login)
    with pytest.raises(Mismatch, match=r"'small'.*its weights differ"):
        push_atlas(tmp_path / "second.atlas", neo4j_url, **login)
    code, out, _ = command("push", "-a", str(tmp_path / "second.atlas"), "--dry-run")
    assert code == 2
    assert "its weights differ" in out
    store = open_server(neo4j_url, **login)
    assert set(store.contents()) == {"first"}
    store.close()


def test_an_atlas_that_fits_is_pushed_completely(command):
    done = result(command("push", "--fit", "aura-free"))
    assert (done["added"], done["excluded"]) == (["one", "two"], {})
    code, _, err = command("push", "--fit", "aura-free", "--edges-per-feature", "3")
    assert code == 2
    assert "Traceback" not in err
    again = result(command("push"))
    assert (again["replaced"], again["unchanged"]) == ([], ["one", "two"])


def test_a_small_server_shows_the_heaviest_edges(command, tmp_path, neo4j_url):
    pairs = {(0, 1): 0.9, (0, 2): 0.5, (1, 2): 0.4}
    rows = [
        {"source": f"one/{a}", "target": f"one/{b}", "count": 1, "weight": w}
        for (a, b), w in pairs.items()
    ]
    write_part(
        (folder := Folder.open(tmp_path / "a.atlas")).part("coactivation", "one"),
        Manifest("coactivation", "one", saes=("one",)),
        [("CO_ACTIVATES", filled("CO_ACTIVATES", "coactivation", rows))],
    )
    assert "coactivation/one" in folder.sound().parts
    edges = (
        "MATCH (:Feature {id: 'one/2'})-[e:CO_ACTIVATES]-() RETURN e.weight AS w ORDER BY w",
        "-a",
        neo4j_url,
    )

    def push(*words):
        done = result(command("push", *words))
        return done["left_out"], done["added"] + done["replaced"], done["unchanged"]

    assert push("--edges-per-feature", "1") == (1, ["one", "two"], [])
    assert [r["w"] for r in result(command("query", "--cypher", *edges))] == [0.5]
    assert push("--edges-per-feature", "1") == (1, [], ["one", "two"])
    assert push("--edges-per-feature", "2") == (0, ["one"], ["two"])
    assert [r["w"] for r in result(command("query", "--cypher", *edges))] == [0.4, 0.5]
    assert push() == (0, [], ["one", "two"])  # the server shows all edges
    code, out, err = command("push", "--edges-per-feature", "-1")
    assert code == 2
    assert "--edges-per-feature" in out + err


def test_a_map_between_sites_is_pushed_and_removed_with_its_model(command, tmp_path, neo4j_url):
    folder = Folder.open(tmp_path / "a.atlas")

    def write(r2):
        sites = [{"id": f"m/{hook}", "model": "m", "hook": hook} for hook in ("hook_embed", "late")]
        edge = {"source": "m/hook_embed", "target": "m/late", "run": "closed form/c", "r2": r2}
        model = {"name": "m", "weights": None, "tokenizer": None}
        write_part(
            folder.part("transcoder", "t"),
            Manifest("transcoder", "t", sources={"model": model}),
            [
                ("MAPS_TO", filled("MAPS_TO", "transcoder", [edge])),
                ("Site", filled("Site", "transcoder", sites[1:])),
                (
                    "OF_MODEL",
                    filled("OF_MODEL", "transcoder", [{"source": "m/late", "target": "m"}]),
                ),
            ],
        )

    cypher = "MATCH (a:Site)-[e:MAPS_TO]->(b:Site) RETURN a.id AS a, b.id AS b, e.r2 AS r2"

    def shown(where):
        rows = result(command("query", "--cypher", cypher, "-a", where))
        return [(r["a"], r["b"], r["r2"]) for r in rows]

    command("push")
    for r2 in (0.5, 0.25):
        write(r2)
        done = result(command("push"))
        assert done["shared"]
        assert done["unchanged"] == ["one", "two"]
        assert shown(neo4j_url) == shown("a.atlas") == [("m/hook_embed", "m/late", r2)]
    assert not result(command("push"))["shared"]
    command("rm", "one", "--yes")
    assert result(command("push"))["removed"] == ["one"]
    assert shown(neo4j_url) == [("m/hook_embed", "m/late", 0.25)]
    command("rm", "two", "--yes")
    command("push")
    assert shown(neo4j_url) == shown("a.atlas") == []


def test_doctor_and_export_on_a_server(command, neo4j_url, tmp_path):
    command("push")
    checks = result(command("doctor", "-a", neo4j_url))
    (server,) = [c for c in checks if c["about"] == "server" and "shows one, two" in c["message"]][
        :1
    ]
    assert server["state"] == "ok"
    here = result(command("export", str(tmp_path / "here"), "-a", "a.atlas"))
    assert result(command("export", str(tmp_path / "there"), "-a", neo4j_url)) == here


def test_a_wrong_password_is_reported(command, monkeypatch, neo4j_url):
    monkeypatch.setenv("NEO4J_PASSWORD", "not-this-one")
    code, out, _ = command("push")
    assert code == 1
    assert json.loads(out)["error"]["type"] == "StoreDenied"


def test_ingest_pushes_at_the_end(command, tmp_path, neo4j_url):
    (tmp_path / "s.txt").write_text("Once upon a time there was a sad cat.\n\nIt played.")
    words = ["ingest", "--sae", "mine=tiny-a-l1-s0", "--text", "s.txt", "-a", "new.atlas"]
    assert result(command(*words, "--store", neo4j_url))["saes"][0]["sae"] == "mine"
    rows = result(command("list", "-a", neo4j_url))
    assert [r["sae"] for r in rows] == ["mine"]
