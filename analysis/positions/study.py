"""Active features and mean activation by position in the context, compared with shuffled tokens.

Positions are those in the model's context. They are grouped by powers of two: 1, 2 to 3, 4 to
7, and so on. The null of both statistics shuffles the tokens of each document among their
positions, which preserves the topic of each document and removes the effect of position.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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

__all__ = ["PositionStudy", "activation_by_position", "by_position", "constant_l0", "verdict_of"]

#: Blocks of codes that are read for the forecast, and most tokens of its sample.
_BLOCKS, _ENOUGH = 4, 300_000

#: Bytes for each token: four columns, and the arrays of one random order.
_BYTES = 112

#: Sums of the same numbers in another order differ by less than this share of them.
_ROUNDING = 1e-9

#: Ends of the names of the columns that compare a statistic with its null.
_OF_NULL = ("null_low", "null_high", "p")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PositionStudy(Study):
    """Compare activations between positions, for one SAE at a time."""

    kind: ClassVar[str] = "positions"
    version: ClassVar[int] = 2
    tables: ClassVar[Mapping[str, str]] = {
        "positions": "active features and activation by position, with nulls",
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
        draws = self.settings.draws
        with at.progress.stage(f"{task.title}: random orders", total=draws, unit="orders") as stage:
            rows = by_position(
                position,
                document,
                l0=l0,
                total=total,
                draws=draws,
                seed=self.settings.seed,
                advance=stage.advance,
            )
        return Found([("positions", pa.Table.from_pylist(rows))])

    def result(self, part: Part) -> Result:
        """Return both statistics of the first and the last positions, and all rows in ``listed``."""
        rows = part.table("positions").to_pylist()
        summary: dict[str, Any] = {"sae": part.manifest.saes[0], "positions": len(rows)}
        for where, row in (("first", rows[0]), ("last", rows[-1])) if rows else ():
            for name in ("l0", "activation"):
                summary |= {f"{name}_{where}": row[name], f"{name}_p_{where}": row[f"{name}_p"]}
        summary["listed"] = rows
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=verdict_of(summary["sae"], rows),
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
        Names of SAEs, or ``"all"``. Default: the first.
    settings
        Number and seed of the random orders.
    replace, workers, ray, progress
        See ``atlas.studies.runner.run_study``.

    Returns
    -------
    A result for each SAE; ``listed`` and its table ``positions`` have a row for each group
    of positions.

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
    position: Ints,
    document: Ints,
    *,
    l0: Ints,
    total: Floats,
    draws: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
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
    advance
        Called after each shuffle.

    Returns
    -------
    list of dict
        ``first`` and ``last`` position of the group, its ``tokens``, ``l0`` (active features
        per token) and ``activation`` (mean over active features; None without any). For both,
        ``_null_low`` and ``_null_high`` (2.5% and 97.5% quantiles under the null) and ``_p``
        (two-sided: share of shuffles, the observed order included, at least as far from the mean
        of the null).

    Examples
    --------
    >>> position, document = np.array([1, 2, 1, 2]), np.array([0, 0, 1, 1])
    >>> l0, total = np.array([2, 2, 2, 2]), np.array([8.0, 2.0, 8.0, 2.0])
    >>> rows = by_position(position, document, l0=l0, total=total, draws=99, seed=0)
    >>> [(row["l0"], row["l0_p"], row["activation"]) for row in rows]
    [(2.0, 1.0, 4.0), (2.0, 1.0, 1.0)]
    """
    if not len(position):
        return []
    _, group = np.frexp(position.astype(np.float64))
    groups, group = np.unique(group, return_inverse=True)
    tokens = np.bincount(group)

    def statistics(group: Ints, l0: Ints, total: Floats) -> tuple[Floats, Floats]:
        active, sums = (np.bincount(group, weights=x) for x in (l0, total))
        none = np.full(len(groups), np.nan)
        return active / tokens, np.divide(sums, active, out=none, where=active > 0)

    rng = np.random.default_rng(seed)
    by_document = group[np.argsort(document, kind="stable")]
    null = np.empty((2, draws, len(groups)))
    for draw in range(draws):
        mixed = rng.permutation(len(document))
        order = mixed[np.argsort(document[mixed], kind="stable")]
        null[:, draw] = statistics(by_document, l0[order], total[order])
        advance()
    rows: list[dict[str, Any]] = [
        {
            "first": int(position[group == i].min()),
            "last": int(position[group == i].max()),
            "tokens": int(tokens[i]),
        }
        for i in range(len(groups))
    ]
    observed = statistics(group, l0, total)
    for name, seen, drawn in zip(("l0", "activation"), observed, null, strict=True):
        for i, row in enumerate(rows):
            row |= _compared(name, float(seen[i]), drawn[:, i])
    return rows


def _compared(name: str, seen: float, drawn: Floats) -> dict[str, float | None]:
    """Return a statistic, the 95% range of its null, and its p; None where it is not defined."""
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(seen) or not len(drawn):
        known = seen if np.isfinite(seen) else None
        return {name: known, **dict.fromkeys((f"{name}_{n}" for n in _OF_NULL), None)}
    centre = drawn.mean()
    further = np.abs(drawn - centre) >= abs(seen - centre) - _ROUNDING * abs(seen)
    low, high = (float(limit) for limit in quantile_interval(drawn))
    p = exceedance_p(int(further.sum()), len(drawn))
    return {name: seen, **dict(zip((f"{name}_{n}" for n in _OF_NULL), (low, high, p), strict=True))}


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


def constant_l0(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether L0 is the same for every group and shuffle, as that of a TopK SAE is."""
    return len({row[n] for row in rows for n in ("l0", "l0_null_low", "l0_null_high")}) == 1


def verdict_of(sae: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Compare the first position with shuffled tokens, by L0 unless it is constant, and by activation."""
    if not rows:
        return [f"{sae}: the stored codes have no tokens."]
    row = rows[0]
    at = f"position {row['last']}"
    if row["first"] != row["last"]:
        at = f"positions {row['first']} to {row['last']}"
    l0 = f"{row['l0']:.1f} active features per token"
    if constant_l0(rows):
        found = [
            f"L0 is {row['l0']:.1f} at every position and in every shuffle, so it has no test."
        ]
    else:
        found = [f"At {at}, there are {l0}, {_where(row, 'l0')}."]
    if row["activation"] is None:
        found.append(f"No feature is active at {at}.")
    else:
        found.append(
            f"At {at}, the mean activation of active features is {row['activation']:.3g}, "
            f"{_where(row, 'activation')}."
        )
    if constant_l0(rows):
        found.reverse()
    return [f"{sae}: {found[0][0].lower()}{found[0][1:]}", *found[1:]]


def _where(row: Mapping[str, Any], name: str) -> str:
    """Compare a statistic with the 95% range of its null."""
    low, high, p = (row[f"{name}_{n}"] for n in _OF_NULL)
    if low is None:
        return "without a null, since no shuffle has an active feature there"
    # Sums in another order differ by rounding.
    near = _ROUNDING * abs(row[name])
    where = "above" if row[name] > high + near else "below" if row[name] < low - near else "inside"
    return f"{where} the 95% range of shuffled tokens ({low:.3g} to {high:.3g}, p = {p:.3g})"
