"""A command that reads an atlas, in a folder without one: the message states how to create one."""

from pathlib import Path

import pytest
from test_forgotten_atlas_option import commands_with_an_atlas

from atlas import Atlas
from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.errors import BadInput

#: Arguments without which another message comes first.
ARGUMENTS = {
    "changes": ["A/1"],
    "concepts": ["gender"],
    "export": ["tables"],
    "fire": ["a text"],
    "match-graphs": ["A", "B"],
    "plot communities": ["A"],
    "push": ["bolt://localhost"],
    "query": ["saes"],
    "rm": ["A"],
    "show": ["A/1"],
    "splitting": ["A", "B"],
    "steer": ["--feature", "A/1", "--prompt", "a text"],
    "subspaces": ["gender"],
    "truth": ["--truth", "A"],
}
#: Commands that create an atlas, or need none.
OTHERS = {"demo", "doctor", "ingest", "residual"}
COMMANDS = sorted({" ".join(words) for words in commands_with_an_atlas()} - OTHERS)


@pytest.fixture
def message(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return its exit status and message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)

    def message(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        return done.value.code, " ".join(capsys.readouterr().err.split())

    return message


@pytest.mark.parametrize("name", COMMANDS)
def test_the_message_names_the_command_that_creates_an_atlas(name, message):
    words = [*name.split(), *ARGUMENTS.get(name, [])]
    status, text = message(*words)
    assert status == 2
    assert text.startswith("atlas: There is no atlas in this folder. `atlas demo` creates")
    status, text = message(*words, "--atlas", "no.atlas")
    assert status == 2
    assert text.startswith("atlas: There is no atlas at no.atlas. `atlas demo` creates")


@pytest.mark.parametrize("name", ["match-graphs", "plot communities", "show"])
def test_a_missing_argument_is_not_the_only_advice(name, message):
    status, text = message(*name.split())
    assert status == 2
    assert "Missing argument" in text
    assert "`atlas demo` creates a small example" in text
    Folder.create(Path("one.atlas"))
    assert "atlas demo" not in message(*name.split())[1]


def test_other_atlases_in_the_folder_are_named(message, monkeypatch):
    Folder.create(Path("one.atlas"))
    assert message("list", "-a", "no.atlas")[1] == (
        "atlas: There is no atlas at no.atlas. Here are one.atlas; select an atlas with --atlas."
    )
    monkeypatch.setenv("ATLAS", "gone.atlas")
    assert message("list")[1].startswith(
        "atlas: There is no atlas at gone.atlas, which $ATLAS names. Here"
    )


def test_python_states_what_was_passed_what_is_expected_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as raised:
        Atlas("nothere.atlas")
    text = str(raised.value)
    assert text.startswith("There is no atlas at nothere.atlas.")
    assert str(tmp_path / "nothere.atlas") in text
    assert "Expected the folder of an atlas, which has the file atlas.json." in text
    assert "`ingest.make_demo('nothere.atlas')` creates the demo there" in text
