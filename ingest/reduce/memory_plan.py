"""What room co-activation needs: the most that codes can ask for, and ranges of equal room."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.errors import OutOfRoom
from ingest.reduce import sorted_pair_counts
from ingest.reduce.protocol import Plan, Sizes

__all__ = ["EdgeRoom", "equal_range", "possible_pairs"]

# A joint count and a sum of products, int64 and float64; those of all shards so far stand
# beside those of the shard at hand.
_JOINT_BYTES = 2 * 16

_EDGE_BYTES = sorted_pair_counts.ENTRY_BYTES + _JOINT_BYTES

# int64 or float64 numbers of each feature: active, chosen, ahead, squares, and twice ``at``.
_FEATURE_NUMBERS = 6


@dataclass(frozen=True)
class EdgeRoom:
    """Bytes that co-activation takes, given the sizes of the codes and its settings.

    Looks are as in ``Coactivation``: one for all possible pairs; two for pairs and then
    edges; or one that counts, some for a range of pairs each, and one for edges.
    """

    sizes: Sizes
    k: int
    min_count: int

    @property
    def met(self) -> int:
        """The most pairs of chosen features that all tokens together can hold.

        A token with n of them has n (n - 1) / 2 pairs, and n is k at most.
        """
        n = min(self.k, self.sizes.d_sae)
        return math.ceil(self.sizes.tokens * min(n, self.sizes.l0) * (n - 1) / 2)

    @property
    def fixed(self) -> int:
        """Bytes of all that does not grow with pairs."""
        return 8 * _FEATURE_NUMBERS * (self.sizes.d_sae + 1)

    @property
    def runs(self) -> int:
        """Bytes of all pairs of chosen features."""
        return sorted_pair_counts.most_bytes(self.met, possible_pairs(self.sizes.d_sae))

    @property
    def one_feature(self) -> int:
        """Bytes of the pairs in which one feature is the lower."""
        n = min(self.k, self.sizes.d_sae)
        return sorted_pair_counts.most_bytes(self.sizes.tokens * (n - 1), self.sizes.d_sae - 1)

    @property
    def edges(self) -> int:
        """Bytes of all edges."""
        pairs = possible_pairs(self.sizes.d_sae)
        return _EDGE_BYTES * min(self.met // self.min_count, pairs)

    def plan(self, memory: int) -> Plan:
        """Return the looks and bytes; see ``Coactivation.plan``."""
        width = f"Co-activation of {self.sizes.d_sae:,} features"
        allowed = f"{memory / 2**20:,.1f} MiB are left for it"
        if not self.sizes.codes_kept:
            need = self.fixed + self.runs + _JOINT_BYTES * possible_pairs(self.sizes.d_sae)
            if need > memory:
                raise OutOfRoom(
                    f"{width} without kept codes takes {need / 2**20:,.1f} MiB of memory, and "
                    f"{allowed}; keep the codes, so that they can be looked at twice, or allow "
                    "more memory."
                )
            return Plan(looks=1, bytes=need)
        need = self.fixed + max(self.runs, self.edges)
        if need <= memory // 2:
            return Plan(looks=2, bytes=need)
        at_once = (memory // 2 - self.fixed) // 2 - self.one_feature
        if at_once <= 0:
            least = 2 * (self.fixed + 2 * (self.one_feature + 1))
            raise OutOfRoom(
                f"{width} takes {least / 2**20:,.1f} MiB of memory at least, and {allowed}; allow "
                "more memory."
            )
        looks = math.ceil(self.runs / at_once) + 2
        return Plan(looks=looks, bytes=self.fixed + self.set_aside(looks))

    def set_aside(self, looks: int) -> int:
        """Return the bytes that three looks or more have for pairs: half a range, half edges."""
        return 2 * (math.ceil(self.runs / (looks - 2)) + self.one_feature)

    def check(self, edges: int, *, looks: int) -> None:
        """See that the edges found so far fit into what so many looks have set aside.

        Raises
        ------
        OutOfRoom
            If they do not.
        """
        need, room = edges * _EDGE_BYTES, self.set_aside(looks)
        if need > room:
            raise OutOfRoom(
                f"{edges:,} pairs of features or more are together among the {self.k} most active "
                f"of {self.min_count} tokens or more; as edges they take {need / 2**20:,.1f} MiB of "
                f"memory, and {room / 2**20:,.1f} MiB were set aside. Ask for a higher min_count or "
                "a lower k, or allow more memory; the codes are kept and need not be made again."
            )


def possible_pairs(d_sae: int) -> int:
    """Return how many pairs so many features make."""
    return d_sae * (d_sae - 1) // 2


def equal_range(ahead: NDArray[np.int64], number: int, *, ranges: int) -> NDArray[np.int64]:
    """Return [first, last + 1) of one of several ranges of lower features of like room.

    Parameters
    ----------
    ahead
        In how many pairs each feature was the lower: it keeps no more of them, nor more
        than twice the features of higher index (see ``runs.most_bytes``).
    number, ranges
        Which range, of how many.
    """
    d_sae = len(ahead)
    most = np.cumsum(np.minimum(ahead, 2 * np.arange(d_sae - 1, -1, -1)))
    inner = np.searchsorted(most, most[-1] * np.arange(1, ranges) / ranges)
    return np.array([0, *inner, d_sae])[number : number + 2]
