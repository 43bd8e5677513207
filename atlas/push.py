"""Push an atlas to a server: assemble its graph, plan the changes, and write them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas import schema
from atlas.assemble import assemble
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from atlas.progress import SILENT, Progress, rough
from atlas.schema import NODES, Edge, Node
from atlas.stores import Graph
from atlas.stores.opening import is_server, open_server

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["push_atlas", "read_names", "renamed", "trimmed"]


def trimmed(graph: Graph, edges_per_feature: int) -> Graph:
    """Return the graph with only the heaviest co-activation edges of every feature.

    An edge is retained if it is among the ``edges_per_feature`` heaviest edges of at
    least one of its ends. Ties in weight go to the higher count, then to the lower
    index at the other end. A feature therefore retains its own heaviest edges, and
    also the edges that are among the heaviest of its neighbours.

    An SAE that loses edges gets a new fingerprint, computed from the old one and
    ``edges_per_feature``, so that a store replaces it.

    Parameters
    ----------
    graph
        The graph.
    edges_per_feature
        Number of edges to retain for each feature.

    Raises
    ------
    BadInput
        If ``edges_per_feature`` is negative.
    """
    if edges_per_feature < 0:
        raise BadInput(f"--edges-per-feature is {edges_per_feature}; give 0 or more.")
    edges, features = graph.tables["CO_ACTIVATES"], graph.tables["Feature"]
    ends = _ends(edges, features)
    retained = _heaviest(edges, ends, _numbers(features["idx"]), edges_per_feature)
    saes = features["sae"].take(ends[0][~retained]).unique().to_pylist()
    return replace(
        graph,
        tables={**graph.tables, "CO_ACTIVATES": edges.filter(retained)},
        fingerprints=_marked(graph.fingerprints, saes, edges_per_feature),
    )


def _ends(
    edges: "pa.Table", features: "pa.Table"
) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]":
    """Return the row numbers of the source and target feature of each edge."""
    import pyarrow.compute as pc

    known = features["id"].combine_chunks()
    return tuple(_numbers(pc.index_in(edges[end], value_set=known)) for end in ("source", "target"))


def _heaviest(
    edges: "pa.Table",
    ends: "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]",
    idx: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    most: int,
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Return for each edge whether it is among the ``most`` heaviest of one of its ends."""
    source, target = ends
    weight, count = (_or_last(edges[name]) for name in ("weight", "count"))
    retained = np.zeros(edges.num_rows, dtype=bool)
    # Every edge is ranked at both of its ends: at `near`, from heaviest to lightest.
    near, far = np.concatenate([source, target]), np.concatenate([target, source])
    order = np.lexsort((idx[far], -np.tile(count, 2), -np.tile(weight, 2), near))
    near = near[order]
    begins = np.flatnonzero(np.r_[True, near[1:] != near[:-1]]) if near.size else near
    rank = np.arange(near.size) - np.repeat(begins, np.diff(np.r_[begins, near.size]))
    retained[order[rank < most] % max(1, edges.num_rows)] = True
    return retained


def _or_last(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def _marked(prints: Mapping[str, str], saes: list[str], most: int) -> dict[str, str]:
    """Return fingerprints that distinguish the pruned SAEs from complete ones."""
    return {
        name: hashlib.sha256(f"{hash} edges_per_feature={most}".encode()).hexdigest()
        if name in saes
        else hash
        for name, hash in prints.items()
    }


def _numbers(column: "pa.ChunkedArray") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(column.to_numpy(), dtype=np.int64)


# Nodes whose key begins with the name of their SAE, and the SAE itself.
_OWNED = frozenset(n.label for n in NODES if not n.shared)
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*")


def read_names(requested: Sequence[str], *, saes: Sequence[str]) -> dict[str, str]:
    """Read ``SAE=NAME`` pairs.

    Raises
    ------
    BadInput
        If a pair is malformed or two SAEs would have the same name.
    UnknownName
        If the atlas has no such SAE.
    """
    names: dict[str, str] = {}
    for each in requested:
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


def push_atlas(
    path: Path,
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    database: str | None = None,
    names: Sequence[str] = (),
    edges_per_feature: int | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Update a server to the contents of an atlas.

    Parameters
    ----------
    path
        The folder of the atlas.
    url
        URL of the server.
    username, password, database
        Login and database of the server.
    names
        ``SAE=NAME`` for SAEs with another name on the server; pass them at every push.
    edges_per_feature
        Push only CO_ACTIVATES edges that are among this number of heaviest edges of at
        least one of their ends; pass it at every push. All edges if None.
    dry_run
        Compute the changes without writing them.
    progress
        Reports progress.

    Returns
    -------
    dict
        ``added``, ``replaced``, ``removed`` and ``kept`` are names of SAEs. ``shared`` is
        whether edges between shared nodes, such as maps between sites, differ. ``rows`` and
        ``seconds`` are the number of rows to write and the estimated time. ``left_out`` is
        the number of excluded CO_ACTIVATES edges, ``url`` the server.

    Raises
    ------
    BadInput, UnknownName
        If the URL is not that of a server, or a name or number is invalid.
    Mismatch
        If another atlas on the server has an SAE of the same name, or another model of the same
        name.
    StoreError
        If the server does not answer, refuses the login, or the connection is lost. The
        server then shows the old or the new version of each SAE; repeat the call to finish.
    """
    if not is_server(url):
        raise BadInput(
            f"{url!r} is not the URL of a server; expected neo4j://…, neo4j+s://… or bolt://…"
        )
    folder = Folder.open(path)
    sound, graph = folder.read(lambda sound: (sound, assemble(folder, sound)))
    for key, reason in sound.stale.items():
        progress.report(f"Excluded {key}, which is stale: {reason}.")
    graph = renamed(graph, read_names(names, saes=sound.saes))
    graph, left_out = _trimmed(graph, edges_per_feature, progress)
    store = open_server(url, username=username, password=password, database=database)
    try:
        plan = store.plan(graph)
        if plan.changes:
            progress.report(f"{plan.rows:,} nodes and edges to write, {rough(plan.seconds)}.")
        if not dry_run:  # even without changes, to clean up after a killed push
            store.sync(plan, progress)
        return {
            "url": store.url,
            "added": list(plan.add),
            "replaced": list(plan.replace),
            "removed": list(plan.remove),
            "kept": list(plan.keep),
            "shared": plan.shared,
            "rows": plan.rows,
            "seconds": plan.seconds,
            "left_out": left_out,
        }
    finally:
        store.close()


def _trimmed(graph: Graph, edges_per_feature: int | None, progress: Progress) -> tuple[Graph, int]:
    """Return the pruned graph, and the number of edges removed from it."""
    if edges_per_feature is None:
        return graph, 0
    complete, graph = graph, trimmed(graph, edges_per_feature)
    total, retained = (g.tables["CO_ACTIVATES"].num_rows for g in (complete, graph))
    progress.report(
        f"Excluded {total - retained:,} of {total:,} CO_ACTIVATES edges, which are not among the "
        f"{edges_per_feature} heaviest of either of their features."
    )
    return graph, total - retained
