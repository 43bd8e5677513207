"""Floors: which model of random weights stands beside which other, by shape."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["floors_beside"]


def floors_beside(
    atlas: "Atlas", floors: Sequence[str], *, told: set[str], source: str = "hook_embed"
) -> dict[str, str]:
    """Return the floor of each model that has one: that of its width and number of blocks.

    Parameters
    ----------
    atlas
        The atlas.
    floors
        Names of models of random weights.
    told
        Models of which there is something to tell: maps from the source, or probes.
    source
        TransformerLens name of the place mapped and probed from; for the hint of an error.

    Raises
    ------
    UnknownName
        If there is nothing to tell of a floor.
    BadInput
        If a floor has the shape of no other model, or two floors have the same shape.
    """
    for name in floors:
        if name not in told:
            raise UnknownName(
                "model with maps or probes", name, known=told,
                hint=f"`atlas transcoder --model {name}=FOLDER --from {source}` makes maps of it, "
                "`atlas residual --model FOLDER` SAEs that are probed.",
            )  # fmt: skip
    rows = atlas.table("Model").to_pylist()
    shape = {row["name"]: (row["d_model"], row["layers"]) for row in rows}
    of_shape = {shape[floor]: floor for floor in floors}
    if twice := [name for name in floors if of_shape[shape[name]] != name]:
        raise BadInput(
            f"The floors {twice[0]} and {of_shape[shape[twice[0]]]} have the same shape; name one floor for "
            "each shape."
        )
    beside = {
        name: of_shape[shape[name]]
        for name in sorted(told - set(floors))
        if shape[name] in of_shape
    }
    if unused := set(floors) - set(beside.values()):
        raise BadInput(
            f"No other model of this atlas has the width and blocks of {', '.join(sorted(unused))}, so it is "
            "no floor of any; name a model of random weights made from the same configuration "
            "(`atlas random-weights MODEL` makes one)."
        )
    return beside
