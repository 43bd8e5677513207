"""A seeded sample of the tokens on which each feature of an SAE is active, from its stored codes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.codes.store import Block

__all__ = ["ActiveTokens", "sample_active_tokens"]


@dataclass(frozen=True, eq=False)
class ActiveTokens:
    """Tokens on which features are active, sorted by feature, block and row.

    All arrays have one entry for each pair of a feature and a token.

    Parameters
    ----------
    feature
        int64. The feature.
    block
        int64. Number of the block in the corpus.
    row
        int64. Row of the token in the block.
    activation
        float32. Activation of the feature on the token, above 0.
    """

    feature: NDArray[np.int64]
    block: NDArray[np.int64]
    row: NDArray[np.int64]
    activation: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.feature)

    def of_block(self, number: int) -> "ActiveTokens":
        """Return the tokens of one block."""
        return self._of(np.flatnonzero(self.block == number))

    def first(self, number: int) -> "ActiveTokens":
        """Return the first pairs."""
        return self._of(np.arange(min(number, len(self))))

    def _of(self, which: NDArray[np.int64]) -> "ActiveTokens":
        return ActiveTokens(
            self.feature[which], self.block[which], self.row[which], self.activation[which]
        )


def sample_active_tokens(
    blocks: Iterable[Block], features: NDArray[np.integer], *, most: int, seed: int
) -> ActiveTokens:
    """Return a uniform sample of the tokens on which each of some features is active.

    Each pair of a feature and a token draws a number from a generator that is seeded by the
    seed and the number of the block; the lowest numbers of a feature are its sample. So the
    sample does not depend on how the blocks are divided into shards.

    Parameters
    ----------
    blocks
        Blocks of codes.
    features
        The features.
    most
        Most tokens of a feature; a feature with fewer active tokens has all of them.
    seed
        Seed of the sample.
    """
    wanted = np.sort(np.asarray(features, dtype=np.int64))
    found = np.empty(
        0, dtype=[("f", "i8"), ("key", "f8"), ("block", "i8"), ("row", "i8"), ("a", "f4")]
    )
    for block in blocks:
        draws = np.random.default_rng([seed, block.number]).random(len(block.indices))
        index = block.indices.astype(np.int64)
        own = np.flatnonzero(np.isin(index, wanted))
        more = np.empty(len(own), dtype=found.dtype)
        more["f"], more["key"], more["block"] = index[own], draws[own], block.number
        more["row"], more["a"] = block.rows[own], block.values[own]
        found = _lowest(np.concatenate([found, more]), most)
    found = found[np.lexsort((found["row"], found["block"], found["f"]))]
    return ActiveTokens(found["f"], found["block"], found["row"], found["a"])


def _lowest(found: NDArray[np.void], most: int) -> NDArray[np.void]:
    """Return the entries with the lowest keys of each feature."""
    found = found[np.lexsort((found["key"], found["f"]))]
    first = np.searchsorted(found["f"], found["f"])
    return found[np.arange(len(found)) - first < most]
