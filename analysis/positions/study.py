"""Active features and mean activation by position in the context, compared with shuffled tokens.

Positions are those in the model's context. They are grouped by powers of two: 1, 2 to 3, 4 to
7, and so on. The null shuffles the tokens of each document among their positions, which
preserves the topic of each document and removes the effect of position.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.positions.settings import PositionSettings
from analysis.statistics.intervals import quantile_interval
from analysis.statistics.permutation import exceedance_p
from atlas.disk.parts import Part
from atlas.progress import SILENT, Progress
from atlas.studies.forecast import Cost, timed
from atlas.studies.results import Result, Results
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task, TaskContext, selected_saes
from ingest.codes.store import Block, count_rows, read_shard, stored_shards

__all__ = ["PositionStudy", "activation_by_position", "by_position"]

#: Blocks of codes that are read for the forecast, and most tokens of its sample.
_BLOCKS, _ENOUGH = 4, 300_000

#: Bytes for each token: four columns, and the arrays of one random order.
_BYTES = 96

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PositionStudy(Study):
    """Compare activations between positions, for one SAE at a time."""

    kind: ClassVar[str] = "positions"
    version: ClassVar[int] = 1
    tables: ClassVar[Mapping[str, str]] = {
        "positions": "active features and activation by position",
    }

    settings: PositionSettings

    def tasks(self, at: TaskContext, saes: Sequence[str] | None) -> list[Task]:
        """Return a task for each SAE."""
        names = selected_saes(at, saes, ("codes",), what="A study of positions")
        return [
            Task(n, (n,), self.settings, made_from=(f"sae/{n}",), reads=(f"codes/{n}",))
            for n in names
        ]

    def forecast(self, task: Task, at: TaskContext) -> Cost:
        """Return the cost of one SAE, from the first blocks of its codes and one order."""
        shards = stored_shards(at.folder, at.sound, task.name, what="A study of positions")
        read = list(islice((block for shard in shards for block in read_shard(shard)), _BLOCKS))
        tokens = sum(count_rows(shard) for shard in shards)
        some = sum(map(len, read))
        if not some:
            return Cost(0.0)
        reading = timed(lambda: _columns(read)) * tokens / some
        position, document, l0, total = _columns(read)
        # A draw sorts the tokens, so its cost for each token grows with their number.
        copies = min(_ENOUGH, tokens) // some + 1
        position, l0, total = np.tile(position, copies), np.tile(l0, copies), np.tile(total, copies)
        document = np.concatenate([document + i * (document.max() + 1) for i in range(copies)])

        def draw(draws: int) -> float:
            return timed(
                lambda: by_position(position, document, l0=l0, total=total, draws=draws, seed=0)
            )

        once, share = draw(1), tokens / (some * copies)
        each = max(draw(3) - once, 1e-9) / 2
        seconds = reading + share * (once + each * (self.settings.draws - 1))
        return Cost(seconds, bytes=_BYTES * tokens)

    def run(self, task: Task, at: TaskContext) -> Found:
        """Compute the table of one SAE."""
        shards = stored_shards(at.folder, at.sound, task.name, what="A study of positions")
        position, document, l0, total = _read(shards)
        rows = by_position(
            position,
            document,
            l0=l0,
            total=total,
            draws=self.settings.draws,
            seed=self.settings.seed,
        )
        return Found([("positions", pa.Table.from_pylist(rows))])

    def result(self, part: Part) -> Result:
        """Return the first and the last positions, and the smallest p."""
        rows = part.table("positions").to_pylist()
        summary: dict[str, Any] = {"sae": part.manifest.saes[0], "positions": len(rows)}
        if rows:
            summary |= {"l0_first": rows[0]["l0"], "l0_last": rows[-1]["l0"]}
            summary |= {
                "activation_first": rows[0]["activation"],
                "activation_last": rows[-1]["activation"],
            }
            summary["p_first"] = rows[0]["p"]
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=_verdict(summary["sae"], rows),
            tables=(part.manifest.tables, part.table),
        )


def activation_by_position(
    atlas: str | Path,
    saes: Sequence[str] | None = None,
    *,
    settings: PositionSettings = PositionSettings(),  # noqa: B008 - frozen
    replace: bool = False,
    workers: int = 0,
    ray: str | None = None,
    progress: Progress = SILENT,
) -> Results:
    """Compare the activations of SAEs between positions, from their stored codes.

    Parameters
    ----------
    atlas
        The folder of the atlas.
    saes
        Names of SAEs. Default: all SAEs with stored codes.
    settings
        Number and seed of the random orders.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE; its table ``positions`` has a row for each group of positions.

    Examples
    --------
    >>> from analysis import PositionSettings, activation_by_position
    >>> settings = PositionSettings(draws=20)
    >>> (result,) = activation_by_position("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
    >>> result["l0_first"]  # a TopK SAE has 20 active features on every token
    20.0
    """
    return run_study(
        PositionStudy(settings),
        atlas,
        saes,
        replace=replace,
        workers=workers,
        ray=ray,
        progress=progress,
    )


def by_position(
    position: Ints, document: Ints, *, l0: Ints, total: Floats, draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each group of positions.

    Parameters
    ----------
    position, document
        int64, (tokens,). Position of each token in its context, and its document.
    l0, total
        (tokens,). Number of active features of each token, and the sum of their activations.
    draws, seed
        Number of shuffles of the tokens of each document, and their seed.

    Returns
    -------
    list of dict
        ``first`` and ``last`` position of the group, its ``tokens``, ``l0`` (active features
        per token), ``activation`` (mean over active features), ``null_low`` and ``null_high``
        (2.5% and 97.5% quantiles of l0 under the null) and ``p`` (two-sided, for l0).
    """
    if not len(position):
        return []
    _, group = np.frexp(position.astype(np.float64))
    groups, group = np.unique(group, return_inverse=True)
    tokens = np.bincount(group)
    active, sums = (np.bincount(group, weights=x) for x in (l0, total))
    observed = active / tokens
    rng = np.random.default_rng(seed)
    by_document = np.argsort(document, kind="stable")
    null = np.empty((draws, len(groups)))
    for draw in range(draws):
        mixed = rng.permutation(len(document))
        order = mixed[np.argsort(document[mixed], kind="stable")]
        null[draw] = np.bincount(group[by_document], weights=l0[order]) / tokens
    centre = null.mean(axis=0)
    further = np.abs(null - centre) >= np.abs(observed - centre) - 1e-12
    low, high = quantile_interval(null)
    p = exceedance_p(further.sum(axis=0), draws)
    return [
        {
            "first": int(position[group == i].min()),
            "last": int(position[group == i].max()),
            "tokens": int(tokens[i]),
            "l0": float(observed[i]),
            "activation": float(sums[i] / active[i]) if active[i] else None,
            "null_low": float(low[i]),
            "null_high": float(high[i]),
            "p": float(p[i]),
        }
        for i in range(len(groups))
    ]


def _read(shards: Sequence[Path]) -> tuple[Ints, Ints, Ints, Floats]:
    """Read the position, document, L0 and sum of activations of every token."""
    return _columns(block for shard in shards for block in read_shard(shard))


def _columns(read: Iterable[Block]) -> tuple[Ints, Ints, Ints, Floats]:
    """Return the position, document, L0 and sum of activations of every token of some blocks."""
    blocks: list[tuple[Any, ...]] = [
        (
            block.tokens.position.astype(np.int64),
            block.tokens.document,
            np.diff(block.indptr),
            np.bincount(block.rows, weights=block.values, minlength=len(block)),
        )
        for block in read
    ]
    if not blocks:
        return (*(np.empty(0, dtype=np.int64) for _ in range(3)), np.empty(0))  # type: ignore[return-value]
    position, document, l0, total = (np.concatenate(each) for each in zip(*blocks, strict=True))
    return position, document, l0, total


def _verdict(sae: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return [f"{sae}: the stored codes have no tokens."]
    first = rows[0]
    where = "inside" if first["null_low"] <= first["l0"] <= first["null_high"] else "outside"
    last = first["last"]
    positions = (
        f"position {last}" if first["first"] == last else f"positions {first['first']} to {last}"
    )
    return [
        f"{sae}: {first['l0']:.1f} active features per token at {positions}, {where} the 95% range of shuffled tokens ({first['null_low']:.1f} to "
        f"{first['null_high']:.1f}, p = {first['p']:.3g})."
    ]
