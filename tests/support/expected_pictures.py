"""The edges that each picture of Neo4j Browser should draw, computed from the tables in plain Python."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from expected_answers import World

__all__ = ["Edge", "Node", "expected_edges", "nodes_of"]

Node: TypeAlias = tuple[str, str]
"""Label and key."""
Edge: TypeAlias = tuple[str, frozenset[Node]]
"""Type and both ends."""
Row: TypeAlias = dict[str, Any]


def expected_edges(world: World, picture: str, feature: str) -> set[Edge]:
    """Return the edges of a picture of a feature."""
    return _PICTURES[picture](world, feature)


def nodes_of(edges: Iterable[Edge]) -> set[Node]:
    """Return the ends of edges."""
    return {node for _, ends in edges for node in ends}


def _feature(key: str) -> Node:
    return ("Feature", key)


def _between(kind: str, one: str, two: str) -> Edge:
    return kind, frozenset((_feature(one), _feature(two)))


def _others(rows: Iterable[Row], key: str) -> list[tuple[Row, str]]:
    """Return each edge of a node with its other end."""
    return [
        (edge, edge["target"] if edge["source"] == key else edge["source"])
        for edge in rows
        if key in (edge["source"], edge["target"])
    ]


def _strongest(world: World, edges: list[tuple[Row, str]]) -> list[tuple[Row, str]]:
    return sorted(edges, key=lambda e: (-e[0]["weight"], world.feature[e[1]]["idx"]))


def _neighbours(world: World, feature: str) -> set[Edge]:
    near = [g for _, g in _strongest(world, _others(world.CO_ACTIVATES, feature))[:20]]
    drawn = {_between("CO_ACTIVATES", feature, g) for g in near}
    for g in near:
        among = [pair for pair in _others(world.CO_ACTIVATES, g) if pair[1] in near]
        drawn |= {_between("CO_ACTIVATES", g, h) for _, h in _strongest(world, among)[:2]}
    return drawn


def _counterparts(world: World, feature: str) -> set[Edge]:
    found = sorted(_others(world.MATCHES, feature), key=lambda e: (-e[0]["pearson"], e[1]))[:25]
    drawn = {_between("MATCHES", feature, g) for _, g in found}
    return drawn | {
        ("IN_SAE", frozenset((_feature(g), ("SAE", world.feature[g]["sae"])))) for _, g in found
    }


def _conserved(world: World, feature: str) -> set[Edge]:
    matches = [e for e in world.MATCHES if e["one_to_one"]]
    weights = {g: edge["weight"] for edge, g in _others(world.CO_ACTIVATES, feature)}
    found = [
        (-weights[g], g, h, mine)
        for _, mine in _others(matches, feature)
        for _, h in _others(world.CO_ACTIVATES, mine)
        for _, g in _others(matches, h)
        if g in weights
    ]
    drawn = set()
    for _, g, h, mine in sorted(found)[:25]:
        drawn |= {_between("CO_ACTIVATES", feature, g), _between("CO_ACTIVATES", mine, h)}
        drawn |= {_between("MATCHES", feature, mine), _between("MATCHES", g, h)}
    return drawn


def _tokens(world: World, feature: str) -> set[Edge]:
    edges = sorted((e for e in world.FIRES_ON if e["source"] == feature), key=lambda e: e["rank"])
    return {
        ("FIRES_ON", frozenset((_feature(feature), ("Token", e["target"])))) for e in edges[:15]
    }


def _community(world: World, feature: str) -> set[Edge]:
    (mine,) = [e["target"] for e in world.IN_COMMUNITY if e["source"] == feature]
    members = sorted(
        (e for e in world.IN_COMMUNITY if e["target"] == mine),
        key=lambda e: (-e["inner_share"], world.feature[e["source"]]["idx"]),
    )
    shown = {feature, *(e["source"] for e in members[:25])}
    return {("IN_COMMUNITY", frozenset((_feature(key), ("Community", mine)))) for key in shown}


def _saes(world: World, feature: str) -> set[Edge]:
    shown = set(sorted(world.sae)[:50])
    reads = [e for e in world.READS if e["source"] in shown]
    sites = {e["target"] for e in reads}
    pairs = [e for e in world.COMPARED_WITH if {e["source"], e["target"]} <= shown]
    return (
        {("READS", frozenset((("SAE", e["source"]), ("Site", e["target"])))) for e in reads}
        | {
            ("OF_MODEL", frozenset((("Site", e["source"]), ("Model", e["target"]))))
            for e in world.OF_MODEL
            if e["source"] in sites
        }
        | {
            ("COMPARED_WITH", frozenset((("SAE", e["source"]), ("SAE", e["target"]))))
            for e in pairs
        }
    )


_PICTURES: dict[str, Callable[[World, str], set[Edge]]] = {
    "1_neighbours": _neighbours,
    "2_counterparts": _counterparts,
    "3_conserved_edges": _conserved,
    "4_tokens": _tokens,
    "5_community": _community,
    "6_saes": _saes,
}
