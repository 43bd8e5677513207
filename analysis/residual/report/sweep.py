"""Tables by layer and model: R² of affine maps, token means and floor, and verdicts on features."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.probe.tables import VERDICTS

if TYPE_CHECKING:
    from atlas.api import Atlas

__all__ = ["sweep_rows", "verdict_rows"]

#: Reported columns of MAPS_TO, in this order.
_REPORTED = (
    "method",
    "run",
    "tokens",
    "r2_weighted",
    "r2_low",
    "r2_high",
    "r2",
    "token_r2_weighted",
    "token_difference",
    "token_difference_low",
    "token_difference_high",
    "r2_in_sample_weighted",
    "token_eta2_weighted",
    "token_omega2_weighted",
    "r2_with_bos_weighted",
    "r2_published",
    "bos_share",
    "mse",
    "variance",
    "seen_share",
    "penalty",
)

#: Means over the probes of a layer.
_MEANS = ("balanced_accuracy", "token_table", "token_ceiling")

_NONE: Mapping[str, str] = MappingProxyType({})


def sweep_rows(
    atlas: "Atlas", *, source: str = "hook_embed", floors: Mapping[str, str] = _NONE
) -> list[dict[str, Any]]:
    """Return how much of each site an affine map from one site explains, for every model.

    Parameters
    ----------
    atlas
        The atlas.
    source
        TransformerLens name of the source site.
    floors
        Random-weight baseline of each model, by name of the model. Floors have no rows of their
        own; see ``assign_floors``.

    Returns
    -------
    rows
        For each model, target and run, by depth: ``model``, ``target`` (hook), ``layer`` (null at
        the embedding), ``depth`` (blocks before the target / blocks of the model), columns of
        MAPS_TO, ``of_token_means`` (``r2_weighted`` / ``token_r2_weighted``). Then ``floor`` (name of the
        random-weight model, if it has such a map), ``floor_r2_weighted``,
        ``floor_token_r2_weighted`` and ``above_floor`` (difference of ``r2_weighted``). Columns
        of the floor are null if there is none.
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
        values = {
            "model": row["model"],
            "target": row["hook"],
            "layer": layer,
            "depth": 0.0 if layer is None else (layer + 1) / blocks[row["model"]],
            **{name: _value(row[name]) for name in _REPORTED},
        }
        values["of_token_means"] = _ratio(values["r2_weighted"], values["token_r2_weighted"])
        values["floor"] = floor if under else None
        for name in ("r2_weighted", "token_r2_weighted"):
            values[f"floor_{name}"] = _value(under.get(name))
        both = (values["r2_weighted"], values["floor_r2_weighted"])
        values["above_floor"] = None if None in both else both[0] - both[1]
        rows.append(values)
    return rows


def verdict_rows(
    probes: pd.DataFrame,
    *,
    source: str = "hook_embed",
    without: Sequence[str] = (),
    floors: Mapping[str, str] = _NONE,
) -> list[dict[str, Any]]:
    """Return the share of each verdict by the model and layer of the probed features.

    Parameters
    ----------
    probes
        Result of ``analysis.probe.tables.load``.
    source
        Site of the probes.
    without
        SAEs to exclude, such as those that do not read the full activations.
    floors
        As for ``sweep_rows``; a floor has its own SAEs, trained on its activations.

    Returns
    -------
    rows
        For each model, layer and run of kind 'active': ``model``, ``layer``, ``run``, ``saes``,
        ``features`` (probed), mean ``balanced_accuracy``, ``token_table`` and ``token_ceiling``,
        and the share of features with each verdict, by its name. ``floor`` and columns
        ``floor_…`` hold the same numbers of the floor; null without probes of the same run.
    """
    found = probes[
        (probes["kind"] == "active") & (probes["site"] == source) & ~probes["sae"].isin(without)
    ].copy()
    found["model"] = [site.rpartition("/")[0] for site in found["site_id"]]
    rows: dict[tuple[str, int | None, str], dict[str, Any]] = {}
    found["depth"] = found["layer"].fillna(-1)  # the embedding comes first
    for _, group in found.groupby(["model", "depth", "run"], sort=True):
        first = group.iloc[0]
        layer = None if pd.isna(first["layer"]) else int(first["layer"])
        rows[first["model"], layer, first["run"]] = {
            "model": first["model"],
            "run": first["run"],
            "layer": layer,
            "saes": group["sae"].nunique(),
            **_shares(group),
        }
    result = []
    for (model, layer, run), row in rows.items():
        if model in floors.values():
            continue
        floor = floors.get(model)
        under = rows.get((floor, layer, run), {}) if floor else {}
        of_floor = {f"floor_{name}": under.get(name) for name in ("features", *_MEANS, *VERDICTS)}
        result.append(row | {"floor": floor if under else None, **of_floor})
    return result


def _shares(probes: pd.DataFrame) -> dict[str, Any]:
    """Return the number of probed features, their mean scores, and the share of each verdict."""
    return {
        "features": len(probes),
        **{name: _float(probes[name].mean()) for name in _MEANS},
        **{name: float((probes["verdict"] == name).mean()) for name in VERDICTS},
    }


def _maps(atlas: "Atlas", source: str) -> pd.DataFrame:
    """Return the maps from a site, with model and layer of their targets, in order."""
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


def _ratio(part: float | None, total: float | None) -> float | None:
    return None if part is None or not total or total <= 0 else part / total


def _float(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
