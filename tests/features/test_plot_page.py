"""Plots fit a page of 1,300 pixels and a phone, are legible in dark mode, and print at 300 dpi."""

import json
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
from browser_tests import page_or_skip
from drawn_charts import check_chart
from hostile_texts import Scripts
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from analysis.plot_page import PAPER, in_dark, plot_page
from analysis.plot_style import HUES, finished, heading, save

ROWS = pd.DataFrame({"x": np.arange(8.0), "y": np.arange(8.0) ** 2, "k": list("abcdabcd")})
LONG = "n = 512 features over 314,398 tokens; bars are ranges of draws, points are means of them"


def one(title="A title", width=300):
    base = alt.Chart(ROWS, width=width, height=120, title=heading(title, LONG))
    return base.mark_point().encode(x="x:Q", y="y:Q", color=alt.Color("k:N", title=LONG))


def channels(colour):
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def luminance(colour):
    """WCAG 2, relative luminance."""
    c = channels(colour)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def contrast(a, b):
    one, two = sorted((luminance(a), luminance(b)))
    return (two + 0.05) / (one + 0.05)


def oklab(colour):
    """Ottosson (2020), https://bottosson.github.io/posts/oklab/."""
    c = channels(colour)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(lab) @ np.cbrt(np.array(lms) @ linear)


def test_twenty_hues_differ_from_each_other_and_from_both_backgrounds():
    assert len(set(HUES)) == 20
    points = np.array([oklab(hue) for hue in HUES])
    far = np.linalg.norm(points[:, None] - points, axis=2)
    assert far[~np.eye(20, dtype=bool)].min() > 0.12
    assert min(contrast(hue, "#ffffff") for hue in HUES) > 2
    assert min(contrast(in_dark(hue), PAPER) for hue in HUES) > 3
    assert finished(one()).to_dict()["config"]["range"]["category"] == list(HUES)


@pytest.mark.parametrize("colour", ["#333333", "black", "#440154", "#222222", "#3b528b", "#777"])
def test_ink_and_dark_hues_are_legible_in_dark_mode(colour):
    assert contrast(in_dark(colour), PAPER) >= 3


def test_the_background_and_its_halos_become_dark():
    assert in_dark("white") == in_dark("#fff") == PAPER
    assert contrast(in_dark("#eeeeee"), PAPER) < 1.3  # lines of a grid stay faint


def test_colours_in_data_and_in_names_are_not_changed():
    rows = [{"k": "black", "v": 1}, {"k": "#333333", "v": 2}]
    scale = alt.Scale(domain=["black", "#333333"], range=["#000000", "#4c78a8"])
    chart = alt.Chart(alt.Data(values=rows)).mark_bar().encode(x="v:Q")
    found = Scripts()
    found.feed(plot_page(finished(chart.encode(color=alt.Color("k:N", scale=scale))).to_dict()))
    text = found.scripts[1].split("const dark = ", 1)[1]
    dark, _ = json.JSONDecoder().raw_decode(text)
    assert dark["data"]["values"] == rows
    drawn = dark["encoding"]["color"]["scale"]
    assert drawn["domain"] == ["black", "#333333"]
    assert contrast(drawn["range"][0], PAPER) > 10
    assert dark["config"]["background"] == PAPER


def test_titles_are_broken_into_lines_that_fit_their_chart():
    found = finished(one("word " * 30, width=420)).to_dict()["title"]
    assert "".join(found["subtitle"]) == LONG
    lengths = [len(line) for line in found["subtitle"]]
    assert max(lengths) * 5 < 420
    assert min(lengths) > max(lengths) / 2  # no line of one word
    assert "".join(found["text"]) == "word " * 30
    again = finished(finished(one("word " * 30, width=420))).to_dict()["title"]
    assert again == found
    wide = finished(alt.hconcat(*(one(width=300) for _ in range(3)), title=heading("A", LONG)))
    assert wide.to_dict()["title"]["subtitle"] == [LONG]
    single = finished(one("blocks.11.hook_resid_post_of_a_model_with_a_long_name_" * 2, width=100))
    assert len(single.to_dict()["title"]["text"]) in (1, 108)


def test_rows_of_panels_continue_below_each_other_on_a_page():
    panel = (
        alt.Chart(ROWS, width=300, height=120, title="n = 8").mark_point().encode(x="x:Q", y="y:Q")
    )
    for number in (1, 2, 3, 4, 7):
        row = alt.hconcat(*[panel] * number, title=heading("A", "n = 8"))
        for chart in (row, alt.vconcat(row, panel)):
            check_chart(finished(chart))
    three = finished(alt.hconcat(*[panel] * 3)).to_dict()
    assert len(three["hconcat"]) == 3  # fits
    four = finished(alt.hconcat(*[panel] * 4)).to_dict()
    assert (four["columns"], len(four["concat"])) == (2, 4)


@pytest.mark.parametrize("fault", ["no title", "no n", "cut", "too wide"])
def test_the_check_of_plots_finds_each_fault(fault):
    names = [f"a name that is longer than its limit {i}" for i in range(3)]
    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0], "k": names})
    limit = 40 if fault == "cut" else 400
    title = {"no title": alt.Undefined, "no n": "A title"}.get(fault, "A title, n = 3")
    width = 1400 if fault == "too wide" else 300
    y = alt.Y("k:N", axis=alt.Axis(labelLimit=limit))
    with pytest.raises(AssertionError, match={"cut": "is cut"}.get(fault, fault)):
        check_chart(alt.Chart(rows, width=width, title=title).mark_bar().encode(x="x:Q", y=y))


def test_titles_of_panels_are_smaller_than_that_of_the_plot():
    found = finished(alt.hconcat(one(), one(), title=heading("A", LONG))).to_dict()
    size = found["config"]["title"]["fontSize"]
    assert "fontSize" not in found["title"]
    assert all(panel["title"]["fontSize"] < size for panel in found["hconcat"])
    apart = finished(alt.hconcat(one(), one())).to_dict()
    assert all("fontSize" not in panel["title"] for panel in apart["hconcat"])


def test_bars_of_a_histogram_touch():
    assert finished(one()).to_dict()["config"]["bar"]["binSpacing"] == 0


def test_png_prints_at_300_dots_per_inch(tmp_path):
    with Image.open(save(one(), tmp_path / "x.png")) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.5)
        # 300 pixels of CSS are 3.125 inches, and the legend and axes need more.
        assert picture.width > 300 * 300 / 96


@pytest.fixture(scope="module")
def browser():
    with page_or_skip() as page:
        yield page.context.browser


CHARTS = {
    "one": one,
    "row": lambda: alt.hconcat(*(one() for _ in range(6))),
    "rows": lambda: alt.vconcat(alt.hconcat(*(one() for _ in range(4))), one(width=900)),
    "wide": lambda: one(LONG, width=2000),
    "steps": lambda: (
        alt.Chart(ROWS, width=alt.Step(200)).mark_rect().encode(x="x:O", y=alt.Y("k:N", title=LONG))
    ),
    "labels": lambda: alt.vconcat(
        one(width=420),
        alt.Chart(ROWS, width=300, title=heading(LONG, LONG))
        .mark_bar()
        .encode(x="x:Q", y=alt.Y("k:N", axis=alt.Axis(labelExpr=f"'{LONG[:24]}'"))),
    ),
    "facets": lambda: one(width=500).facet("k:N", columns=4),
}


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", CHARTS)
def test_no_plot_exceeds_the_width_of_a_page(browser, tmp_path, name, width):
    path = save(CHARTS[name](), tmp_path / "x.html")
    tab = browser.new_page(viewport={"width": width, "height": 800})
    errors = []
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto(path.as_uri())
    tab.wait_for_function("document.body.dataset.drawn")
    right = "Math.max(...[...document.querySelectorAll('#vis canvas, #vis svg')].map(c => c.getBoundingClientRect().right))"
    assert tab.evaluate(right) <= width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    tab.close()


# Pixels of CSS over which bars of the first hue extend.
WIDTH_OF_BARS = """() => {
  const canvas = document.querySelector('#vis canvas'), columns = new Set();
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i] === 0x4c && pixels[i + 1] === 0x78 && pixels[i + 2] === 0xa8)
      columns.add((i / 4) % canvas.width);
  return columns.size * canvas.getBoundingClientRect().width / canvas.width;
}"""


def test_long_names_leave_space_for_a_chart_on_a_phone(browser, tmp_path):
    """A title of an axis that was wider than the page made the chart as narrow as possible."""
    names = ["structure, propagated + frequency", "permuted matches, all tokens", "short"]
    chart = (
        alt.Chart(pd.DataFrame({"k": names, "x": 1.0}), width=400, height=120, title="n = 3")
        .mark_bar()
        .encode(
            x=alt.X("x:Q", title=LONG, scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("k:N", title=None),
        )
    )
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto(save(chart, tmp_path / "x.html").as_uri())
    tab.wait_for_function("document.body.dataset.drawn")
    assert tab.evaluate(WIDTH_OF_BARS) > 200
    tab.close()


def test_a_page_is_dark_where_the_reader_prefers_it(browser, tmp_path):
    path = save(one(), tmp_path / "x.html")
    for scheme, paper in (("light", [255, 255, 255]), ("dark", [24, 24, 24])):
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(path.as_uri())
        tab.wait_for_function("document.body.dataset.drawn")
        corner = "[...document.querySelector('#vis canvas').getContext('2d').getImageData(1, 1, 1, 1).data].slice(0, 3)"
        assert tab.evaluate(corner) == paper
        tab.close()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_a_report_is_dark_where_the_reader_prefers_it(browser, scheme, dark):
    templates = Environment(loader=PackageLoader("analysis"), autoescape=True)
    text = "<pre>x</pre><p class=missing>x</p><p class=verdict>x <i class=asks>x</i></p>"
    tab = browser.new_page(color_scheme=scheme)
    tab.set_content(
        templates.get_template("report.html").render(title="x", sections=[Markup(text)])
    )
    for name in ("body", "pre", ".missing", ".verdict"):
        style = f"getComputedStyle(document.querySelector('{name}'))"
        paper, ink = (
            "#"
            + "".join(
                f"{int(c):02x}" for c in re.findall(r"\d+", tab.evaluate(f"{style}.{of}"))[:3]
            )
            for of in ("backgroundColor", "color")
        )
        assert (luminance(paper) < 0.1) == dark
        assert contrast(paper, ink) > 7
    tab.close()


def test_tables_of_a_report_fit_a_phone(browser):
    """A row of many columns becomes lines of names and values, within the page."""
    names = ["SAE", *(f"a long name of a column {i}" for i in range(9))]
    rows = [
        [{"text": f"{r}.{i}", "words": not i, "interval": "0.1 to 0.2"} for i in range(10)]
        for r in range(3)
    ]
    templates = Environment(loader=PackageLoader("analysis"), autoescape=True)
    parts = templates.get_template("report_parts.html").module
    page = templates.get_template("report.html").render(
        title="x", sections=[parts.table(names, rows, "caption")]
    )
    for width, heads in ((390, False), (1300, True)):
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.set_content(page)
        assert tab.locator("thead").is_visible() == heads
        right = "Math.max(...[...document.querySelectorAll('td')].map(d => d.getBoundingClientRect().right))"
        assert tab.evaluate(right) <= width
        shown = "getComputedStyle(document.querySelectorAll('td')[1], '::before').content"
        assert (names[1] in tab.evaluate(shown)) == (not heads)
        tab.close()
