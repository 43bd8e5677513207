"""The layer sweep and models side by side: what affine maps explain of each layer, beside token means and floor."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.probe.tables import VERDICTS

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["sweep_rows", "verdict_rows"]

#: Columns of MAPS_TO that are told, in this order.
_TOLD = (
    "method", "run", "tokens", "r2_weighted", "r2_low", "r2_high", "r2", "token_r2_weighted",
    "token_difference", "token_difference_low", "token_difference_high",
    "r2_in_sample_weighted", "token_eta2_weighted", "token_omega2_weighted",
    "r2_with_bos_weighted", "r2_published", "bos_share", "mse", "variance", "seen_share", "penalty",
)  # fmt: skip

#: Means over the probes of a layer.
_MEANS = ("balanced_accuracy", "token_table", "token_ceiling")

_NONE: Mapping[str, str] = MappingProxyType({})


def sweep_rows(
    atlas: "Atlas", *, source: str = "hook_embed", floors: Mapping[str, str] = _NONE
) -> list[dict[str, Any]]:
    """Return how much an affine map from one place explains of the others, for every model.

    Parameters
    ----------
    atlas
        The atlas.
    source
        TransformerLens name of the place mapped from.
    floors
        For a model, that of random weights which stands beside it as the floor that training
        must beat, and has no rows of its own; see ``floors_beside``.

    Returns
    -------
    rows
        For each model, target and run, in the order of the model: ``model``, ``target`` (hook),
        ``layer`` (null at the embedding), ``depth`` (blocks passed / blocks of the model), columns
        of MAPS_TO, ``of_token_means`` (``r2_weighted`` / ``token_r2_weighted``), ``floor`` (name of the
        model of random weights, where it has such a map), ``floor_r2_weighted``, ``floor_token_r2_weighted`` and
        ``above_floor`` (difference of ``r2_weighted``); null where there is no floor.
    """
    table = _maps(atlas, source)
    blocks = {row["name"]: row["layers"] for row in atlas.table("Model").to_pylist()}
    keys = ["model", "hook", "run"]
    by_key = {tuple(row[k] for k in keys): row for row in table.to_dict("records")}
    rows = []
    for row in table[~table["model"].isin(floors.values())].to_dict("records"):
        floor = floors.get(row["model"])
        under = by_key.get((floor, row["hook"], row["run"]), {})
        layer = None if pd.isna(row["layer"]) else int(row["layer"])
        said = {
            "model": row["model"], "target": row["hook"], "layer": layer,
            "depth": 0.0 if layer is None else (layer + 1) / blocks[row["model"]],
            **{name: _value(row[name]) for name in _TOLD},
        }  # fmt: skip
        said["of_token_means"] = _ratio(said["r2_weighted"], said["token_r2_weighted"])
        said["floor"] = floor if under else None
        for name in ("r2_weighted", "token_r2_weighted"):
            said[f"floor_{name}"] = _value(under.get(name))
        both = (said["r2_weighted"], said["floor_r2_weighted"])
        said["above_floor"] = None if None in both else both[0] - both[1]
        rows.append(said)
    return rows


def verdict_rows(
    probes: pd.DataFrame,
    *,
    source: str = "hook_embed",
    without: Sequence[str] = (),
    floors: Mapping[str, str] = _NONE,
) -> list[dict[str, Any]]:
    """Return the share of each verdict by the model and layer whose features were probed.

    Parameters
    ----------
    probes
        What ``analysis.probe.tables.load`` returned.
    source
        Only probes from this place.
    without
        SAEs to be left out, such as those that read less than the activations.
    floors
        As for ``sweep_rows``; the SAEs of a floor are others, trained on its activations.

    Returns
    -------
    rows
        For each model, layer and run of kind 'active': ``model``, ``layer``, ``run``, ``saes``,
        ``features`` (probed), mean ``balanced_accuracy``, ``token_table`` and ``token_ceiling``,
        the share of features of each verdict, by its name, and ``floor`` with these numbers of
        the floor's features as ``floor_…``, null where none were probed alike.
    """
    found = probes[
        (probes["kind"] == "active") & (probes["site"] == source) & ~probes["sae"].isin(without)
    ].copy()
    found["model"] = [site.rpartition("/")[0] for site in found["site_id"]]
    rows: dict[tuple[str, int | None, str], dict[str, Any]] = {}
    found["depth"] = found["layer"].fillna(-1)  # the embedding comes first
    for _, of in found.groupby(["model", "depth", "run"], sort=True):
        first = of.iloc[0]
        layer = None if pd.isna(first["layer"]) else int(first["layer"])
        rows[first["model"], layer, first["run"]] = {
            "model": first["model"], "run": first["run"], "layer": layer,
            "saes": of["sae"].nunique(), **_shares(of),
        }  # fmt: skip
    told = []
    for (model, layer, run), row in rows.items():
        if model in floors.values():
            continue
        floor = floors.get(model)
        under = rows.get((floor, layer, run), {}) if floor else {}
        beside = {f"floor_{name}": under.get(name) for name in ("features", *_MEANS, *VERDICTS)}
        told.append(row | {"floor": floor if under else None, **beside})
    return told


def _shares(of: pd.DataFrame) -> dict[str, Any]:
    """Return how many features were probed, how well they are predicted, and their verdicts."""
    return {
        "features": len(of),
        **{name: _float(of[name].mean()) for name in _MEANS},
        **{name: float((of["verdict"] == name).mean()) for name in VERDICTS},
    }


def _maps(atlas: "Atlas", source: str) -> pd.DataFrame:
    """Return the maps from a place, with the model and layer of their targets, in order."""
    table: pd.DataFrame = atlas.table("MAPS_TO").to_pandas()
    sites = atlas.table("Site").select(["id", "model", "hook", "layer"]).to_pandas()
    hooks = dict(zip(sites["id"], sites["hook"], strict=True))
    table = table[table["source"].map(hooks) == source]
    table = table.merge(sites, left_on="target", right_on="id", validate="many_to_one")
    return table.sort_values(
        ["model", "layer", "hook", "run"], na_position="first", ignore_index=True
    )


def _value(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole or whole <= 0 else part / whole


def _float(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
