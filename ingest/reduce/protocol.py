"""The protocol of reductions: plan, start, update, merge, tables.

A reduction computes the tables of one part from an SAE's codes or, during the forward pass,
from activations. The result does not depend on the division of the work: states of any
subsets of the blocks, merged in shard order, give the same result (integers exactly, floats
to 1e-12).

A *state* is a dict of NumPy arrays, so it can be saved as a checkpoint of unfinished work.
Counts are int64, products and moments float64.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from ingest.codes.store import Block

__all__ = [
    "ActivationReduction",
    "CodeReduction",
    "Plan",
    "ReducedSae",
    "Reduction",
    "Sizes",
    "State",
    "Table",
]

State: TypeAlias = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Sizes:
    """The size of the work, as known before it begins.

    Parameters
    ----------
    d_in, d_sae
        Width of the SAE's reconstruction, and its number of features.
    tokens
        Largest number of tokens.
    l0
        Expected number of active features per token.
    vocabulary
        Number of tokens in the tokenizer's vocabulary.
    codes_stored
        Whether the codes are stored, so that a second pass is possible.
    """

    d_in: int
    d_sae: int
    tokens: int
    l0: float
    vocabulary: int
    codes_stored: bool


@dataclass(frozen=True)
class Plan:
    """The number of passes of a reduction over the codes, and the limit of its bytes."""

    passes: int
    bytes: int


@dataclass(frozen=True)
class ReducedSae:
    """The SAE that tables describe, with the names that are used in keys.

    Parameters
    ----------
    sae
        The SAE's name in the atlas.
    d_sae
        Its number of features.
    tokenizer
        The tokenizer's key (first 12 hex digits of its SHA-256).
    texts
        Function that returns the texts of token ids.
    """

    sae: str
    d_sae: int
    tokenizer: str
    texts: Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class Table:
    """One table of a part.

    ``name`` is a table of the schema, such as ``"Feature"``, or any lower-case name for data
    outside the graph. A table of the schema has its key and the columns of this kind of part
    (see ``schema.arrow_schema(name, kind)``).
    """

    name: str
    data: "pa.Table"


class Reduction(Protocol):
    """The common interface of all reductions."""

    @property
    def name(self) -> str:
        """The kind of part that it writes."""

    @property
    def version(self) -> int:
        """Increased whenever the same codes give different tables."""

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Return the number of passes and bytes, within ``memory`` bytes if possible.

        Raises
        ------
        OutOfSpace
            If it does not fit into this memory, or needs codes that are not stored.
        """

    def merge(self, a: State, b: State) -> State:
        """Return the state of a's blocks followed by b's; either may be consumed."""

    def tables(self, finals: Sequence[State], subject: ReducedSae) -> Iterable[Table]:
        """Compute the tables from the final state of each pass."""


class CodeReduction(Reduction, Protocol):
    """A reduction over an SAE's codes. Settings are its frozen dataclass fields."""

    def start(
        self, pass_index: int, before: Sequence[State], *, sizes: Sizes, passes: int
    ) -> State:
        """Return the empty state of a pass, from the final states of the previous passes."""

    def update(self, state: State, block: "Block") -> None:
        """Add one block to the state, in place."""


class ActivationReduction(Reduction, Protocol):
    """A reduction over activations and their reconstruction, during the forward pass."""

    def start(self, sizes: Sizes) -> State:
        """Return the empty state."""

    def update(self, state: State, inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Add a batch of tokens; both tensors are float32 of shape (tokens, d_in), in any order."""
