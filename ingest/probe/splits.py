"""Splits: which tokens a probe is trained on, and which it is validated on."""

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from ingest.probe.probe_data import ProbeData
from ingest.probe.settings import Split

__all__ = ["training"]

_UNITS = {"document": "document", "sample": "token", "type": "token id"}


def training(kept: ProbeData, how: Split, *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which tokens are trained on; the others are validated on.

    Where there are two texts, the first is trained on and the second validated on,
    whatever the split.

    Parameters
    ----------
    kept
        The tokens.
    how
        What is kept on one side: a document, a token, or all tokens of one id.
    share
        Share of the training side: of tokens, or of token ids by ``"type"``.
    seed
        Seed of the division.

    Raises
    ------
    BadInput
        If there is only one unit, so that one side would be empty.
    """
    if len(kept.lengths) > 1:
        first: NDArray[np.bool_] = kept.text == 0
        return first
    unit = {"document": kept.document, "sample": np.arange(len(kept)), "type": kept.type}[how]
    number = int(unit.max(initial=-1)) + 1
    if number < 2:
        other = {"document": "sample", "sample": "document", "type": "document"}[how]
        raise BadInput(
            f"The text has {number} {_UNITS[how]}, so it cannot be divided by {how}: choose --split {other}, "
            "or a longer text."
        )
    order = np.random.default_rng([seed, *how.encode()]).permutation(number)
    sizes = np.ones(number) if how == "type" else np.bincount(unit, minlength=number)
    before = np.cumsum(sizes[order]) - sizes[order]
    on_training: NDArray[np.bool_] = before < share * sizes.sum()
    on_training[0], on_training[-1] = True, False  # neither side is empty
    found: NDArray[np.bool_] = np.zeros(number, dtype=np.bool_)
    found[order[on_training]] = True
    of_tokens: NDArray[np.bool_] = found[unit]
    return of_tokens
