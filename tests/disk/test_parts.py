"""Parts are complete, match their manifest and the schema, and are stale when outdated."""

import hashlib
import json
import multiprocessing
import shutil
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa
import pytest
from small_parts import filled, small_atlas, write_sae, write_statistics

from atlas import schema
from atlas.api import Atlas
from atlas.assemble import (
    assemble,
    assemble_table,
    fingerprints,
    graph_fingerprint,
    rows_of,
    table_sources,
)
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, TableFile, read_manifest, write_part
from atlas.disk.remove import remove_saes
from atlas.errors import BadInput, BrokenPart, Locked, Mismatch, NewerFormat
from atlas.export import export_tables
from atlas.schema import EDGES, NODES, Property, arrow_schema


@pytest.fixture
def folder(tmp_path):
    return small_atlas(tmp_path / "a.atlas")


def test_a_part_reads_back_as_it_was_written(folder):
    part = read_manifest(folder.part("statistics", "one"))
    assert part.table("SAE").to_pylist() == [
        {"name": "one", "tokens": 10, "l0": 0.7, "dead": 1, "dead_share": None}
    ]
    assert part.manifest.made_from == {
        "sae/one": read_manifest(folder.part("sae", "one")).manifest.hash
    }
    part.check()


def test_a_table_of_several_kinds_has_the_columns_of_all(folder):
    for kind, row in (("count", {"n": 1}), ("share", {"n": 0.5, "note": "half"})):
        manifest = Manifest(kind, "one", saes=("one",))
        table = pa.Table.from_pylist([row])
        write_part(folder.part(kind, "one"), manifest, [("summary", table)])
    found = Atlas(str(folder.path), folder=folder).table("summary").to_pylist()
    assert found == [
        {"part": "one", "n": 1.0, "note": None},
        {"part": "one", "n": 0.5, "note": "half"},
    ]


def test_the_hash_is_that_of_the_json_of_the_manifest():
    """Also of values that JSON does not know: dataclasses and other mappings, at any depth."""

    @dataclass(frozen=True)
    class Inner:
        draws: int = 3

    plain = Manifest("k", "n", saes=("a",), settings={"one": {"draws": 3}, "pair": [1, 2]})
    rich = Manifest(
        "k",
        "n",
        saes=("a",),
        settings=MappingProxyType({"one": Inner(), "pair": (1, 2)}),
        tables={"T": TableFile("T.parquet", 2, "00")},
    )
    core = {
        "kind": "k",
        "name": "n",
        "version": 1,
        "saes": ["a"],
        "settings": {"one": {"draws": 3}, "pair": [1, 2]},
        "seed": None,
        "sources": {},
        "dtypes": {},
        "made_from": {},
    }
    for manifest, tables in ((plain, {}), (rich, {"T": [2, "00"]})):
        text = json.dumps(core | {"tables": tables}, sort_keys=True)
        assert manifest.hash == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_depends_on_content_and_not_on_time(tmp_path):
    first = small_atlas(tmp_path / "a.atlas").sound().parts
    second = small_atlas(tmp_path / "b.atlas").sound().parts
    assert {k: p.manifest.hash for k, p in first.items()} == {
        k: p.manifest.hash for k, p in second.items()
    }


def test_a_changed_byte_is_reported(folder):
    path = folder.part("sae", "one") / "Feature.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BrokenPart, match=r"sae/one is broken: its table Feature has changed"):
        assemble(folder)


def test_a_missing_file_is_reported(folder):
    (folder.part("sae", "one") / "Feature.parquet").unlink()
    with pytest.raises(BrokenPart, match=r"its table Feature is missing.*`replace=True`"):
        assemble(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest.update(format=2), "this version reads formats up to 1"),
        (lambda manifest: manifest.update(seed=7), "has changed since it was written"),
        (lambda manifest: manifest.pop("tables"), "cannot be read"),
        (lambda manifest: manifest.update(unheard_of=1), "cannot be read"),
    ],
)
def test_a_part_with_a_changed_manifest_is_broken_and_reported(folder, change, reason):
    path = folder.part("sae", "one") / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    sound = folder.sound()
    assert reason in sound.broken["sae/one"]
    assert set(sound.stale) == {"statistics/one"}
    assert sound.saes == ["two"]
    assert assemble(folder).tables["Feature"]["sae"].unique().to_pylist() == ["two"]


def test_a_truncated_manifest_is_reported_and_the_sae_can_be_removed(folder):
    path = folder.part("sae", "one") / "manifest.json"
    path.write_text(path.read_text()[:100])
    assert "cannot be read" in folder.sound().broken["sae/one"]
    assert remove_saes(folder.path, ["one"]) == ["sae/one", "statistics/one"]
    assert folder.sound().broken == {}


def test_a_kind_fills_its_own_columns_only(folder):
    table = filled("Feature", "sae", [{"id": "x/0", "sae": "x", "idx": 0}])
    with pytest.raises(BrokenPart, match="part of kind 'statistics': id, active_tokens"):
        write_part(
            folder.part("statistics", "x"), Manifest("statistics", "x"), [("Feature", table)]
        )
    assert not folder.part("statistics", "x").exists()


def test_tables_outside_the_schema_are_lower_case(folder):
    data = pa.table({"anything": [1, 2]})
    part = write_part(folder.part("notes", "x"), Manifest("notes", "x"), [("notes", data)])
    assert part.table("notes").equals(data)


def test_assembled_tables_have_the_columns_of_the_schema(folder):
    graph = assemble(folder)
    assert set(graph.tables) == {t.name for t in (*NODES, *EDGES)}
    for name, data in graph.tables.items():
        assert data.schema.equals(arrow_schema(name)), name


def test_other_kinds_add_columns_and_absent_ones_are_null(folder):
    features = assemble(folder).tables["Feature"].to_pylist()
    assert {f["id"]: f["active_tokens"] for f in features} == {
        "one/0": 5,
        "one/1": 0,
        "one/2": 2,
        "two/0": None,
        "two/1": None,
    }


def test_columns_that_are_newer_than_a_part_are_null(folder, monkeypatch):
    before = assemble(folder).tables
    newer = tuple(
        replace(
            t,
            properties=(
                Property("early", "int64", "new", owner=""),
                *t.properties,
                Property("late", "string", "new", owner="statistics"),
            ),
        )
        if t.name == "Feature"
        else t
        for t in schema.NODES
    )
    monkeypatch.setattr(schema, "_BY_NAME", {t.name: t for t in (*newer, *schema.EDGES)})
    schema.arrow_schema.cache_clear()
    try:
        found = assemble_table("Feature", folder.sound())
    finally:
        schema.arrow_schema.cache_clear()
    assert found["early"].null_count == found["late"].null_count == found.num_rows > 0
    assert found.drop_columns(["early", "late"]).equals(before["Feature"])


def test_shared_nodes_occur_once(folder):
    tables = assemble(folder).tables
    assert tables["Model"].num_rows == tables["Site"].num_rows == tables["Corpus"].num_rows == 1
    assert tables["OF_MODEL"].num_rows == 1
    assert tables["READS"].num_rows == 2


def test_saes_that_disagree_about_a_shared_node_are_refused(folder):
    other = folder.part("sae", "two")
    part = read_manifest(other)
    tables = [(name, part.table(name)) for name in part.manifest.tables if name != "Model"]
    model = filled("Model", "sae", [{"name": "m", "d_model": 5}])
    write_part(other, Manifest("sae", "two", saes=("two",)), [*tables, ("Model", model)])
    with pytest.raises(BrokenPart, match="describe a Model of the same name differently"):
        assemble(folder)


def test_an_edge_to_nothing_is_refused(folder):
    other = folder.part("sae", "two")
    part = read_manifest(other)
    tables = [(name, part.table(name)) for name in part.manifest.tables if name != "READS"]
    reads = filled("READS", "sae", [{"source": "two", "target": "m/nowhere"}])
    write_part(other, Manifest("sae", "two", saes=("two",)), [*tables, ("READS", reads)])
    with pytest.raises(BrokenPart, match="READS ends at a Site"):
        assemble(folder)


def test_a_part_whose_ancestor_was_computed_again_is_stale(folder):
    write_sae(folder, "one", 4)
    sound = folder.sound()
    assert "statistics/one" not in sound.parts
    assert "has been computed again since" in sound.stale["statistics/one"]
    assert assemble(folder).tables["Feature"].column("active_tokens").null_count == 6


def test_a_part_with_a_missing_ancestor_and_its_descendants_are_stale(folder):
    statistics = read_manifest(folder.part("statistics", "one"))
    heir = Manifest(
        "notes", "one", saes=("one",), made_from={"statistics/one": statistics.manifest.hash}
    )
    write_part(folder.part("notes", "one"), heir, [])
    shutil.rmtree(folder.part("sae", "one"))
    sound = folder.sound()
    assert set(sound.stale) == {"statistics/one", "notes/one"}
    assert sound.saes == ["two"]


def test_a_fingerprint_changes_only_with_the_parts_of_its_sae(folder):
    before = fingerprints(folder.sound())
    graph = graph_fingerprint(folder.sound())
    write_statistics(folder, read_manifest(folder.part("sae", "one")), [1, 1, 1])
    after = fingerprints(folder.sound())
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]
    assert graph_fingerprint(folder.sound()) != graph


def test_a_new_meaning_of_a_stored_column_changes_the_fingerprints_of_its_tables(
    folder, monkeypatch
):
    def hashes():
        sound = folder.sound()
        return fingerprints(sound), graph_fingerprint(sound), table_sources(sound)

    def with_since(spec):
        newer = (replace(p, since=2) if p.name == "active_tokens" else p for p in spec.properties)
        return replace(spec, properties=tuple(newer)) if spec.name == "Feature" else spec

    saes, graph, tables = hashes()
    newer = [with_since(spec) for spec in schema.TABLES]
    monkeypatch.setattr(schema, "_BY_NAME", {t.name: t for t in newer})
    monkeypatch.setattr("atlas.assemble.TABLES", newer)
    found = assemble(folder).tables["Feature"]
    assert found["active_tokens"].null_count == found.num_rows
    now_saes, now_graph, now_tables = hashes()
    assert now_graph != graph
    # Only SAE one has statistics.
    assert {name for name in saes if saes[name] != now_saes[name]} == {"one"}
    assert {name for name in tables if tables[name] != now_tables[name]} == {"Feature"}


def test_a_part_without_a_table_of_the_graph_changes_no_fingerprint(folder):
    before = fingerprints(folder.sound()), graph_fingerprint(folder.sound())
    notes = [("notes", pa.table({"words": ["some"]}))]
    write_part(folder.part("notes", "one"), Manifest("notes", "one", saes=("one",)), notes)
    assert "notes/one" in folder.sound().parts
    assert (fingerprints(folder.sound()), graph_fingerprint(folder.sound())) == before
    node = [("Feature", filled("Feature", "statistics", []))]
    manifest = Manifest("statistics", "two", saes=("two",))
    write_part(folder.part("statistics", "two"), manifest, node)
    assert fingerprints(folder.sound())["two"] != before[0]["two"]


def test_tables_of_the_same_name_and_different_columns_are_joined(folder):
    for kind, column in (("notes", "words"), ("remarks", "numbers")):
        tables = [("beside", pa.table({column: [1]}))]
        write_part(folder.part(kind, "one"), Manifest(kind, "one", saes=("one",)), tables)
    assert Atlas.open(folder.path).table("beside").to_pylist() == [
        {"part": "one", "words": 1, "numbers": None},
        {"part": "one", "words": None, "numbers": 1},
    ]


def test_rows_of_an_sae(folder):
    tables = assemble(folder).tables

    def rows(name, sae):
        return rows_of(name, sae, tables[name])

    assert rows("Feature", "two")["id"].to_pylist() == ["two/0", "two/1"]
    assert rows("IN_SAE", "one")["source"].to_pylist() == ["one/0", "one/1", "one/2"]
    assert rows("READS", "one")["source"].to_pylist() == ["one"]
    assert rows("OF_MODEL", "one").num_rows == 0
    assert rows("Model", "one").num_rows == 1
    assert rows("SAE", None)["name"].to_pylist() == ["one", "two"]


def test_a_writer_killed_at_the_first_file_does_not_prevent_a_new_atlas(tmp_path):
    (tmp_path / "a.atlas").mkdir()
    (tmp_path / "a.atlas" / ".atlas.json.new").write_text("{")
    assert Folder.create(tmp_path / "a.atlas").corpus is None


def test_opening_a_path_that_is_not_an_atlas_is_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no atlas at"):
        Folder.open(tmp_path / "none.atlas")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file; select the folder of an atlas"):
        Folder.open(tmp_path / "file")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="is a symbolic link to itself; select the folder"):
        Folder.open(tmp_path / "loop")
    with pytest.raises(BadInput, match="is a link to no folder; name a folder for the tables"):
        export_tables(tmp_path / "none.atlas", tmp_path / "loop")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match=r"full is a folder without atlas\.json, so it is no atlas"):
        Folder.open(tmp_path / "full")
    with pytest.raises(BadInput, match="not empty and not an atlas"):
        Folder.create(tmp_path / "full")


def test_a_newer_atlas_is_refused(folder):
    path = folder.path / "atlas.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(NewerFormat, match="has format 2, but this version reads formats up to 1"):
        Folder.open(folder.path)


def test_a_broken_atlas_json_is_reported(folder):
    (folder.path / "atlas.json").write_text("{")
    with pytest.raises(BrokenPart, match="cannot be read"):
        Folder.open(folder.path)


def test_an_atlas_has_one_corpus(folder):
    folder.set_corpus({"id": "c0ffee", "name": "text", "documents": 3})
    with pytest.raises(
        Mismatch, match=r"The corpus of .* is .text.*is another one.*another folder with `atlas`"
    ):
        folder.set_corpus({"id": "decaf0", "name": "other", "documents": 4})


def _hold(path, held, release):
    with Folder.open(path).writing():
        held.set()
        release.wait()


def test_two_processes_may_not_write_at_once(folder):
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(folder.path, held, release), daemon=True)
    other.start()
    try:
        held.wait()
        with pytest.raises(Locked, match="Another process is writing"), folder.writing():
            pass
    finally:
        release.set()
        other.join()
    with folder.writing():
        pass


def test_a_killed_writer_leaves_no_lock(folder):
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(folder.path, held, release), daemon=True)
    other.start()
    held.wait()
    other.kill()
    other.join()
    with folder.writing():
        pass
