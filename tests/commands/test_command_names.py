"""Names of commands: none is one letter from another, and earlier names are answered."""

from itertools import combinations

import click
import pytest

from atlas.cli.main import RENAMED, command, main
from atlas.plugins import StudyCommand


def groups(of):
    yield of
    for each in of.commands.values():
        if isinstance(each, click.Group):
            yield from groups(each)


def one_letter_apart(a, b):
    """Return whether one letter is replaced, added or removed."""
    short, long = sorted((a, b), key=len)
    if len(short) == len(long):
        return sum(x != y for x, y in zip(a, b, strict=True)) == 1
    return short in [long[:i] + long[i + 1 :] for i in range(len(long))]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("map", "mcp", True),
        ("probe", "probes", True),
        ("rm", "arm", True),
        ("map", "map", False),
        ("map", "amp", False),
        ("rm", "match", False),
    ],
)
def test_one_letter_apart(a, b, expected):
    assert one_letter_apart(a, b) is expected
    assert one_letter_apart(b, a) is expected


def test_no_two_commands_of_a_group_are_one_letter_apart():
    for group in groups(command()):
        assert [pair for pair in combinations(group.commands, 2) if one_letter_apart(*pair)] == []


def test_an_earlier_name_is_answered_with_the_present_one(capsys):
    present = command().commands
    for old, new in RENAMED.items():
        assert old not in present
        assert new in present
        with pytest.raises(SystemExit) as done:
            main([old, "tiny", "--out", "map.html"])
        assert done.value.code == 2
        assert f"The command {old!r} is now named {new!r}." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["list", "show", "fire", "query", "doctor", "positions"])
def test_only_studies_draw_more_samples(name):
    found = command().commands[name]
    options = {option for parameter in found.params for option in parameter.opts}
    assert "--rows" in options
    assert ("--full" in options) == isinstance(found, StudyCommand)
