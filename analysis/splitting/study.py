"""The study of splitting: one part for each pair of a narrow SAE and a wider one.

SAEs of equal width are the baseline: between two seeds, features should neither split nor be absorbed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.splitting.containment import ActiveTokens, joint_counts
from analysis.splitting.directions import draws_needed
from analysis.splitting.hierarchy import CHILD_CLASSES, PARENT_CLASSES, Hierarchy, hierarchy
from analysis.splitting.settings import SplittingSettings
from analysis.splitting.subjects import (
    active_tokens,
    decoder_vectors,
    equal_width,
    pairs_of,
)
from analysis.statistics.directions import unit_rows
from atlas.disk.parts import Part
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Task, TaskContext, check_saes
from ingest.reduce.arrays import graph_table, keys, nullable
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import written_hook
from ingest.text.corpus import Corpus
from ingest.torch_study import TorchStudy

__all__ = ["SplittingStudy", "edges_of", "find_splits"]

#: Table of the edges between SAEs of equal width, which are no edges of the graph.
EQUAL = "edges"

# Denominator of the share of documents of a forecast, and children of its block of cosines.
_SAMPLE, _BLOCK = 16, 256

# Bytes for each byte of codes: both SAEs aligned, and by feature.
_BYTES = 3


@dataclass(frozen=True)
class SplittingStudy(TorchStudy):
    """Find the features of a wider SAE that split those of a narrow one.

    Parameters
    ----------
    settings
        Thresholds, draws and seed.
    opened
        SAEs that are already open.
    """

    kind: ClassVar[str] = "splitting"
    version: ClassVar[int] = 1
    part_names: ClassVar[str] = "`a+b`, the narrow SAE first"
    tables: ClassVar[Mapping[str, str]] = {
        "edges": "the edges, instead of SPLITS_INTO, between SAEs of equal width",
        "narrow": "class and position on the map of each feature",
        "wide": "the same for the wide SAE",
        "classes": "features of each class",
        "summary": "sizes, coverage and its null",
    }
    floor_values: ClassVar[Mapping[str, str]] = {
        "narrow_lost": "Number of lost features",
    }

    settings: SplittingSettings
    opened: Sequence[Autoencoder] = ()

    @property
    def unnamed(self) -> Literal[0, 1, 2]:
        """No SAE is selected for the user: ``tasks`` raises an error if none is named."""
        return 0

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each pair of the two or three SAEs, then those of equal width.

        Raises
        ------
        UnknownName
            If the atlas has no SAE of a name.
        BadInput, Mismatch
            If the SAEs cannot be compared; see ``analysis.splitting.subjects.pairs_of``.
        """
        rows = at.sound.sae_rows
        pairs = pairs_of(rows, at.sound, saes)
        for narrow in dict.fromkeys(a for a, b in pairs if rows[a]["d_sae"] < rows[b]["d_sae"]):
            baseline = self._baseline(at, rows, narrow, pairs)
            if baseline is not None:
                pairs.append((narrow, baseline))
        return [self._task(a, b) for a, b in dict.fromkeys(pairs)]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one pair, from a sample of the documents and a block of cosines."""
        rows = at.sound.sae_rows
        a, b = (rows[name] for name in task.saes)
        rng, settings = np.random.default_rng(0), self.settings
        narrow, block = (
            rng.standard_normal((n, a["d_in"]), dtype=np.float32)
            for n in (a["d_sae"], min(b["d_sae"], _BLOCK))
        )
        blocks = (b["d_sae"] + settings.draws * min(b["d_sae"], 8192)) / len(block)
        cosines = blocks * timed(lambda: (block @ narrow.T).max(axis=1))
        documents = Corpus.open(at.folder.corpus_file).info.documents
        some = np.sort(rng.permutation(documents)[: max(1, documents // _SAMPLE)])
        pairs = min(settings.candidates, a["d_sae"]) * b["d_sae"]
        parent = np.sort(rng.integers(0, a["d_sae"], pairs))
        child = rng.integers(0, b["d_sae"], pairs)
        read: list[ActiveTokens] = []
        with TemporaryDirectory(dir=at.scratch) as scratch:

            def reading(sample: NDArray[np.int64]) -> None:
                read.append(
                    active_tokens(
                        at.folder, at.sound, task.saes, scratch=Path(scratch), documents=sample
                    )
                )

            reading(some[:1])  # the first calls compile loops
            joint_counts(parent[:1], child[:1], read[0])
            first = timed(lambda: reading(some))
            tokens = read[1]
            counting = timed(lambda: joint_counts(parent, child, tokens, where=tokens.moved(0, 0)))
        scale = documents / len(some)
        size = sum(f.stat().st_size for n in task.saes for f in at.folder.codes(n).glob("*.arrow"))
        seconds = cosines + scale * (first + counting * (1 + settings.draws))
        return Cost(seconds, bytes=_BYTES * size)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute one pair."""
        names, rows = " and ".join(task.saes), at.sound.sae_rows
        with at.progress.stage(f"{names}: reading codes and directions"):
            narrow, wide = (decoder_vectors(rows[name], self.opened) for name in task.saes)
            tokens = active_tokens(at.folder, at.sound, task.saes, scratch=at.scratch)
        with at.progress.stage(f"{names}: {self.settings.draws} draws of two nulls"):
            found = hierarchy((narrow, wide), tokens, task.settings)
        children = int(np.count_nonzero(found.child_class != "untested"))
        needed = draws_needed(found.edges.tested, children, q=self.settings.q)
        if self.settings.draws < needed:
            at.progress.report(
                f"{names}: With {self.settings.draws} draws, ten edges cannot be significant; use `draws={needed}`."
            )
        return Found(_tables(task.saes, (narrow, wide), tokens=tokens, found=found))

    def result(self, part: Part) -> Result:
        """Return the number of edges, and of features by class."""
        (summary,) = part.table("summary").to_pylist()
        counts = {(row["side"], row["class"]): row for row in part.table("classes").to_pylist()}
        for (side, name), row in counts.items():
            summary[f"{side}_{name}"] = row["features"]
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=[_verdict(summary)],
            tables=(part.manifest.tables, part.table),
        )

    def _baseline(
        self,
        at: TaskContext,
        rows: Mapping[str, Mapping[str, Any]],
        narrow: str,
        pairs: Sequence[tuple[str, str]],
    ) -> str | None:
        chosen = self.settings.baseline
        if chosen is None or narrow != pairs[0][0]:
            found = equal_width(rows, at.sound, narrow, without=[n for pair in pairs for n in pair])
            if found is None:
                at.progress.report(
                    f"{narrow} has no baseline: no other SAE of its width and site has stored codes. Train one "
                    "with another seed by `atlas train`, and ingest it with `atlas ingest --keep-codes`."
                )
            return found
        check_saes(at.sound, [chosen])
        own, other = rows[narrow], rows[chosen]
        same = all(own[key] == other[key] for key in ("model", "hook", "d_sae"))
        same = same and written_hook(own) == written_hook(other)
        if not same or chosen == narrow:
            raise BadInput(
                f"The baseline {chosen} must be another SAE with the site and the width of {narrow} "
                f"({own['d_sae']:,} features); omit `baseline` to select one."
            )
        return chosen

    def _task(self, a: str, b: str) -> Task:
        return Task(
            f"{a}+{b}",
            (a, b),
            self.settings,
            made_from=(f"sae/{a}", f"sae/{b}"),
            reads=tuple(f"{kind}/{name}" for name in (a, b) for kind in ("tokens", "codes")),
            omitted=("baseline",),
        )


def find_splits(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: SplittingSettings = SplittingSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    opened: Sequence[Autoencoder] = (),
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Find which features of a wider SAE split or absorb the features of a narrow SAE.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of two or three SAEs of one site, the narrowest first. Their codes are stored.
    settings
        Thresholds, draws and seed, and the SAE of the baseline.
    opened
        SAEs that are already open, whose weights are not read again.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each pair, then for each narrow SAE and another SAE of its width. The tables are
    ``SPLITS_INTO`` (``edges`` between SAEs of equal width), ``narrow`` and ``wide`` with the class
    of each feature, and ``classes``.

    Raises
    ------
    UnknownName, Missing
        If the atlas has no SAE of a name, or its codes are not stored.
    BadInput
        If not two or three SAEs are named, the narrowest first (``"all"`` names none), or weights
        are not available.
    Mismatch
        If the SAEs read different sites.

    Examples
    --------
    >>> from analysis import find_splits
    >>> (result,) = find_splits("demo.atlas", ["tiny-a-l1-s0", "tiny-a-l1-s1"])
    >>> result.verdict[0].startswith("tiny-a-l1-s0 (512 features) and tiny-a-l1-s1 (512)")
    True
    """
    return run_study(
        SplittingStudy(settings, tuple(opened)),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def edges_of(result: Result) -> pa.Table:
    """Return the edges of a result, also of one between SAEs of equal width."""
    return result.table(EQUAL if EQUAL in result.tables else "SPLITS_INTO")


def _tables(
    saes: tuple[str, ...],
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    tokens: ActiveTokens,
    found: Hierarchy,
) -> list[tuple[str, pa.Table]]:
    narrow, wide = saes
    counts = tokens.narrow.count, tokens.wide.count
    equal = len(counts[0]) == len(counts[1])
    map_positions, variance = _map(vectors)
    classes = (found.parent_class, PARENT_CLASSES), (found.child_class, CHILD_CLASSES)
    summary = {
        "narrow": narrow,
        "wide": wide,
        "narrow_features": len(counts[0]),
        "wide_features": len(counts[1]),
        "equal_width": equal,
        "tokens": len(tokens.document),
        "tested": found.edges.tested,
        "edges": len(found.edges),
        "map_variance": variance,
    }
    sides = [_side(saes[i], counts[i], classes[i][0], map_positions[i]) for i in range(2)]
    children = np.bincount(found.edges.parent, minlength=len(counts[0]))
    parents = np.bincount(found.edges.child, minlength=len(counts[1]))
    unknown = np.isnan(found.coverage)
    shares = {
        "children": children,
        **{
            name: nullable(getattr(found, name), null=unknown)
            for name in ("coverage", "coverage_null", "absorbed")
        },
    }
    return [
        (EQUAL if equal else "SPLITS_INTO", _edge_table(saes, counts, found)),
        ("narrow", pa.table(sides[0] | shares)),
        ("wide", pa.table(sides[1] | {"parents": parents})),
        ("classes", pa.Table.from_pylist(_class_rows(classes))),
        ("summary", pa.Table.from_pylist([summary])),
    ]


def _edge_table(
    saes: tuple[str, ...], counts: tuple[NDArray[np.int64], NDArray[np.int64]], found: Hierarchy
) -> pa.Table:
    e = found.edges
    columns = {
        "source": keys(saes[0], e.parent),
        "target": keys(saes[1], e.child),
        "decoder_cosine": e.cosine,
        "cosine_null": nullable(e.cosine_null, null=np.isnan(e.cosine_null)),
        "joint_count": e.joint,
        "expected": e.expected,
        "parent_given_child": e.joint / counts[1][e.child],
        "child_given_parent": e.joint / counts[0][e.parent],
        "main": found.main,
        "main_absent": found.main_absent,
        "coverage": found.coverage[e.parent],
        "coverage_null": found.coverage_null[e.parent],
        "parent_class": pa.array(found.parent_class[e.parent].tolist(), pa.string()),
        "child_class": pa.array(found.child_class[e.child].tolist(), pa.string()),
        "p_cosine": e.p_cosine,
        "p_joint": e.p_joint,
        "q": e.q,
    }
    return graph_table("SPLITS_INTO", "splitting", columns).data


def _side(
    sae: str, count: NDArray[np.int64], classes: NDArray[np.str_], positions: NDArray[np.float64]
) -> dict[str, Any]:
    idx = np.arange(len(count))
    return {
        "feature": keys(sae, idx),
        "idx": idx,
        "active_tokens": count,
        "class": pa.array(classes.tolist(), pa.string()),
        "x": positions[:, 0],
        "y": positions[:, 1],
    }


def _map(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], float]:
    """Return the first two principal components of both SAEs' directions, and their share of variance."""
    rows = np.concatenate([unit_rows(x, dtype=np.float32) for x in vectors])
    mean = rows.mean(axis=0, dtype=np.float64)
    moments = (rows.T @ rows).astype(np.float64) / len(rows) - np.outer(mean, mean)
    value, axes = np.linalg.eigh(moments)
    first = np.zeros((rows.shape[1], 2))
    first[:, : min(2, rows.shape[1])] = axes[:, ::-1][:, :2]
    positions = rows @ first - mean @ first
    total = float(np.maximum(value, 0).sum())
    variance = float(value[::-1][:2].sum() / total) if total > 0 else 0.0
    return (positions[: len(vectors[0])], positions[len(vectors[0]) :]), variance


def _class_rows(
    classes: tuple[tuple[NDArray[np.str_], tuple[str, ...]], ...],
) -> list[dict[str, Any]]:
    """Return a row for each side and class; the share is among tested features."""
    rows: list[dict[str, Any]] = []
    for side, (found, names) in zip(("narrow", "wide"), classes, strict=True):
        number = Counter(found.tolist())
        tested = len(found) - number["untested"]
        for name in names:
            share = number[name] / tested if tested and name != "untested" else None
            rows.append({"side": side, "class": name, "features": number[name], "share": share})
    return rows


def _verdict(s: Mapping[str, Any]) -> str:
    tested = s["narrow_features"] - s["narrow_untested"]
    wide = s["wide_features"] - s["wide_untested"]
    pair = f"{s['narrow']} ({s['narrow_features']:,} features) and {s['wide']} ({s['wide_features']:,})"
    if not tested or not wide:
        return f"{pair}: no feature of one of them is active on enough tokens to be tested."
    what = "equal width, the baseline" if s["equal_width"] else "narrow and wide"
    return (
        f"{pair}, {what}: of {tested:,} tested features {_part(s['narrow_same'], tested)} are the same, "
        f"{_part(s['narrow_split'], tested)} are split, {_part(s['narrow_absorbed'], tested)} absorbed, "
        f"{_part(s['narrow_partial'], tested)} partial and {_part(s['narrow_lost'], tested)} lost; "
        f"{_part(s['wide_new'], wide)} of {wide:,} are new."
    )


def _part(number: int, total: int) -> str:
    return f"{number:,} ({number / total:.1%})"
