"""What a reduction is: plan, start, update, merge, tables.

A reduction turns an SAE's codes (or, within the pass, activations) into the
tables of one part. It never sees how the work was divided: any split of the
blocks, each started afresh and merged in shard order, gives the whole; integers
equal, floats to 1e-12.

A *state* is a dict of NumPy arrays, so that it can be saved as the checkpoint
of unfinished work. Counts are int64, products and moments float64.
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
    "Reduction",
    "Sizes",
    "State",
    "Subject",
    "Table",
]

State: TypeAlias = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Sizes:
    """How large the work is, as far as it is known before it begins.

    Parameters
    ----------
    d_in, d_sae
        Width of what the SAE reads, and its number of features.
    tokens
        Tokens to be counted, at most.
    l0
        Expected active features per token.
    vocabulary
        Tokens in the tokenizer's vocabulary.
    codes_kept
        Whether a second look at the codes is possible.
    """

    d_in: int
    d_sae: int
    tokens: int
    l0: float
    vocabulary: int
    codes_kept: bool


@dataclass(frozen=True)
class Plan:
    """How often a reduction looks at the codes, and the bytes its state takes at most."""

    looks: int
    bytes: int


@dataclass(frozen=True)
class Subject:
    """What the tables are about: the names that keys are made of.

    Parameters
    ----------
    sae
        The SAE's name in the atlas.
    d_sae
        Its number of features.
    tokenizer
        The tokenizer's key (first 12 hex digits of its SHA-256).
    texts
        Gives the text that each of some token ids stands for.
    """

    sae: str
    d_sae: int
    tokenizer: str
    texts: Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class Table:
    """One table of a part.

    ``name`` is a table of the schema (``"Feature"``; the data then has its key and
    the columns this kind owns, see ``schema.arrow_schema(name, kind)``), or any
    lower-case name for data that stays out of the graph.
    """

    name: str
    data: "pa.Table"


class Reduction(Protocol):
    """What all reductions have in common."""

    @property
    def name(self) -> str:
        """The kind of part it makes."""

    @property
    def version(self) -> int:
        """Raised when the same codes would give other tables."""

    def plan(self, sizes: Sizes, *, memory: int) -> Plan:
        """Say how many looks and bytes it takes, at most ``memory`` bytes if it can.

        Raises
        ------
        OutOfRoom
            If it cannot be done in this memory, or needs codes that are not kept.
        """

    def merge(self, a: State, b: State) -> State:
        """Return the state of a's blocks followed by b's; either may be consumed."""

    def tables(self, finals: Sequence[State], subject: Subject) -> Iterable[Table]:
        """Turn the final state of each look into tables."""


class CodeReduction(Reduction, Protocol):
    """A reduction over an SAE's codes. Settings are its frozen dataclass fields."""

    def start(self, look: int, before: Sequence[State], *, sizes: Sizes, looks: int) -> State:
        """Return the empty state of a look, given the final states of the looks before."""

    def update(self, state: State, block: "Block") -> None:
        """Take one block in, changing the state in place."""


class ActivationReduction(Reduction, Protocol):
    """A reduction over activations and their reconstruction; one look, within the pass."""

    def start(self, sizes: Sizes) -> State:
        """Return the empty state."""

    def update(self, state: State, inputs: "torch.Tensor", reconstruction: "torch.Tensor") -> None:
        """Take some tokens in; both tensors are float32 of shape (tokens, d_in), in any order."""
