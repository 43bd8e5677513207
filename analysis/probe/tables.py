"""Tables of the probes of an atlas: summaries, breakdowns, first layers and sweeps.

All are computed from one table (``load``). It has a row for each probe, that is for each
feature, site and run, with properties of the feature and of the site.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from atlas.amounts import listed
from atlas.errors import BadInput, UnknownName
from atlas.studies.floors import is_floor
from ingest.probe.settings import CLASSIFIERS

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.api import Atlas

__all__ = [
    "GROUP",
    "RUNGS",
    "SCORES",
    "VERDICTS",
    "breakdown",
    "first_layer_histogram",
    "first_layers",
    "ladder",
    "load",
    "summary",
    "sweep",
]

_CLASSIFIER_SCORES = (
    "accuracy",
    "balanced_accuracy",
    "token_table",
    "token_ceiling",
    "position_ceiling",
    "bigram_ceiling",
    "control",
    "selectivity",
    "shuffled",
    "train_balanced_accuracy",
    "accuracy_gap",
    "auroc",
    "seen_share",
    "inactive_share",
    "train_loss",
    "loss",
    "gap",
)

#: The described scores of each kind of probe, in display order.
SCORES: dict[str, tuple[str, ...]] = dict.fromkeys(CLASSIFIERS, _CLASSIFIER_SCORES) | {
    "activation": (
        "r2",
        "r2_token_table",
        "r2_token_ceiling",
        "r2_active",
        "r2_active_token_table",
        "r2_active_token_ceiling",
        "train_loss",
        "loss",
        "gap",
    ),
}

VERDICTS = ("token", "beyond token", "context", "undecided")

#: The ladder: ranges of scores with their lower ends; each ends at the previous one.
RUNGS: tuple[tuple[str, float], ...] = (
    ("≥95%", 0.95),
    ("90–95%", 0.90),
    ("85–90%", 0.85),
    ("80–85%", 0.80),
    ("75–80%", 0.75),
    ("<75%", -np.inf),
)

GROUP = ["sae", "site", "run"]

# The sites of a block, in the order of the forward pass.
_WITHIN = (
    "hook_resid_pre",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)

# Names of SAEs in a row about several.
_MOST_NAMES = 3

# Scores whose means are in a breakdown.
_BROKEN_DOWN = ("accuracy", "balanced_accuracy", "token_table", "token_ceiling", "control")


def load(
    atlas: "Atlas",
    *,
    saes: Iterable[str] | None = None,
    sites: Iterable[str] | None = None,
    run: str | None = None,
) -> pd.DataFrame:
    """Load the probes of an atlas, with a row for each feature, site and run.

    Parameters
    ----------
    atlas
        The atlas, in a folder or on a server.
    saes
        Names of SAEs. Default: all.
    sites
        Only probes from these sites, by hook name or ``model/hook``.
    run
        Only this run or, if there is no such run, all runs with this prefix. ``"type"`` selects
        runs split by token type, and ``"document/active"`` selects probes of kind 'active'.

    Returns
    -------
    table
        The columns of PREDICTED_FROM except ``source`` and ``target``, and ``feature``,
        ``sae``, ``idx``, ``layer`` (block that the SAE reads; null at the embedding), ``model``
        (of the SAE), ``floor`` (whether the SAE is a floor),
        ``frequency`` (share of tokens), ``max_activation``, ``top_token``, ``site`` (hook
        name), ``site_layer``, ``site_rank`` (rank of the site in model order, from 0),
        ``accuracy_gap`` (training - validation, balanced accuracy) and ``inactive_share``
        (of the validation tokens). Rows are sorted by SAE, site, run and index. The table is
        empty if the atlas has no probes.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE, or no probes of that site or run.
    """
    table = _edges(atlas, list(saes or ()))
    table = table.merge(_features(atlas), on="feature", how="left", validate="many_to_one")
    table = table.merge(_sites(atlas), on="site_id", how="left", validate="many_to_one")
    table["accuracy_gap"] = table["train_balanced_accuracy"] - table["balanced_accuracy"]
    table["inactive_share"] = 1 - table["positives"] / table["tokens"].where(table["tokens"] > 0)
    table = table.sort_values(["sae", "site_rank", "run", "idx"], ignore_index=True)
    if len(table) and sites:
        table = table[_of_sites(table, list(sites))]
    if len(table) and run is not None:
        table = table[_of_run(table, run)]
    return table.reset_index(drop=True)


def summary(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Summarize the probes of each SAE, site and run.

    The original study reported ``accuracy`` on validation tokens of which up to 99.9% are
    inactive. A probe that always predicts "inactive" is nearly always right on them. The
    summary therefore also has ``balanced_accuracy``, whose chance level is 0.5, the score of a
    table of token ids, its ceiling, and the controls.

    Parameters
    ----------
    table
        The result of ``load``.

    Returns
    -------
    rows
        For each SAE, site and run: ``sae``, ``site``, ``run``, ``kind``, ``probes`` (number of
        features), ``scores`` and ``unconverged`` (probes whose solver stopped early).
        ``scores`` has for each name in ``SCORES[kind]`` its ``n`` (probes with the score),
        ``mean``, ``median``, ``std`` (population: ddof 0), ``min`` and ``max``; null if no
        probe has the score. Classifiers also have ``ladder`` for ``accuracy`` and
        ``balanced_accuracy``, see the function ``ladder``, and the counts of each value of
        ``verdicts``, ``how``, ``context_by`` and ``generalises``.
    """
    rows = []
    for (sae, site, run), of in table.groupby(GROUP, sort=False):
        kind = str(of["kind"].iloc[0])
        row: dict[str, Any] = {
            "sae": sae,
            "site": site,
            "run": run,
            "kind": kind,
            "probes": len(of),
            "scores": {name: _described(of[name]) for name in SCORES[kind]},
            "unconverged": int((of["converged"] == False).sum()),  # noqa: E712 (nulls do not count)
        }
        if kind in CLASSIFIERS:
            row["ladder"] = {s: ladder(of[s]) for s in ("accuracy", "balanced_accuracy")}
            row["verdicts"] = _verdicts(of)
            for name in ("how", "context_by", "generalises"):
                row[name] = {str(k): int(n) for k, n in of[name].value_counts().items()}
        rows.append(row)
    return rows


def ladder(values: "pd.Series[Any]") -> list[dict[str, Any]]:
    """Count values by the ranges (rungs) of the ladder.

    Parameters
    ----------
    values
        Shares between 0 and 1; nulls are not counted.

    Returns
    -------
    rungs
        For each rung, the highest first: ``rung``, ``count`` and ``share``, and the cumulative
        ``at_least`` and ``at_least_share``. Shares are null if there are no values.
    """
    valid = values.dropna().to_numpy(float)
    rows, above = [], 0
    for name, low in RUNGS:
        at_least = int((valid >= low).sum())
        rows.append(
            {
                "rung": name,
                "count": at_least - above,
                "share": _share(at_least - above, len(valid)),
                "at_least": at_least,
                "at_least_share": _share(at_least, len(valid)),
            }
        )
        above = at_least
    return rows


def breakdown(
    table: pd.DataFrame,
    *,
    by: Literal["frequency", "max_activation", "layer"] = "frequency",
    bins: int = 5,
) -> list[dict[str, Any]]:
    """Count verdicts and average scores by a property of the features.

    Parameters
    ----------
    table
        The result of ``load``; only classifiers are counted: probes of kind 'activation' are not.
    by
        ``"frequency"`` or ``"max_activation"``: by its quantiles over the features of each SAE,
        site and run. ``"layer"``: by the block that the SAE reads; trained SAEs of one layer of one
        model share a row, and each floor has its own.
    bins
        Number of quantile bins; fewer if values repeat.

    Returns
    -------
    rows
        For quantiles, ``sae``, ``site``, ``run``, ``low`` and ``high``. Bins include ``low`` but
        not ``high``, except for the last bin, which includes both. Features without the number
        have null ends. For layers, ``sae`` (the first three names of the row), ``saes`` (their
        number), ``site``, ``run`` and ``layer`` (null: the embedding). Then
        ``probes``, means of scores, and the count of each verdict.

    Raises
    ------
    BadInput
        If ``bins`` is below 1.
    """
    if bins < 1:
        raise BadInput(f"bins={bins} was requested; expected 1 or more.")
    active = _active(table)
    if by == "layer":
        alone = active["sae"].where(active["floor"], "").rename("alone")
        order = ["site_rank", "run", "layer", "alone", "model"]
        groups = (
            active.assign(alone=alone)
            .sort_values(order, na_position="first", kind="stable")
            .groupby(["site", "run", "layer", "alone", "model"], sort=False, dropna=False)
        )
        return [
            {
                **_named(of["sae"].unique().tolist()),
                "site": site,
                "run": run,
                "layer": _whole(layer),
                **_averaged(of),
            }
            for (site, run, layer, *_), of in groups
        ]
    rows = []
    for (sae, site, run), of in active.groupby(GROUP, sort=False):
        edges, at = _quantile_bins(of[by].to_numpy(float), bins)
        for which in np.unique(at):
            ends = (None, None) if which < 0 else (float(edges[which]), float(edges[which + 1]))
            rows.append(
                {
                    "sae": sae,
                    "site": site,
                    "run": run,
                    "low": ends[0],
                    "high": ends[1],
                    **_averaged(of[at == which]),
                }
            )
    return rows


def first_layers(table: pd.DataFrame, *, delta: float = 0.02) -> pd.DataFrame:
    """Find the first site at which each feature is predicted nearly as well as at its best site.

    Parameters
    ----------
    table
        The result of ``load``; only classifiers are used: probes of kind 'activation' are not.
    delta
        Largest difference from the best balanced accuracy of the feature.

    Returns
    -------
    features
        A row for each feature and run probed at two or more sites: ``sae``, ``run``,
        ``feature``, ``idx``, ``layer``, ``sites`` (their number), ``site`` (the first site in
        model order whose balanced accuracy is within ``delta`` of the best), ``site_rank``,
        ``score`` (at this site), ``best_site``, ``best``.

    Raises
    ------
    BadInput
        If ``delta`` is negative or not a number.
    """
    if not delta >= 0:
        raise BadInput(f"delta={delta} was requested; expected 0 or more.")
    scored = _active(table).dropna(subset=["balanced_accuracy"])
    key = ["sae", "run", "feature"]
    scored = scored.sort_values(["sae", "run", "idx", "site_rank"], ignore_index=True)
    groups = scored.groupby(key, sort=False)["balanced_accuracy"]
    scored["sites"], scored["best"] = groups.transform("size"), groups.transform("max")
    scored = scored[scored["sites"] > 1]
    best = scored[scored["balanced_accuracy"] == scored["best"]].drop_duplicates(key)
    # The tolerance for rounding includes scores at a distance of exactly delta.
    near = scored[scored["best"] - scored["balanced_accuracy"] <= delta + 1e-12]
    first = near.drop_duplicates(key).rename(columns={"balanced_accuracy": "score"})
    first = first.assign(best_site=best["site"].to_numpy())
    return first[
        [*key, "idx", "layer", "sites", "site", "site_rank", "score", "best_site", "best"]
    ].reset_index(drop=True)


def first_layer_histogram(first: pd.DataFrame) -> list[dict[str, Any]]:
    """Count features by their first site; see ``first_layers``.

    Parameters
    ----------
    first
        The result of ``first_layers``.

    Returns
    -------
    rows
        For each SAE, run and site that is the first one of a feature, in model order: ``sae``,
        ``layer`` (that the SAE reads), ``run``, ``site``, ``features``, ``share``,
        ``share_so_far`` (cumulative share) and ``mean_score`` (at this site).
    """
    rows = []
    for (sae, run), of in first.groupby(["sae", "run"], sort=False):
        so_far = 0
        for site, at in of.sort_values("site_rank").groupby("site", sort=False):
            so_far += len(at)
            rows.append(
                {
                    "sae": sae,
                    "layer": _whole(of["layer"].iloc[0]),
                    "run": run,
                    "site": site,
                    "features": len(at),
                    "share": len(at) / len(of),
                    "share_so_far": so_far / len(of),
                    "mean_score": float(at["score"].mean()),
                }
            )
    return rows


def sweep(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Average balanced accuracy by the layer of the SAE and the site probed.

    Each SAE has its own rows, even if two SAEs read the same layer. Within an SAE and run, means
    are over the features with a score at every probed site.

    Parameters
    ----------
    table
        The result of ``load``; only classifiers are averaged: probes of kind 'activation' are not.

    Returns
    -------
    rows
        For each SAE and run probed at two or more sites, by layer, and for each site:
        ``layer`` (null: the embedding), ``sae``, ``run``, ``site``, ``site_layer``,
        ``site_rank``, ``features`` (averaged), ``left_out`` (not scored at every site),
        ``balanced_accuracy``, ``token_ceiling`` and ``beyond_token`` (features with that
        verdict).
    """
    rows = []
    active = _active(table).sort_values(
        ["layer", "sae", "run", "site_rank"], na_position="first", kind="stable"
    )
    for (sae, run), of in active.groupby(["sae", "run"], sort=False):
        count = of["site"].nunique()
        if count < 2:
            continue
        scored = of.dropna(subset=["balanced_accuracy"])
        times = scored.groupby("feature")["site"].transform("size")
        complete = scored[times == count]
        features = complete["feature"].nunique()
        for site, at in complete.groupby("site", sort=False):
            rows.append(
                {
                    "layer": _whole(at["layer"].iloc[0]),
                    "sae": sae,
                    "run": run,
                    "site": site,
                    "site_layer": _whole(at["site_layer"].iloc[0]),
                    "site_rank": int(at["site_rank"].iloc[0]),
                    "features": features,
                    "left_out": of["feature"].nunique() - features,
                    "balanced_accuracy": float(at["balanced_accuracy"].mean()),
                    "token_ceiling": _number(at["token_ceiling"].mean()),
                    "beyond_token": int((at["verdict"] == "beyond token").sum()),
                }
            )
    return rows


def _edges(atlas: "Atlas", saes: Sequence[str]) -> pd.DataFrame:
    import pyarrow as pa

    if saes:
        found = pa.concat_tables(
            [atlas.table("PREDICTED_FROM", sae=s) for s in dict.fromkeys(saes)]
        )
    else:
        found = atlas.table("PREDICTED_FROM")
    return _frame(found).rename(columns={"source": "feature", "target": "site_id"})


def _features(atlas: "Atlas") -> pd.DataFrame:
    """Load the properties of features, and the layer that their SAE reads."""
    wanted = ["id", "sae", "idx", "frequency", "max_activation", "top_token"]
    features = _frame(atlas.table("Feature").select(wanted)).rename(columns={"id": "feature"})
    sites = atlas.table("Site")
    layers = dict(zip(sites["id"].to_pylist(), sites["layer"].to_pylist(), strict=True))
    read = atlas.table("READS")
    site_of = dict(zip(read["source"].to_pylist(), read["target"].to_pylist(), strict=True))
    of_sae = {sae: layers.get(site) for sae, site in site_of.items()}
    features["layer"] = features["sae"].map(of_sae).astype("float64")
    saes = atlas.table("SAE").to_pylist()
    features["model"] = features["sae"].map({row["name"]: row["model"] for row in saes})
    features["floor"] = features["sae"].isin([row["name"] for row in saes if is_floor(row)])
    return features


def _sites(atlas: "Atlas") -> pd.DataFrame:
    """Load the sites, ranked in the order of the forward pass."""
    sites = _frame(atlas.table("Site").select(["id", "hook", "layer"]))
    sites = sites.rename(columns={"id": "site_id", "hook": "site", "layer": "site_layer"})
    sites["site"] = sites["site"].fillna(sites["site_id"])
    keys = [_order(*of) for of in zip(sites["site"], sites["site_layer"], strict=True)]
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    sites["site_rank"] = [ranks[key] for key in keys]
    return sites


def _order(hook: str, layer: float) -> tuple[float, int, str]:
    rest = hook.split(".", 2)[-1]
    within = _WITHIN.index(rest) if rest in _WITHIN else len(_WITHIN)
    return (-1.0 if pd.isna(layer) else layer, within, hook)


def _frame(data: "pa.Table") -> pd.DataFrame:
    frame: pd.DataFrame = data.to_pandas()
    return frame


def _of_sites(table: pd.DataFrame, sites: Sequence[str]) -> "pd.Series[bool]":
    known = {*table["site"], *table["site_id"]}
    for site in sites:
        if site not in known:
            raise UnknownName("probed site", site, known=set(table["site"]))
    return table["site"].isin(sites) | table["site_id"].isin(sites)


def _of_run(table: pd.DataFrame, run: str) -> "pd.Series[bool]":
    selected = table["run"] == run
    if not selected.any():
        selected = table["run"].str.startswith(run.rstrip("/") + "/")
    if not selected.any():
        raise UnknownName("run of probes", run, known=set(table["run"]))
    return selected


def _active(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["kind"].isin(CLASSIFIERS)]


def _described(values: "pd.Series[Any]") -> dict[str, Any]:
    valid = values.dropna().to_numpy(float)
    if not len(valid):
        return {"n": 0, **dict.fromkeys(("mean", "median", "std", "min", "max"))}
    return {
        "n": len(valid),
        "mean": float(valid.mean()),
        "median": float(np.median(valid)),
        "std": float(valid.std()),
        "min": float(valid.min()),
        "max": float(valid.max()),
    }


def _verdicts(of: pd.DataFrame) -> dict[str, int]:
    counts = of["verdict"].value_counts()
    return {name: int(counts.get(name, 0)) for name in VERDICTS}


def _named(saes: Sequence[str]) -> dict[str, Any]:
    return {"sae": listed(saes, _MOST_NAMES), "saes": len(saes)}


def _averaged(of: pd.DataFrame) -> dict[str, Any]:
    means = {name: _number(of[name].mean()) for name in _BROKEN_DOWN}
    return {"probes": len(of), **means, **_verdicts(of)}


def _quantile_bins(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", bins: int
) -> "tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]":
    """Return the bin edges, and the bin of each value; -1 for values that are not finite."""
    at = np.full(len(values), -1, dtype=np.int64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.empty(0), at
    edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, bins + 1)))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    inner = edges[1:-1]
    at[finite] = np.searchsorted(inner, values[finite], side="right")
    return edges, at


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
