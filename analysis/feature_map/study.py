"""The study of maps: features of one or two SAEs in two dimensions, with the quality of the map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from analysis.feature_map.cost import map_cost, random_sample
from analysis.feature_map.embedding import (
    UmapSettings,
    aligned_coordinates,
    map_coordinates,
    principal_axes,
)
from analysis.feature_map.features import FeatureRows, activation_rows, decoder_rows
from analysis.feature_map.quality import agreement, quality
from analysis.feature_map.settings import MapSettings
from analysis.statistics.directions import Floats, Ints, NearestRows, Rows, is_sparse, nearest
from analysis.statistics.live_directions import without_weights
from atlas.disk.parts import Part
from atlas.errors import AtlasError, BadInput
from atlas.progress import SILENT, Progress
from atlas.schema import arrow_schema
from atlas.studies.forecast import Cost
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes, selected_saes
from ingest.codes.store import count_rows, stored_shards
from ingest.match.cosines import one_space
from ingest.match.study import match_name
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record
from ingest.torch_study import TorchStudy

__all__ = ["MapStudy", "map_features", "matched_pairs"]

_POINTS = pa.schema(
    [
        ("id", pa.string()),
        ("sae", pa.string()),
        ("idx", pa.int64()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("pca_x", pa.float64()),
        ("pca_y", pa.float64()),
        ("neighbours", pa.list_(pa.string())),
        ("cosines", pa.list_(pa.float64())),
    ]
)

_INTEGERS = (
    "features",
    "points",
    "dead",
    "directionless",
    "unplaced",
    "neighbours",
    "repeats",
    "pairs",
)
_REALS = (
    "trustworthiness",
    "overlap",
    "chance",
    "pca_trustworthiness",
    "pca_overlap",
    "pca_variance",
    "seeds_correlation",
    "seeds_overlap",
    "partner_near",
    "partner_chance",
)
_SUMMARY = pa.schema(
    [
        ("saes", pa.string()),
        ("space", pa.string()),
        ("method", pa.string()),
        *((name, pa.int64()) for name in _INTEGERS),
        *((name, pa.float64()) for name in _REALS),
    ]
)


@dataclass(frozen=True)
class MapStudy(TorchStudy):
    """Compute maps of features: properties of Feature, and tables with the neighbours.

    Parameters
    ----------
    settings
        Settings of the maps.
    opened
        SAEs that were in memory at ingest.
    """

    kind: ClassVar[str] = "feature_map"
    command: ClassVar[str] = "feature-map"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "points": "position of each feature",
        "summary": "quality of the map",
    }

    settings: MapSettings
    opened: tuple[Autoencoder, ...] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """One SAE is used if none is named; for a joint map, one pair."""
        return 2 if self.settings.layout == "joint" else 1

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE, or for each pair of SAEs.

        Raises
        ------
        BadInput
            If a joint map is requested of fewer than two SAEs.
        """
        kinds = ("statistics", *(("codes",) if self.settings.space == "activation" else ()))
        names = selected_saes(at, saes, kinds, what="A map")
        if self.settings.layout == "each":
            return [self._task(at, (name,)) for name in names]
        if len(names) < 2:
            raise BadInput(
                f"A joint map needs two SAEs or more; {len(names)} was selected. `atlas list` shows the SAEs."
            )
        return [self._task(at, pair) for pair in combinations(sorted(names), 2)]

    def _task(self, at: TaskContext, saes: tuple[str, ...]) -> Task:
        made_from = [f"{kind}/{name}" for name in saes for kind in ("sae", "statistics")]
        # A match is needed to align two spaces; in one space, it is only evaluated.
        match = f"match/{match_name(*saes)}" if len(saes) == 2 else None
        if match and (match in at.sound.parts or not self._stacked(at, saes)):
            made_from.append(match)
        codes = self.settings.space == "activation"
        return Task(
            "+".join(saes),
            saes,
            self.settings,
            made_from=tuple(made_from),
            reads=tuple(f"codes/{name}" for name in saes if codes),
        )

    def _stacked(self, at: TaskContext, saes: Sequence[str]) -> bool:
        """Return whether the vectors of SAEs are in one space."""
        a, b = (open_sae_record(at.sound, name).row for name in check_saes(at.sound, saes))
        if self.settings.space == "decoder":
            return one_space(a, b)
        names = ("model", "context_size", "prepend_bos")
        return all(a[name] == b[name] for name in names)

    def unavailable(self, tasks: Sequence[Task], at: TaskContext) -> dict[str, AtlasError]:
        """Return the tasks of SAEs whose weights are not available."""
        if self.settings.space == "activation":
            return {}
        return without_weights(tasks, at, opened=self.opened)

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one map, from random rows, or from the activations of few tokens."""
        saes = task.saes
        rows = sum(int(open_sae_record(at.sound, name).row["d_sae"]) for name in saes)
        aligned = len(saes) == 2 and not self._stacked(at, saes)
        if self.settings.space == "decoder":
            sample = random_sample(int(open_sae_record(at.sound, saes[0]).row["d_in"]))
        else:
            shards = stored_shards(at.folder, at.sound, saes[0], what="A map of activations")
            total = max(1, sum(map(count_rows, shards)))
            tokens = min(self.settings.tokens, total)
            # A code takes eight bytes: its feature and its activation.
            codes = sum(path.stat().st_size for path in shards) / 8
            d_sae = int(open_sae_record(at.sound, saes[0]).row["d_sae"])
            sample = random_sample(tokens, density=min(1.0, codes / total / d_sae))
        return map_cost(rows, sample, self.settings, maps=1 + aligned)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute one map."""
        saes = task.saes
        if len(saes) == 1 or self._stacked(at, saes):
            found = self._one_map(self._rows(at, saes), at)
        else:
            found = self._aligned_map(at, saes)
        tables = [("points", found.table()), ("summary", self._summary(found, at))]
        if len(saes) == 1:
            tables.insert(0, ("Feature", found.properties()))
        return Found(tables)

    def _rows(self, at: TaskContext, saes: Sequence[str]) -> list[FeatureRows]:
        how = self.settings
        if how.space == "decoder":
            return [decoder_rows(at, name, self.opened) for name in saes]
        return activation_rows(at, saes, tokens=how.tokens, seed=how.seed)

    def _umap(self, repeat: int = 0) -> UmapSettings:
        how = self.settings
        return UmapSettings(how.neighbours, how.min_dist, how.seed + repeat)

    def _one_map(self, sides: list[FeatureRows], at: TaskContext) -> "_Map":
        """Compute one UMAP and one PCA of the vectors of one SAE, or of two in one space."""
        rows = _stack([side.rows for side in sides])
        near = nearest(rows, k=self.settings.neighbours)
        start, explained = principal_axes(rows, seed=self.settings.seed)
        title = f"map of {' and '.join(side.sae for side in sides)}"
        runs = []
        with at.progress.stage(title, total=1 + self.settings.repeats, unit="maps") as stage:
            for repeat in range(1 + self.settings.repeats):
                runs.append(map_coordinates(rows, near, settings=self._umap(repeat), start=start))
                stage.advance()
        return _Map("UMAP", sides, [rows], [near], runs, start, explained)

    def _aligned_map(self, at: TaskContext, saes: Sequence[str]) -> "_Map":
        """Compute an aligned UMAP of the vectors of two spaces, from their matches."""
        a, b = (self._rows(at, [name])[0] for name in saes)
        pairs = matched_pairs(at.sound.parts[f"match/{match_name(*saes)}"], a, b)
        runs = []
        title = f"map of {a.sae} and {b.sae}"
        with at.progress.stage(title, total=1 + self.settings.repeats, unit="maps") as stage:
            for repeat in range(1 + self.settings.repeats):
                one = aligned_coordinates(a.rows, b.rows, pairs, settings=self._umap(repeat))
                runs.append(np.concatenate(one))
                stage.advance()
        near = [nearest(side.rows, k=self.settings.neighbours) for side in (a, b)]
        nowhere = np.full((len(a) + len(b), 2), np.nan)  # two spaces have no common axes
        return _Map("aligned UMAP", [a, b], [a.rows, b.rows], near, runs, nowhere, np.zeros(2))

    def _summary(self, found: "_Map", at: TaskContext) -> pa.Table:
        how, sides = self.settings, found.sides
        row: dict[str, Any] = dict.fromkeys(_SUMMARY.names)
        row |= {
            "saes": " and ".join(side.sae for side in sides),
            "space": how.space,
            "method": found.method,
            "features": sum(side.features for side in sides),
            "points": int(found.placed.sum()),
            "dead": sum(side.dead for side in sides),
            "directionless": sum(side.directionless for side in sides),
            "unplaced": int((~found.placed).sum()),
            "neighbours": how.neighbours,
            "repeats": how.repeats,
            "pairs": 0,
        }
        row |= found.quality(how)
        if len(sides) == 2:
            key = f"match/{match_name(*(side.sae for side in sides))}"
            if key in at.sound.parts:
                pairs = matched_pairs(at.sound.parts[key], *sides)
                row |= found.partners(pairs, k=how.neighbours)
        return pa.Table.from_pylist([row], schema=_SUMMARY)

    def result(self, part: Part) -> Result:
        """Return the quality of the map; its table ``points`` has the coordinates."""
        (summary,) = part.table("summary").to_pylist()
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary),
            tables=(part.manifest.tables, part.table),
        )


def map_features(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: MapSettings = MapSettings(),  # noqa: B008 - frozen
    opened: Sequence[Autoencoder] = (),
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compute maps of the features of SAEs by UMAP and PCA.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs, or ``"all"``. Default: the first; the first pair for a joint map.
    settings
        The vectors, the layout, and the settings of UMAP.
    opened
        SAEs that were in memory at ingest; others are opened from their stored source.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE or pair. Its table ``points`` has a row for each feature with a vector:
    ``x`` and ``y`` (UMAP), ``pca_x`` and ``pca_y``, and its nearest features in the full space.
    ``plot()`` draws it.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    Missing
        If two SAEs of different spaces are not matched, or codes are not stored.
    BadInput, Mismatch
        If the weights of an SAE are not available, or are not those that were ingested.

    References
    ----------
    .. [1] McInnes, Healy & Melville (2018), "UMAP: Uniform Manifold Approximation and Projection".
    .. [2] Venna & Kaski (2001), "Neighborhood preservation in nonlinear projection methods".

    Examples
    --------
    >>> from analysis import MapSettings, map_features
    >>> settings = MapSettings(repeats=0)
    >>> (result,) = map_features("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result.kind
    'feature_map'
    """
    study = MapStudy(settings, tuple(opened))
    return run_study(
        study, atlas, saes, replace=replace, workers=workers, ray=ray, progress=progress
    )


def matched_pairs(match: Part, a: FeatureRows, b: FeatureRows) -> Ints:
    """Return the one-to-one matches of features that are on a map.

    Parameters
    ----------
    match
        The part that stores the match.
    a, b
        Features of the SAEs, whose names are in order.

    Returns
    -------
    int64, (pairs, 2). Row of A and row of B.
    """
    edges = match.table("MATCHES").select(["source", "target", "one_to_one"]).to_pylist()
    row_a, row_b = ({key: i for i, key in enumerate(side.ids.tolist())} for side in (a, b))
    found = [
        (row_a[e["source"]], row_b[e["target"]])
        for e in edges
        if e["one_to_one"] and e["source"] in row_a and e["target"] in row_b
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _stack(rows: Sequence[Rows]) -> Rows:
    if len(rows) == 1:
        return rows[0]
    if is_sparse(rows[0]):
        return sparse.csr_array(sparse.vstack(rows, format="csr"))
    return np.concatenate(rows)


@dataclass(frozen=True, eq=False)
class _Map:
    """The contents of a part: coordinates and neighbours, for one or two SAEs.

    ``rows`` and ``near`` have one entry for each space, ``runs`` one for each seed.
    """

    method: str
    sides: list[FeatureRows]
    rows: list[Rows]
    near: list[NearestRows]
    runs: list[Floats]
    pca: Floats
    explained: Floats

    @property
    def points(self) -> Floats:
        """The coordinates of the first seed."""
        return self.runs[0]

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which features have coordinates."""
        return np.asarray(np.isfinite(self.points).all(axis=1), dtype=np.bool_)

    def table(self) -> pa.Table:
        """Return a row for each feature with a vector."""
        ids = np.concatenate([side.ids for side in self.sides])
        names = np.repeat([side.sae for side in self.sides], [len(side) for side in self.sides])
        keys = [ids] if len(self.rows) == 1 else [side.ids for side in self.sides]
        near = [key[n.index].tolist() for key, n in zip(keys, self.near, strict=True)]
        columns = [
            ids,
            names,
            np.concatenate([side.idx for side in self.sides]),
            *self.points.T,
            *self.pca.T,
            [row for rows in near for row in rows],
            [row for n in self.near for row in n.cosine.tolist()],
        ]
        return pa.Table.from_arrays(
            [pa.array(c, f.type, from_pandas=True) for c, f in zip(columns, _POINTS, strict=True)],
            schema=_POINTS,
        )

    def properties(self) -> pa.Table:
        """Return the columns of Feature, for all features of the SAE."""
        (side,) = self.sides
        positions = np.full((side.features, 2), np.nan)
        positions[side.idx] = self.points
        wanted = arrow_schema("Feature", "feature_map")
        columns = {
            "id": [f"{side.sae}/{i}" for i in range(side.features)],
            "map_x": positions[:, 0],
            "map_y": positions[:, 1],
        }
        arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in wanted]
        return pa.Table.from_arrays(arrays, schema=wanted)

    def quality(self, how: MapSettings) -> dict[str, Any]:
        """Return the quality of UMAP and PCA, and the agreement over seeds.

        Maps of two spaces have the mean over both, weighted by their features.
        """
        ends = np.cumsum([rows.shape[0] for rows in self.rows])[:-1]
        scores: dict[str, Any] = {}
        for prefix, points in (("", self.points), ("pca_", self.pca)):
            measured, weights = [], []
            for rows, near, own in zip(self.rows, self.near, np.split(points, ends), strict=True):
                known = np.isfinite(own).all(axis=1)
                if not known.any():
                    continue
                if not known.all():
                    rows, own = rows[known], own[known]
                    near = nearest(rows, k=how.neighbours)
                measured.append(quality(rows, own, near.index, k=how.neighbours, seed=how.seed))
                weights.append(len(own))
            for name in ("trustworthiness", "overlap", "chance"):
                values = [getattr(one, name) for one in measured]
                if values and all(value is not None for value in values):
                    scores[prefix + name] = float(np.average(values, weights=weights))
        scores.pop("pca_chance", None)
        if len(self.rows) == 1:
            scores["pca_variance"] = float(self.explained.sum())
        common = np.isfinite(np.hstack(self.runs)).all(axis=1)
        correlation, overlap = agreement([run[common] for run in self.runs], k=how.neighbours)
        return scores | {"seeds_correlation": correlation, "seeds_overlap": overlap}

    def partners(self, pairs: Ints, *, k: int) -> dict[str, Any]:
        """Return how often a matched feature is among the k nearest of the other SAE on the map."""
        one, two = np.split(self.points, [len(self.sides[0])])
        pairs = pairs[np.isfinite(one[pairs[:, 0]]).all(axis=1)]
        pairs = pairs[np.isfinite(two[pairs[:, 1]]).all(axis=1)]
        there = np.flatnonzero(np.isfinite(two).all(axis=1))
        k = min(k, len(there))
        if not len(pairs) or not k:
            return {"pairs": len(pairs)}
        _, found = KDTree(two[there]).query(one[pairs[:, 0]], k=np.arange(1, k + 1))
        hits = (there[found] == pairs[:, 1, None]).any(axis=1)
        return {
            "pairs": len(pairs),
            "partner_near": float(hits.mean()),
            "partner_chance": k / len(there),
        }


def _verdict(row: dict[str, Any]) -> list[str]:
    what = "decoder directions" if row["space"] == "decoder" else "activations"
    sentences = [
        f"{row['saes']}: {row['points']:,} of {row['features']:,} features are on the map of their {what} "
        f"({row['dead']:,} dead)."
    ]
    if row["overlap"] is None or row["trustworthiness"] is None:
        return [*sentences, "There are too few features to measure the quality of the map."]
    pca = ""
    if row["pca_overlap"] is not None:
        pca = f" (PCA: {row['pca_trustworthiness']:.3f} and {row['pca_overlap']:.3f})"
    sentences.append(
        f"Trustworthiness is {row['trustworthiness']:.3f}, and the map preserves {row['overlap']:.3f} of the "
        f"{row['neighbours']} nearest features{pca}; random positions preserve {row['chance']:.3f}. "
        f"So {1 - row['overlap']:.0%} of the nearest features are not near on the map."
    )
    if row["seeds_overlap"] is not None:
        sentences.append(
            f"Maps of {row['repeats']} other seeds share {row['seeds_overlap']:.3f} of the nearest points, with "
            f"Procrustes correlation {row['seeds_correlation']:.3f}."
        )
    if row["partner_near"] is not None:
        known = " The map was fitted to these pairs." if row["method"] == "aligned UMAP" else ""
        sentences.append(
            f"Of {row['pairs']:,} matched pairs, {row['partner_near']:.3f} are among the {row['neighbours']} "
            f"nearest of the other SAE; random pairs: {row['partner_chance']:.3f}.{known}"
        )
    return sentences
