"""Checks of the arrays that users pass: one message for what is no matrix or vector of finite numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput

__all__ = ["finite_matrix", "finite_vector"]


def finite_matrix(values: Any, name: str) -> NDArray[np.float64]:
    """Return values as a matrix of finite numbers.

    Parameters
    ----------
    values
        An array, a data frame, or nested lists.
    name
        Name of the argument, for the message.

    Returns
    -------
    float64, (rows, columns).

    Raises
    ------
    BadInput
        If the values are no numbers, not finite, or have not two dimensions.

    Examples
    --------
    >>> finite_matrix([[1, 2], [3, 4]], "x").shape
    (2, 2)
    """
    return _finite(values, name, dimensions=2)


def finite_vector(values: Any, name: str) -> NDArray[np.float64]:
    """Return values as a vector of finite numbers.

    Parameters
    ----------
    values
        An array, a column of a data frame, or a list.
    name
        Name of the argument, for the message.

    Returns
    -------
    float64, (values,).

    Raises
    ------
    BadInput
        If the values are no numbers, not finite, or have not one dimension.

    Examples
    --------
    >>> finite_vector([1, 2], "one").tolist()
    [1.0, 2.0]
    """
    return _finite(values, name, dimensions=1)


def _finite(values: Any, name: str, *, dimensions: int) -> NDArray[np.float64]:
    shape = "(rows, columns)" if dimensions == 2 else "(values,)"
    expected = f"expected finite numbers of shape {shape}."
    try:
        array = np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{name} is a {type(values).__name__} without a number in each cell; {expected}"
        ) from error
    if array.ndim != dimensions:
        raise BadInput(f"{name} has the shape {array.shape}; {expected}")
    if not np.isfinite(array).all():
        raise BadInput(
            f"{name} has {np.count_nonzero(~np.isfinite(array)):,} values that are NaN or infinite; {expected}"
        )
    return array
