"""Time of one frame of an interactive map in Chromium, by number of points.

The page shows two linked maps at a window of 1,300 pixels. A frame of a hover repaints marks, and a
frame of a drag or a zoom repaints all points of a map. Each is timed until its pixels can be read.
Needs Chromium and playwright, as the tests do.

    python -m benchmarks.map_page
    python -m benchmarks.map_page --features 8192 32768
"""

import argparse
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.feature_map.page import save_page
from analysis.feature_map.panels import Panel
from atlas.cli.output.tables import print_table

_WIDTH, _FRAMES = 1300, 40

#: Milliseconds of each frame; ``stale`` repaints the points.
_TIMES = """([frames, stale]) => Array.from({ length: frames }, (_, i) => {
  const begin = performance.now(), panel = panels[0];
  state.hover = { panel, i };
  panel.stale = stale;
  panels.forEach(paint);
  for (const one of panels) one.context.getImageData(0, 0, 1, 1);
  return performance.now() - begin;
})"""


def panel(features: int, *, seed: int) -> Panel:
    """Return a map of random clusters; point i is linked with point i of another map."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, 2)) * 8
    points = centres[rng.integers(60, size=features)] + rng.normal(size=(features, 2))
    ids, labels = [f"sae/{i}" for i in range(features)], ["token"] * features
    names = tuple(f"class {i}" for i in range(5))
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
    classes = rng.integers(5, size=features)
    return Panel(
        "map", (), ("", ""), points, ids, labels, classes, names, colours, np.arange(features)
    )


def measured(tab: Any, folder: Path, features: int) -> dict[str, Any]:
    """Return the times and the size of the page for one number of points of each map."""
    path = save_page([panel(features, seed=seed) for seed in (0, 1)], folder / "map.html")
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
    tab.goto(path.as_uri())
    hover, drag = (tab.evaluate(_TIMES, [_FRAMES, stale]) for stale in (False, True))
    return {
        "points of each map": features,
        "page MB": round(path.stat().st_size / 1e6, 1),
        "hover ms": round(statistics.median(hover), 1),
        "drag ms": round(statistics.median(drag), 1),
        "width of the page": tab.evaluate("document.documentElement.scrollWidth"),
        "errors": len(errors),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--features", type=int, nargs="+", default=[2048, 32_768])
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from neo4j_browser import find_chromium

    arguments = ["--no-sandbox"]
    with (
        TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=find_chromium(), args=arguments) as browser,
    ):
        tab = browser.new_page(viewport={"width": _WIDTH, "height": 900})
        print_table([measured(tab, Path(folder), n) for n in options.features])


if __name__ == "__main__":
    main()
