"""Messages name settings as Python does, and options on the command line."""

import ast
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from small_ingest import model, named, run, texts, topk

import atlas
from atlas.api import Atlas
from atlas.cli.main import command
from atlas.cli.setting_names import as_options, name_options
from atlas.errors import BadInput, QueryFailed
from atlas.progress import SILENT
from atlas.stores import Limits
from ingest.forward.inputs import named_saes, open_groups
from ingest.match.study import match_saes
from ingest.settings import Settings
from ingest.train.specs import _check

ROOT = Path(atlas.__file__).parents[1]

#: Modules about the command line itself: its options, its checks and the commands that pages print.
OF_COMMANDS = {
    "commands.py",
    "settings.py",
    "options.py",
    "plot_command.py",
    "reproduce_commands.py",
}
OTHERS = {
    "atlas/doctor.py",
    "atlas/features/card_screen.py",
    "atlas/stores/neo4j/admin_import.py",
    "ingest/doctor_checks.py",
    "ingest/fire/screen.py",
}


@pytest.fixture
def shown():
    """Return what the command line writes for a message."""

    @click.command()
    @click.option("--memory", type=int)
    @click.option("--from", "sites", multiple=True)
    @click.option("--keep-codes/--no-keep-codes", "keep_codes")
    @click.option("--atlas", "-a", "where")
    @click.option("--name")
    def first(**options):
        raise BadInput(message[0])

    @click.command()
    @click.option("--replace", is_flag=True)
    @click.option("--draws", type=int)
    def second(**options):
        raise BadInput(message[0])

    group = click.Group("root", commands={"first": first, "second": second})
    name_options(group)
    message = [""]

    def shown(text, name="first"):
        message[0] = text
        return str(CliRunner().invoke(group, [name]).exception)

    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Increase `memory`.", "Increase --memory."),
        ("Use `memory=20`, or less.", "Use --memory 20, or less."),
        ("Name one with `sites`.", "Name one with --from."),
        ("Use `sites='hook embed'`.", "Use --from hook embed."),
        ("Select it with `atlas`.", "Select it with --atlas."),
        (
            "Set `keep_codes=True`, not `keep_codes=False`.",
            "Set --keep-codes, not --no-keep-codes.",
        ),
        ("Name it in `sites='name=hook'`.", "Name it in --from name=hook."),
        ("Use `memory=(20,)`.", "Use --memory 20."),
        ("Run it again with `replace=True`.", "Run it again with --replace."),  # of another command
        ("Use more `draws`.", "Use more `draws`."),  # the command has no such option
        ("`atlas match a b` computes it.", "`atlas match a b` computes it."),
        ("The table `names` of `memory/a`.", "The table `names` of `memory/a`."),
    ],
)
def test_the_command_line_names_its_options(shown, text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ingest", "as in `saes='NAME=SOURCE'`.", "as in --sae NAME=SOURCE."),
        ("train", "Pass `widths=(768,)`.", "Pass --width 768."),
        ("steer", "Use `features=('SAE/INDEX',)`.", "Use --feature SAE/INDEX."),
        ("transcoder", "Use `model='other=/m/a'`.", "Use --model other=/m/a."),
        ("positions", "For all, pass `saes='all'`.", "For all, pass --all."),
        ("ingest", "For all, pass `saes='all'`.", "For all, pass `saes='all'`."),
    ],
)
def test_python_values_of_settings_are_written_as_options(name, text, expected):
    root = command()
    with click.Context(root) as parent, click.Context(root.get_command(parent, name), parent):
        assert as_options(text) == expected


def test_python_messages_are_unchanged(shown):
    assert as_options("Increase `memory`.") == "Increase `memory`."
    assert shown("Use `draws=5`.", "second") == "Use --draws 5."


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "a.atlas"
    run(path, model(), [named(topk(k=4), "one"), named(topk(k=4, seed=2), "two")], texts(12))
    return path


def test_a_limit_of_a_query_is_named_for_both(path):
    cypher = "MATCH (a:Feature), (b:Feature) RETURN a.id, b.id"
    with (
        Atlas.open(path) as opened,
        pytest.raises(QueryFailed, match="increase the limit with `max_rows`"),
    ):
        opened.query(cypher, limits=Limits(rows=5))
    words = ["query", "--cypher", cypher, "--max-rows", "5", "-a", str(path)]
    assert "increase the limit with --max-rows" in str(
        CliRunner().invoke(command(), words).exception
    )


def test_a_missing_folder_is_answered_for_both(path, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    absent = tmp_path / "no.atlas"
    with pytest.raises(BadInput, match=r"Pass another folder, or create one: `ingest\.make_demo"):
        match_saes(absent, ["one", "two"])
    done = CliRunner().invoke(command(), ["match", "one", "two", "-a", str(absent)])
    assert "--atlas selects an atlas in another folder" in str(done.exception)


def _texts(tree):
    """Yield the strings of a module that are no docstrings, with ``{}`` for inserted values."""
    parts = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            parts.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            values = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(map(str, values))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            yield node.lineno, node.value


def test_messages_of_the_library_name_no_option():
    """An option is only in a complete command, such as `atlas ingest --keep-codes`."""
    found = []
    for room in ("queries", "atlas", "ingest", "analysis"):
        for file in sorted((ROOT / room).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if "cli" in file.parts or file.name in OF_COMMANDS or name in OTHERS:
                continue
            for line, text in _texts(ast.parse(file.read_text("utf-8"))):
                rest = re.sub(
                    r"`(atlas|pip|\{\}) [^`]*`|^(needs a second SAE: )?(atlas|concepts) .*",
                    "",
                    text,
                )
                if re.search(r"(?<![\w-])--[a-z][a-z-]+", rest) and " " in text:
                    found.append(f"{name}:{line}: {text}")
    assert not found


def test_the_values_in_messages_about_names_are_valid_in_python():
    assert named_saes("mine=tiny-a-l1-s0") == ["mine=tiny-a-l1-s0"]
    assert named_saes(["mine=tiny-a-l1-s0"]) == ["mine=tiny-a-l1-s0"]
    with pytest.raises(BadInput, match=r"`saes='other-name=SOURCE'`"):
        open_groups(
            [named(topk(), "one")] * 2,
            model(),
            tokenizer=None,
            settings=Settings(),
            progress=SILENT,
        )
    with pytest.raises(BadInput, match=r"Pass `widths=\(32,\)`"):
        _check(3, 1, 4, site="hook_embed")


def test_messages_of_the_library_pass_values_that_python_can_parse():
    found = []
    for room in ("queries", "atlas", "ingest", "analysis"):
        for file in sorted((ROOT / room).rglob("*.py")):
            for line, text in _texts(ast.parse(file.read_text("utf-8"))):
                for words in re.findall(r"`([a-z_]+=[^`]*)`", text):
                    try:  # an inserted value is written as a number
                        ast.literal_eval(words.split("=", 1)[1].replace("{}", "0"))
                    except (ValueError, SyntaxError):
                        found.append(f"{file.name}:{line}: {words}")
    assert not found


def commands(of=None):
    of = of or command()
    if not isinstance(of, click.Group):
        return [of]
    return [one for each in of.commands.values() for one in commands(each)]


def test_an_option_that_needs_another_begins_with_it_and_names_one_of_its_command():
    found = {}
    for each in commands():
        own = {name for p in each.params for name in (*p.opts, *p.secondary_opts)}
        for one in each.params:
            text = getattr(one, "help", None) or ""
            conditions = re.match(r"With(?:out)? --[^:.]*:", text)
            for name in re.findall(r"--[a-z][a-z-]*", conditions[0]) if conditions else ():
                assert name in own, (each.name, text)
                found.setdefault(name, set()).add(one.name)
            assert not re.search(r"\b(?:requires|needs) --", text), text
    assert {"strengths", "find", "random", "most_kl"} <= found["--task"]
    assert {"field", "split", "revision", "split_on"} == found["--text"]
    assert {"times", "new_tokens"} == found["--prompt"]
