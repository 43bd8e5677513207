"""Rename SAEs in an assembled graph (``atlas push --as``)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from atlas import schema
from atlas.errors import BadInput, UnknownName
from atlas.schema import NODES, Edge, Node
from atlas.stores import Graph

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_names", "renamed"]

# Nodes whose key begins with the name of their SAE, and the SAE itself.
_OWNED = frozenset(n.label for n in NODES if not n.shared)
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*")


def read_names(given: Sequence[str], *, saes: Sequence[str]) -> dict[str, str]:
    """Read ``SAE=NAME`` pairs.

    Raises
    ------
    BadInput
        If a pair is malformed or two SAEs would have the same name.
    UnknownName
        If the atlas has no such SAE.
    """
    names: dict[str, str] = {}
    for each in given:
        old, equals, new = each.partition("=")
        if not (equals and old and _SLUG.fullmatch(new)):
            raise BadInput(
                f"--as got {each!r}; expected SAE=NAME, where NAME has lower-case letters, digits, '.', '_' "
                "and '-'."
            )
        if old not in saes:
            raise UnknownName("SAE", old, known=saes)
        names[old] = new
    after = [names.get(s, s) for s in saes]
    if len(set(after)) < len(after):
        raise BadInput(
            f"Two SAEs would have the same name: {', '.join(sorted(after))}. Pass --as with distinct names."
        )
    return names


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Return the graph with some SAEs renamed, in every key that contains their name."""
    if not names:
        return graph
    tables = {name: _table(schema.table(name), data, names) for name, data in graph.tables.items()}
    prints = {names.get(sae, sae): hash for sae, hash in graph.fingerprints.items()}
    return replace(graph, tables=tables, fingerprints=prints)


def _table(spec: Node | Edge, data: "pa.Table", names: Mapping[str, str]) -> "pa.Table":
    import pyarrow as pa

    for i, column in enumerate(data.schema.names):
        if _holds_sae(spec, column):
            new = [_new(value, names) for value in data.column(i).to_pylist()]
            data = data.set_column(i, data.schema.field(i), pa.array(new, pa.string()))
    return data


def _holds_sae(spec: Node | Edge, column: str) -> bool:
    if isinstance(spec, Edge):
        return {"source": spec.source, "target": spec.target}.get(column) in _OWNED
    return spec.label in _OWNED and column in (spec.key, "sae")


def _new(key: str, names: Mapping[str, str]) -> str:
    sae, slash, rest = key.partition("/")
    return f"{names.get(sae, sae)}{slash}{rest}"
