"""Compare non-linear probes with the linear probe of the same features, tokens and split."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.disk.folder import Sound
from atlas.disk.parts import Part
from ingest.probe.settings import CLASSIFIERS

__all__ = ["kind_rows", "kind_verdict"]

#: Scores whose means are reported for each kind.
_SCORES = (
    "balanced_accuracy",
    "train_balanced_accuracy",
    "token_table",
    "token_ceiling",
    "control",
    "selectivity",
    "shuffled",
)

LINEAR = "active"

# Settings that may differ between kinds that are compared.
_FREE = ("kind", "penalty", "random_features", "hidden", "iterations", "tolerance", "controls")


def kind_rows(
    sound: Sound, saes: Iterable[str] = (), *, sites: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Compare the kinds of probes of each SAE, site and split.

    Parameters
    ----------
    sound
        The sound parts of an atlas.
    saes
        Names of SAEs; all if empty.
    sites
        Hooks of sites; all if empty.

    Returns
    -------
    rows
        For each run of a classifier whose split also has a linear probe: ``sae``, ``site``,
        ``split``, ``kind``, ``penalty``, ``features`` (probed by both), and means over these
        features of the scores. For non-linear kinds also ``difference`` (mean balanced accuracy
        minus that of the linear probe), its 95% interval ``low`` and ``high``, ``better`` and
        ``worse`` (features whose own interval of the difference excludes 0),
        ``control_difference`` and ``selectivity_difference``. Intervals use the stored draws of
        documents, which are the same for both probes; they are null without draws.
        If several penalties of the linear probe are stored, each run is compared with the one of
        its own penalty, and otherwise with the best on average.
    """
    groups: dict[tuple[Any, ...], list[Part]] = {}
    chosen = set(saes)
    for part in sound.of("probe"):
        stored, sae = part.manifest.settings, part.manifest.saes[0]
        if stored.get("kind") not in CLASSIFIERS or (chosen and sae not in chosen):
            continue
        (hook,) = part.table("Site")["hook"].to_pylist()
        if sites and hook not in sites:
            continue
        groups.setdefault((sae, hook, stored["split"], _common(part)), []).append(part)
    rows: list[dict[str, Any]] = []
    for (sae, site, split, _), parts in sorted(groups.items(), key=lambda item: item[0]):
        named = {"sae": sae, "site": site, "split": split}
        rows += [named | row for row in _compared(parts)]
    return rows


def kind_verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each non-linear run: how much better it is, and its control task."""
    names = {"mlp": "An MLP", "random-features": "A random-feature probe"}
    sentences = []
    for row in rows:
        if row["kind"] == LINEAR or row["difference"] is None:
            continue
        interval = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
        control = ""
        if row["control_difference"] is not None:
            control = f"; on the control task {row['control_difference']:+.3f}"
        sentences.append(
            f"{names[row['kind']]} predicts {row['features']:,} features of {row['sae']} from "
            f"{row['site']} (split by {row['split']}) with a balanced accuracy that differs by "
            f"{row['difference']:+.3f}{interval} from a linear probe{control}."
        )
    return sentences


def _common(part: Part) -> str:
    """Return a key of the settings that both probes must share."""
    stored = {k: v for k, v in part.manifest.settings.items() if k not in _FREE}
    return repr((sorted(stored.items()), part.manifest.seed))


def _compared(parts: Sequence[Part]) -> list[dict[str, Any]]:
    tables = [_table(part) for part in parts]
    linear = [i for i, part in enumerate(parts) if part.manifest.settings["kind"] == LINEAR]
    if not linear or len(linear) == len(parts):
        return []
    best = max(linear, key=lambda i: float(tables[i]["balanced_accuracy"].mean()))
    by_penalty = {_penalty(parts[i]): i for i in linear}
    order = sorted(range(len(parts)), key=lambda i: _rank(parts[i]))
    return [
        _row(parts[i], tables[i], tables[by_penalty.get(_penalty(parts[i]), best)]) for i in order
    ]


def _rank(part: Part) -> tuple[int, float]:
    return CLASSIFIERS.index(part.manifest.settings["kind"]), _penalty(part)


def _penalty(part: Part) -> float:
    stored = part.manifest.settings
    return float(stored["penalty"]) if stored.get("c") is None else -float(stored["c"])


def _table(part: Part) -> pd.DataFrame:
    """Return the scores by feature, with the draws of balanced accuracy as a column of arrays."""
    edges: pd.DataFrame = part.table("PREDICTED_FROM").to_pandas()
    edges.index = pd.Index([int(s.rpartition("/")[2]) for s in edges["source"]])
    edges["draws"] = None
    if "draws" in part.manifest.tables:
        drawn = part.table("draws").to_pandas().set_index("feature")["balanced_accuracy"]
        edges["draws"] = drawn.reindex(edges.index)
    return edges


def _row(part: Part, own: pd.DataFrame, linear: pd.DataFrame) -> dict[str, Any]:
    both = own.index.intersection(linear.index)
    own, linear = own.loc[both], linear.loc[both]
    stored = part.manifest.settings
    row: dict[str, Any] = {
        "kind": stored["kind"],
        "penalty": stored["penalty"] if stored.get("c") is None else f"C={stored['c']:g}",
        "features": len(both),
        "not_converged": int((own["converged"] == False).sum()),  # noqa: E712 (nulls do not count)
    }
    row |= {name: _mean(own[name]) for name in _SCORES}
    if stored["kind"] == LINEAR:
        names = ("difference", "low", "high", "better", "worse")
        return row | dict.fromkeys((*names, "control_difference", "selectivity_difference"))
    row["difference"] = _mean(own["balanced_accuracy"] - linear["balanced_accuracy"])
    row |= _interval(own["draws"], linear["draws"])
    row["control_difference"] = _mean(own["control"] - linear["control"])
    row["selectivity_difference"] = _mean(own["selectivity"] - linear["selectivity"])
    return row


def _interval(own: "pd.Series[Any]", linear: "pd.Series[Any]") -> dict[str, Any]:
    """Return the interval of the mean difference, and the features whose interval excludes 0."""
    if own.isna().any() or linear.isna().any() or not len(own):
        return dict.fromkeys(("low", "high", "better", "worse"))
    difference = _stacked(own) - _stacked(linear)
    low, high = np.nanquantile(np.nanmean(difference, axis=0), [0.025, 0.975])
    known = difference[~np.isnan(difference).all(axis=1)]
    ends = np.nanquantile(known, [0.025, 0.975], axis=1)
    return {
        "low": float(low),
        "high": float(high),
        "better": int((ends[0] > 0).sum()),
        "worse": int((ends[1] < 0).sum()),
    }


def _stacked(draws: "pd.Series[Any]") -> NDArray[np.float64]:
    return np.stack(list(draws)).astype(np.float64)


def _mean(values: "pd.Series[Any]") -> float | None:
    finite = values.dropna()
    return float(finite.mean()) if len(finite) else None
