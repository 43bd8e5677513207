"""Aligned codes: the codes of two SAEs over the same units of text.

A unit is a token if the models of both SAEs have the same tokenizer, otherwise a word; see
``ingest.match.align``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Aligned", "CodeRows", "Units"]


@dataclass(frozen=True)
class Units:
    """The aligned units of text, in corpus order.

    Parameters
    ----------
    document
        int64, one a unit. Number of the document in the corpus; never decreases.
    type
        int32, one a unit. Number of the token id, or of the spelling of the word; from 0
        without gaps.
    """

    document: NDArray[np.int64]
    type: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.type)


@dataclass(frozen=True)
class CodeRows:
    """An SAE's codes over all units, in compressed sparse row format, possibly memory-mapped.

    Parameters
    ----------
    indptr
        int64, units + 1. Row t has the entries ``indptr[t]:indptr[t + 1]``.
    indices
        uint32. Active features, ascending within a row.
    values
        float32. Their activations, all above 0.
    d_sae
        Number of features.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]
    d_sae: int

    def __len__(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True)
class Aligned:
    """Two SAEs' codes over the same units.

    Parameters
    ----------
    alignment
        ``"tokens"`` or ``"words"``.
    units
        The units.
    a, b
        The codes; both have a row for each unit.
    left_out
        Number of tokens of either SAE that are in no unit, by reason.
    """

    alignment: str
    units: Units
    a: CodeRows
    b: CodeRows
    left_out: Mapping[str, int] = field(default_factory=dict)
