"""A plot of communities as discs, with features as points and lines for edges."""

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.graph.igraph_conversion import seeded
from analysis.plot_style import HUES, Chart, finished, heading
from atlas.api import Atlas
from atlas.errors import Missing
from atlas.graphs import edge_ends
from atlas.studies.results import Result

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["draw", "draw_communities"]

_SIDE = 760  # of the plot, in pixels
_LINES = 60  # largest number of lines between communities
_NAMED = 3  # number of tokens printed on a disc
_SEPARATION = 1.2  # as a share of the sum of two radii
_STEPS = 400

_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))


def draw_communities(
    atlas: Atlas, sae: str, *, most: int = 3000, smallest: int = 3, seed: int = 0
) -> Chart:
    """Plot the communities of an SAE.

    Each community is a disc whose area is proportional to its number of features. Features with
    a larger share of their edges inside the community are nearer to the middle. A
    force-directed layout (Fruchterman & Reingold) puts strongly linked communities near each
    other. The axes have no meaning.

    Parameters
    ----------
    atlas
        The atlas, in a folder or on a server.
    sae
        The name of the SAE.
    most
        Largest number of features drawn: the same share of every community, most frequent first.
    smallest
        Smallest size of a drawn community; smaller ones are counted in the title.
    seed
        Seed of the layout.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If the atlas has no communities of the SAE, or all are too small.
    """
    found = atlas.table("Community", sae=sae).to_pandas().sort_values("number")
    shown = found[found["size"] >= smallest].reset_index(drop=True)
    if not len(shown):
        raise Missing(
            f"{atlas.url} has no communities of {sae} with {smallest} features or more; "
            f"run `atlas communities {sae}` to compute communities."
        )
    features = atlas.features(sae)
    label = features["community"].to_numpy(zero_copy_only=False)
    between = _between(atlas.table("CO_ACTIVATES", sae=sae), label, shown["number"].to_numpy())
    radius = np.sqrt(shown["size"].to_numpy(dtype=np.float64))
    centre = _separated(_layout(between, seed=seed), radius)
    points = _points(atlas, sae, features, shown, centre=centre, radius=radius, most=most)
    omitted = len(found) - len(shown)
    title = heading(
        f"Communities of {sae}",
        f"n = {int(shown['size'].sum()):,} of {features.num_rows:,} features, {len(points):,} drawn, in "
        f"{len(shown):,} communities"
        + (f"; {omitted:,} smaller than {smallest} excluded" if omitted else ""),
        "Discs are communities, and points are features. Larger points are more frequent; points nearer "
        "to the middle have more of their edges inside.",
        f"Lines are the strongest links (at most {_LINES}); width is the total count × weight of all stored edges. "
        "Linked discs tend to be near each other; the axes have no meaning.",
    )
    return _chart(points, shown, between, centre, radius, title=title)


def draw(result: Result) -> Chart:
    """Plot the communities of a result of ``analysis.communities.study.graph_features``.

    Raises
    ------
    Missing
        If all communities are too small, or the atlas does not contain the result any more.
    """
    if result.atlas is None:
        raise Missing(
            f"The plot of communities needs the edges of {result['sae']}, and the result has no atlas. "
            "Set `result.atlas` to the folder of the atlas."
        )
    with Atlas.open(result.atlas) as atlas:
        return finished(draw_communities(atlas, result["sae"]))


def _between(
    edges: "pa.Table", label: NDArray[np.float64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the total edge weight between communities; (communities, communities)."""
    ends = label[edge_ends(edges)]
    weight = edges["weight"].to_numpy() * edges["count"].to_numpy()
    known = np.isin(ends, numbers).all(axis=1)
    one, two = np.searchsorted(numbers, ends[known].astype(np.int64)).T
    total = np.zeros((len(numbers), len(numbers)))
    np.add.at(total, (one, two), weight[known])
    total += total.T
    np.fill_diagonal(total, 0.0)
    return total


def _layout(between: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """Return the positions of the communities from a force-directed layout; (communities, 2)."""
    import igraph

    one, two = np.nonzero(np.triu(between))
    graph = igraph.Graph(n=len(between), edges=np.stack([one, two], axis=1))
    # Strengths differ by orders of magnitude; square roots give weak links some influence.
    pull = np.sqrt(between[one, two] / between.max()) if len(one) else np.zeros(0)
    with seeded(seed):
        layout = graph.layout_fruchterman_reingold(weights=pull.tolist(), niter=2000)
    positions = np.array(layout.coords, dtype=np.float64).reshape(-1, 2)
    centred: NDArray[np.float64] = positions - positions.mean(axis=0)
    return centred


def _separated(positions: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale positions to the size of the discs, and push discs apart until none overlap."""
    n = len(positions)
    if n < 2:
        return positions
    spread = np.sqrt((positions**2).sum(axis=1).mean()) or 1.0
    at: NDArray[np.float64] = positions / spread * np.sqrt((radius**2).sum()) * 0.9
    need = (radius[:, None] + radius) * _SEPARATION
    for _ in range(_STEPS):
        away = at[:, None] - at
        far = np.sqrt((away**2).sum(axis=2))
        np.fill_diagonal(far, np.inf)
        short = np.maximum(need - far, 0.0)
        if not short.any():
            break
        push = (away / np.maximum(far, 1e-9)[..., None]) * short[..., None] / 2
        at = (at + push.sum(axis=1) * 0.5) * 0.999
    return at


def _points(
    atlas: Atlas,
    sae: str,
    features: "pa.Table",
    shown: pd.DataFrame,
    *,
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    most: int,
) -> pd.DataFrame:
    """Return a row for each drawn feature, with its position in the disc."""
    wanted = ["id", "community", "top_token", "frequency", "degree", "partners_expected"]
    rows = features.select(wanted).to_pandas()
    inner = atlas.table("IN_COMMUNITY", sae=sae).to_pandas().set_index("source")["inner_share"]
    rows["inner_share"] = rows["id"].map(inner)
    share = min(1.0, most / int(shown["size"].sum()))
    parts = []
    for i, (number, size) in enumerate(zip(shown["number"], shown["size"], strict=True)):
        own = rows[rows["community"] == number].nlargest(max(1, int(size * share)), "frequency")
        own = own.sort_values(["inner_share", "id"], ascending=[False, True])
        # A sunflower arrangement spreads points evenly over the disc, from the middle outwards.
        step = np.arange(len(own)) + 0.5
        far, turn = 0.92 * radius[i] * np.sqrt(step / len(own)), _GOLDEN * step
        own = own.assign(
            x=centre[i, 0] + far * np.cos(turn),
            y=centre[i, 1] + far * np.sin(turn),
            name=_name(shown["tokens"][i]),
        )
        parts.append(own)
    drawn: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return drawn


def _name(tokens: NDArray[np.object_]) -> str:
    """Return the first characteristic tokens of a community, with visible white space."""
    shown = [t.strip(" ").replace("\n", "⏎").replace("\t", "⇥") or "␣" for t in tokens]
    return " · ".join(list(dict.fromkeys(shown))[:_NAMED])


def _chart(
    points: pd.DataFrame,
    shown: pd.DataFrame,
    between: NDArray[np.float64],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    *,
    title: alt.TitleParams,
) -> Chart:
    low, high = (centre - radius[:, None]).min(axis=0), (centre + radius[:, None]).max(axis=0)
    middle, side = (low + high) / 2, float((high - low).max()) * 1.04
    scale = [
        alt.Scale(domain=[float(m - side / 2), float(m + side / 2)], nice=False) for m in middle
    ]
    x = alt.X("x:Q", axis=None, scale=scale[0])
    y = alt.Y("y:Q", axis=None, scale=scale[1])
    discs = pd.DataFrame(
        {
            "x": centre[:, 0],
            "y": centre[:, 1],
            "top": centre[:, 1] + radius,
            "name": [_name(t) for t in shown["tokens"]],
            "radius": radius,
            "size": shown["size"],
            "community": shown["number"],
            "inner_share": shown["inner_share"],
            "stability_halves": shown["stability_halves"],
        }
    )
    colour = alt.Color("community:N", legend=None, scale=alt.Scale(range=list(HUES)))
    # The width is that of the drawn plot, which a narrow page reduces.
    base = alt.Chart(discs).transform_calculate(area=f"pow(2 * datum.radius * width / {side}, 2)")
    lines = (
        alt.Chart(_lines(between, centre))
        .mark_rule(color="#9aa5b1", opacity=0.55)
        .encode(
            x=x,
            y=y,
            x2="x2:Q",
            y2="y2:Q",
            strokeWidth=alt.StrokeWidth("root:Q", legend=None, scale=alt.Scale(range=[0.3, 9])),
        )
    )
    area = alt.Size("area:Q", legend=None, scale=None)
    blank = base.mark_circle(color="white", opacity=1).encode(x=x, y=y, size=area)
    rings = base.mark_circle(opacity=0.16, stroke=None).encode(
        x=x,
        y=y,
        color=colour,
        size=area,
        tooltip=[
            "community:N",
            "name:N",
            alt.Tooltip("size:Q", title="features"),
            alt.Tooltip("inner_share:Q", format=".2f"),
            alt.Tooltip("stability_halves:Q", format=".2f"),
        ],
    )
    dots = _dots(points, x=x, y=y, colour=colour)
    names = _names(base, x=x, y=alt.Y("top:Q", scale=scale[1], axis=None))
    chart: Chart = (
        alt.layer(lines, blank, rings, dots, *names)
        .properties(width=_SIDE, height=_SIDE, title=title)
        .resolve_scale(size="independent")
    )
    return chart


def _dots(points: pd.DataFrame, *, x: alt.X, y: alt.Y, colour: alt.Color) -> alt.Chart:
    """Return a dot for each feature, with an area that grows with its frequency."""
    frequency = alt.Size(
        "frequency:Q",
        title="frequency (share of tokens)",
        # Discs are smaller on a narrow page, and so are the points in them.
        scale=alt.Scale(
            type="sqrt",
            zero=False,
            range=[alt.ExprRef(f"{area} * pow(width / {_SIDE}, 2)") for area in (5, 150)],
        ),
        legend=alt.Legend(format=".2~g"),
    )
    tooltip = [
        alt.Tooltip("id:N", title="feature"),
        "top_token:N",
        alt.Tooltip("frequency:Q", format=".3~g"),
        "degree:Q",
        "community:N",
        alt.Tooltip("inner_share:Q", format=".2f"),
    ]
    chart: alt.Chart = (
        alt.Chart(points)
        .mark_circle(opacity=0.85, stroke="white", strokeWidth=0.3)
        .encode(x=x, y=y, color=colour, size=frequency, tooltip=tooltip)
    )
    return chart


def _names(discs: alt.Chart, *, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Return the names of communities above their discs, each on a white outline."""
    return [
        discs.mark_text(
            fontSize=alt.ExprRef(f"max(8, 12 * width / {_SIDE})"),
            fontWeight="bold",
            baseline="bottom",
            dy=1,
            fill=fill,
            stroke=stroke,
            strokeWidth=width,
            strokeJoin="round",
        ).encode(x=x, y=y, text="name:N")
        for fill, stroke, width in (("white", "white", 4), ("#222222", None, 0))
    ]


def _lines(between: NDArray[np.float64], centre: NDArray[np.float64]) -> pd.DataFrame:
    """Return a row for each of the strongest links between communities."""
    one, two = np.nonzero(np.triu(between))
    order = np.argsort(-between[one, two], kind="stable")[:_LINES]
    one, two = one[order], two[order]
    return pd.DataFrame(
        {
            "x": centre[one, 0],
            "y": centre[one, 1],
            "x2": centre[two, 0],
            "y2": centre[two, 1],
            "root": np.sqrt(between[one, two]),
        }
    )
