"""The card of a feature on a terminal of 80 columns: complete, short, and with the control of each score."""

import contextlib
import re
from dataclasses import replace

import pytest
from small_graph import small_graph

from atlas import Atlas
from atlas.cli.output.tables import print_table
from atlas.features.card import CardTable, Example, feature_card
from atlas.features.card_screen import print_card
from atlas.features.sections import SECTIONS
from atlas.stores.kuzu.store import KuzuStore

ANSI = re.compile(r"\x1b\[[0-9;]*m")
FULL = "tiny-a-l1-s0/7"  # has rows in most tables

# Headers on a terminal, of scores and of what each is compared with.
CONTROLS = {
    "Matches in other SAEs": {
        "pearson": ["q", "token document null pearson", "token document q"],
        "one to one": [],
    },
    "Features active on the same tokens": {"count": ["expected"]},
    "Community": {"stability halves": ["stability null"]},
    "Predicted from sites of the model": {
        "balanced accuracy": ["token ceiling", "control"],
        "r2": ["r2 token ceiling"],
    },
    "What its ablation changes in later features": {"mean": ["random", "q"]},
    "Features whose ablation changes it": {"mean": ["q"]},
    "Concepts that it separates": {"auroc held out": ["p max", "q"]},
    "Nearest decoder directions": {"cosine": ["q"]},
    "Parents in narrower SAEs": {"parent given child": ["q"]},
    "Children in wider SAEs": {"child given parent": ["q"]},
}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    graph = small_graph(shuffled=1)
    with contextlib.closing(
        KuzuStore.open(tmp_path_factory.mktemp("screen") / "g.kuzu", graph=lambda: graph)
    ) as store:
        yield Atlas("screen", store=store)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Return a function that returns the lines a call prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")

    def lines(function, *args, **keywords):
        function(*args, **keywords)
        return [line.rstrip() for line in ANSI.sub("", capsys.readouterr().out).splitlines()]

    return lines


def row_of_all_columns(section, *, amount):
    """Return a row whose values have the widths of those in the demo; only the columns of a kind of probe."""
    names = {"run": "document/activation/l2=0.001", "site": "tiny-a/blocks.1.hook_resid_post"}
    row = {}
    for name in section.columns:
        row[name] = 0.12345
        if name in ("match", "feature", "target", "source", "parent", "child"):
            row[name] = "tiny-a-l1-wide/1023"
        elif name in ("token", "top_token", "concept", "direction", "verdict"):
            row[name] = "female"
        elif name in names:
            row[name] = names[name]
        elif name == "tokens":
            row[name] = [" Lily", " Ben", " mom"]
        elif name in ("count", "joint_count"):
            row[name] = 12_345
        elif name == "one_to_one":
            row[name] = True
    if "r2" in row:
        gone = ("balanced_accuracy", "token_ceiling", "control", "verdict", "token_table")
        for name in gone if amount else ("r2", "r2_token_ceiling"):
            row[name] = None
    return row


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.label)
@pytest.mark.parametrize("amount", [False, True])
def test_each_score_is_shown_with_its_controls_at_80_columns(section, amount, terminal):
    row = row_of_all_columns(section, amount=amount)
    table = CardTable(section.title, [row, row])
    lines = terminal(print_table, table.shown_rows(), spaced=True)
    assert max(map(len, lines)) <= 80
    # Headers are broken into words over several lines; values are on the last two lines.
    words = re.findall(r"\S+", " ".join(lines[:-2]))
    for score, controls in CONTROLS.get(section.title, {}).items():
        column = score.replace(" ", "_")
        if row[column] is None:
            continue
        for name in (score, *controls):
            assert set(name.split()) <= set(words), (name, lines)


def test_a_probe_of_an_amount_has_its_r2_and_its_ceiling(atlas):
    card = feature_card(atlas, FULL)
    (table,) = [t for t in card.tables if t.title == "Predicted from sites of the model"]
    edges = {
        (e["target"], e["run"]): e
        for e in atlas.table("PREDICTED_FROM").to_pylist()
        if e["source"] == FULL
    }
    assert any(row["r2"] is not None for row in table.rows)
    for row in table.rows:
        edge = edges[row["site"], row["run"]]
        for name in ("balanced_accuracy", "low", "high", "r2", "r2_token_ceiling"):
            assert row[name] == edge[name]
    amounts = CardTable("", [row for row in table.rows if row["r2"] is not None])
    (shown, *_) = amounts.shown_rows()
    assert "balanced_accuracy" not in shown
    assert {"r2", "r2_token_ceiling"} <= set(shown)


def demo_like(section):
    """Return a table of 20 rows with the widths of the demo."""
    rows = [row_of_all_columns(section, amount=False)] * 20
    return CardTable(section.title, rows, section.note, 240, section.label, section.scores)


def test_passages_are_cut_at_words_and_equal_ones_are_printed_once(atlas, terminal):
    def example(kind, text, activation):
        tokens = re.findall(r" ?\S+|\n", text)
        peak = tokens.index(" *")
        values = [activation * (i == peak) for i in range(len(tokens))]
        return Example(kind, tokens, values, peak)

    text = "one two three four five six seven eight nine ten * eleven twelve thirteen fourteen"
    examples = [
        example("top", text, 2.0),
        example("top", f"zero {text} fifteen", 2.0),  # equal where it is printed
        example("top", "a * b", 1.5),
        example("fifth 5", text, 1.0),
        example("fifth 1", text.replace("ten", "zehn"), 0.5),
    ]
    card = replace(feature_card(atlas, FULL), examples=examples)
    lines = terminal(print_card, card, rows=5)
    header = next(i for i, line in enumerate(lines) if line.startswith("Examples"))
    assert " ".join(lines[header : header + 2]).split("; ")[-1].startswith("equal passages once):")
    passages = [line[2:] for line in lines if line.startswith(("  top", "  fifth"))]
    assert [one.split()[0] for one in passages] == ["top", "top", "fifth"]
    assert [one[19:] for one in passages] == [
        "  …five six seven eight nine ten[ *] eleven twelve…",
        "                               a[ *] b",
        " …five six seven eight nine zehn[ *] eleven twelve…",
    ]


def test_a_card_with_all_tables_is_one_screen(atlas, terminal):
    """With as many rows, examples and sentences as features of the demo have."""
    passage = Example("top", [" and", " then", " she", " said"] * 8, [0.5, 0.0, 1.0, 0.0] * 8, 14)
    card = replace(
        feature_card(atlas, FULL),
        verdict=["A sentence on a feature with some numbers and names, such as 0.123. " * 2] * 3,
        examples=[
            replace(
                passage, kind=kind, tokens=[*passage.tokens[:13], f" was {i}", *passage.tokens[14:]]
            )
            for i, kind in enumerate(["top"] * 10 + [f"fifth {n}" for n in (5, 4, 3, 2, 1)] * 2)
        ],
        histogram=[{"lower": 0.5, "upper": 1.0, "count": 3}],
        tables=[demo_like(section) for section in SECTIONS],
        none=[],
        empty={},
    )
    lines = terminal(print_card, card)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 49, "\n".join(lines)
    for section in SECTIONS:
        assert any(section.label in line or section.title in line for line in lines)
    assert sum("[" in line for line in lines) == 2 + 5
    assert len(terminal(print_card, card, rows=20)) > 13 * 20
    stored = feature_card(atlas, FULL)
    assert len(terminal(print_card, stored)) <= 49


def test_a_line_has_the_first_score_with_its_controls(atlas, terminal):
    card = feature_card(atlas, FULL)
    text = " ".join(terminal(print_card, card))
    text = re.sub(r" +", " ", text)
    (probes,) = [t for t in card.tables if t.title == "Predicted from sites of the model"]
    row = probes.rows[0]
    assert row["balanced_accuracy"] is None  # a probe of an amount
    assert f"r2 {row['r2']:.3g} (r2 token ceiling {row['r2_token_ceiling']:.3g})" in text
    assert f"Probes {probes.row_count} {row['site']}, run document/activation, r2 " in text
    (near,) = [t for t in card.tables if t.title == "Features active on the same tokens"]
    row = near.rows[0]
    assert (
        f"{row['feature']} {row['top_token']!r} count {row['count']} (expected {row['expected']:.3g})"
        in text
    )


def cells(line):
    """Return the characters of a line, each with whether its style has a background or is bold."""
    found, styled = [], False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            codes = part[2:-1].split(";")
            styled = "48" in codes or codes == ["1"]
        else:
            found += [(c, styled) for c in part]
    return found


@pytest.mark.parametrize(
    ("term", "code"), [("xterm-256color", "48;5;"), ("xterm-16color", "\x1b[1m"), ("pipe", None)]
)
def test_active_tokens_are_shaded_on_a_terminal_with_colours(
    term, code, monkeypatch, capsys, atlas
):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORTERM", raising=False)
    if term == "pipe":
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    else:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", term)
    tokens = ["Once", " \x1b[31m", " a", "\n", " time"]
    activations = [0.5, 0.0, 2.0, 1.0, 0.0]
    card = feature_card(atlas, FULL)
    card = replace(card, examples=[Example("top", tokens, activations, 2)], tables=[], empty={})
    print_card(card)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("  top")]
    assert "\x1b[31m" not in line
    shaded = "".join(c for c, on in cells(line) if on)
    plain = "".join(c for c, on in cells(line) if not on)
    if code is None:
        assert "\x1b" not in out
        assert plain.endswith("Once ␛[31m[ a]⏎ time")
        return
    assert code in line
    assert shaded == "Once[ a]⏎"
    assert plain.endswith(" ␛[31m time")
    if "256" in term:
        # Darker backgrounds for higher activations: 0.5, 2 and 1 of at most 2.
        backgrounds = re.findall(r"48;5;(\d+)m([^\x1b]+)", line)
        assert [text for _, text in backgrounds] == ["Once", "[ a]", "⏎"]
        assert len({number for number, _ in backgrounds}) == 3
