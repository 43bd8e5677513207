"""Random queries of the accepted grammar over random graphs, to compare the two engines.

The graph has nodes ``N`` and edges ``E`` and ``F`` with nulls, but no self loops, which kuzu counts
twice in an undirected pattern. Queries avoid the differences that decision 0001 lists.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Writer", "random_graph"]

TEXTS = ("ab", "Ab", "b", "the", " the", "a,b", "", "x")
NODE = {"int": ("i", "id"), "float": ("d",), "text": ("s",), "bool": ("b",), "texts": ("l",)}
EDGE = {"int": ("c",), "float": ("w",), "text": ("s",), "bool": ("b",)}
SCALARS = ("int", "float", "text", "bool")


def random_graph(
    rng: random.Random, size: int = 0
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Return the nodes, and the edges of each type; a graph without a size has 3 to 14 nodes."""
    is_large = size > 0
    size = size or rng.randint(3, 14)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.25 else value

    nodes = [
        {
            "id": id,
            "s": maybe(rng.choice(TEXTS)),
            "i": maybe(rng.randint(-4, 5)),
            "d": maybe(rng.randint(-12, 12) / 4),
            "b": maybe(rng.random() < 0.5),
            "l": maybe([rng.choice(TEXTS) for _ in range(rng.randint(0, 3))]),
        }
        for id in range(size)
    ]
    edges = {}
    most = 3 * size // 2 if is_large else 3 * size
    for kind, count in {"E": rng.randint(size, most), "F": rng.randint(1, size)}.items():
        ends = [rng.sample(range(size), 2) for _ in range(count)]
        edges[kind] = [
            {
                "a": a,
                "z": z,
                "c": maybe(rng.randint(-3, 4)),
                "w": maybe(rng.randint(-12, 12) / 4),
                "b": maybe(rng.random() < 0.5),
                "s": maybe(rng.choice(TEXTS)),
            }
            for a, z in ends
        ]
    return nodes, edges


@dataclass
class Writer:
    """Writes one random query.

    Parameters
    ----------
    rng
        Draws everything.
    is_large
        Whether the graph has thousands of nodes, so that a query of all pairs takes too long.
    """

    rng: random.Random
    is_large: bool = False
    names: int = 0
    scope: dict[str, str] = field(default_factory=dict)

    def query(self) -> str:
        """Return a query of one to three patterns, with projections between them."""
        clauses = []
        for number in range(self.rng.randint(1, 2 if self.is_large else 3)):
            nodes = [name for name, kind in self.scope.items() if kind == "node"]
            if number and not nodes:
                break
            optional = "OPTIONAL " if number and self.chance(0.4) else ""
            clauses.append(f"{optional}MATCH {self.pattern(nodes)}{self.where(0.6)}")
            if self.chance(0.2):
                name, values = self.new("u"), self.draw("[1, 2]", "range(-1, 1)", "[3]")
                clauses.append(f"UNWIND {values} AS {name}")
                self.scope[name] = "int"
            if self.chance(0.35):
                clauses.append(self.projection("WITH"))
        return "\n".join([*clauses, self.projection("RETURN")])

    def draw(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def new(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def pattern(self, nodes: list[str]) -> str:
        if nodes and not self.is_large and self.chance(0.15):
            return self.free_pattern()
        start = self.rng.choice(nodes) if nodes else self.new("n")
        edge = self.new("e")
        first = f"({start})" if nodes else f"({start}:N)"
        left, right = self.draw(("-", "->"), ("<-", "-"), ("-", "-"))
        if len(nodes) > 1 and self.chance(0.2):
            end = self.rng.choice([node for node in nodes if node != start])
            last = f"({end})"
        else:
            end = self.new("n")
            last = f"({end}:N{self.map() if self.chance(0.1) else ''})"
        kind = self.draw("E", "E", "F")
        text = f"{first}{left}[{edge}:{kind}]{right}{last}"
        self.scope |= {start: "node", end: "node", edge: "edge"}
        if self.chance(0.1):
            other, number = self.new("n"), self.new("e")
            # Of the other type, because Neo4j uses no edge twice in a clause.
            text += (
                f", ({self.draw(start, end)})-[{number}:{'F' if kind == 'E' else 'E'}]->({other}:N)"
            )
            self.scope |= {other: "node", number: "edge"}
        return text

    def free_pattern(self) -> str:
        """Return a pattern without a node that is known."""
        name = self.new("n")
        text = f"({name}:N{self.map() if self.chance(0.5) else ''})"
        self.scope[name] = "node"
        return text

    def map(self) -> str:
        """Return a property of a pattern, equal to a value that is known."""
        known = [f"{name}.i" for name, kind in self.scope.items() if kind == "node"]
        known += [name for name, kind in self.scope.items() if kind == "int"]
        return f" {{i: {self.rng.choice(known)}}}" if known else ""

    def where(self, share: float) -> str:
        if not self.chance(share):
            return ""
        nodes = [name for name, kind in self.scope.items() if kind == "node"]
        if nodes and self.chance(0.2):
            hop = f"MATCH ({self.rng.choice(nodes)})-[:{self.draw('E', 'F')}]->(m:N)"
            inner = self.draw("", " WHERE m.i > 0", " WHERE m.s STARTS WITH 'a'")
            subquery = f"{self.draw('EXISTS', 'NOT EXISTS')} {{ {hop}{inner} }}"
            return f" WHERE {subquery} AND {self.value('bool', 3)}"
        if len(nodes) > 1 and self.chance(0.25):
            one, other = self.rng.sample(nodes, 2)
            name = self.draw("i", "s", "b", "d", "id")
            return f" WHERE {one}.{name} = {other}.{name} AND {self.value('bool', 2)}"
        return f" WHERE {self.value('bool', 3)}"

    def value(self, kind: str, depth: int) -> str:
        """Return an expression of a type."""
        if depth <= 0 or self.chance(0.25):
            return self.atom(kind)
        if self.chance(0.2):
            condition, one, two = (self.value(k, depth - 1) for k in ("bool", kind, kind))
            return self.draw(
                f"CASE WHEN {condition} THEN {one} ELSE {two} END",
                f"CASE WHEN {condition} THEN {one} END",
                f"coalesce({one}, {two})",
            )
        parts: dict[str, Callable[[int], str]] = {
            "bool": self.bool_value,
            "int": self.int_value,
            "float": self.float_value,
            "text": self.text_value,
        }
        return parts[kind](depth - 1) if kind in parts else self.atom(kind)

    def atom(self, kind: str) -> str:
        known = [name for name, own in self.scope.items() if own == kind]
        for name, own in self.scope.items():
            properties = {"node": NODE, "edge": EDGE}.get(own, {}).get(kind, ())
            known += [f"{name}.{p}" for p in properties]
        if known and self.chance(0.85):
            return self.rng.choice(known)
        literals = {
            "int": str(self.rng.randint(-3, 5)),
            "float": self.draw("0.5", "-2.0", "1.25"),
            "text": f"'{self.draw(*TEXTS)}'",
            "bool": self.draw("true", "false"),
            "texts": "['ab', 'x']",
        }
        return literals[kind]

    def bool_value(self, depth: int) -> str:
        def of(kind: str) -> str:
            return self.value(kind, depth)

        kind = self.draw("int", "float", "text")
        return self.draw(
            f"{of(kind)} {self.draw('=', '<>', '<', '<=', '>', '>=')} {of(kind)}",
            f"({of('bool')} {self.draw('AND', 'OR', 'XOR')} {of('bool')})",
            f"NOT ({of('bool')})",
            f"({of(self.draw(*SCALARS))}) IS {self.draw('', 'NOT ')}NULL",
            f"{of('text')} {self.draw('STARTS WITH', 'ENDS WITH')} {of('text')}",
            f"{of('text')} CONTAINS {of('text')}",
            f"{of('int')} IN [1, 2, -1]",
            f"{self.atom(kind)} IN [{self.atom(kind)}, {self.atom(kind)}]",
            f"{of('bool')} {self.draw('AND', 'OR')} {of('bool')}",
            f"({of('bool')}) {self.draw('=', '<>')} ({of('bool')})",
            f"'ab' IN coalesce({self.atom('texts')}, ['b'])",
        )

    def int_value(self, depth: int) -> str:
        one = self.value("int", depth)
        nodes = [name for name, kind in self.scope.items() if kind == "node"]
        if nodes and self.chance(0.15):
            hop = f"MATCH ({self.rng.choice(nodes)})-[:{self.draw('E', 'F')}]->(m:N)"
            return f"COUNT {{ {hop}{self.draw('', ' WHERE m.i > 0')} }}"
        return self.draw(
            f"({one} {self.draw('+', '-', '*')} {self.value('int', depth)})",
            f"({one} {self.draw('/', '%')} {self.draw('2', '3', '-2')})",
            f"abs({one})",
            f"size({self.value(self.draw('text', 'texts'), depth)})",
        )

    def float_value(self, depth: int) -> str:
        one = self.value("float", depth)
        return self.draw(f"({one} + {self.value('int', depth)})", f"(1.0 - {one})", f"abs({one})")

    def text_value(self, depth: int) -> str:
        one = self.value("text", depth)
        return self.draw(f"toLower({one})", f"reverse({one})", f"left({one}, 2)", f"trim({one})")

    def aggregate(self) -> tuple[str, str]:
        """Return an aggregate and its type."""
        kind = self.draw("int", "float", "text")
        return self.draw(
            ("count(*)", "int"),
            (f"count({self.value(self.draw(*SCALARS), 2)})", "int"),
            (f"coalesce(sum({self.value('int', 2)}), 0)", "int"),
            (f"{self.draw('min', 'max')}({self.value(kind, 2)})", kind),
            (f"coalesce(sum(CASE WHEN {self.value('bool', 2)} THEN 1 ELSE 0 END), 0)", "int"),
            (f"round(avg({self.value('int', 1)}), 6)", "float"),
            (f"count(DISTINCT {self.value(kind, 1)})", "int"),
        )

    def projection(self, keyword: str) -> str:
        """Return a ``WITH`` or ``RETURN``, and define its names."""
        carried = {n: k for n, k in self.scope.items() if keyword == "WITH" and self.chance(0.7)}
        items = [(name, name, kind) for name, kind in carried.items()]
        for _ in range(self.rng.randint(0 if items else 1, 2)):
            kind = self.draw(*SCALARS)
            items.append((self.value(kind, 2), self.new("c"), kind))
        totals = [self.aggregate() for _ in range(self.draw(0, 0, 1, 2))]
        totals.sort(key=lambda total: "DISTINCT" in total[0])
        items += [(text, self.new("c"), kind) for text, kind in totals]
        self.scope = {name: kind for _, name, kind in items}
        distinct = "DISTINCT " if not totals and self.chance(0.2) else ""
        listed = ", ".join(t if t == name else f"{t} AS {name}" for t, name, _ in items)
        text = f"{keyword} {distinct}{listed}"
        if all(kind in SCALARS for kind in self.scope.values()) and self.chance(0.35):
            order = ", ".join(f"{name}{self.draw('', ' DESC')}" for name in self.scope)
            skip = f" SKIP {self.rng.randint(0, 3)}" if self.chance(0.3) else ""
            return f"{text} ORDER BY {order}{skip} LIMIT {self.rng.randint(1, 8)}"
        return text + (self.where(0.4) if keyword == "WITH" else "")
