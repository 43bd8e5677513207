"""Arrow arrays made from buffers: ``pyarrow.array`` and ``pyarrow.scalar`` would import pandas for half a second."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["int64_array", "repeated_text"]


def int64_array(numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> "pa.Array":
    """Return numbers as an Arrow array.

    Parameters
    ----------
    numbers
        (rows,).

    Examples
    --------
    >>> import numpy as np
    >>> int64_array(np.array([3, 1])).to_pylist()
    [3, 1]
    """
    import numpy as np
    import pyarrow as pa

    buffer = pa.py_buffer(np.ascontiguousarray(numbers, dtype=np.int64))
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, buffer])


def repeated_text(text: str, rows: int) -> "pa.Array":
    """Return an Arrow array of equal texts.

    Parameters
    ----------
    text
        The text of each row.
    rows
        Their number.

    Examples
    --------
    >>> repeated_text("é", 2).to_pylist()
    ['é', 'é']
    """
    import numpy as np
    import pyarrow as pa

    one = text.encode()
    ends = pa.py_buffer(np.array([0, len(one)], dtype=np.int32))
    value = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(one)])
    return value.take(int64_array(np.zeros(rows, dtype=np.int64)))
