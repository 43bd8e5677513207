"""An atlas that is passed without ``--atlas``: every command takes it as its first argument."""

import click
import pytest
from click.testing import CliRunner

from atlas.cli.main import command, main
from atlas.disk.folder import Folder


def commands_with_an_atlas(of=None, at=()):
    of = of or command()
    if isinstance(of, click.Group):
        for name, each in of.commands.items():
            yield from commands_with_an_atlas(each, (*at, name))
    elif "--atlas" in {o for p in of.params for o in p.opts}:
        yield at


COMMANDS = sorted(set(commands_with_an_atlas()))
OWN = {("list",), ("doctor",), ("report", "geometry")}
"""Commands whose only argument is an atlas."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with two atlases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)
    Folder.create(tmp_path / "demo.atlas")
    Folder.create(tmp_path / "other.atlas")


@pytest.fixture
def message(here, capsys):
    """Run a command; return its exit status and message."""

    def message(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        return done.value.code, " ".join(capsys.readouterr().err.split())

    return message


def found(words):
    """Return the command of some words."""
    each = command()
    for word in words:
        each = each.commands[word]
    return each


def needed(each):
    """Return a word for each required argument, and each required option with a value."""
    words = []
    for one in each.params:
        if one.required:
            words += [one.opts[0], "x"] if isinstance(one, click.Option) else ["x"]
    return words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_first_argument_may_be_the_atlas(words, here, monkeypatch):
    passed = []
    each = found(words)
    monkeypatch.setattr(each, "callback", lambda **options: passed.append(options))
    more = needed(each)
    for line in (
        ["demo.atlas", *more],
        ["--json", "demo.atlas", *more],
        [*more, "-a", "demo.atlas"],
    ):
        done = CliRunner().invoke(each, line)
        assert done.exit_code == 0, done.output
    for options in passed:
        named = {name for name, value in options.items() if "demo.atlas" in str(value)}
        assert len(named) == 1
        assert named <= {"where", "path", "passed"}


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - OWN), ids=" ".join)
def test_two_atlases_are_refused(words, message):
    status, text = message(*words, "demo.atlas", *needed(found(words)), "-a", "other.atlas")
    assert (status, text) == (
        2,
        "atlas: Two atlases are named, demo.atlas and other.atlas; name one.",
    )


def test_another_argument_that_is_an_atlas_is_answered_with_the_command(message):
    expected = "atlas: demo.atlas is an atlas, which is the first argument: `atlas {}`."
    for words, typed in (
        (("match", "a", "demo.atlas"), "match demo.atlas a"),
        (("match-graphs", "a", "b", "demo.atlas"), "match-graphs demo.atlas a b"),
        (("show", "a/1", "demo.atlas", "--json"), None),
        (("query", "sites", "demo.atlas", "--rows"), "query demo.atlas sites --rows"),
    ):
        status, text = message(*words)
        assert status == 2
        assert typed is None or text == expected.format(typed)
    assert message("demo.atlas", "list")[1] == (
        "atlas: demo.atlas is an atlas, which follows the name of a command: "
        "`atlas list demo.atlas`."
    )


def test_an_atlas_that_is_absent_is_reported(message):
    status, text = message("graph-stats", "no.atlas")
    assert status == 2
    assert text.startswith("atlas: There is no atlas at no.atlas.")
    two = message("doctor", "demo.atlas", "--atlas", "other.atlas")
    assert two == (2, "atlas: Two atlases are named, demo.atlas and other.atlas; name one.")


def test_a_query_after_the_atlas_has_its_options_and_suggestions(message):
    status, text = message("query", "demo.atlas", "tokens_of_feature", "--feature", "a/1")
    assert "No SAE is named 'a'" in text
    status, text = message("query", "demo.atlas", "token_of_feature", "--feature", "a/1")
    assert status == 2
    assert "tokens_of_feature" in text
