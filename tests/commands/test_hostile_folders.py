"""Damaged or malicious folders are refused with one message; ``make attack`` tests all of them."""

import pytest
from attacks import folders
from hostile_folders import DEEP, model_damages, sae_damages

from atlas.errors import BadInput
from ingest.folder_checks import read_json_object
from ingest.model.loading import load_model


@pytest.mark.slow
def test_damaged_folders_are_one_message(tmp_path):
    tries = list(folders.tries(tmp_path, seed=1, count=50))
    assert [t for t in tries if not t.survived] == []


@pytest.mark.parametrize("name", ["pickled weights", "code of its own"])
def test_no_code_of_a_folder_is_run(name, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time.", "utf-8")
    for kind, every in (("sae", sae_damages()), ("model", model_damages())):
        for damage in (d for n, d in every if n == name):
            (tmp_path / kind).mkdir()
            found = folders.one(tmp_path / kind, text, kind, name, damage)
            assert found.survived, found
            assert found.note.startswith("exit 2")


def test_trust_remote_code_is_refused():
    with pytest.raises(BadInput, match="code of a model's own is never run"):
        load_model(
            "tiny-a",
            hooks=[],
            device="cpu",
            dtype="auto",
            revision=None,
            kwargs={"trust_remote_code": True},
        )


def test_json_of_any_shape_is_read_or_refused(tmp_path):
    file = tmp_path / "x.json"
    for content in (DEEP, "", "[]", "3", "{", "\0", "9" * 5000):
        file.write_text(content, "utf-8")
        with pytest.raises(BadInput, match=r"x\.json (is not valid JSON|holds)"):
            read_json_object(file)
    file.write_text('{"a": 1}', "utf-8")
    assert read_json_object(file) == {"a": 1}
