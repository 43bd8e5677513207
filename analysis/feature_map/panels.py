"""The contents of drawn maps: points with classes, labels and partners, for one or two SAEs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.feature_map.quality import Floats, Ints
from atlas.api import Atlas
from atlas.errors import BadInput, Missing
from atlas.safe_text import shown
from atlas.studies.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Colour", "Method", "Panel", "panels_of"]

Colour: TypeAlias = Literal["frequency", "community", "sae", "match"]
Method: TypeAlias = Literal["umap", "pca"]

#: Sectors of the map of the first SAE, whose features and partners share a colour.
_SECTORS = 12

_HUES = (
    "#d6604d",
    "#e08a3c",
    "#c9a227",
    "#8ca62c",
    "#4d9a3f",
    "#2f9c84",
    "#3a8fb7",
    "#4c78a8",
    "#6a62b5",
    "#8e5bb0",
    "#b3569a",
    "#c9577a",
)
_DECADES = ("#440154", "#3b528b", "#21918c", "#5ec962", "#e3b505")
_GREY = "#c4c4c4"


@dataclass(frozen=True, eq=False)
class Panel:
    """One drawn map.

    Parameters
    ----------
    title, subtitle
        Name of the SAE or pair, and lines with the quality of the map.
    axes
        Titles of both axes; empty for UMAP, whose axes have no meaning.
    points
        float64, (points, 2).
    ids, labels
        Keys of the features, and the tokens on which they are active most often.
    classes
        int64. Class of each point.
    names, colours
        Name and colour of each class.
    link
        int64. Number of the matched pair of each point; -1 for none. Equal numbers are partners.
    """

    title: str
    subtitle: tuple[str, ...]
    axes: tuple[str, str]
    points: Floats
    ids: list[str]
    labels: list[str]
    classes: Ints
    names: tuple[str, ...]
    colours: tuple[str, ...]
    link: Ints

    def frame(self) -> "pd.DataFrame":
        """Return a row for each point."""
        import pandas as pd

        return pd.DataFrame(
            {
                "id": self.ids,
                "top_token": self.labels,
                "x": self.points[:, 0],
                "y": self.points[:, 1],
                "class": np.array(self.names, dtype=object)[self.classes],
            }
        )


def panels_of(
    results: Sequence[Result], *, method: Method = "umap", colour: Colour | None = None
) -> list[Panel]:
    """Return the panels of maps; those of two matched SAEs are linked.

    Parameters
    ----------
    results
        Results of ``analysis.feature_map.study.map_features`` of one atlas.
    method
        The coordinates to draw.
    colour
        Property that the colours show. Default: the match if two SAEs are drawn that are matched, the
        SAE on a joint map, otherwise the frequency.

    Raises
    ------
    BadInput
        If no feature has coordinates, or colours of a match are requested without one.
    Missing
        If the results have no atlas.
    """
    if not results:
        raise BadInput("There is no map to draw.")
    if results[0].atlas is None:
        raise Missing(
            "A drawn map shows tokens, and the result has no atlas. Set `result.atlas` to its folder."
        )
    frames = [_points(result, method) for result in results]
    with Atlas.open(results[0].atlas) as atlas:
        known = _known(atlas, sorted({sae for frame in frames for sae in frame["sae"].unique()}))
        frames = [frame.join(known, on="id") for frame in frames]
        links = _links(atlas, frames)
    if colour is None:
        colour = _default_colour(frames, links)
    coloured = _Colours.of(colour, frames, links)
    return [
        _panel(result, frame, link, coloured=(coloured, number), method=method)
        for number, (result, frame, link) in enumerate(zip(results, frames, links, strict=True))
    ]


def _points(result: Result, method: Method) -> "pd.DataFrame":
    """Return the points of a result that have coordinates."""
    frame: pd.DataFrame = result.table("points").to_pandas()
    if method == "pca":
        frame = frame.assign(x=frame["pca_x"], y=frame["pca_y"])
    frame = frame[np.isfinite(frame["x"]) & np.isfinite(frame["y"])].reset_index(drop=True)
    if not len(frame):
        reason = (
            "a map of two spaces has no common axes for PCA"
            if method == "pca" and result["points"]
            else "no live feature has a vector"
        )
        raise BadInput(f"The map of {result['saes']} has no points: {reason}.")
    return frame


def _known(atlas: Atlas, saes: Sequence[str]) -> "pd.DataFrame":
    """Return the frequency, community and top token of the features of SAEs, by key."""
    import pandas as pd

    wanted = ["id", "frequency", "community", "top_token"]
    tables = [atlas.features(sae).select(wanted).to_pandas() for sae in saes]
    found: pd.DataFrame = pd.concat(tables).set_index("id")
    return found


def _links(atlas: Atlas, frames: "Sequence[pd.DataFrame]") -> list[Ints]:
    """Return the number of the matched pair of each point; -1 for none."""
    links = [np.full(len(frame), -1, dtype=np.int64) for frame in frames]
    saes = sorted({sae for frame in frames for sae in frame["sae"].unique()})
    if len(saes) != 2:
        return links
    edges = atlas.table("MATCHES", sae=saes[0]).select(["source", "target", "one_to_one"])
    number: dict[str, int] = {}
    for edge in edges.to_pylist():
        if edge["one_to_one"] and edge["target"].rpartition("/")[0] == saes[1]:
            number[edge["source"]] = number[edge["target"]] = len(number) // 2
    return [
        np.array([number.get(key, -1) for key in frame["id"]], dtype=np.int64) for frame in frames
    ]


def _default_colour(frames: "Sequence[pd.DataFrame]", links: Sequence[Ints]) -> Colour:
    if len(frames) == 1:
        return "sae" if frames[0]["sae"].nunique() > 1 else "frequency"
    return "match" if any((link >= 0).any() for link in links) else "frequency"


@dataclass(frozen=True, eq=False)
class _Colours:
    """Classes of the points of each frame, the name and colour of each class, and what they show."""

    classes: list[Ints]
    names: tuple[str, ...]
    colours: tuple[str, ...]
    note: str = ""

    @classmethod
    def of(
        cls, colour: Colour, frames: "Sequence[pd.DataFrame]", links: Sequence[Ints]
    ) -> "_Colours":
        if colour == "match":
            return cls._by_match(frames, links)
        if colour == "frequency":
            return cls._by_frequency(frames)
        if colour == "sae":
            saes = sorted({sae for frame in frames for sae in frame["sae"].unique()})
            classes = [np.searchsorted(saes, frame["sae"].to_numpy(dtype=str)) for frame in frames]
            return cls(classes, tuple(map(shown, saes)), _cycled(len(saes), step=5))
        classes = [frame["community"].fillna(-1).to_numpy(dtype=np.int64) + 1 for frame in frames]
        classes = [np.minimum(each, _SECTORS + 1) for each in classes]
        names = ("no community", *(f"community {i}" for i in range(_SECTORS)), "smaller community")
        return cls(classes, names, (_GREY, *_HUES, "#8a8a8a"))

    @classmethod
    def _by_frequency(cls, frames: "Sequence[pd.DataFrame]") -> "_Colours":
        edges = np.array([1e-4, 1e-3, 1e-2, 1e-1])
        names = ("below 0.0001", "0.0001 to 0.001", "0.001 to 0.01", "0.01 to 0.1", "0.1 or more")
        classes = [np.searchsorted(edges, f["frequency"].to_numpy(), side="right") for f in frames]
        return cls(classes, tuple(f"frequency {name}" for name in names), _DECADES)

    @classmethod
    def _by_match(cls, frames: "Sequence[pd.DataFrame]", links: Sequence[Ints]) -> "_Colours":
        """Colour each pair by the sector of its feature on the map of the first SAE."""
        pairs = max(int(link.max(initial=-1)) for link in links) + 1
        if not pairs:
            raise BadInput(
                "Colours of matches need two matched SAEs, and these have no one-to-one match; run "
                "`atlas match`."
            )
        first = frames[0]["sae"].iloc[0]
        own = (frames[0]["sae"] == first).to_numpy() & (links[0] >= 0)
        at = frames[0].loc[own, ["x", "y"]].to_numpy()
        x, y = (at - at.mean(axis=0)).T if len(at) else np.zeros((2, 0))
        sector = np.full(pairs, -1, dtype=np.int64)
        turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
        sector[links[0][own]] = np.minimum((turn * _SECTORS).astype(np.int64), _SECTORS - 1)
        classes = [np.where(link >= 0, sector[link] + 1, 0) for link in links]
        names = ("no match on the map", *(f"match, sector {i + 1}" for i in range(_SECTORS)))
        note = f"colour: sector of the map of {shown(str(first))}; matched features share a colour"
        return cls(classes, names, (_GREY, *_HUES), note)


def _cycled(count: int, *, step: int) -> tuple[str, ...]:
    return tuple(_HUES[(7 + step * i) % len(_HUES)] for i in range(count))


def _panel(
    result: Result,
    frame: "pd.DataFrame",
    link: Ints,
    *,
    coloured: tuple[_Colours, int],
    method: Method,
) -> Panel:
    colours, number = coloured
    tokens: NDArray[np.object_] = frame["top_token"].fillna("").to_numpy(dtype=object)
    axes = ("", "")
    if method == "pca":
        axes = ("first principal component", "second principal component")
    return Panel(
        title=shown(f"{result['saes']}: {_what(result, method)}"),
        subtitle=(*_subtitle(result, method), *([colours.note] if colours.note else [])),
        axes=axes,
        points=frame[["x", "y"]].to_numpy(dtype=np.float64),
        ids=[shown(key) for key in frame["id"]],
        labels=[shown(str(token)) for token in tokens],
        classes=colours.classes[number],
        names=colours.names,
        colours=colours.colours,
        link=link,
    )


def _what(result: Result, method: Method) -> str:
    space = "decoder directions" if result["space"] == "decoder" else "activations"
    return f"{'PCA' if method == 'pca' else result['method']} of {space}"


def _subtitle(result: Result, method: Method) -> list[str]:
    prefix = "pca_" if method == "pca" else ""
    lines = [
        f"n = {result['points']:,} of {result['features']:,} features, {result['dead']:,} dead"
    ]
    trust, overlap = result[f"{prefix}trustworthiness"], result[f"{prefix}overlap"]
    if trust is not None and overlap is not None:
        lines.append(
            f"trustworthiness {trust:.3f}; overlap with the {result['neighbours']} nearest in the full space "
            f"{overlap:.3f}, random {result['chance']:.3f}"
        )
    if method == "pca" and result["pca_variance"] is not None:
        lines.append(f"both components explain {result['pca_variance']:.1%} of the variance")
    elif result["seeds_overlap"] is not None:
        lines.append(
            f"agreement with {result['repeats']} other seeds: overlap {result['seeds_overlap']:.3f}, Procrustes "
            f"{result['seeds_correlation']:.3f}"
        )
    return lines
