"""An atlas that is passed without ``--atlas``: every command names the option."""

import click
import pytest

from atlas.cli.main import command, main
from atlas.disk.folder import Folder


def commands_with_an_atlas(of=None, at=()):
    of = of or command()
    if isinstance(of, click.Group):
        for name, each in of.commands.items():
            yield from commands_with_an_atlas(each, (*at, name))
    elif "--atlas" in {o for p in of.params for o in p.opts}:
        yield at


COMMANDS = sorted(
    set(commands_with_an_atlas()) - {("list",), ("doctor",), ("report", "geometry"), ("export",)}
)
"""All but those whose argument is an atlas, or a folder to write to."""


@pytest.fixture
def message(tmp_path, monkeypatch, capsys):
    """Run a command in a folder with one atlas; return its exit status and message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)
    Folder.create(tmp_path / "demo.atlas")

    def message(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        return done.value.code, " ".join(capsys.readouterr().err.split())

    return message


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_message_names_the_option(words, message):
    # A command with a required option reports it, unless it takes arguments.
    required = {("ingest",): ["--sae", "x"], ("residual",): ["--model", "x"]}
    status, text = message(*words, "demo.atlas", *required.get(words, []))
    assert status == 2
    assert text == "atlas: demo.atlas is an atlas; pass it with --atlas demo.atlas."


def test_the_second_argument_may_be_the_atlas(message):
    expected = "atlas: demo.atlas is an atlas; pass it with --atlas demo.atlas."
    assert message("match", "a", "demo.atlas")[1] == expected
    assert message("graph-stats", "no.atlas")[1].startswith("atlas: No SAE is named 'no.atlas'.")
    assert message("list", "demo.atlas")[0] == 0
    assert "demo.atlas is an atlas; pass" not in message("doctor", "demo.atlas")[1]
    two = message("doctor", "demo.atlas", "--atlas", "other.atlas")
    assert two == (2, "atlas: Two atlases are named, demo.atlas and other.atlas; name one.")
