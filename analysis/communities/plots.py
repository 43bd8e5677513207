"""A map of an SAE's communities: a disc each, features as points in it, joined by their edges."""

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.graph.igraph_conversion import seeded
from analysis.plot_style import Chart, heading
from atlas.api import Atlas
from atlas.errors import Missing
from atlas.graphs import edge_ends

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["draw_communities"]

_SIDE = 760  # of the picture, in pixels
_LINES = 60  # between communities, at most
_NAMED = 3  # tokens on a disc
_APART = 1.2  # of the sum of two discs' radii
_STEPS = 400

_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))


def draw_communities(
    atlas: Atlas, sae: str, *, most: int = 3000, smallest: int = 3, seed: int = 0
) -> Chart:
    """Draw the communities of an SAE.

    Each community is a disc, its area as its number of features; within it, features with a
    larger share of their edges inside lie nearer to the middle. Communities whose
    features are linked strongly were drawn to each other (Fruchterman & Reingold), as far as a plane
    has room; neither axis means anything.

    Parameters
    ----------
    atlas
        The atlas, a folder or a server.
    sae
        The SAE's name.
    most
        Features drawn, at most: of each community the same share, the most frequent first.
    smallest
        Communities of fewer features are left out, and counted in the title.
    seed
        Of the layout.

    Raises
    ------
    UnknownName
        If there is no such SAE.
    Missing
        If its communities are not in the atlas, or none has as many features.
    """
    found = atlas.table("Community", sae=sae).to_pandas().sort_values("number")
    kept = found[found["size"] >= smallest].reset_index(drop=True)
    if not len(kept):
        raise Missing(
            f"{atlas.url} has no communities of {sae} with {smallest} features or more; "
            f"`atlas communities {sae}` finds those there are."
        )
    features = atlas.features(sae)
    label = features["community"].to_numpy(zero_copy_only=False)
    between = _between(atlas.table("CO_ACTIVATES", sae=sae), label, kept["number"].to_numpy())
    radius = np.sqrt(kept["size"].to_numpy(dtype=np.float64))
    centre = _apart(_layout(between, seed=seed), radius)
    points = _points(atlas, sae, features, kept, centre=centre, radius=radius, most=most)
    left = len(found) - len(kept)
    title = heading(
        f"Communities of {sae}",
        f"n = {int(kept['size'].sum()):,} of {features.num_rows:,} features, {len(points):,} drawn, in "
        f"{len(kept):,} communities"
        + (f"; {left:,} of fewer than {smallest} left out" if left else ""),
        "A disc is a community, a point a feature: larger is more frequent, nearer to the middle has more "
        "of its edges inside.",
        f"Near discs tend to share edges (lines: the {_LINES} strongest links at most, thicker for more count × weight of all edges "
        "the atlas holds); "
        "left, right, up and down mean nothing.",
    )
    return _chart(points, kept, between, centre, radius, title=title)


def _between(
    edges: "pa.Table", label: NDArray[np.float64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weight of the edges between each two communities; (communities, communities)."""
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
    """Return a place for each community, the strongly linked near to each other; (communities, 2)."""
    import igraph

    one, two = np.nonzero(np.triu(between))
    graph = igraph.Graph(n=len(between), edges=np.stack([one, two], axis=1))
    # Strengths differ by orders of magnitude; their roots let the weaker ones pull too.
    pull = np.sqrt(between[one, two] / between.max()) if len(one) else np.zeros(0)
    with seeded(seed):
        placed = graph.layout_fruchterman_reingold(weights=pull.tolist(), niter=2000)
    places = np.array(placed.coords, dtype=np.float64).reshape(-1, 2)
    centred: NDArray[np.float64] = places - places.mean(axis=0)
    return centred


def _apart(places: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Push discs apart until none overlap, after drawing them as near as they would touch."""
    n = len(places)
    if n < 2:
        return places
    spread = np.sqrt((places**2).sum(axis=1).mean()) or 1.0
    at: NDArray[np.float64] = places / spread * np.sqrt((radius**2).sum()) * 0.9
    need = (radius[:, None] + radius) * _APART
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
    kept: pd.DataFrame,
    *,
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    most: int,
) -> pd.DataFrame:
    """Return a row for each feature drawn, with its place in its community's disc."""
    wanted = ["id", "community", "top_token", "frequency", "degree", "partners_expected"]
    rows = features.select(wanted).to_pandas()
    inner = atlas.table("IN_COMMUNITY", sae=sae).to_pandas().set_index("source")["inner_share"]
    rows["inner_share"] = rows["id"].map(inner)
    share = min(1.0, most / int(kept["size"].sum()))
    parts = []
    for i, (number, size) in enumerate(zip(kept["number"], kept["size"], strict=True)):
        own = rows[rows["community"] == number].nlargest(max(1, int(size * share)), "frequency")
        own = own.sort_values(["inner_share", "id"], ascending=[False, True])
        # A sunflower: points evenly over the disc, the first ones in the middle.
        step = np.arange(len(own)) + 0.5
        far, turn = 0.92 * radius[i] * np.sqrt(step / len(own)), _GOLDEN * step
        own = own.assign(
            x=centre[i, 0] + far * np.cos(turn),
            y=centre[i, 1] + far * np.sin(turn),
            name=_name(kept["tokens"][i]),
        )
        parts.append(own)
    drawn: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return drawn


def _name(tokens: NDArray[np.object_]) -> str:
    """Return the first tokens that name a community, as they can be seen."""
    shown = [t.strip(" ").replace("\n", "⏎").replace("\t", "⇥") or "␣" for t in tokens]
    return " · ".join(list(dict.fromkeys(shown))[:_NAMED])


def _chart(
    points: pd.DataFrame,
    kept: pd.DataFrame,
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
    pixel = _SIDE / side
    discs = pd.DataFrame({
        "x": centre[:, 0], "y": centre[:, 1], "top": centre[:, 1] + radius,
        "name": [_name(t) for t in kept["tokens"]],
        "area": (2 * radius * pixel) ** 2, "size": kept["size"], "community": kept["number"],
        "inner_share": kept["inner_share"], "stability_halves": kept["stability_halves"],
    })  # fmt: skip
    colour = alt.Color("community:N", legend=None, scale=alt.Scale(scheme="tableau20"))
    base = alt.Chart(discs)
    lines = (
        alt.Chart(_lines(between, centre))
        .mark_rule(color="#9aa5b1", opacity=0.55)
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q",
                strokeWidth=alt.StrokeWidth("root:Q", legend=None, scale=alt.Scale(range=[0.3, 9])))
    )  # fmt: skip
    rings = base.mark_circle(opacity=0.16, stroke=None).encode(
        x=x, y=y, color=colour, size=alt.Size("area:Q", legend=None, scale=None),
        tooltip=["community:N", "name:N", alt.Tooltip("size:Q", title="features"),
                 alt.Tooltip("inner_share:Q", format=".2f"),
                 alt.Tooltip("stability_halves:Q", format=".2f")],
    )  # fmt: skip
    blank = alt.Chart(discs).mark_circle(color="white", opacity=1).encode(
        x=x, y=y, size=alt.Size("area:Q", legend=None, scale=None)
    )  # fmt: skip
    dots = (
        alt.Chart(points)
        .mark_circle(opacity=0.85, stroke="white", strokeWidth=0.3)
        .encode(
            x=x, y=y, color=colour,
            size=alt.Size("frequency:Q", title="frequency (share of tokens)",
                          scale=alt.Scale(type="sqrt", range=[5, 150]), legend=alt.Legend(format=".2~g")),
            tooltip=[alt.Tooltip("id:N", title="feature"), "top_token:N",
                     alt.Tooltip("frequency:Q", format=".3~g"), "degree:Q", "community:N",
                     alt.Tooltip("inner_share:Q", format=".2f")],
        )
    )  # fmt: skip
    names = [
        base.mark_text(
            fontSize=12, fontWeight="bold", baseline="bottom", dy=1, fill=fill, stroke=stroke,
            strokeWidth=width, strokeJoin="round",
        ).encode(x=x, y=alt.Y("top:Q", scale=scale[1], axis=None), text="name:N")
        for fill, stroke, width in (("white", "white", 4), ("#222222", None, 0))
    ]  # fmt: skip
    chart: Chart = (
        alt.layer(lines, blank, rings, dots, *names)
        .properties(width=_SIDE, height=_SIDE, title=title)
        .resolve_scale(size="independent")
    )
    return chart


def _lines(between: NDArray[np.float64], centre: NDArray[np.float64]) -> pd.DataFrame:
    """Return a row for each of the strongest links between two communities."""
    one, two = np.nonzero(np.triu(between))
    order = np.argsort(-between[one, two], kind="stable")[:_LINES]
    one, two = one[order], two[order]
    return pd.DataFrame({
        "x": centre[one, 0], "y": centre[one, 1], "x2": centre[two, 0], "y2": centre[two, 1],
        "root": np.sqrt(between[one, two]),
    })  # fmt: skip
