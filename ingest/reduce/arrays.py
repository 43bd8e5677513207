"""Arrays and Arrow columns of reductions: runs of equal values, codes by feature, keys, tables."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from atlas.schema import arrow_schema
from ingest.codes.store import Block
from ingest.reduce.protocol import Table

__all__ = ["Arrays", "by_feature", "changes", "graph_table", "keys", "nullable", "ranks"]


def keys(prefix: str, *numbers: NDArray[np.integer]) -> pa.Array:
    """Return the strings ``prefix/number`` or ``prefix/number/number`` of all rows."""
    parts = [pc.cast(pa.array(n.astype(np.int64)), pa.string()) for n in numbers]
    return pc.binary_join_element_wise(prefix, *parts, "/")


def nullable(values: NDArray[np.float64], *, null: NDArray[np.bool_]) -> pa.Array:
    """Return the values as doubles, null where ``null`` is true."""
    return pa.array(values, type=pa.float64(), mask=null)


def graph_table(name: str, kind: str, columns: Mapping[str, object]) -> Table:
    """Return a table with the exact types of the schema, from columns in any order.

    Parameters
    ----------
    name
        A table of the schema.
    kind
        The kind of part that fills these columns.
    columns
        NumPy or Arrow arrays of equal length by column name.
    """
    return Table(name, pa.table(dict(columns), schema=arrow_schema(name, kind)))


# A State without static types of its arrays; the ``start`` of each reduction documents them.
Arrays: TypeAlias = dict[str, NDArray[Any]]


def changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a value differs from the previous one; the first always does."""
    fresh = np.ones(len(values), dtype=np.bool_)
    fresh[1:] = values[1:] != values[:-1]
    return fresh


def ranks(group: NDArray[Any]) -> NDArray[np.int64]:
    """Number the members of each group from 0; groups must be contiguous."""
    starts = np.flatnonzero(changes(group))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))


def by_feature(block: Block, rows: NDArray[np.int64] | None = None) -> csc_array:
    """Return the codes as columns, with rows in the order ``rows`` (that of the block if None).

    The conversion is a counting sort, several times faster than a sort by key.
    """
    codes = csr_array(
        (block.values, block.indices.view(np.int32), block.indptr), (len(block), block.d_sae)
    )
    return (codes if rows is None else codes[rows]).tocsc()
