"""The memory of co-activation: upper limits for codes of some size, and ranges of equal memory."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.errors import OutOfRoom
from ingest.reduce import sorted_pair_counts
from ingest.reduce.protocol import Plan, Sizes

__all__ = ["EdgeRoom", "equal_range", "possible_pairs"]

# A joint count (int64) and a sum of products (float64), once for all previous shards and once
# for the current shard.
_JOINT_BYTES = 2 * 16

_EDGE_BYTES = sorted_pair_counts.ENTRY_BYTES + _JOINT_BYTES

# Numbers of 8 bytes for each feature: active, chosen, ahead, squares, and twice ``at``.
_FEATURE_NUMBERS = 6


@dataclass(frozen=True)
class EdgeRoom:
    """Bytes that co-activation needs for codes of some size.

    Passes are those of ``Coactivation``: one for all possible pairs; two for pairs and then
    edges; or one that counts, one for each range of pairs, and one for edges.
    """

    sizes: Sizes
    k: int
    min_count: int

    @property
    def met(self) -> int:
        """Largest number of pairs of chosen features in all tokens together.

        A token with n chosen features has n (n - 1) / 2 pairs, and n is at most k.
        """
        n = min(self.k, self.sizes.d_sae)
        return math.ceil(self.sizes.tokens * min(n, self.sizes.l0) * (n - 1) / 2)

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the number of pairs."""
        return 8 * _FEATURE_NUMBERS * (self.sizes.d_sae + 1)

    @property
    def runs(self) -> int:
        """Bytes of all pairs of chosen features."""
        return sorted_pair_counts.most_bytes(self.met, possible_pairs(self.sizes.d_sae))

    @property
    def one_feature(self) -> int:
        """Bytes of the pairs in which one feature has the lower index."""
        n = min(self.k, self.sizes.d_sae)
        return sorted_pair_counts.most_bytes(self.sizes.tokens * (n - 1), self.sizes.d_sae - 1)

    @property
    def edges(self) -> int:
        """Bytes of all edges."""
        pairs = possible_pairs(self.sizes.d_sae)
        return _EDGE_BYTES * min(self.met // self.min_count, pairs)

    def plan(self, memory: int) -> Plan:
        """Return the number of passes and bytes; see ``Coactivation.plan``."""
        width = f"Co-activation of {self.sizes.d_sae:,} features"
        allowed = f"but only {memory / 2**20:,.1f} MiB are available"
        if not self.sizes.codes_kept:
            need = self.fixed + self.runs + _JOINT_BYTES * possible_pairs(self.sizes.d_sae)
            if need > memory:
                raise OutOfRoom(
                    f"{width} without stored codes needs {need / 2**20:,.1f} MiB of memory, "
                    f"{allowed}. Use --keep-codes, so that the codes can be read twice, or raise "
                    "--memory."
                )
            return Plan(looks=1, bytes=need)
        need = self.fixed + max(self.runs, self.edges)
        if need <= memory // 2:
            return Plan(looks=2, bytes=need)
        at_once = (memory // 2 - self.fixed) // 2 - self.one_feature
        if at_once <= 0:
            least = 2 * (self.fixed + 2 * (self.one_feature + 1))
            raise OutOfRoom(
                f"{width} needs at least {least / 2**20:,.1f} MiB of memory, {allowed}. Raise "
                "--memory."
            )
        looks = math.ceil(self.runs / at_once) + 2
        return Plan(looks=looks, bytes=self.fixed + self.set_aside(looks))

    def set_aside(self, looks: int) -> int:
        """Return the bytes that three or more passes have for pairs: half a range, half edges."""
        return 2 * (math.ceil(self.runs / (looks - 2)) + self.one_feature)

    def check(self, edges: int, *, looks: int) -> None:
        """Check that the edges so far fit into the memory that the plan has for them.

        Raises
        ------
        OutOfRoom
            If they do not fit.
        """
        need, room = edges * _EDGE_BYTES, self.set_aside(looks)
        if need > room:
            raise OutOfRoom(
                f"At least {edges:,} pairs of features are together among the {self.k} most active "
                f"of at least {self.min_count} tokens. As edges they need {need / 2**20:,.1f} MiB of "
                f"memory, but only {room / 2**20:,.1f} MiB are planned. Use a higher --min-count or "
                "a lower --k, or raise --memory. The codes are stored and need not be computed again."
            )


def possible_pairs(d_sae: int) -> int:
    """Return the number of pairs of features."""
    return d_sae * (d_sae - 1) // 2


def equal_range(ahead: NDArray[np.int64], number: int, *, ranges: int) -> NDArray[np.int64]:
    """Return [first, last + 1) of one of several ranges of features that need similar memory.

    Parameters
    ----------
    ahead
        Number of pairs in which each feature has the lower index. A feature stores at most
        these, and at most twice the number of features of higher index (see
        ``sorted_pair_counts.most_bytes``).
    number, ranges
        The number of the range, and the number of ranges.
    """
    d_sae = len(ahead)
    most = np.cumsum(np.minimum(ahead, 2 * np.arange(d_sae - 1, -1, -1)))
    inner = np.searchsorted(most, most[-1] * np.arange(1, ranges) / ranges)
    return np.array([0, *inner, d_sae])[number : number + 2]
