"""A reader whose parts another process replaces reads one version, and still detects damage."""

import os
import shutil

import pytest
from command_results import result
from small_parts import small_atlas, write_sae, write_statistics

from atlas.api import Atlas
from atlas.cli.main import main
from atlas.disk.atomic_files import atomic_folder
from atlas.disk.parts import Part, read_manifest
from atlas.doctor import checks
from atlas.errors import BrokenPart, Locked
from atlas.export import export_for_import

COUNT = "MATCH (f:Feature) RETURN count(f) AS n"


@pytest.fixture
def folder(tmp_path):
    return small_atlas(tmp_path / "a.atlas")


def replace(folder, features=7):
    """Write other versions of an SAE and its statistics, as `ingest --replace` does."""
    counts = [1] * features
    write_statistics(folder, write_sae(folder, "one", features), counts)


def replacing(folder, monkeypatch, *, before, times=1):
    """Replace the SAE just before its table of a name is read."""
    reading, remaining = Part.table, list(range(times))

    def late(self, name):
        if name == before and self.manifest.key == "sae/one" and remaining:
            replace(folder, 7 + remaining.pop())
        return reading(self, name)

    monkeypatch.setattr(Part, "table", late)


def ids(table):
    return [id for id in table["id"].to_pylist() if id.startswith("one/")]


def test_a_table_is_read_from_the_new_parts(folder):
    reader = Atlas.open(folder.path)
    assert len(ids(reader.table("Feature"))) == 3
    replace(folder)
    table = reader.table("Feature")
    assert len(ids(table)) == 7
    assert table["active_tokens"].to_pylist()[:7] == [1] * 7
    assert len(reader.features("one")) == 7


@pytest.mark.parametrize("table", ["Model", "Feature", "IN_SAE"])
def test_all_tables_of_a_graph_are_of_one_version(folder, monkeypatch, table):
    """Some tables of the old version were read before the replacement."""
    replacing(folder, monkeypatch, before=table)
    graph = Atlas.open(folder.path).graph_tables()
    assert len(ids(graph.tables["Feature"])) == 7
    assert graph.tables["IN_SAE"].num_rows == 7 + 2
    assert graph.fingerprints == Atlas.open(folder.path).graph_tables().fingerprints


def test_a_view_has_the_rows_of_the_version_in_its_name(folder, monkeypatch):
    replacing(folder, monkeypatch, before="Feature")
    with Atlas.open(folder.path) as reader:
        assert reader.query(COUNT)["n"].to_pylist() == [7 + 2]
    with Atlas.open(folder.path) as again:
        assert again.query(COUNT)["n"].to_pylist() == [7 + 2]
    assert len(list(folder.cache.glob("graph-*.kuzu"))) == 1


def test_commands_read_replaced_parts_again(folder, monkeypatch, tmp_path, capsys):
    replacing(folder, monkeypatch, before="Feature")
    with pytest.raises(SystemExit) as done:
        main(["query", "--cypher", COUNT, "--atlas", str(folder.path), "--json", "--quiet"])
    out = capsys.readouterr()
    assert result((done.value.code, out.out, out.err)) == [{"n": 9}]
    replacing(folder, monkeypatch, before="IN_SAE", times=1)
    assert export_for_import(folder.path, tmp_path / "out")["Feature"] == 9


def test_a_part_that_is_replaced_twice_is_reported_as_locked(folder, monkeypatch):
    replacing(folder, monkeypatch, before="Feature", times=2)
    with pytest.raises(Locked, match="Another process replaced or removed the part sae/one"):
        Atlas.open(folder.path).graph_tables()


def test_a_part_that_was_removed_meanwhile_is_absent(folder):
    reader = Atlas.open(folder.path)
    assert len(reader.saes) == 2
    shutil.rmtree(folder.part("sae", "one"))
    assert ids(reader.table("Feature")) == []
    assert reader.saes == ["two"]


def test_damage_is_reported_and_not_read_again(folder, monkeypatch):
    reader = Atlas.open(folder.path)
    assert reader.saes == ["one", "two"]
    (folder.part("sae", "one") / "Feature.parquet").write_bytes(b"damaged")
    with pytest.raises(BrokenPart, match="the checksum differs"):
        reader.table("Feature")
    with pytest.raises(BrokenPart, match="the checksum differs"):
        reader.store  # noqa: B018 - a property that reads


def test_the_doctor_checks_the_new_part(folder, monkeypatch):
    check, remaining = Part.check, [1]

    def late(self):
        if remaining:
            remaining.pop()
            replace(folder)
        check(self)

    monkeypatch.setattr(Part, "check", late)
    faults = [c for c in checks(folder.path) if c.state == "fault"]
    assert [f for f in faults if "replaced" in f.message] == []


def test_a_manifest_is_read_again_while_its_folder_is_renamed(folder, monkeypatch):
    away = folder.path / "away"
    reading, remaining = read_manifest, [1]

    def late(path):
        if path == folder.part("sae", "one") and remaining:
            remaining.pop()
            path.rename(away)
            try:
                return reading(path)
            finally:
                away.rename(path)
        return reading(path)

    monkeypatch.setattr("atlas.disk.folder.read_manifest", late)
    sound = folder.sound()
    assert sound.broken == {}
    assert "sae/one" in sound.parts


def test_the_new_folder_exists_before_the_old_one_is_deleted(tmp_path, monkeypatch):
    """Deleting a large folder takes long, and meanwhile a reader would find no part."""
    path, seen, deleting = tmp_path / "part", [], shutil.rmtree

    def noted(folder, *args, **options):
        seen.append((os.path.basename(folder), (path / "new").exists()))
        deleting(folder, *args, **options)

    with atomic_folder(path) as old:
        (old / "old").touch()
    monkeypatch.setattr("atlas.disk.atomic_files.shutil.rmtree", noted)
    with atomic_folder(path) as new:
        (new / "new").touch()
    assert seen == [(".part.old", True)]
    assert [p.name for p in tmp_path.iterdir()] == ["part"]
