"""The map of three widths: positions, lines from parents to children, and what a browser draws."""

import pyarrow as pa
import pytest
from browser_tests import page_or_skip
from drawn_charts import marks, titles

from analysis.plot_style import save
from analysis.splitting.chain_plots import draw_chains
from analysis.splitting.chains import chain_rows
from atlas.errors import BadInput
from atlas.studies.results import Result, Results

WIDTHS = {"narrow": 4, "middle": 6, "wide": 8}
# Narrow feature 0 has three grandchildren, 1 has two, 2 has one, 3 none.
FIRST = [(0, 0), (0, 1), (1, 2), (2, 3)]
SECOND = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (5, 7)]
NAMES = list(WIDTHS)


def side(sae):
    number = WIDTHS[sae]
    return pa.table(
        {
            "feature": [f"{sae}/{i}" for i in range(number)],
            "class": ["split"] * (number - 1) + ["lost"],
            "active_tokens": [20] * number,
        }
    )


def result(a, b, edges):
    table = {
        "source": [f"{a}/{i}" for i, _ in edges],
        "target": [f"{b}/{j}" for _, j in edges],
        "decoder_cosine": [0.9] * len(edges),
        "parent_given_child": [0.8] * len(edges),
        "child_given_parent": [0.4] * len(edges),
    }
    tables = {"SPLITS_INTO": pa.table(table), "narrow": side(a), "wide": side(b)}
    summary = {"narrow": a, "wide": b}
    return Result("splitting", f"{a}+{b}", summary, verdict=[], tables=(list(tables), tables.get))


def three(first, direct, second):
    return Results(
        [
            result("narrow", "middle", first),
            result("narrow", "wide", direct),
            result("middle", "wide", second),
        ]
    )


@pytest.fixture
def results():
    return three(FIRST, [(0, 0), (1, 3)], SECOND)


def test_rows_of_chains_begin_with_most_grandchildren(results):
    rows = chain_rows(results)
    assert [row["grandchildren"] for row in rows] == [3, 3, 3, 2, 2, 1]
    assert [(row["narrow"], row["middle"], row["wide"]) for row in rows[:3]] == [
        ("narrow/0", "middle/0", "wide/0"),
        ("narrow/0", "middle/0", "wide/1"),
        ("narrow/0", "middle/1", "wide/2"),
    ]
    assert [row["direct"] for row in rows] == [True, False, False, True, False, False]
    assert chain_rows(Results([results[0]])) == []


def test_lines_join_parents_and_children(results):
    chart = draw_chains(results)
    rules, points = marks(chart)
    drawn = {(row["family"], row["source"], row["target"]) for row in rules.rows}
    assert drawn == {
        ("narrow/0", "narrow/0", "middle/0"),
        ("narrow/0", "narrow/0", "middle/1"),
        ("narrow/0", "middle/0", "wide/0"),
        ("narrow/0", "middle/0", "wide/1"),
        ("narrow/0", "middle/1", "wide/2"),
        ("narrow/1", "narrow/1", "middle/2"),
        ("narrow/1", "middle/2", "wide/3"),
        ("narrow/1", "middle/2", "wide/4"),
        ("narrow/2", "narrow/2", "middle/3"),
        ("narrow/2", "middle/3", "wide/5"),
    }
    at = {row["feature"]: (row["sae"], row["row"]) for row in points.rows}
    assert len(at) == len(points.rows)
    for row in rules.rows:
        assert (row["sae"], row["row"]) == at[row["source"]]
        assert (row["sae2"], row["row2"]) == at[row["target"]]
    # The families follow each other in the widest SAE; parents are centred on their children.
    assert [at[f"wide/{i}"][1] for i in range(6)] == [0, 1, 2, 3, 4, 5]
    assert (at["middle/0"][1], at["middle/1"][1], at["narrow/0"][1]) == (0.5, 2, 1)
    assert "n = 6 chains from 3 features, of which 2 have two or more" in titles(chart)[1]


def test_a_feature_of_two_families_is_drawn_once():
    both = three([(0, 0), (1, 1)], [], [(0, 0), (0, 1), (1, 1)])
    rules, points = marks(draw_chains(both))
    family = {row["feature"]: row["family"] for row in points.rows}
    assert family["wide/1"] == "narrow/0"
    assert len(points.rows) == len(family)
    assert {(r["family"], r["target"]) for r in rules.rows} >= {
        ("narrow/0", "wide/1"),
        ("narrow/1", "wide/1"),
    }
    assert all(row["row"] is not None and row["row2"] is not None for row in rules.rows)


def test_no_chain_and_two_saes_are_messages(results):
    with pytest.raises(BadInput, match="name three"):
        draw_chains(Results([results[0]]))
    with pytest.raises(BadInput, match="No chain joins narrow, middle, wide"):
        draw_chains(three([], [], SECOND))


# The page uses a canvas; the same page with elements shows which lines are drawn.
_AS_ELEMENTS = """
let embed;
Object.defineProperty(window, 'vegaEmbed', {
  configurable: true,
  set(f) { embed = f; },
  get() { return embed && ((at, spec, options) => embed(at, spec, {...options, renderer: 'svg'})); },
});
"""


def test_a_browser_draws_the_lines_and_hovering_shows_one_family(results, tmp_path):
    out = save(draw_chains(results), tmp_path / "chains.html")
    with page_or_skip() as tab:
        errors = []
        tab.on("pageerror", lambda e: errors.append(str(e)))
        tab.add_init_script(_AS_ELEMENTS)
        tab.goto(out.as_uri())
        lines = tab.locator(".mark-rule.role-mark line")
        lines.first.wait_for(state="attached")
        assert lines.count() == 10
        ends = lines.evaluate_all(
            "found => found.map(l => [l.getAttribute('x2') - 0, l.getAttribute('y2') - 0])"
        )
        assert all(x != 0 or y != 0 for x, y in ends)  # no line is a point
        shown = lines.evaluate_all("found => found.map(l => l.getAttribute('opacity') - 0)")
        assert set(shown) == {0.55}
        box = tab.locator(
            ".layer_1_marks path"
        ).last.bounding_box()  # feature narrow/2, the last row
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.wait_for_function(
            "new Set([...document.querySelectorAll('.mark-rule.role-mark line')]"
            ".map(l => l.getAttribute('opacity'))).size == 2"
        )
        shown = lines.evaluate_all("found => found.map(l => l.getAttribute('opacity') - 0)")
        assert sorted(set(shown)) == [0.05, 0.55]
        assert shown.count(0.55) == 2  # the lines of its family
        assert not errors
