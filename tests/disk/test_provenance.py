"""The provenance of results: in Python, and in the JSON of every study."""

import json

import click
import pytest
from click.testing import CliRunner
from counting_study import CountSettings, CountStudy
from small_ingest import model, texts, topk

import atlas
from analysis import PositionSettings, activation_by_position
from atlas.cli.main import command
from atlas.disk.folder import Folder
from atlas.plugins import StudyCommand
from atlas.studies.collected_provenance import collect, collecting, shared_provenance
from atlas.studies.results import Result
from atlas.studies.runner import run_study
from ingest import ingest
from ingest.sae.autoencoder import open_sae


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("provenance") / "a.atlas"
    saes = [open_sae(topk(seed=0), name="one")]
    ingest(path, saes=saes, text=texts(20), model=model(), match=None).close()
    return path


def stored(path, key):
    return json.loads((path / "parts" / key / "manifest.json").read_text())


def test_a_result_states_settings_seed_time_and_digests(path):
    (result,) = activation_by_position(path, ["one"], settings=PositionSettings(draws=3))
    record = json.loads((path / "atlas.json").read_text())
    manifest = stored(path, "positions/one")
    assert result.provenance == {
        "part": "positions/one",
        "hash": manifest["hash"],
        "created": manifest["created"],
        "version": atlas.__version__,
        "settings": manifest["settings"],
        "seed": manifest["seed"],
        "saes": {"one": stored(path, "sae/one")["sources"]["sae"]["weights"]},
        "text": {"name": record["corpus"]["name"], "digest": record["corpus"]["id"]},
        "atlas": {"name": record["name"], "uuid": record["uuid"]},
    }
    assert result.provenance["settings"]["draws"] == 3


def test_the_json_of_a_study_has_one_provenance_with_the_command(path):
    words = ["positions", "one", "--draws", "3", "--atlas", str(path), "--json"]
    first, second = (CliRunner().invoke(command(), words).stdout for _ in range(2))
    assert first == second  # it is stored, so another run does not change it
    found = json.loads(first)
    assert list(found) == ["ok", "verdict", "result", "provenance"]
    assert isinstance(found["result"], list)
    provenance = found["provenance"]
    assert provenance["command"] == f"atlas positions one --draws 3 --atlas {path} --json"
    assert provenance["version"] == atlas.__version__
    assert provenance["atlas"]["uuid"] == Folder.open(path).uuid
    (result,) = activation_by_position(path, ["one"], settings=PositionSettings(draws=3))
    shared = ("atlas", "text")
    assert provenance["text"] == result.provenance["text"]
    assert provenance["results"] == [
        {key: value for key, value in result.provenance.items() if key not in shared}
    ]


def test_a_command_that_runs_no_study_has_no_provenance(path):
    done = CliRunner().invoke(command(), ["list", "--atlas", str(path), "--json"])
    assert set(json.loads(done.stdout)) == {"ok", "result"}


def test_a_password_in_a_url_is_not_repeated():
    @click.command("x", cls=StudyCommand)
    @click.option("--atlas", "where")
    def x(where):
        click.echo(click.get_current_context().meta["atlas.command"])

    group = click.Group("root", commands=[x])
    done = CliRunner().invoke(group, ["x", "--atlas", "neo4j://me:secret@host:7687"])
    assert done.stdout == "atlas x --atlas neo4j://host:7687\n"


def test_results_outside_a_command_are_not_collected(path):
    run_study(CountStudy(CountSettings(2)), path, ["one"])
    assert shared_provenance("atlas x") is None
    with collecting():
        collect([Result("count", "one", {})])  # without provenance
        assert shared_provenance("atlas x") is None
    assert shared_provenance("atlas x") is None
