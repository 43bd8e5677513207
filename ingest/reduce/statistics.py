"""Statistics: counts, moments and histograms of the activations of each feature."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.codes.store import Block
from ingest.reduce.arrays import Arrays, graph_table, keys, nullable
from ingest.reduce.moments import FeatureMoments
from ingest.reduce.protocol import Plan, ReducedSae, Sizes, Table

if TYPE_CHECKING:
    from ingest.reduce.protocol import CodeReduction

__all__ = ["Statistics", "half_octave", "lower_edge"]

# Half octaves between the smallest and the largest float32.
_MOST_BINS = 2 * (149 + 128)


def half_octave(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the bin k of each activation: lower_edge(k) <= activation < lower_edge(k + 1)."""
    mantissa, exponent = np.frexp(values)
    return 2 * exponent.astype(np.int64) + (mantissa >= math.sqrt(0.5))


def lower_edge(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lower edges of bins, ``2**(k / 2 - 1)``, which do not depend on the data."""
    return np.ldexp(np.where(bins % 2, math.sqrt(0.5), 0.5), bins // 2)


@dataclass(frozen=True)
class Statistics:
    """For each feature: count, mean, deviation, largest activation and a histogram of activations.

    Tables: ``Feature``, ``SAE`` and ``histogram`` (idx, lower, upper, count: the number of
    activations in [lower, upper)). The edges of bins are powers of the square root of 2; empty
    bins are omitted.
    """

    name: ClassVar[str] = "statistics"
    version: ClassVar[int] = 1

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return one pass, with five numbers and at most a full histogram for each feature."""
        return Plan(passes=1, bytes=8 * sizes.d_sae * (5 + _MOST_BINS))

    def start(
        self, pass_index: int, before: Sequence[Arrays], *, sizes: Sizes, passes: int
    ) -> Arrays:
        """Return an empty state.

        ``histogram`` is int64 of shape (d_sae, bins), and ``lowest`` is the number of its
        first bin.
        """
        state: Arrays = {
            "tokens": np.zeros(1, dtype=np.int64),
            "max": np.zeros(sizes.d_sae, dtype=np.float32),
            "histogram": np.zeros((sizes.d_sae, 0), dtype=np.int64),
            "lowest": np.zeros(1, dtype=np.int64),
        }
        FeatureMoments.empty(sizes.d_sae, counts=sizes.d_sae).into(state)
        return state

    def update(self, state: Arrays, block: Block) -> None:
        """Add one block to the state."""
        d_sae = len(state["max"])
        feature = block.indices.astype(np.int64)
        values = block.values.astype(np.float64)
        count = np.bincount(feature, minlength=d_sae)
        divisor = np.maximum(count, 1)
        mean = np.bincount(feature, weights=values, minlength=d_sae) / divisor
        off = values - mean[feature]
        rest = np.bincount(feature, weights=off, minlength=d_sae) / divisor
        m2 = np.bincount(feature, weights=off**2, minlength=d_sae).astype(np.float64)
        FeatureMoments.of(state).join(FeatureMoments(count, mean, rest, m2)).into(state)
        state["tokens"] = state["tokens"] + len(block)
        np.maximum.at(state["max"], feature, block.values)
        if len(values):
            bins = half_octave(block.values)
            lowest = bins.min()
            width = int(bins.max() - lowest) + 1
            flat = np.bincount(feature * width + (bins - lowest), minlength=d_sae * width)
            _add_histogram(state, flat.reshape(d_sae, width), int(lowest))

    def merge(self, a: Arrays, b: Arrays) -> Arrays:
        """Merge two states."""
        FeatureMoments.of(a).join(FeatureMoments.of(b)).into(a)
        a["tokens"] = a["tokens"] + b["tokens"]
        a["max"] = np.maximum(a["max"], b["max"])
        _add_histogram(a, b["histogram"], int(b["lowest"][0]))
        return a

    def tables(self, finals: Sequence[Arrays], subject: ReducedSae) -> Iterator[Table]:
        """Yield the columns of Feature and SAE, and the histogram."""
        (state,) = finals
        moments = FeatureMoments.of(state)
        tokens, count = int(state["tokens"][0]), moments.number
        dead = count == 0
        no_tokens = np.full(len(count), tokens == 0)
        deviation = np.sqrt(moments.m2 / np.maximum(count, 1))
        yield graph_table(
            "Feature",
            self.name,
            {
                "id": keys(subject.sae, np.arange(len(count))),
                "active_tokens": count,
                "frequency": nullable(count / max(tokens, 1), null=no_tokens),
                "mean_activation": nullable(moments.mean + moments.rest, null=dead),
                "std_activation": nullable(deviation, null=dead),
                "max_activation": nullable(state["max"].astype(np.float64), null=dead),
                "dead": dead,
            },
        )
        yield graph_table(
            "SAE",
            self.name,
            {
                "name": [subject.sae],
                "tokens": [tokens],
                "l0": [int(count.sum()) / tokens if tokens else None],
                "dead": [int(dead.sum())],
                "dead_share": [int(dead.sum()) / len(count)],
            },
        )
        yield _histogram_table(state)


def _add_histogram(state: Arrays, other: NDArray[np.int64], lowest: int) -> None:
    """Add bins that begin at number ``lowest``; the histogram of the state grows if necessary."""
    own = state["histogram"]
    if not other.shape[1]:
        return
    if not own.shape[1]:
        state["histogram"], state["lowest"] = other, np.array([lowest])
        return
    begin = int(state["lowest"][0])
    first = min(begin, lowest)
    last = max(begin + own.shape[1], lowest + other.shape[1])
    if (first, last) != (begin, begin + own.shape[1]):
        own = np.pad(own, ((0, 0), (begin - first, last - begin - own.shape[1])))
        state["histogram"], state["lowest"] = own, np.array([first])
    own[:, lowest - first : lowest - first + other.shape[1]] += other


def _histogram_table(state: Arrays) -> Table:
    histogram = state["histogram"]
    idx, offset = np.nonzero(histogram)
    bins = offset + int(state["lowest"][0])
    columns = {
        "idx": idx,
        "lower": lower_edge(bins),
        "upper": lower_edge(bins + 1),
        "count": histogram[idx, offset],
    }
    return Table("histogram", pa.table(columns))


if TYPE_CHECKING:
    _: CodeReduction = Statistics()
