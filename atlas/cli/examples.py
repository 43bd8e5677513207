"""Format text examples for reading, with the peak token marked."""

from collections.abc import Mapping
from typing import Any

__all__ = ["marked"]

_NEEDED = frozenset({"text", "tokens", "peak"})


def marked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of an answer in a readable form.

    In a row that is an example (with ``text``, ``tokens`` and ``peak``), the text has the
    peak token in ``[[ ]]``, and the columns by token are dropped. Other rows are unchanged.
    """
    if not row.keys() >= _NEEDED or row["tokens"] is None:
        return dict(row)
    tokens, peak = row["tokens"], row["peak"]
    text = f"{''.join(tokens[:peak])}[[{tokens[peak]}]]{''.join(tokens[peak + 1 :])}"
    shown = {k: v for k, v in row.items() if k not in ("tokens", "activations", "peak")}
    return shown | {"text": text}
