"""Draw how time and memory grow over tokens and over width, from what ``--growth --json`` printed.

    python -m benchmarks.coactivation --growth --json > coactivation.json
    python -m benchmarks.correlate --growth --json > correlate.json
    python -m benchmarks.plot_growth coactivation.json correlate.json --out docs/images/growth.svg

A row of panels for each file. The line is the least-squares straight line of the points.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from analysis.plot_style import Chart, check_path, heading, save

MEASURES = {"cpu_seconds": "processor seconds", "peak_gib": "peak memory, GiB"}


def main() -> None:
    """Draw the files that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", required=True, help="an .svg, .png or .html file")
    args = parser.parse_args()
    out = check_path(args.out)
    rows = [panels(file.stem, json.loads(file.read_text("utf-8"))) for file in args.files]
    save(alt.vconcat(*rows), out)


def panels(name: str, found: list[dict[str, Any]]) -> Chart:
    """Draw time and memory, over tokens at one width and over width at one number of tokens."""
    width = "d_sae" if "d_sae" in found[0] else "features"
    tokens = [f for f in found if f[width] == found[0][width]]
    widths = [f for f in found if f["tokens"] == found[0]["tokens"]]
    at = f"{found[0][width]:,} features", f"{found[0]['tokens']:,} tokens"
    drawn = [
        panel(those, over, measure).properties(title=heading(name, fixed))
        for those, over, fixed in ((tokens, "tokens", at[0]), (widths, width, at[1]))
        for measure in MEASURES
    ]
    return alt.hconcat(*drawn)


def panel(found: list[dict[str, Any]], over: str, measure: str) -> alt.LayerChart:
    """Draw points and their straight line, from 0 on."""
    x, y = ([float(f[key]) for f in found] for key in (over, measure))
    slope, start = np.polyfit(x, y, 1)
    ends = [{"x": e, "y": max(start + slope * e, 0)} for e in (0.0, max(x))]
    across = alt.X(
        "x:Q",
        title="tokens" if over == "tokens" else "features",
        axis=alt.Axis(tickCount=4, format="~s"),
    )
    up = alt.Y("y:Q", title=MEASURES[measure], scale=alt.Scale(zero=True))
    points = alt.Data(values=[{"x": a, "y": b} for a, b in zip(x, y, strict=True)])
    return alt.layer(
        alt.Chart(alt.Data(values=ends)).mark_line(color="#bbbbbb").encode(across, up),
        alt.Chart(points).mark_point(filled=True, size=60).encode(across, up),
    ).properties(width=200, height=160)


if __name__ == "__main__":
    main()
