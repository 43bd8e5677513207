"""Untrusted tokens, labels and names are only displayed: in pages, terminals, tables and files."""

import json
import re
from html import unescape
from pathlib import Path

import altair as alt
import pyarrow as pa
import pyarrow.csv
import pytest
from browser_tests import page_or_skip
from hostile_texts import HOSTILE, Scripts

import atlas
from analysis.plot_style import ScriptSafe, save
from analysis.report_page import (
    code,
    comparisons,
    folded,
    heading,
    notes,
    page,
    paragraphs,
    table,
)
from atlas.cli.main import main
from atlas.cli.output.tables import print_table
from atlas.errors import OutOfSpace
from atlas.export import _write
from atlas.progress import Bars
from atlas.safe_text import csv_text, json_line, shown
from atlas.studies.results import Result, Results

ACTING = "\x1b\x07\x9b\u202e\u2028\ud800"


@pytest.fixture
def drawn(tmp_path):
    rows = [{"token": t, "n": i} for i, t in enumerate(HOSTILE[:-1])]
    chart = alt.Chart(alt.Data(values=rows), title=HOSTILE[0]).mark_point()
    chart = chart.encode(x="n:Q", y=alt.Y("token:N", title=HOSTILE[1]), tooltip=["token:N"])
    return save(chart, tmp_path / "hostile.html"), rows


def test_the_page_of_a_plot_has_only_its_own_scripts(drawn):
    path, rows = drawn
    found = Scripts()
    found.feed(path.read_text("utf-8"))
    assert len(found.scripts) == 2
    assert found.handlers == []
    spec = found.scripts[1].split("const spec = ", 1)[1]
    read, _ = json.JSONDecoder().raw_decode(spec)
    assert read["data"]["values"] == rows
    assert read["title"] == HOSTILE[0]


def test_no_code_of_a_token_runs_in_a_browser(drawn):
    with page_or_skip() as tab:
        requested = []
        tab.on("request", lambda r: requested.append(r.url))
        tab.goto(drawn[0].as_uri())
        tab.wait_for_selector("#vis svg, #vis canvas")
        tab.hover("#vis svg, #vis canvas")
        assert tab.evaluate("window.hacked") is None
        assert [u for u in requested if not u.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_plot_with_control_characters_is_written(tmp_path, form):
    rows = [{"token": t, "n": i} for i, t in enumerate(HOSTILE[:-1])]
    chart = alt.Chart(alt.Data(values=rows), title=HOSTILE[5]).mark_point()
    chart = chart.encode(x="n:Q", y="token:N", row="token:N")
    path = save(chart, tmp_path / f"hostile.{form}")
    assert path.stat().st_size > 1000
    if form == "svg":
        text = path.read_text("utf-8")
        assert not any(c in text for c in ACTING)
        assert "<script" not in text


def test_json_in_a_script_is_exact():
    text = json.dumps(HOSTILE, cls=ScriptSafe)
    assert json.loads(text) == HOSTILE
    assert not any(c in text for c in "<>&\u2028")


def test_a_report_escapes_untrusted_text():
    rows = [{"name": t} for t in HOSTILE]
    threes = [(a, a, a) for a in HOSTILE]
    text = page(
        HOSTILE[0],
        [
            table(rows, {"name": HOSTILE[1]}, caption=HOSTILE[2]),
            paragraphs(*HOSTILE),
            notes(HOSTILE),
            code(HOSTILE),
            comparisons(HOSTILE[0], threes),
            *map(heading, HOSTILE),
            *(folded(each, notes([each])) for each in HOSTILE),
            *HOSTILE,
        ],
    )
    found = Scripts()
    found.feed(text)
    assert (found.scripts, found.handlers) == ([], [])


def test_a_result_in_a_notebook_escapes_untrusted_text():
    result = Result(HOSTILE[0], HOSTILE[1], dict.fromkeys(HOSTILE, HOSTILE[2]), verdict=HOSTILE)
    text = Results([result])._repr_html_()
    found = Scripts()
    found.feed(text)
    assert (found.scripts, found.handlers) == ([], [])
    for each in HOSTILE:
        assert unescape(text).count(f"<p>{each}</p>") == 1


@pytest.mark.parametrize("width", [24, 50, 200])
def test_no_value_is_cut_in_a_narrow_terminal(monkeypatch, capsys, width):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich formats as for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"an-sae-with-a-long-name-and-seed-{i}" for i in range(3)]
    print_table([{"sae": n, "fvu": 0.1234, "dead share": 0.5678, "role": "trained"} for n in names])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    printed = [*names, "0.123", "56.8%", "trained"][: 6 if width == 200 else 3]
    for value in printed:
        assert value in out


@pytest.mark.parametrize("width", ["20", "200"])
def test_hostile_values_have_no_effect_in_a_terminal(monkeypatch, capsys, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", width)
    print_table([{"token": t, "n": "a-long-word-without-a-space"} for t in HOSTILE])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert not any(c in out for c in ACTING)
    assert "[red]x[/red]" in out


def test_printed_output_has_no_control_characters(capsys):
    print_table([{"token": t} for t in HOSTILE], title=" ".join(HOSTILE))
    print_table([dict.fromkeys(HOSTILE, 1)])
    Bars().report(" ".join(HOSTILE))
    with Bars().stage(HOSTILE[5]):
        pass
    out, err = capsys.readouterr()
    assert not any(c in out + err for c in ACTING)
    assert out.count("[red]x[/red]") == 3
    assert "[red]x[/red]" in err


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ["query", HOSTILE[5]],
        [HOSTILE[5]],
        ["list", HOSTILE[7]],
        ["list", f"--{HOSTILE[6]}"],
        ["query", "--format", HOSTILE[9] + HOSTILE[5]],
    ],
)
def test_an_error_escapes_control_characters_of_the_input(words, as_json, capsys):
    with pytest.raises(SystemExit):
        main([*words, *(["--json"] if as_json else [])])
    out, err = capsys.readouterr()
    assert out + err
    assert not any(c in out + err for c in ACTING)


def test_json_is_exact_and_safe():
    line = json_line(HOSTILE)
    assert json.loads(line) == HOSTILE
    assert not any(c in line for c in ACTING)
    assert "é" in json_line("é")


def test_text_without_control_characters_is_unchanged():
    for text in ("plain", "é ü 漢字 🙂", "tab\there", "line\nend", ""):
        assert shown(text) == text


def test_a_csv_cell_is_no_formula(tmp_path):
    data = pa.table({"text": ["=1+1", "@x", "+1", "-a", "=", "-", "plain", None], "n": [-1] * 8})
    _write(data, tmp_path / "t.csv", form="csv")
    read = pyarrow.csv.read_csv(
        tmp_path / "t.csv", convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    )
    assert read["text"].to_pylist()[:7] == ["'=1+1", "'@x", "'+1", "'-a", "=", "-", "plain"]
    assert read["n"].to_pylist() == [-1] * 8
    assert csv_text("\t=1") == "'\t=1"


def test_a_failed_write_preserves_the_earlier_file(tmp_path, monkeypatch):
    chart = alt.Chart(alt.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q")
    (tmp_path / "p.svg").write_text("before")

    def full(self, fp, **_):
        with open(fp, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(alt.Chart, "save", full)
    with pytest.raises(OutOfSpace, match="The disk is full"):
        save(chart, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["p.svg"]


def test_commands_print_through_one_function():
    """`click.echo` does not escape control characters; `atlas.cli.output.text.echo` does."""
    root = Path(atlas.__file__).parents[1]
    allowed = {
        *("atlas/cli/output/text.py", "atlas/cli/output/tables.py", "atlas/cli/main.py"),
        "atlas/features/card_screen.py",
    }
    for room in ("atlas", "ingest", "analysis"):
        for path in (root / room).rglob("*.py"):
            if "click.echo(" in path.read_text("utf-8"):
                assert path.relative_to(root).as_posix() in allowed
