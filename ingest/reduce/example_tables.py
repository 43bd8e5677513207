"""The tables of Examples: the survivors in order, as Arrow lists of tokens and activations."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas.schema import arrow_schema
from ingest.reduce import top_k
from ingest.reduce.arrays import Arrays, ranks
from ingest.reduce.arrow_columns import graph_table, keys
from ingest.reduce.protocol import Subject, Table

__all__ = ["tables"]

# Rows computed at once, so that the texts of a chunk are far below the limit of 32-bit offsets.
_AT_ONCE = 1 << 16


def tables(
    kind: str, finals: Sequence[Arrays], subject: Subject, *, fifths: int
) -> Iterator[Table]:
    """Yield the Example nodes and the SHOWN_BY edges.

    Parameters
    ----------
    kind
        The kind of part.
    finals
        Survivors of the top (a group is a feature) and, if there are two states, of the
        sample (a group is a fifth of a feature).
    subject
        The SAE.
    fifths
        Number of groups of the sample for each feature.
    """
    feature, section, source, slot = _in_order(finals, fifths)
    rank = ranks(feature)
    vocabulary = _Vocabulary(finals, subject)
    kinds = pa.array(["top", *(f"fifth {i + 1}" for i in range(fifths))])
    parts = [arrow_schema("Example", kind).empty_table()]
    for i in range(0, len(feature), _AT_ONCE):
        chunk = slice(i, i + _AT_ONCE)
        row = _rows(finals, source[chunk], slot[chunk])
        shown = np.arange(row["tokens"].shape[1]) < row["length"][:, None]
        offsets = pa.array(np.concatenate([[0], np.cumsum(row["length"])]).astype(np.int32))
        tokens = pa.ListArray.from_arrays(offsets, vocabulary(row["tokens"][shown]))
        activations = row["activations"].astype(np.float64)
        columns = {
            "id": keys(subject.sae, feature[chunk], rank[chunk]),
            "sae": pa.repeat(subject.sae, len(row["peak"])),
            "idx": feature[chunk],
            "rank": rank[chunk],
            "kind": kinds.take(pa.array(section[chunk])),
            "activation": activations[np.arange(len(activations)), row["peak"]],
            "text": pc.binary_join(tokens, ""),
            "tokens": tokens,
            "activations": pa.ListArray.from_arrays(offsets, pa.array(activations[shown])),
            "peak": row["peak"].astype(np.int64),
            "document": row["place"] >> 32,
            "start": row["start"].astype(np.int64),
        }
        parts.append(graph_table("Example", kind, columns).data)
    yield Table("Example", pa.concat_tables(parts))
    ends = {"source": keys(subject.sae, feature), "target": keys(subject.sae, feature, rank)}
    yield graph_table("SHOWN_BY", kind, ends)


def _in_order(finals: Sequence[Arrays], fifths: int) -> tuple[NDArray[np.int64], ...]:
    """Return feature, section (0 is the top), number of the state and slot, in display order."""
    parts = []
    for source, state in enumerate(finals):
        slot, group, _ = top_k.sort(state)
        one = (
            (group, np.zeros_like(group)) if source == 0 else (group // fifths, group % fifths + 1)
        )
        parts.append((*one, np.full_like(slot, source), slot))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    by = np.argsort(columns[0], kind="stable")
    return tuple(column[by] for column in columns)


def _rows(finals: Sequence[Arrays], source: NDArray[np.int64], slot: NDArray[np.int64]) -> Arrays:
    """Return some rows of the final states as columns."""
    out = {}
    for name in ("place", "start", "peak", "length", "tokens", "activations"):
        out[name] = finals[0][name][np.where(source == 0, slot, 0)]
        for i in range(1, len(finals)):
            out[name][source == i] = finals[i][name][slot[source == i]]
    return out


class _Vocabulary:
    """The texts of the tokens that occur, each decoded once."""

    def __init__(self, finals: Sequence[Arrays], subject: Subject) -> None:
        used = [state["tokens"][: state["used"][0]] for state in finals]
        seen = np.zeros(1 + max((t.max() for t in used if t.size), default=0), dtype=np.bool_)
        for tokens in used:
            seen[tokens] = True
        ids = np.flatnonzero(seen).tolist()
        self.number = np.cumsum(seen) - 1
        self.texts = pa.array(subject.texts(ids), pa.string())

    def __call__(self, tokens: NDArray[np.int32]) -> pa.Array:
        """Return the text of each token."""
        return self.texts.take(pa.array(self.number[tokens]))
