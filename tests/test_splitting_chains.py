"""The map of three widths: positions, lines from parents to children, and what a browser draws."""

import numpy as np
import pyarrow as pa
import pytest
from drawn_charts import marks, titles
from neo4j_browser import NoBrowser, find_chromium
from sklearn.linear_model import LinearRegression

from analysis.plot_style import save
from analysis.splitting.chain_plots import draw_chains, one_map
from analysis.splitting.chains import chain_rows, results_of_three
from atlas.errors import BadInput
from atlas.studies.results import Result, Results

WIDTHS = {"narrow": 4, "middle": 6, "wide": 8}
# Narrow feature 0 has three grandchildren, 1 has two, 2 has one, 3 none.
FIRST = [(0, 0), (0, 1), (1, 2), (2, 3)]
SECOND = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (5, 7)]
NAMES = list(WIDTHS)


def side(sae, places):
    return pa.table(
        {
            "feature": [f"{sae}/{i}" for i in range(len(places))],
            "class": ["split"] * (len(places) - 1) + ["lost"],
            "active_tokens": [20] * len(places),
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )


def result(a, b, edges, places):
    table = {
        "source": [f"{a}/{i}" for i, _ in edges],
        "target": [f"{b}/{j}" for _, j in edges],
        "decoder_cosine": [0.9] * len(edges),
        "parent_given_child": [0.8] * len(edges),
        "child_given_parent": [0.4] * len(edges),
    }
    tables = {
        "SPLITS_INTO": pa.table(table),
        "narrow": side(a, places[0]),
        "wide": side(b, places[1]),
    }
    summary = {"narrow": a, "wide": b, "map_variance": 0.25}
    return Result("splitting", f"{a}+{b}", summary, verdict=[], tables=(list(tables), tables.get))


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    places = {name: rng.normal(size=(n, 2)) for name, n in WIDTHS.items()}
    turned = {name: xy @ [[0.8, 0.6], [-0.6, 0.8]] + [1, 2] for name, xy in places.items()}
    turned["wide"] += 0.1 * rng.normal(size=turned["wide"].shape)
    return Results(
        [
            result("narrow", "middle", FIRST, (places["narrow"], places["middle"])),
            result("narrow", "wide", [(0, 0), (1, 3)], (places["narrow"], places["wide"])),
            result("middle", "wide", SECOND, (turned["middle"], turned["wide"])),
        ]
    )


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


def test_the_middle_sae_is_fitted_by_the_features_of_the_widest(results):
    points, fit = one_map(results_of_three(results))
    target = results[1].to_pandas("wide")[["x", "y"]].to_numpy()
    source = results[2].to_pandas("wide")[["x", "y"]].to_numpy()
    reference = LinearRegression().fit(source, target)
    residual = target - reference.predict(source)
    assert fit == pytest.approx(1 - (residual**2).sum() / ((target - target.mean(0)) ** 2).sum())
    middle = reference.predict(results[2].to_pandas("narrow")[["x", "y"]].to_numpy())
    found = points[points["sae"] == "middle"][["x", "y"]].to_numpy()
    np.testing.assert_allclose(found, middle, atol=1e-12)
    own = points[points["sae"] == "narrow"][["x", "y"]].to_numpy()
    np.testing.assert_array_equal(own, results[1].to_pandas("narrow")[["x", "y"]].to_numpy())


def test_lines_join_parents_and_children_of_families(results):
    chart = draw_chains(results)
    _, rules, points = marks(chart)
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
    }
    at = {row["feature"]: (row["x"], row["y"]) for row in points.rows}
    for row in rules.rows:
        assert (row["x"], row["y"]) == at[row["source"]]
        assert (row["x2"], row["y2"]) == at[row["target"]]
    family = {row["feature"]: row["family"] for row in points.rows}
    assert family["middle/2"] == family["wide/4"] == "narrow/1"
    assert family["narrow/2"] == "none"
    assert "2 of 2 features with 2 or more grandchildren, and 8 lines" in titles(chart)[1]


def test_no_chain_and_two_saes_are_messages(results):
    with pytest.raises(BadInput, match="name three"):
        draw_chains(Results([results[0]]))
    places = [
        one.to_pandas(s)[["x", "y"]].to_numpy() for one in results for s in ("narrow", "wide")
    ]
    none = Results([result("narrow", "middle", [], places[:2]), results[1], results[2]])
    with pytest.raises(BadInput, match="No chain joins narrow, middle, wide"):
        draw_chains(none)


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
    sync_api = pytest.importorskip("playwright.sync_api")
    try:
        chromium = find_chromium()
    except NoBrowser as error:
        pytest.skip(str(error))
    out = save(draw_chains(results), tmp_path / "chains.html")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        tab = browser.new_page(viewport={"width": 1300, "height": 900})
        errors = []
        tab.on("pageerror", lambda e: errors.append(str(e)))
        tab.add_init_script(_AS_ELEMENTS)
        tab.goto(out.as_uri())
        lines = tab.locator(".mark-rule line")
        lines.first.wait_for(state="attached")
        assert lines.count() == 8
        ends = lines.evaluate_all(
            "found => found.map(l => [l.getAttribute('x2') - 0, l.getAttribute('y2') - 0])"
        )
        assert all(x != 0 or y != 0 for x, y in ends)  # no line is a point
        shown = lines.evaluate_all("found => found.map(l => l.getAttribute('opacity') - 0)")
        assert set(shown) == {0.5}
        box = tab.locator(".layer_2_marks path").first.bounding_box()  # feature narrow/0
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.wait_for_function(
            "new Set([...document.querySelectorAll('.mark-rule line')]"
            ".map(l => l.getAttribute('opacity'))).size == 2"
        )
        shown = lines.evaluate_all("found => found.map(l => l.getAttribute('opacity') - 0)")
        assert sorted(set(shown)) == [0.03, 0.5]
        assert shown.count(0.5) == 5  # the lines of its family
        assert not errors
