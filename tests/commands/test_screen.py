"""A study prints at most three sentences, then one screen of lines; the rest with --rows."""

import re
import textwrap
from pathlib import Path

import click
import pytest
from study_arguments import ARGUMENTS, MAY_NEED_INPUTS

from atlas.cli.output.screen import prints_all, split_verdict
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import echo, fold, print_verdict, wrap
from atlas.cli.shared_options import shared_options
from atlas.plugins import StudyCommand, study_commands
from atlas.studies.results import Result, Results

ANSI = re.compile(r"\x1b\[[0-9;]*m")
SENTENCES = [f"Sentence {word} has p ≤ .05." for word in "abcdef"]
ROWS = [{"row": n, "text": "word " * 3} for n in range(60)]


@pytest.fixture
def output(monkeypatch, capsys):
    """Print with a function as a study on a terminal of 80 columns; return the lines and stderr."""

    def output(show, *options, terminal=True):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("FORCE_COLOR", "1") if terminal else monkeypatch.delenv(
            "FORCE_COLOR", raising=False
        )

        @click.command("study", cls=StudyCommand)
        @shared_options
        def study(as_json, quiet):
            show()

        study.main(list(options), standalone_mode=False)
        found = capsys.readouterr()
        return ANSI.sub("", found.out).splitlines(), found.err

    return output


def test_three_sentences_precede_the_table_and_the_others_follow(output):
    def show():
        print_verdict(SENTENCES)
        print_table(ROWS[:10])

    lines, remark = output(show)
    assert lines[:3] == SENTENCES[:3]
    assert lines[3].split() == ["row", "text"]
    assert lines[-3:] == SENTENCES[3:]
    assert remark == ""
    for option in ("--rows", "--full"):
        assert output(show, option)[0][:6] == SENTENCES


@pytest.mark.parametrize("number", [37, 38, 39, 40, 60])
def test_one_screen_below_the_verdict(output, number):
    def show():
        print_verdict(SENTENCES)
        print_table(ROWS[:number])
        print_table(ROWS[:2], title="Second table")

    lines, remark = output(show)
    assert len(lines) <= 43
    assert lines[:3] == SENTENCES[:3]
    assert "--rows prints all" in remark
    assert "Second table" in remark
    for options, terminal in ((["--rows"], True), (["--full"], True), ([], False)):
        lines, remark = output(show, *options, terminal=terminal)
        assert len(lines) == 6 + 1 + number + 4
        assert remark == ""


def test_an_omitted_table_is_named_without_a_verdict(output):
    def show():
        print_table(ROWS)
        print_table(ROWS[:2], title="Second table")

    assert output(show)[1].count("Second table") == 1


def test_folded_rows_are_counted_as_lines(output):
    lines, remark = output(lambda: print_table([{"n": n, "text": "word " * 40} for n in range(30)]))
    assert 30 <= len(lines) <= 40
    assert "of 30 rows; --rows prints all." in remark


def test_one_row_of_many_names_is_cut_too(output):
    row = {f"name_{n}": n for n in range(60)}
    lines, remark = output(lambda: print_table([row]))
    assert [line.split()[0] for line in lines] == list(row)[:40]
    assert (
        remark.split(": ")[1].split(". --rows")[0].replace("\n", " ").split(", ") == list(row)[40:]
    )


def test_several_results_print_their_first_sentence(output):
    results = Results([Result("k", str(n), {}, verdict=[f"{n}: one. Two."]) for n in range(4)])
    lines, _ = output(lambda: (print_verdict(results), echo("below")))
    assert lines[:5] == [*(f"{n}: one." for n in range(4)), "below"]
    assert lines[-4:] == ["Two."] * 4


def test_a_verdict_below_a_table_is_split_and_its_lines_count(output):
    def show(rows):
        print_verdict(["Above."])
        print_table(ROWS[:rows])
        print_verdict(SENTENCES)
        print_table(ROWS)

    lines, _ = output(lambda: show(9))  # 10 lines of a table, 3 sentences, 27 of the other table
    assert lines[0] == "Above."
    assert lines[11:14] == SENTENCES[:3]
    assert len(lines) == 41
    lines, remark = output(lambda: show(37))  # 2 lines remain
    assert lines[39:] == SENTENCES[:2]
    assert "a table of row, text; more sentences of the verdict" in remark.replace("\n", " ")


def test_a_second_verdict_counts(output):
    def show():
        print_verdict(SENTENCES)
        print_verdict(["Second."] * 2)
        print_table(ROWS)

    assert len(output(show)[0]) == 3 + 40


def test_abbreviations_and_numbers_end_no_sentence():
    text = "p is .04, e.g. for a/1, vs. .5. a.b: next. Is it? Last."
    first, rest = split_verdict([[text]])
    assert first == ["p is .04, e.g. for a/1, vs. .5. a.b: next. Is it?"]
    assert rest == ["Last."]


def test_texts_of_a_model_are_folded_with_their_words_unchanged(output):
    text = "it wrote `quiet=True`, " * 9
    lines, _ = output(lambda: (echo(fold(text)), echo(wrap("`quiet=True`"))))
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[:-1]) == text.strip()
    assert lines[-1] == "--quiet"
    assert output(lambda: echo(fold(text)), terminal=False)[0] == [text]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from tests.support.small_demo import make_small_demo

    path = tmp_path_factory.mktemp("screen") / "a.atlas"
    make_small_demo(path)
    return path


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    from tests.support.small_synthetic import make_small_synthetic_atlas

    return make_small_synthetic_atlas(tmp_path_factory.mktemp("synthetic"))


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted({str(each.name) for each in study_commands().values()}))
def test_every_study_prints_one_screen(request, tmp_path, name, monkeypatch, capfd):
    from atlas.cli import output
    from atlas.cli.main import main

    above = []

    def divide(groups):
        first, rest = split_verdict(groups)
        above.append(first)
        return first, rest

    if name == "residual":  # it creates its atlas
        atlas = tmp_path / "residual.atlas"
    else:
        atlas = request.getfixturevalue("synthetic" if name == "truth" else "demo")
    monkeypatch.setattr(output, "split_verdict", divide)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(SystemExit) as ended:
        main([name, *ARGUMENTS.get(name, []), "-q", "--atlas", str(atlas)])
    found = capfd.readouterr()
    if name in MAY_NEED_INPUTS and ended.value.code:
        assert "Traceback" not in found.err
        pytest.skip(found.err[-200:])
    assert ended.value.code == 0, found.err[-500:]
    lines = ANSI.sub("", found.out).splitlines()
    verdict = sum(len(textwrap.wrap(text, 80)) for text in above[0]) if above else 0
    assert any(lines)
    assert len(lines) <= 40 + verdict
    assert max(map(len, lines)) <= 80


def test_a_study_prints_all_rows_in_a_pipe_and_with_rows(output):
    for terminal, flags, expected in (
        (False, [], True),
        (True, [], False),
        (True, ["--rows"], True),
        (True, ["--full"], True),
    ):
        lines, _ = output(lambda: echo(str(prints_all())), *flags, terminal=terminal)
        assert lines == [str(expected)], (terminal, flags)


def test_no_study_cuts_its_rows_in_a_pipe():
    """`atlas concepts` printed 5 of 8 features in a pipe, where the docs promise all rows."""
    root = Path(__file__).parents[2] / "analysis"
    lines = [
        f"{file.name}: {line.strip()}"
        for file in root.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if 'requested("rows")' in line and "on_terminal()" not in line
    ]
    assert not lines
