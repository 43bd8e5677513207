"""The card of a feature on a terminal of 80 columns: complete, short, and with the control of each score."""

import contextlib
import re

import pytest
from small_graph import small_graph

from atlas import Atlas
from atlas.cli.output import print_table
from atlas.features.card import CardTable, feature_card
from atlas.features.sections import SECTIONS
from atlas.stores.kuzu.store import KuzuStore

ANSI = re.compile(r"\x1b\[[0-9;]*m")
FULL = "tiny-a-l1-s0/7"  # has rows in most tables

# Headers on a terminal, of scores and of what each is compared with.
CONTROLS = {
    "Counterparts in other SAEs": {"pearson": ["q", "by token in document", "token document q"]},
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
        if name in ("counterpart", "feature", "target", "source", "parent", "child"):
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
