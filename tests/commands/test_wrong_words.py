"""Options and commands that do not exist: the message names what has them, or what was meant."""

import json

import pytest

from atlas.cli.main import main


def message(capsys, *words):
    """Return the message of a command that fails, as one line."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    return " ".join((out + err).split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["match", "a", "b", "--splits", "4"],
            "--splits is no option of `atlas match`. It is an option of `atlas communities`",
        ),
        (["fire", "Hello", "--task", "openings"], "It is an option of `atlas steer`."),
        (
            ["list", "--atls", "x"],
            "--atls is no option of `atlas list`. The nearest is --atlas. `atlas list --help` lists its options.",
        ),
        (["list", "--zzzz"], "--zzzz is no option of `atlas list`. `atlas list --help` lists"),
        (
            ["query", "features_of_token", "--feature", "a/1"],
            "--feature is no parameter of the query features_of_token. It has: --token TEXT (",
        ),
        (["query", "saes", "--feature", "a/1"], "no parameter of the query saes. It has: none."),
        (
            ["counterparts_of_feature", "--feature", "a/1"],
            "is a named query: `atlas query counterparts_of_feature --feature a/1`.",
        ),
        (["mach", "a", "b"], "There is no command 'mach'; the nearest is 'match'."),
        (["xyzxyz"], "No such command 'xyzxyz'"),
    ],
)
def test_a_wrong_word_is_answered_with_what_was_meant(words, expected, capsys):
    found = message(capsys, *words)
    assert expected in found
    assert "Did you mean" not in found
    if words[:2] == ["fire", "Hello"]:
        assert "--atlas" not in found


def test_an_option_of_many_commands_names_four(capsys):
    found = message(capsys, "list", "--seed", "1")
    assert " more commands." in found
    assert found.count("`atlas ") == 1 + 4


def test_the_message_is_json_on_request(capsys):
    found = json.loads(message(capsys, "match", "--splits", "4", "--json"))
    assert found["error"]["type"] == "BadInput"
    assert found["error"]["message"].startswith("--splits is no option of `atlas match`")


def test_an_atlas_before_the_command_is_answered_with_the_command_to_type(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "x.atlas").mkdir()
    (tmp_path / "x.atlas" / "atlas.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    found = message(capsys, "x.atlas", "query", "saes", "--wide")
    assert found.endswith("which follows the name of a command: `atlas query x.atlas saes --wide`.")
    assert message(capsys, "x.atlas").endswith("`atlas COMMAND x.atlas`.")
