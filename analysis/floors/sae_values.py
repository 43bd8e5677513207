"""The statistics of an SAE that the atlas stores: of each live feature, and of the SAE.

A statistic that a later study adds to the schema or to its table ``summary`` is included
without a change here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas import schema
from atlas.api import Atlas
from atlas.disk.folder import Sound
from atlas.disk.parts import Part

__all__ = ["KINDS", "SaeValues", "input_keys", "sae_values"]

Floats = NDArray[np.float64]


def _owners(label: str) -> tuple[str, ...]:
    """Return the kinds of parts that fill properties of a node."""
    return tuple(sorted({p.owner for p in schema.node(label).properties if p.owner}))


KINDS = tuple(sorted({*_owners("Feature"), *_owners("SAE")}))
"""Kinds of parts that fill properties of features and SAEs."""

#: Numbers that are names, positions in a map, settings of a study, sizes of its sample, or another
#: number times a constant.
_NO_STATISTICS = frozenset(
    (
        *("idx", "seed", "component", "community", "map_x", "map_y"),
        *("tokens", "counted", "active_tokens", "min_count", "draws", "repeats", "neighbours", "k"),
        *("nodes", "documents", "targets", "tested", "random_directions", "logit_positions"),
        *("d_in", "d_out", "d_sae", "dimensions"),
        *("dead", "live", "features", "directions", "directionless", "points", "unplaced", "pairs"),
        *("candidates", "excluded", "true_features", "true_edges", "true_parents", "chance"),
    )
)

#: Ends of names of limits of intervals, of sizes of samples, of values under a null or for a
#: control, and of p-values, which depend on the number of draws.
_NO_STATISTIC_ENDS = (
    *("_low", "_high", "_counted", "_of", "_n", "_draws", "_tokens"),
    *("_chance", "_null", "_permuted", "_documents", "_features", "_sources", "_left_out"),
    *("_random", "_control", "_other", "_expected", "_p", "_q"),
)

#: Beginnings of names of values under a null or for a control.
_NO_STATISTIC_BEGINNINGS = ("chance_", "null_", "random_", "sham")

#: Counts of what exceeds a control, whose names end like that of the control.
_COUNTS = frozenset(("features_above_random",))


@dataclass(frozen=True)
class SaeValues:
    """The statistics of one SAE.

    Parameters
    ----------
    features
        By statistic, the values of the features that have one: float64.
    sae
        By statistic, its value.
    """

    features: dict[str, Floats] = field(default_factory=dict)
    sae: dict[str, float] = field(default_factory=dict)


def sae_values(atlas: Atlas, sound: Sound, sae: str, *, others: Iterable[str]) -> SaeValues:
    """Read the statistics of an SAE.

    Parameters
    ----------
    atlas, sound
        The atlas and its sound parts.
    sae
        The name of the SAE.
    others
        SAEs of other seeds; ``best_match`` is the highest correlation of a feature with one of
        theirs, 0 without a match. ``mutual_match`` counts only matches in which each feature is the
        best match of the other. ``matched_decoder_cosine`` and ``matched_encoder_cosine`` are the
        highest cosines of decoder and encoder vectors over all its matches, 0 if none is positive.

    Returns
    -------
    SaeValues
        Numeric properties of Feature and SAE that parts fill; balanced accuracy of probes by
        site and run; these statistics of matches; and the numbers in the tables ``summary`` of other studies,
        as ``kind.number``. Dead features have no values.
    """
    found = SaeValues()
    features = atlas.features(sae)
    live = pc.fill_null(pc.invert(features["dead"]), fill_value=False)
    features = features.filter(live)
    for name in _numeric("Feature"):
        found.features[name] = _finite(features[name].to_numpy())
    (row,) = atlas.table("SAE", sae=sae).to_pylist()
    found.sae.update({n: float(row[n]) for n in _numeric("SAE") if row[n] is not None})
    found.features.update(_probes(sound, sae, set(features["id"].to_pylist())))
    found.features.update(_best_matches(sound, sae, others, features["idx"].to_numpy()))
    for part in _summaries(sound, sae):
        (summary,) = part.table("summary").to_pylist()
        found.sae.update(
            {
                f"{part.manifest.kind}.{name}": float(value)
                for name, value in summary.items()
                if isinstance(value, int | float)
                and not isinstance(value, bool)
                and _is_statistic(name)
            }
        )
    return SaeValues(
        {name: values for name, values in found.features.items() if len(values)}, found.sae
    )


def input_keys(sound: Sound, sae: str, *, others: Iterable[str]) -> list[str]:
    """Return the keys of the sound parts that ``sae_values`` reads."""
    keys = [f"{kind}/{sae}" for kind in ("sae", *KINDS)]
    found = [key for key in keys if key in sound.parts]
    found += [part.manifest.key for part in _of(sound, "probe", sae)]
    found += [part.manifest.key for part in _matches(sound, sae, others)]
    return found + [part.manifest.key for part in _summaries(sound, sae)]


def _numeric(label: str) -> list[str]:
    """Return the numeric properties of a node that parts other than ``sae`` fill."""
    return [
        p.name
        for p in schema.node(label).properties
        if p.owner and p.type in ("int64", "double") and _is_statistic(p.name)
    ]


def _is_statistic(name: str) -> bool:
    return name in _COUNTS or (
        name not in _NO_STATISTICS
        and not name.startswith(_NO_STATISTIC_BEGINNINGS)
        and not name.endswith(_NO_STATISTIC_ENDS)
    )


def _finite(values: NDArray[np.generic]) -> Floats:
    numbers: Floats = values.astype(np.float64)
    return numbers[np.isfinite(numbers)]


def _of(sound: Sound, kind: str, sae: str) -> list[Part]:
    return [part for part in sound.of(kind) if part.manifest.saes == (sae,)]


def _probes(sound: Sound, sae: str, live: set[str]) -> dict[str, Floats]:
    """Return the balanced accuracies of probes, by site and run."""
    found: dict[str, list[float]] = {}
    for part in _of(sound, "probe", sae):
        edges = part.table("PREDICTED_FROM").select(
            ["source", "target", "run", "balanced_accuracy"]
        )
        for row in edges.to_pylist():
            if row["source"] in live and row["balanced_accuracy"] is not None:
                site = row["target"].rpartition("/")[2]
                name = f"probe from {site}, {row['run']}"
                found.setdefault(name, []).append(row["balanced_accuracy"])
    return {name: np.array(values) for name, values in found.items()}


def _matches(sound: Sound, sae: str, others: Iterable[str]) -> list[Part]:
    wanted = {frozenset((sae, other)) for other in others if other != sae}
    return [part for part in sound.of("match") if frozenset(part.manifest.saes) in wanted]


def _best_matches(
    sound: Sound, sae: str, others: Iterable[str], live: NDArray[np.int64]
) -> dict[str, Floats]:
    """Return the highest correlation of each live feature with one of another seed, by kind of match,
    and the highest cosines of their decoder and encoder vectors.
    """
    size = int(live.max(initial=-1)) + 1
    found: dict[str, Floats] = {}
    for part in _matches(sound, sae, others):
        edges = part.table("MATCHES")
        for name, chosen, number in (
            ("best_match", edges, "pearson"),
            ("mutual_match", edges.filter(edges["mutual"]), "pearson"),
            ("matched_decoder_cosine", edges, "decoder_cosine"),
            ("matched_encoder_cosine", edges, "encoder_cosine"),
        ):
            if number != "pearson" and edges[number].null_count:
                continue  # the weights were not available, or the spaces differ
            best = found.setdefault(name, np.zeros(size))
            for end in ("source", "target"):
                index, values = _own_ends(chosen, end, sae, number=number)
                inside = index < size
                np.maximum.at(best, index[inside], values[inside])
    return {name: values[live] for name, values in found.items()}


def _own_ends(
    edges: pa.Table, end: str, sae: str, *, number: str
) -> tuple[NDArray[np.int64], Floats]:
    """Return the features of an SAE at one end of matches, and a number of each match."""
    prefix = f"{sae}/"
    own = edges.filter(pc.starts_with(edges[end], prefix))
    index = [int(key.removeprefix(prefix)) for key in own[end].to_pylist()]
    return np.array(index, dtype=np.int64), own[number].to_numpy()


def _summaries(sound: Sound, sae: str) -> Iterator[Part]:
    """Yield the parts of other studies about the SAE alone that have a table ``summary``.

    Studies that fill properties of the SAE are excluded, since their summary repeats these.
    """
    own = _owners("SAE")
    for _, part in sorted(sound.parts.items()):
        entry = part.manifest.tables.get("summary")
        of_sae = part.manifest.saes == (sae,) and part.manifest.kind not in own
        if of_sae and entry is not None and entry.rows == 1:
            yield part
