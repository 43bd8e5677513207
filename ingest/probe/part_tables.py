"""The table PREDICTED_FROM of a run of probes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas.schema import arrow_schema
from ingest.probe.logistic_probe import Columns
from ingest.probe.settings import CLASSIFIERS, Kind, ProbeSettings
from ingest.reduce.arrays import keys

__all__ = ["ProbeRun", "edges"]

# Settings that the name of a run includes if they differ from the default. The numbers of
# control and bootstrap draws are not among them. The last two apply to classifiers only.
_NAMED = (
    "threshold",
    "tokens",
    "features",
    "seed",
    "train_share",
    "min_positives",
    "iterations",
    "tolerance",
    "random_features",
    "hidden",
    "tau",
    "delta",
)
_SHORT = {"threshold": "above", "tokens": "first", "train_share": "train"}


@dataclass(frozen=True)
class ProbeRun:
    """One run of probes: what differs between runs of one SAE at one site.

    Parameters
    ----------
    split
        ``"document"``, ``"sample"`` or ``"type"``; ``"corpus"`` if another text is used for
        validation.
    kind
        What is predicted, and by which probe.
    settings
        How features are probed.
    validated_on, corpus
        Name and id of the validation text, if it is another one.
    """

    split: str
    kind: Kind
    settings: ProbeSettings
    validated_on: str | None = None
    corpus: str | None = None

    @property
    def name(self) -> str:
        """The property ``run`` of its edges: split, kind, penalty and non-default settings."""
        s, default = self.settings, ProbeSettings()
        words = [
            self.split,
            self.kind,
            f"l2={_shortest(s.penalty)}" if s.c is None else f"C={_shortest(s.c)}",
        ]
        words += [f"on={self.validated_on}"] if self.validated_on else []
        unused = s.unused(self.kind)
        for name in _NAMED if self.weighs else _NAMED[:-2]:
            value = getattr(s, name)
            if name not in unused and value != getattr(default, name):
                words.append(f"{_SHORT.get(name, name)}={_shortest(value)}")
        words += [s.balance] if self.weighs and s.balance != default.balance else []
        words += [] if s.scale else ["unscaled"]
        return "/".join(words)

    @property
    def weighs(self) -> bool:
        """Whether the probe predicts a class, so that classes are balanced."""
        return self.kind in CLASSIFIERS


def edges(
    run: ProbeRun,
    columns: Sequence[Columns],
    *,
    sae: str,
    site: str,
    features: NDArray[np.int64],
    generalises: Mapping[int, bool] | None,
) -> pa.Table:
    """Return the table PREDICTED_FROM of a run.

    Parameters
    ----------
    run
        The run.
    columns
        The scores of each block of features.
    sae, site
        Names of the SAE and of the site (``model/hook``).
    features
        int64, (features,). Index of each feature, in the order of the blocks.
    generalises
        Whether each feature reaches ``tau`` in the split by token id; None if that split
        was not run.
    """
    schema, count = arrow_schema("PREDICTED_FROM", "probe"), len(features)
    scores: dict[str, Any] = {
        name: np.concatenate([block[name] for block in columns])
        for name in (columns[0] if columns else {})
    }
    constant = {
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
        elif field.name in scores:
            table[field.name] = _array(field.name, scores[field.name], field.type)
        elif field.name not in table:
            table[field.name] = pa.array([constant.get(field.name)] * count, field.type)
    return pa.table(table, schema=schema)


def _shortest(value: float | int) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _array(name: str, values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return a column with null for NaN; a half count (margin 0) is rounded in favour of the probe."""
    if values.dtype == object:
        return pa.array(values.tolist(), kind)
    if pa.types.is_floating(kind):
        return pa.array(values.astype(np.float64), kind, mask=np.isnan(values))
    if pa.types.is_integer(kind):
        none = np.isnan(values.astype(np.float64))
        rounded = np.ceil(values) if name.startswith("true_") else np.floor(values)
        return pa.array(np.where(none, 0, rounded).astype(np.int64), kind, mask=none)
    return pa.array(values, kind)
