"""Arrow columns for the tables of reductions, without a Python loop over rows."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas.schema import arrow_schema
from ingest.reduce.protocol import Table

__all__ = ["graph_table", "keys", "nullable"]


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
