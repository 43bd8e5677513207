"""Roles of SAEs: read from ``training.json`` or from options, checked, stored, and listed."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from random_models import random_model, small_tokenizer
from small_ingest import model, texts, topk
from small_parts import write_sae, write_statistics

from atlas.api import Atlas
from atlas.cli.commands import list_
from atlas.disk.atomic_files import sha256
from atlas.disk.folder import Folder
from atlas.disk.parts import TableFile, write_manifest
from atlas.errors import BadInput, RequestError, UnknownName
from atlas.studies.floors import floors_of, is_floor
from ingest import Settings, ingest, save_random_weights
from ingest.sae.autoencoder import open_sae

RECORD = {
    "role": "frozen-decoder",
    "floor_of": "top",
    "seed": 7,
    "architecture": "topk",
    "width": 40,
    "site": "blocks.1.hook_resid_post",
    "model": "small",
    "text": "t",
    "tokens": 10,
    "steps": 1,
    "settings": {},
}


def saved(folder, record=None, **options):
    topk(**options).save_model(folder)
    if record is not None:
        (folder / "training.json").write_text(json.dumps(record), "utf-8")
    return folder


def sae_rows(atlas):
    with atlas:
        return {row["name"]: row for row in atlas.table("SAE").to_pylist()}


def test_the_record_of_training_is_stored_with_the_sae(tmp_path):
    path = tmp_path / "a.atlas"
    folders = [saved(tmp_path / "top"), saved(tmp_path / "floor", RECORD, seed=1)]
    rows = sae_rows(ingest(path, saes=folders, text=texts(5), model=model(), match=None))
    stored = {
        name: (r["role"], r["floor_of"], r["seed"], r["random_model"]) for name, r in rows.items()
    }
    assert stored == {"top": (None, None, None, None), "floor": ("frozen-decoder", "top", 7, None)}
    done = CliRunner().invoke(list_, ["--atlas", str(path)])
    assert "frozen-decoder" in done.stdout
    (listed,) = [
        r
        for r in json.loads(CliRunner().invoke(list_, ["--atlas", str(path), "--json"]).stdout)[
            "result"
        ]
        if r["sae"] == "floor"
    ]
    assert (listed["role"], listed["floor_of"]) == ("frozen-decoder", "top")


def test_options_of_the_ingest_override_the_record(tmp_path):
    path, floor = tmp_path / "a.atlas", saved(tmp_path / "floor", RECORD)
    ingest(path, saes=[saved(tmp_path / "other", seed=2)], text=texts(5), model=model()).close()
    settings = Settings(role="untrained", floor_of="other")
    rows = sae_rows(ingest(path, saes=[floor], model=model(), settings=settings))
    assert (rows["floor"]["role"], rows["floor"]["floor_of"]) == ("untrained", "other")
    with pytest.raises(RequestError, match=r"sae\.role: untrained stored, frozen-decoder now"):
        ingest(path, saes=[floor], text=None, model=model())
    for wrong, message in [
        ({"floor_of": "floor"}, "floor of itself"),
        ({"floor_of": "Not A Slug"}, "'not-a-slug'"),
    ]:
        with pytest.raises(BadInput, match=message):
            ingest(path, saes=[floor], model=model(), settings=Settings(**wrong))
    with pytest.raises(BadInput, match="one of trained, frozen-decoder"):
        Settings(role="golden")  # type: ignore[arg-type]


def test_a_floor_of_no_trained_sae_is_refused_before_the_text_is_read(tmp_path):
    path, floor = tmp_path / "a.atlas", saved(tmp_path / "floor", RECORD)
    absent = Settings(role="untrained", floor_of="absent")
    with pytest.raises(UnknownName, match=r"No SAE .*'absent'.*`floor_of`"):
        ingest(path, saes=[floor], text=texts(5), model=model(), settings=absent)
    assert not path.exists()
    trained = saved(tmp_path / "tied", seed=2)
    ingest(path, saes=[trained], text=texts(5), model=model()).close()
    with pytest.raises(UnknownName, match=r"Nearest: tied\."):
        ingest(path, saes=[floor], model=model(), settings=Settings(floor_of="tide"))
    ingest(
        path, saes=[floor], model=model(), settings=Settings(floor_of="tied"), match=None
    ).close()
    other = saved(tmp_path / "other", seed=3)
    with pytest.raises(BadInput, match=r"a floor itself \(frozen-decoder\).*such as 'tied'"):
        ingest(path, saes=[other], model=model(), settings=Settings(floor_of="floor"))


def test_a_recorded_floor_may_be_ingested_before_its_trained_sae(tmp_path):
    path, floor = tmp_path / "a.atlas", saved(tmp_path / "floor", RECORD)
    rows = sae_rows(ingest(path, saes=[floor], text=texts(5), model=model()))
    assert rows["floor"]["floor_of"] == "top"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"role": "king"}', "role 'king'; expected one of"),
        ('{"role": ["trained"]}', "expected one of"),
        ('{"floor_of": "a\\nb"}', "a string of one line"),
        ('{"seed": 1.5}', "an integer"),
        ('{"seed": ' + "9" * 400 + "}", "an integer"),
        ("[]", "expected a JSON object"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_record_is_one_message(tmp_path, content, message):
    folder = saved(tmp_path / "top")
    (folder / "training.json").write_text(content, "utf-8")
    with pytest.raises(BadInput, match=message):
        open_sae(folder)


def test_names_in_a_record_become_names_of_an_atlas(tmp_path):
    info = open_sae(saved(tmp_path / "top", {"role": "untrained", "floor_of": "<b>Top</b>"})).info
    assert (info.role, info.floor_of) == ("untrained", "b-top-b")


def test_saes_of_a_model_with_random_weights_are_marked(tmp_path):
    random_model("llama").save_pretrained(tmp_path / "small")
    small_tokenizer().save_pretrained(tmp_path / "small")
    drawn = save_random_weights(tmp_path / "small", tmp_path / "drawn")
    path = tmp_path / "a.atlas"
    ingest(
        path, saes=[open_sae(topk(), name="one")], text=texts(5), model=tmp_path / "small"
    ).close()
    rows = sae_rows(ingest(path, saes=[open_sae(topk(), name="two")], model=drawn))
    assert {name: row["random_model"] for name, row in rows.items()} == {"one": None, "two": True}
    assert "random model" in CliRunner().invoke(list_, ["--atlas", str(path)]).stdout
    assert not is_floor(rows["one"])
    assert is_floor(rows["two"])


def test_atlases_without_roles_open_with_nothing_stale(tmp_path):
    folder, new = Folder.create(tmp_path / "a.atlas"), ["role", "floor_of", "random_model", "k"]
    folder.set_corpus({"id": "c0ffee", "name": "text", "documents": 3})
    part = write_sae(folder, "old")
    pq.write_table(part.table("SAE").drop_columns(new), part.folder / "SAE.parquet")
    entry = TableFile("SAE.parquet", 1, sha256(part.folder / "SAE.parquet"))
    older = replace(part.manifest, tables={**part.manifest.tables, "SAE": entry})
    write_statistics(folder, replace(part, manifest=write_manifest(part.folder, older)), [5, 0, 2])
    assert not Folder.open(folder.path).sound().stale
    row = sae_rows(Atlas.open(str(folder.path)))["old"]
    assert [row[name] for name in new] == [None] * len(new)
    assert (row["d_sae"], row["tokens"]) == (3, 10)


def test_floors_of_an_sae():
    def row(name, role=None, floor_of=None, random_model=None, d_sae=8):
        return {
            "name": name,
            "role": role,
            "floor_of": floor_of,
            "random_model": random_model,
            "model": "m",
            "hook": "h",
            "d_sae": d_sae,
        }

    rows = [
        row("a", "trained"),
        row("b"),
        row("fa", "untrained", "a"),
        row("fx", "frozen-encoder", "x"),
        row("loose", "frozen-decoder"),
        row("wide", "untrained", d_sae=16),
        row("drawn", "trained", "a", random_model=True),
    ]
    assert floors_of(rows, "a") == ["drawn", "fa"]
    assert floors_of(rows, "b") == ["loose"]  # no floor names it: those of its site and width
    assert floors_of(rows, "fa") == []
    assert floors_of(rows, "absent") == []
