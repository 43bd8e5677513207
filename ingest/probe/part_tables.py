"""The edges a run of probes makes: columns of some features as the table PREDICTED_FROM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.schema import arrow_schema
from ingest.probe.logistic_probe import Columns
from ingest.probe.settings import Kind, ProbeSettings
from ingest.reduce.arrow_columns import keys

__all__ = ["Run", "edges"]

# Settings that a run's name tells where they are not the default; the number of draws of
# controls and bootstrap is not told. The last two are of kind 'active' only.
_NAMED = (
    "threshold", "tokens", "features", "seed", "train_share", "min_positives", "iterations",
    "tolerance", "tau", "delta",
)  # fmt: skip
_SHORT = {"threshold": "above", "tokens": "first", "train_share": "train"}


@dataclass(frozen=True)
class Run:
    """One way of probing: what differs between runs of one SAE at one site.

    Parameters
    ----------
    split
        ``"document"``, ``"sample"`` or ``"type"``, or ``"corpus"`` where another text validates.
    kind
        What is predicted.
    settings
        How it is done.
    validated_on, corpus
        Name and id of the other text, if there is one.
    """

    split: str
    kind: Kind
    settings: ProbeSettings
    validated_on: str | None = None
    corpus: str | None = None

    @property
    def name(self) -> str:
        """The property ``run`` of its edges: split, kind, penalty, and what else is not default."""
        s, plain = self.settings, ProbeSettings()
        told = [
            self.split,
            self.kind,
            f"l2={_said(s.penalty)}" if s.c is None else f"C={_said(s.c)}",
        ]
        told += [f"on={self.validated_on}"] if self.validated_on else []
        for name in _NAMED if self.weighs else _NAMED[:-2]:
            value = getattr(s, name)
            if value != getattr(plain, name):
                told.append(f"{_SHORT.get(name, name)}={_said(value)}")
        told += [s.balance] if self.weighs and s.balance != plain.balance else []
        told += [] if s.scale else ["unscaled"]
        return "/".join(told)

    @property
    def weighs(self) -> bool:
        """Whether classes are balanced at all."""
        return self.kind == "active"


def edges(
    run: Run,
    columns: Sequence[Columns],
    *,
    sae: str,
    site: str,
    features: NDArray[np.int64],
    generalises: Mapping[int, bool] | None,
) -> pa.Table:
    """Make the table of a run.

    Parameters
    ----------
    run
        The run.
    columns
        What was found, block by block.
    sae, site
        Names of the SAE and of the site (``model/hook``).
    features
        int64, (features,). Index of each feature, in the order of the blocks.
    generalises
        For each feature, whether the split by token id says so; None if it was not run.
    """
    schema, count = arrow_schema("PREDICTED_FROM", "probe"), len(features)
    found: dict[str, Any] = {
        name: np.concatenate([block[name] for block in columns])
        for name in (columns[0] if columns else {})
    }
    same = {
        "target": site,
        "run": run.name,
        "split": run.split,
        "kind": run.kind,
        "threshold": run.settings.threshold,
        "balance": run.settings.balance if run.weighs else None,
        "tau": run.settings.tau if run.weighs else None,
        "delta": run.settings.delta if run.weighs else None,
    }
    table = {"source": keys(sae, features)}
    for field in schema:
        if field.name == "generalises":
            values = [None if generalises is None else generalises.get(int(f)) for f in features]
            table[field.name] = pa.array(values, field.type)
        elif field.name in found:
            table[field.name] = _array(field.name, found[field.name], field.type)
        elif field.name not in table:
            table[field.name] = pa.array([same.get(field.name)] * count, field.type)
    return pa.table(table, schema=schema)


def _said(value: float | int) -> str:
    """Return a number as short as it can be without being another one."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _array(name: str, values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return a column; NaN is null, and counts are whole: a half, at a margin of 0, is told rightly."""
    if values.dtype == object:
        return pa.array(values.tolist(), kind)
    if pa.types.is_floating(kind):
        return pa.array(values.astype(np.float64), kind, mask=np.isnan(values))
    if pa.types.is_integer(kind):
        none = np.isnan(values.astype(np.float64))
        whole = np.ceil(values) if name.startswith("true_") else np.floor(values)
        return pa.array(np.where(none, 0, whole).astype(np.int64), kind, mask=none)
    return pa.array(values, kind)
