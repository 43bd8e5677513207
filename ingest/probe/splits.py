"""Splits: the division of tokens into training and validation."""

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from ingest.probe.probe_data import ProbeData
from ingest.probe.settings import Split

__all__ = ["training"]

_UNITS = {"document": "document", "sample": "token", "type": "token id"}


def training(data: ProbeData, how: Split, *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return the mask of training tokens; all other tokens are for validation.

    If there are two texts, the first is for training and the second for validation,
    whatever the split.

    Parameters
    ----------
    data
        The tokens.
    how
        The unit that is never divided: a document, a token, or all tokens of one id.
    share
        Share of tokens for training; for ``"type"``, the share of token ids.
    seed
        Seed of the division.

    Raises
    ------
    BadInput
        If there are fewer than two units, so that one side would be empty.
    """
    if len(data.lengths) > 1:
        first: NDArray[np.bool_] = data.text == 0
        return first
    unit = {"document": data.document, "sample": np.arange(len(data)), "type": data.type}[how]
    number = int(unit.max(initial=-1)) + 1
    if number < 2:
        other = {"document": "sample", "sample": "document", "type": "document"}[how]
        raise BadInput(
            f"The text has {number} {_UNITS[how]}, but a split by {how} needs at least 2: "
            f"choose --split {other}, or a longer text."
        )
    order = np.random.default_rng([seed, *how.encode()]).permutation(number)
    sizes = np.ones(number) if how == "type" else np.bincount(unit, minlength=number)
    before = np.cumsum(sizes[order]) - sizes[order]
    on_training: NDArray[np.bool_] = before < share * sizes.sum()
    on_training[0], on_training[-1] = True, False  # neither side is empty
    train_units = np.zeros(number, dtype=np.bool_)
    train_units[order[on_training]] = True
    train_tokens: NDArray[np.bool_] = train_units[unit]
    return train_tokens
