"""Random-weight baselines (floors): assign each to the models of the same shape."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["floors_beside"]


def floors_beside(
    atlas: "Atlas", floors: Sequence[str], *, told: set[str], source: str = "hook_embed"
) -> dict[str, str]:
    """Return the floor of each model: the random-weight model of equal width and number of blocks.

    Parameters
    ----------
    atlas
        The atlas.
    floors
        Names of models with random weights.
    told
        Models with maps from the source, or with probes.
    source
        TransformerLens name of the site mapped and probed from; for the hint of an error.

    Raises
    ------
    UnknownName
        If a floor has neither maps nor probes.
    BadInput
        If no other model has the shape of a floor, or two floors have the same shape.
    """
    for name in floors:
        if name not in told:
            raise UnknownName(
                "model with maps or probes", name, known=told,
                hint=f"Run `atlas transcoder --model {name}=FOLDER --from {source}` to compute its maps, or "
                "`atlas residual --model FOLDER` to train and probe SAEs on it.",
            )  # fmt: skip
    rows = atlas.table("Model").to_pylist()
    shape = {row["name"]: (row["d_model"], row["layers"]) for row in rows}
    of_shape = {shape[floor]: floor for floor in floors}
    if twice := [name for name in floors if of_shape[shape[name]] != name]:
        raise BadInput(
            f"The floors {twice[0]} and {of_shape[shape[twice[0]]]} have the same shape; name one floor for "
            "each shape."
        )
    floor_of = {
        name: of_shape[shape[name]]
        for name in sorted(told - set(floors))
        if shape[name] in of_shape
    }
    if unused := set(floors) - set(floor_of.values()):
        raise BadInput(
            f"No other model of this atlas has the width and number of blocks of {', '.join(sorted(unused))}. "
            "Name a model with random weights and the configuration of the trained model; "
            "`atlas random-weights MODEL` writes one."
        )
    return floor_of
