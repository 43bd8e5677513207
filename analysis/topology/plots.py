"""The plot of topology: persistence diagrams with the nulls, and the shown Mapper graph."""

import altair as alt
import numpy as np
import pandas as pd

from analysis.plot_style import Chart, finished, heading
from analysis.topology.persistence import DIMENSIONS
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["draw"]

_SIDE = 340
_COLOURS = {"H0, clusters": "#4c78a8", "H1, loops": "#e08a3c", "H2, voids": "#54a24b"}
_NAMES = dict(enumerate(_COLOURS))


def draw(result: Result) -> Chart:
    """Plot a result of ``analysis.topology.study.measure_topology``.

    Raises
    ------
    BadInput
        If the SAE has too few live features.
    """
    if result["h0"] is None:
        raise BadInput(
            f"{result['sae']} has {result['directions']:,} live decoder directions, so there is nothing to plot."
        )
    title = heading(f"Topology of {result['sae']}", f"n = {result['directions']:,} live directions")
    panels = alt.hconcat(_diagram(result), _mapper(result)).properties(title=title)
    return finished(panels.resolve_scale(color="independent", size="independent"))


def _diagram(result: Result) -> Chart:
    rows = result.table("diagrams").to_pandas().dropna(subset=["death"])
    rows = rows.assign(dimension=[_NAMES[k] for k in rows["dimension"]])
    most = float(rows["death"].max()) * 1.02
    least = 0.95 * float(
        rows.loc[rows["birth"] > 0, "birth"].min() if (rows["birth"] > 0).any() else 0
    )
    least = min(least, 0.95 * float(rows["death"].min()))
    # All classes of H0 are born at 0, far from the others.
    rows = rows.assign(birth=rows["birth"].clip(lower=least))
    scale = alt.Scale(domain=[least, most], nice=False, clamp=True)
    colour = alt.Color(
        "dimension:N",
        scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=alt.Legend(orient="bottom", title=None),
    )
    x = alt.X("birth:Q", scale=scale, title="birth (radians); H0 at the border")
    y = alt.Y("death:Q", scale=scale, title="death (radians)")
    points = (
        alt.Chart(rows)
        .mark_circle(size=26, opacity=0.45)
        .encode(x=x, y=y, color=colour, tooltip=["dimension:N", "repeat:Q", "birth:Q", "death:Q"])
    )
    diagonal = (
        alt.Chart(pd.DataFrame({"birth": [least, most], "death": [least, most]}))
        .mark_line(color="#999999", strokeWidth=1)
        .encode(x=x, y=y)
    )
    lines = (
        alt.Chart(_limits(result, rows, (least, most)))
        .mark_line(strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x=x, y=y, color=colour)
    )
    chart: Chart = alt.layer(diagonal, points, lines).properties(
        width=_SIDE,
        height=_SIDE,
        title=heading(
            f"Persistence, p = {result['homology_p']:.2g}",
            "dashed: a longest class above it is in the top 2.5% of every null; grey: birth = death",
        ),
    )
    return chart


def _limits(result: Result, rows: pd.DataFrame, domain: tuple[float, float]) -> pd.DataFrame:
    """Return the ends of the line of each dimension that the longest class must exceed."""
    tests = result.table("tests").to_pandas()
    tests = tests[tests["method"] == "homology"]
    least, most = domain
    found = []
    for k in DIMENSIONS:
        ratio = float(tests.loc[tests["statistic"] == f"H{k}", "null_high"].max())
        if k == 0:
            median = float(rows.loc[rows["dimension"] == _NAMES[0], "death"].median())
            ends = [(least, ratio * median), (most, ratio * median)]
            ends = ends if ratio * median <= most else []
        else:
            ends = [(least, ratio * least), (most / ratio, most)] if ratio * least <= most else []
        found += [{"dimension": _NAMES[k], "birth": b, "death": d} for b, d in ends]
    return pd.DataFrame(found, columns=["dimension", "birth", "death"])


def _mapper(result: Result) -> Chart:
    nodes = result.table("mapper_nodes").to_pandas()
    edges = result.table("mapper_edges").to_pandas()
    ends = nodes.set_index("node")[["x", "y"]]
    lines = pd.DataFrame(
        {
            "x": ends["x"].reindex(edges["source"]).to_numpy(),
            "y": ends["y"].reindex(edges["source"]).to_numpy(),
            "x2": ends["x"].reindex(edges["target"]).to_numpy(),
            "y2": ends["y"].reindex(edges["target"]).to_numpy(),
        }
    )
    some = nodes.assign(
        some=[" ".join(map(str, np.asarray(f)[:8])) for f in nodes["features"]]
    ).drop(columns="features")
    x = alt.X("x:Q", scale=alt.Scale(zero=False, padding=14), title="first principal component")
    y = alt.Y("y:Q", scale=alt.Scale(zero=False, padding=14), title="second principal component")
    (cell,) = (row for row in result.table("mapper_grid").to_pylist() if row["shown"])
    chart: Chart = alt.layer(
        alt.Chart(lines)
        .mark_rule(color="#999999", opacity=0.6)
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q"),
        alt.Chart(some)
        .mark_circle(color=_COLOURS[_NAMES[0]], opacity=0.85)
        .encode(
            x=x,
            y=y,
            size=alt.Size(
                "size:Q",
                title="features",
                scale=alt.Scale(range=[12, 400]),
                legend=alt.Legend(orient="bottom", values=_sizes(nodes["size"])),
            ),
            tooltip=["size:Q", alt.Tooltip("some:N", title="features")],
        ),
    ).properties(
        width=_SIDE,
        height=_SIDE,
        title=heading(
            f"Mapper, p = {result['mapper_p']:.2g}",
            f"{cell['cubes']} intervals, overlap {cell['overlap']:g}, angle × {cell['eps']:g}: "
            f"{cell['retained']:.0%} of features retained",
            "disc: a cluster of features; line: clusters that share features",
        ),
    )
    return chart


def _sizes(sizes: pd.Series) -> list[int]:
    """Return three sizes for the legend: the smallest, the middle one and the largest."""
    return sorted({int(sizes.min()), int(sizes.median()), int(sizes.max())})
