"""Storage of a report of counterparts in tables."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from analysis.graph_matching.evaluate import METHODS
from analysis.graph_matching.ranks import MEASURES

__all__ = ["report_of", "tables_of"]

_TEXT, _INTEGER, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(text: str = "", integer: str = "", real: str = "") -> pa.Schema:
    """Return a schema from comma-separated column names of each type."""
    kinds = ((text, _TEXT), (integer, _INTEGER), (real, _REAL))
    return pa.schema([(n.strip(), kind) for names, kind in kinds for n in names.split(",") if n])


_SCORES = ",".join(f"{name},{name} low,{name} high" for name in MEASURES)
_METHOD = (
    ("standard", _TEXT), ("depth", _INTEGER), ("walks", _INTEGER), ("rounds", _INTEGER),
    ("prior", _REAL), ("doubt", _REAL), ("most", _INTEGER),
)  # fmt: skip

#: Schemas of the tables of a report.
_SCHEMAS = {
    "graphs": _schema("side", "repeat,tokens,live,edges,isolates"),
    "methods": _schema(
        "method", "repeats", f"share,anchors,queries,candidates,coverage,{_SCORES}"
    ),
    "by_anchors": _schema("", "", f"share,anchors,{_SCORES}"),
    "by_frequency": _schema(
        "method", "bin,active from,to,queries", "frequency alone,gain,low,high"
    ),
    "agreement": _schema(
        "one,two", "", "same_first,by_chance,both_right,both_right_if_independent"
    ),
    "faq": _schema(
        "", "repeats", "share,nodes,anchors,chance,faq,faq least,faq most,"
        "matching,matching least,matching most",
    ),
}  # fmt: skip
_CHOSEN = _schema("what,standard", "depth,walks", "prior,mrr")
_SUMMARY = pa.schema([
    ("a", _TEXT), ("b", _TEXT), ("seed", _INTEGER), ("draws", _INTEGER), ("min_count", _INTEGER),
    ("repeats", _INTEGER), ("truth", pa.list_(_INTEGER)), ("left_out", pa.list_(_INTEGER)),
    ("table_share", _REAL), ("chosen_on", pa.list_(_TEXT)), *_METHOD,
    ("sentences", pa.list_(_TEXT)),
])  # fmt: skip


def tables_of(found: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Convert a report to tables.

    Parameters
    ----------
    found
        A report; see ``analysis.graph_matching.report``.
    """
    chosen = found["chosen"] or {"on": None, "tried": []}
    summary = {name: found[name] for name in _SUMMARY.names if name in found}
    summary |= {"chosen_on": chosen["on"], **found["settings"]}
    tables = {
        name: pa.Table.from_pylist(found[name], schema=schema) for name, schema in _SCHEMAS.items()
    }
    tables["chosen"] = pa.Table.from_pylist(chosen["tried"], schema=_CHOSEN)
    tables["summary"] = pa.Table.from_pylist([summary], schema=_SUMMARY)
    return tables


def report_of(table: Callable[[str], pa.Table]) -> dict[str, Any]:
    """Read a report from its tables.

    Parameters
    ----------
    table
        Function that returns a table by name.
    """
    summary: dict[str, Any] = table("summary").to_pylist()[0]
    on = summary.pop("chosen_on")
    settings = {name: summary.pop(name) for name, _ in _METHOD}
    tried = [
        {name: value for name, value in row.items() if value is not None}
        for row in table("chosen").to_pylist()
    ]
    return summary | {
        "settings": settings,
        "chosen": None if on is None else {"on": on, "tried": tried},
        "meaning": METHODS,
        **{name: table(name).to_pylist() for name in _SCHEMAS},
    }
