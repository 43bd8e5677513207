"""Examples as people read them: the text, with the token it is about marked."""

from collections.abc import Mapping
from typing import Any

__all__ = ["marked"]

_NEEDED = frozenset({"text", "tokens", "peak"})


def marked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of an answer as it is shown to people.

    Where it is an example (it has ``text``, ``tokens`` and ``peak``), the peak token
    stands in ``[[ ]]`` in the text, and the columns that say the same token by token
    are left out. Other rows are as they were.
    """
    if not row.keys() >= _NEEDED or row["tokens"] is None:
        return dict(row)
    tokens, peak = row["tokens"], row["peak"]
    text = f"{''.join(tokens[:peak])}[[{tokens[peak]}]]{''.join(tokens[peak + 1 :])}"
    shown = {k: v for k, v in row.items() if k not in ("tokens", "activations", "peak")}
    return shown | {"text": text}
