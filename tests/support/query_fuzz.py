"""Random graphs and random queries, answered by brute force: the reference for an engine.

A query is a small tree that prints itself as Cypher and evaluates itself over Python
lists; no engine has a part in the reference. Within one MATCH, no edge is used twice. The
sum of no values is 0, and their list is empty.
"""

import importlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.stores.kuzu.faults.rewrites import rewritten

__all__ = ["Query", "RandomGraph", "queries", "same_answer"]

COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
}
AGGREGATES = ("count", "sum", "min", "max", "avg", "collect")


@dataclass(frozen=True)
class RandomGraph:
    """Nodes (id, group) and edges (source, target, count, weight), weights all different."""

    nodes: tuple[tuple[str, int], ...]
    edges: tuple[tuple[int, int, int, float], ...]

    @classmethod
    def draw(cls, rng: random.Random) -> "RandomGraph":
        size = rng.randint(3, 9)
        nodes = tuple((f"n{i}", rng.randint(0, 3)) for i in range(size))
        pairs = rng.sample(
            list(itertools.permutations(range(size), 2)), rng.randint(2, 3 * size - 3)
        )
        weights = rng.sample(range(1, 1000), len(pairs))
        return cls(
            nodes,
            tuple(
                (a, b, rng.randint(1, 4), w / 64) for (a, b), w in zip(pairs, weights, strict=True)
            ),
        )


@dataclass(frozen=True)
class Query:
    """A chain of hops with filters, then rows, a limited list, or an aggregate of it.

    Parameters
    ----------
    directions
        Of each hop: ``"out"``, ``"in"`` or ``"any"``.
    node_filters, edge_filters
        Comparison and number, or None, for each node's group and each edge's count.
    optional
        Whether the last hop is an OPTIONAL MATCH.
    shape
        ``"rows"``, ``"distinct"``, ``"limit"``, ``"grouped"`` or ``"aggregate"``.
    aggregate
        The function of the last two.
    limit
        Rows taken before the answer or the aggregate; None for all.
    """

    directions: tuple[str, ...]
    node_filters: tuple[tuple[str, int] | None, ...]
    edge_filters: tuple[tuple[str, int] | None, ...]
    optional: bool
    shape: str
    aggregate: str
    limit: int | None

    @property
    def cypher(self) -> str:
        """The query as text."""
        hops = len(self.directions)
        must = hops - 1 if self.optional else hops
        lines = [f"MATCH {self._pattern(0, must)}{self._where(range(must + 1), range(must))}"]
        if self.optional:
            lines.append(f"OPTIONAL MATCH {self._pattern(must, hops)}{self._where([hops], [must])}")
        return "\n".join([*lines, *self._end()])

    def answer(self, graph: RandomGraph) -> list[tuple[Any, ...]]:
        """Return the rows by brute force."""
        hops = len(self.directions)
        must = hops - 1 if self.optional else hops
        found = [((i,), ()) for i in range(len(graph.nodes)) if self._node(graph, 0, i)]
        for hop in range(must):
            found = [f for path in found for f in self._extend(graph, path, hop)]
        if self.optional:  # a separate MATCH: its edge may be one of the first MATCH
            longer = []
            for path in found:
                nodes, edges = path
                more = [(n, (*edges, *e)) for n, e in self._extend(graph, (nodes, ()), must)]
                longer += more or [((*nodes, None), (*edges, None))]
            found = longer
        rows = [
            (
                None if nodes[-1] is None else graph.nodes[nodes[-1]][0],
                graph.nodes[nodes[0]][0],
                None if edges[-1] is None else graph.edges[edges[-1]][3],
            )
            for nodes, edges in found
        ]
        return self._finish(rows)

    def _pattern(self, first: int, last: int) -> str:
        text = f"(a{first}:N)" if first == 0 else f"(a{first})"
        for hop in range(first, last):
            left, right = ("<-", "-") if self.directions[hop] == "in" else ("-", "->")
            if self.directions[hop] == "any":
                right = "-"
            text += f"{left}[e{hop}:E]{right}(a{hop + 1}:N)"
        return text

    def _where(self, nodes: Any, edges: Any) -> str:
        terms = [
            f"a{i}.grp {f[0]} {f[1]}" for i in nodes if (f := self.node_filters[i]) is not None
        ]
        terms += [
            f"e{i}.cnt {f[0]} {f[1]}" for i in edges if (f := self.edge_filters[i]) is not None
        ]
        return f" WHERE {' AND '.join(terms)}" if terms else ""

    def _end(self) -> list[str]:
        last = len(self.directions)
        row = f"a{last}.id AS x, a0.id AS y, e{last - 1}.weight AS w"
        order = "ORDER BY w, x, y"
        if self.shape == "rows":
            return [f"RETURN {row}"]
        if self.shape == "distinct":
            return [f"RETURN DISTINCT a{last}.id AS x"]
        if self.shape == "limit":
            return [f"RETURN {row} {order} LIMIT {self.limit}"]
        value = "count(w)" if self.aggregate == "count" else f"{self.aggregate}(w)"
        if self.shape == "grouped":
            return [f"WITH {row}", f"RETURN y, {value} AS v ORDER BY y"]
        return [f"WITH {row} {order} LIMIT {self.limit}", f"RETURN {value} AS v"]

    def _finish(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if self.shape == "rows":
            return rows
        if self.shape == "distinct":
            return list({(x,) for x, _, _ in rows})
        ordered = sorted(rows, key=lambda r: (r[2] is None, r[2], r[0] or "", r[1]))
        if self.shape == "limit":
            return ordered[: self.limit]
        if self.shape == "grouped":
            ys = sorted({y for _, y, _ in rows})
            return [(y, self._total([w for _, z, w in rows if z == y])) for y in ys]
        return [(self._total([w for _, _, w in ordered[: self.limit]]),)]

    def _total(self, values: list[float | None]) -> Any:
        known = [v for v in values if v is not None]
        if self.aggregate == "count":
            return len(known)
        if self.aggregate == "collect":
            return sorted(known)
        if self.aggregate == "sum":
            return math.fsum(known)
        if not known:
            return None
        return {"min": min, "max": max, "avg": lambda v: math.fsum(v) / len(v)}[self.aggregate](
            known
        )

    def _node(self, graph: RandomGraph, at: int, node: int) -> bool:
        test = self.node_filters[at]
        return test is None or COMPARE[test[0]](graph.nodes[node][1], test[1])

    def _extend(self, graph: RandomGraph, path: Any, hop: int) -> Iterator[Any]:
        nodes, edges = path
        test = self.edge_filters[hop]
        for number, (source, target, count, _) in enumerate(graph.edges):
            if number in edges or (test and not COMPARE[test[0]](count, test[1])):
                continue
            for start, end, way in ((source, target, "out"), (target, source, "in")):
                here = nodes[-1] == start and self.directions[hop] in (way, "any")
                if here and self._node(graph, hop + 1, end):
                    yield (*nodes, end), (*edges, number)


def queries(rng: random.Random, count: int) -> Iterator[Query]:
    """Draw queries of one to three hops."""
    for _ in range(count):
        hops = rng.choice((1, 2, 2, 2, 3))
        shape = rng.choice(
            ("rows", "rows", "distinct", "limit", "grouped", "aggregate", "aggregate")
        )
        yield Query(
            tuple(rng.choice(("out", "in", "any")) for _ in range(hops)),
            tuple(_filter(rng, 3) for _ in range(hops + 1)),
            tuple(_filter(rng, 4, share=0.5) for _ in range(hops)),
            optional=hops > 1 and rng.random() < 0.25,
            shape=shape,
            aggregate=rng.choice(AGGREGATES),
            limit=rng.randint(1, 6),
        )


def _filter(rng: random.Random, most: int, share: float = 0.25) -> tuple[str, int] | None:
    if rng.random() > share:
        return None
    return rng.choice(list(COMPARE)), rng.randint(0, most)


def same_answer(query: Query, found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> bool:
    """Return whether an engine's rows are those of the brute force, in order where that counts."""
    ordered = query.shape in ("limit", "grouped", "aggregate")
    rows = [[_plain(v) for v in row] for row in found], [[_plain(v) for v in row] for row in wanted]
    if ordered:
        return rows[0] == rows[1]
    return Counter(map(repr, rows[0])) == Counter(map(repr, rows[1]))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(_plain(v) for v in value)
    return round(value, 9) if isinstance(value, float) else value


def embedded_answers(
    graph: RandomGraph, drawn: Sequence[Query], file: Path, *, engine: str = "kuzu"
) -> list[list[tuple[Any, ...]]]:
    """Return the rows of an embedded engine with kuzu's interface, named by its module.

    The engine runs the queries as the store rewrites them; none is refused.
    """
    module = importlib.import_module(engine)
    database = module.Database(str(file), buffer_pool_size=64 << 20)
    connection = module.Connection(database)
    connection.execute("CREATE NODE TABLE N (id STRING, grp INT64, PRIMARY KEY (id))")
    connection.execute("CREATE REL TABLE E (FROM N TO N, cnt INT64, weight DOUBLE)")
    for id, group in graph.nodes:
        connection.execute("CREATE (:N {id: $id, grp: $g})", {"id": id, "g": group})
    for source, target, count, weight in graph.edges:
        ends = {"a": graph.nodes[source][0], "b": graph.nodes[target][0], "c": count, "w": weight}
        connection.execute(
            "MATCH (a:N {id: $a}) MATCH (b:N {id: $b}) CREATE (a)-[:E {cnt: $c, weight: $w}]->(b)",
            ends,
        )
    found = [[tuple(r) for r in connection.execute(rewritten(q.cypher)).get_all()] for q in drawn]
    connection.close()
    database.close()
    return found


def wrong(
    graph: RandomGraph,
    drawn: Sequence[Query],
    found: Sequence[list[tuple[Any, ...]]],
) -> list[Any]:
    """Return each query that was answered wrongly, with edges, rows and right rows."""
    return [
        (q.cypher, graph.edges, rows, q.answer(graph))
        for q, rows in zip(drawn, found, strict=True)
        if not same_answer(q, rows, q.answer(graph))
    ]
