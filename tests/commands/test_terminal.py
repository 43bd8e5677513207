"""Layout on a terminal of 80 columns: complete lines, unbroken numbers, chosen columns."""

import random
import re

import click
import pytest

from atlas.cli.help_text import wrap_examples
from atlas.cli.main import command
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import make_progress, print_verdict
from atlas.cli.shared_options import shared_options
from atlas.features import overview
from atlas.plugins import SECTIONS
from atlas.progress import Bars, WithoutRemarks, report_remark

ROWS = [
    {
        "sae": f"tiny-a-l{n}-s0",
        "hook": "blocks.1.hook_resid_post",
        "tokens": 123_456_789,
        "fvu": 0.123456,
        "q": 1e-5,
        "edges": 1_234_567,
        "modularity": 0.4567,
        "largest": 98_765.4,
        "naming": "once upon a time there was a little girl",
    }
    for n in range(50)
]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def show(monkeypatch, capsys):
    """Print a table on a terminal of a width; return its lines without colours, and stderr."""

    def show(rows, width=80, options=(), **keywords):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")

        @click.command()
        @shared_options
        def shown(as_json, quiet):
            print_table(rows, **keywords)

        shown.main(list(options), standalone_mode=False)
        out = capsys.readouterr()
        return [line.rstrip() for line in ANSI.sub("", out.out).splitlines()], out.err

    return show


def test_list_shows_the_hooks_of_the_demo_uncut(monkeypatch, capsys):
    columns = overview.COLUMNS
    rows = [
        dict.fromkeys(columns, "x")
        | {"sae": "tiny-a-l1-s0-frozen", "hook": "blocks.1.hook_resid_post"}
        | {"d_sae": 1024, "l0": 20.0, "fvu": 0.0569, "dead_share": 0.00195}
        for _ in range(7)
    ]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(rows, columns=columns, unbroken=("hook",), turned=True)
    lines = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert lines[1].split()[:2] == ["tiny-a-l1-s0-frozen", "blocks.1.hook_resid_post"]
    assert len(lines) == 8
    assert max(map(len, lines)) <= 80


def test_help_has_complete_lines_in_sections():
    root = command()
    text = root.get_help(
        click.Context(root, info_name="atlas", terminal_width=78)
    )  # as on a terminal of 80 columns
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "..." not in text.split("\n", 1)[1]
    positions = [text.index(f"\n{name}:") for name in SECTIONS]
    assert positions == sorted(positions)
    listed = re.findall(r"^  ([a-z-]+) {2,}\S", text[positions[0] :], re.M)
    assert sorted(listed) == sorted(root.commands)
    assert set(root.sections) == set(SECTIONS)


def pages(command, parent=None, name="atlas"):
    """Yield the help of a command and its subcommands, as on a terminal of 80 columns."""
    context = click.Context(command, info_name=name, terminal_width=78, parent=parent)
    yield context.command_path, command.get_help(context)
    for own, each in getattr(command, "commands", {}).items():
        yield from pages(each, context, own)


def test_help_of_every_command_has_complete_lines():
    listed = dict(pages(command()))
    assert {"atlas plot probes", "atlas report geometry", "atlas changes"} <= set(listed)
    for name, text in listed.items():
        _, body = text.split("\n", 1)
        assert [line for line in body.splitlines() if len(line) > 80] == [], name
        assert [line for line in body.splitlines() if line.endswith("...")] == [], name


def test_a_broken_example_is_the_same_command():
    import shlex

    long = "atlas feature-map " + " ".join(f"--option-{n} 'a value {n}'" for n in range(9))
    one = click.Command("one", help=f"Do it.\n\n\b\nExample:\n  {long}")
    wrap_examples(one)
    shown = one.help.split("Example:\n")[1]
    assert all(len(line) <= 78 for line in shown.splitlines())
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(long)
    before = one.help
    wrap_examples(one)
    assert one.help == before


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_numbers_are_never_broken(show, width):
    lines, _ = show(ROWS[:5], width)
    known = {
        *("123,456,789", "0.123", "<.001", "1,234,567", "0.457", "98,765"),
    }
    for line in lines[1:]:
        assert set(re.findall(r"(?<!\S)[<\d][\d.,]*(?!\S)", line)) <= known
    if width > 20:
        assert all(len(line) <= width for line in lines)


def test_columns_that_do_not_fit_are_named_and_printed_on_request(show):
    lines, remark = show(ROWS[:5])
    printed = lines[0].split()
    assert 1 < len(printed) < len(ROWS[0])
    assert printed == list(ROWS[0])[: len(printed)]
    assert remark.split(":")[1].split(".")[0].split() == [
        name + "," * (name != "naming") for name in list(ROWS[0])[len(printed) :]
    ]
    lines, remark = show(ROWS[:5], options=["--wide"])
    assert lines[0].split() == list(ROWS[0])
    assert len(lines) == 6
    assert remark == ""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_ids_are_not_broken(show, width):
    """Users copy ids, so later columns are omitted instead."""
    ids = [f"a-release-of-many-saes:blocks.{n}/width_16k/average_l0_13{n}" for n in range(3)]
    rows = [{"sae": name, "model": "m" * 30, "page": name[::-1]} for name in ids]
    out, _ = show(rows, width=width)
    assert all(any(line.startswith(name) for line in out) for name in ids)
    out, _ = show(rows, width=width, columns=["model", "page"], unbroken=("page",))
    assert all((name[::-1] in "\n".join(out)) == (width > 80) for name in ids)


def test_a_long_text_does_not_widen_a_table_without_limit(show):
    out, _ = show([{"text": "x" * 5000, "n": 1}] * 2)
    assert max(map(len, out)) <= 200


def test_one_screen_of_rows_and_all_on_request(show):
    lines, remark = show(ROWS)
    assert len(lines) == 41
    assert "40 of 50 rows; --rows prints all." in remark
    lines, remark = show(ROWS, options=["--rows"])
    assert len(lines) == 51
    assert "rows" not in remark


def test_one_row_is_printed_as_names_and_values(show):
    lines, remark = show(ROWS[:1], width=50)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(ROWS[0])
    assert lines[2].split() == ["tokens", "123,456,789"]
    assert remark == ""


def test_a_pipe_has_all_columns_and_rows_without_colour(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    print_table(ROWS)
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert lines[0].split() == list(ROWS[0])
    assert len(lines) == 51
    assert "\x1b" not in out.out
    assert out.err == ""


def test_numbers_have_three_significant_digits(show):
    random.seed(0)
    for value in [random.uniform(-1, 1) * 10.0**n for n in range(-12, 12)]:
        lines, _ = show([{"value": value, "x": 1}] * 2)
        printed = float(lines[1].split()[0].replace(",", ""))
        assert printed == pytest.approx(value, rel=0.0051)


def test_values_that_are_no_numbers_are_printed(show):
    lines, _ = show([{"a": None, "b": float("nan"), "c": True, "d": float("inf")}] * 2)
    assert lines[1].split() == ["–", "nan", "yes", "inf"]


@pytest.mark.parametrize("width", range(60, 121, 3))
def test_every_printed_column_is_complete_at_any_width(show, width):
    rows = [
        {
            "concept": f"gender/female {n}",
            "arm": "features of the SAE",
            "units": 512,
            "live": 319,
            "p<1e-5": 0,
            "expected (1e-5)": 1.19,
            "p<.01": 7,
            "q<=.05": 0.25,
            "area": 0.123,
            "naming": "a long text that can be folded between its words",
        }
        for n in range(3)
    ]
    lines, remark = show(rows, width)
    omitted = remark.count(",") + 1 if remark else 0
    printed = list(rows[0])[: len(rows[0]) - omitted]
    words = " ".join(lines).split()
    for name in printed:
        for text in (name, *(str(row[name]) for row in rows)):
            assert set(text.split()) <= set(words)
    assert all(len(line) <= width for line in lines)


def test_a_verdict_is_wrapped_at_words_on_a_terminal_only(monkeypatch, capsys):
    sentences = ["tiny-a-l1-s0 has a modularity of 0.104. " * 4, "short"]
    monkeypatch.setenv("COLUMNS", "50")
    print_verdict(sentences)
    assert capsys.readouterr().out.splitlines() == [sentences[0], "short"]
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_verdict(sentences)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert all(len(line) <= 50 for line in lines)
    assert " ".join(lines).split() == " ".join(sentences).split()


def test_remarks_on_a_result_follow_it(capfd):
    @click.command()
    def study():
        progress = make_progress(quiet=False)
        report_remark(progress, "A floor has no result.")
        progress.report("Forecast.")
        click.echo("Verdict.", err=True)

    study.main([], standalone_mode=False)
    assert capfd.readouterr().err.splitlines() == [
        "Forecast.",
        "Verdict.",
        "A floor has no result.",
    ]


def test_a_program_may_omit_remarks(capfd):
    quiet = WithoutRemarks(Bars())
    report_remark(quiet, "A floor has no result.")
    quiet.report("A message.")
    assert capfd.readouterr().err == "A message.\n"


def test_remarks_are_reported_at_once_without_a_command(capfd):
    report_remark(Bars(), "A floor has no result.")
    assert capfd.readouterr().err == "A floor has no result.\n"


def test_few_rows_with_too_many_columns_are_transposed(show):
    assert "Columns omitted" in show(ROWS[:2], turned=True)[1]  # the last text would be broken
    short = [{**row, "naming": "once"} for row in ROWS]
    lines, remark = show(short[:2], turned=True)
    assert remark == ""
    assert [line.split()[0] for line in lines] == list(ROWS[0])
    assert lines[0].split() == ["sae", "tiny-a-l0-s0", "tiny-a-l1-s0"]
    assert lines[2].split() == ["tokens", "123,456,789", "123,456,789"]
    # More rows, and columns that fit, remain a table.
    assert "Columns omitted" in show(short[:4], turned=True)[1]
    few = [{"a": 1, "b": 2, "c": 3}] * 2
    assert show(few, turned=True) == show(few)
    assert "Columns omitted" in show(short[:3], width=40, turned=True)[1]


def test_a_refusal_of_the_system_claims_no_stored_work(monkeypatch, capsys):
    from atlas.cli import main

    def refuse():
        raise PermissionError(13, "Permission denied", "/no/file")

    monkeypatch.setattr(main, "command", refuse)
    with pytest.raises(SystemExit) as done:
        main.main(["list"])
    assert done.value.code == 1
    message = capsys.readouterr().err
    assert "The system refused /no/file: Permission denied." in message
    assert "continues from the work that is stored, if any" in message


def test_list_shows_of_which_sae_a_floor_is(monkeypatch, capsys):
    columns = overview.COLUMNS
    rows = [
        dict.fromkeys(columns, "a long text")
        | {"sae": f"tiny-a-l1-s{n}-untrained-decoder", "hook": "blocks.11.hook_resid_post"}
        | {"d_sae": 16384, "l0": 20.12345, "fvu": 0.0569, "floor_of": f"tiny-a-l1-s{n}"}
        for n in range(4)
    ]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(rows, columns=columns, keys=("floor_of",), unbroken=("hook",), turned=True)
    lines = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert "floor_of" in lines[0].split()
    assert max(map(len, lines)) <= 80
