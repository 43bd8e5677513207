"""Push an atlas to a server: assemble its graph, plan the changes, and write them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import schema
from atlas.assemble import assemble
from atlas.disk.folder import Folder
from atlas.errors import BadInput, UnknownName
from atlas.progress import SILENT, Progress, rough
from atlas.schema import NODES, Edge, Node
from atlas.stores import Graph
from atlas.stores.neo4j.browser.first_steps import browser_address, first_query
from atlas.stores.neo4j.edge_selection import TIERS, fit_graph, trimmed
from atlas.stores.opening import is_server, open_server

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["push_atlas", "read_names", "renamed", "trimmed"]


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
                f"`names` got {each!r}; expected SAE=NAME, where NAME has lower-case letters, digits, '.', '_' "
                "and '-'."
            )
        if old not in saes:
            raise UnknownName("SAE", old, known=saes)
        names[old] = new
    after = [names.get(s, s) for s in saes]
    if len(set(after)) < len(after):
        raise BadInput(
            f"Two SAEs would have the same name: {', '.join(sorted(after))}. Pass distinct `names`."
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
    fit: str | None = None,
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
    fit
        Push only what fits on a small server, a key of ``TIERS``: ``"aura-free"``; pass it at
        every push. See ``atlas.stores.neo4j.edge_selection.fit_graph``.
    dry_run
        Compute the changes without writing them.
    progress
        Reports progress.

    Returns
    -------
    dict
        ``added``, ``replaced``, ``removed`` and ``unchanged`` are names of SAEs. ``shared`` is
        whether edges between shared nodes, such as maps between sites, differ. ``rows`` and
        ``seconds`` are the number of rows to write and the estimated time. ``left_out`` is
        the number of excluded CO_ACTIVATES edges, ``excluded`` the number of excluded rows of
        each table, ``url`` the server, ``browser`` the address of Neo4j Browser at its default
        port, and ``first_query`` a query to run there first.

    Raises
    ------
    BadInput, UnknownName
        If the URL is not that of a server, a name or number is invalid, or the graph cannot fit.
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
    graph, excluded = _selected(graph, edges_per_feature, fit, progress)
    store = open_server(url, username=username, password=password, database=database)
    try:
        plan = store.plan(graph)
        if plan.changes:
            progress.report(f"{plan.rows:,} nodes and edges to write, {rough(plan.seconds)}.")
        if not dry_run:  # even without changes, to clean up after a killed push
            store.sync(plan, progress)
        return {
            "url": store.url,
            "browser": browser_address(store.url),
            "first_query": first_query(graph),
            "added": list(plan.add),
            "replaced": list(plan.replace),
            "removed": list(plan.remove),
            "unchanged": list(plan.keep),
            "shared": plan.shared,
            "rows": plan.rows,
            "seconds": plan.seconds,
            "left_out": excluded.get("CO_ACTIVATES", 0),
            "excluded": excluded,
        }
    finally:
        store.close()


def _selected(
    graph: Graph, edges_per_feature: int | None, fit: str | None, progress: Progress
) -> tuple[Graph, dict[str, int]]:
    """Return the selected part of a graph, and the number of excluded rows by table."""
    if edges_per_feature is not None and fit is not None:
        raise BadInput("`edges_per_feature` and `fit` both select edges; pass only one of them.")
    if fit is not None:
        return _fitted(graph, fit, progress)
    if edges_per_feature is None:
        return graph, {}
    complete, graph = graph, trimmed(graph, edges_per_feature)
    total, retained = (g.tables["CO_ACTIVATES"].num_rows for g in (complete, graph))
    progress.report(
        f"Excluded {total - retained:,} of {total:,} CO_ACTIVATES edges, which are not among the "
        f"{edges_per_feature} heaviest of either of their features."
    )
    return graph, {"CO_ACTIVATES": total - retained} if total > retained else {}


def _fitted(graph: Graph, fit: str, progress: Progress) -> tuple[Graph, dict[str, int]]:
    if fit not in TIERS:
        raise BadInput(f"`fit` is {fit!r}; expected one of {', '.join(TIERS)}.")
    capacity = TIERS[fit]
    found = fit_graph(graph, capacity)
    size = f"{found.nodes:,} nodes and {found.edges:,} edges"
    if not found.excluded:
        progress.report(f"The atlas fits on {capacity.title} completely: {size}.")
        return graph, {}
    totals = {name: graph.tables[name].num_rows for name in found.excluded}
    rows = ", ".join(
        f"{number:,} of {totals[name]:,} {name}" for name, number in found.excluded.items()
    )
    progress.report(
        f"{capacity.title} takes {capacity.nodes:,} nodes and {capacity.edges:,} edges. {size} are "
        f"pushed, and these are excluded: {rows}."
    )
    levels = [f"CO_ACTIVATES edges are among the {found.co_activations} heaviest of a feature"]
    if found.others is not None:
        levels.append(f"edges of other types and examples among its {found.others} best")
    progress.report(f"The retained {', '.join(levels)}.")
    return found.graph, dict(found.excluded)
