"""Forms that the embedded engine answers wrongly and the store rewrites, compared with Python."""

import random
from contextlib import nullcontext

import pyarrow as pa
import pytest

from atlas.errors import QueryFailed
from atlas.stores.kuzu.engine import engine
from atlas.stores.kuzu.faults.refused import check_faults
from atlas.stores.kuzu.faults.rewrites import headings, rewritten

SIZES = [12, 2_500]  # kuzu computes 2,048 rows at a time
COLUMNS = {"id": pa.int64(), "i": pa.int64(), "s": pa.string(), "b": pa.bool_()}


class Tables:
    """Nodes ``N`` with nulls, edges ``E`` and ``F`` between them, and a connection to both."""

    def __init__(self, size):
        draw = random.Random(size)

        def maybe(value):
            return None if draw.random() < 0.3 else value

        few = size if size > 100 else 3
        self.nodes = [
            {
                "id": id,
                "i": maybe(draw.randint(0, few)),
                "s": maybe(draw.choice("abc")),
                "b": maybe(draw.random() < 0.5),
            }
            for id in range(size)
        ]
        self.edges = [(draw.randrange(size), draw.randrange(size)) for _ in range(2 * size)]
        self.few = [(draw.randrange(size), draw.randrange(size)) for _ in range(size // 2)]
        self.connection = engine().Connection(engine().Database(":memory:"))
        kinds = "id INT64, i INT64, s STRING, b BOOL, PRIMARY KEY (id)"
        self.connection.execute(f"CREATE NODE TABLE N ({kinds})")
        rows = pa.Table.from_pylist(self.nodes, pa.schema(COLUMNS.items()))
        self.connection.execute("COPY N FROM $rows", {"rows": rows})
        self.connection.execute("CREATE NODE TABLE M (key INT64, PRIMARY KEY (key))")
        self.connection.execute("CREATE REL TABLE G (FROM M TO N)")
        for kind, pairs in {"E": self.edges, "F": self.few}.items():
            self.connection.execute(f"CREATE REL TABLE {kind} (FROM N TO N)")
            columns = dict(zip("az", map(list, zip(*pairs, strict=True)), strict=True))
            self.connection.execute(f"COPY {kind} FROM $rows", {"rows": pa.table(columns)})

    def targets(self, node, edges=None):
        """Return the targets of the edges of a node."""
        return [z for a, z in (self.edges if edges is None else edges) if a == node]

    def rows(self, query, *, as_typed=False):
        check_faults(query)
        text = query if as_typed else rewritten(query)
        return ordered(self.connection.execute(text).get_all())


def ordered(rows):
    return sorted((tuple(row) for row in rows), key=repr)


@pytest.fixture(scope="module", params=SIZES)
def tables(request):
    return Tables(request.param)


def equal(one, other):
    """Return whether two values are equal, and neither is null."""
    return one is not None and one == other


def checked(tables, query, expected):
    """Check the rows of the rewritten query, and return whether those of the typed one are wrong."""
    expected_rows = ordered(expected)
    assert tables.rows(query) == expected_rows, query
    return tables.rows(query, as_typed=True) != expected_rows


def test_a_join_on_a_property_with_nulls(tables):
    nodes, by_i = tables.nodes, {}
    for node in nodes:
        by_i.setdefault(node["i"], []).append(node)
    by_i.pop(None)
    pairs = [(a, z) for a in nodes for z in by_i.get(a["i"], [])]
    ids = [(a["id"], z["id"]) for a, z in pairs]
    same = [(a["id"], z["id"]) for a, z in pairs if equal(a["s"], z["s"])]
    without = [(a["id"], None) for a in nodes if a["i"] is None]
    wrong = [
        checked(tables, "MATCH (a:N), (z:N) WHERE a.i = z.i RETURN a.id, z.id", ids),
        checked(tables, "MATCH (a:N) MATCH (z:N {i: a.i}) RETURN a.id, z.id", ids),
        checked(tables, "MATCH (a:N) WITH a.id AS x, a.i AS k MATCH (z:N) WHERE ((z.i = k)) RETURN x, z.id", ids),
        checked(tables, "MATCH (a:N), (z:N) WHERE a.i = z.i AND (z.s = a.s) RETURN a.id, z.id", same),
        checked(tables, "MATCH (a:N) OPTIONAL MATCH (z:N) WHERE z.i = a.i RETURN a.id, z.id", ids + without),
    ]  # fmt: skip
    # If this fails, the engine has been fixed: ``_known_keys`` can be deleted.
    assert all(wrong)


def test_an_optional_pattern_with_an_equality(tables):
    nodes = tables.nodes
    found = {
        a["id"]: [z for z in tables.targets(a["id"]) if equal(nodes[z]["i"], a["i"])]
        for a in (nodes if len(nodes) < 100 else nodes[:200])
    }
    rows = [(a, z) for a, targets in found.items() for z in targets or [None]]
    start = f"MATCH (a:N) WHERE a.id < {len(found)}"
    for query in (
        f"{start} OPTIONAL MATCH (a)-[:E]->(z:N) WHERE a.i = z.i RETURN a.id, z.id",
        f"{start} OPTIONAL MATCH (a)-[:E]->(z:N {{i: a.i}}) RETURN a.id, z.id",
    ):
        checked(tables, query, rows)
    query = f"{start} AND EXISTS {{ MATCH (a)-[:E]->(z:N) WHERE a.i = z.i }} RETURN a.id"
    checked(tables, query, [(a,) for a, targets in found.items() if targets])


def test_a_node_that_may_be_null(tables):
    ends = [
        (c["id"], a) for c in tables.nodes for a in tables.targets(c["id"], tables.few) or [None]
    ]
    start = "MATCH (c:N) OPTIONAL MATCH (c)-[:F]->(a:N)"
    below = [
        (c, a, z)
        for c, a in ends
        for z in [z for z in (tables.targets(a) if a is not None else []) if c > z] or [None]
    ]
    query = f"{start} OPTIONAL MATCH (a)-[:E]->(z:N) WHERE c.id > z.id RETURN c.id, a.id, z.id"
    wrong = checked(tables, query, below)
    numbered = {node["id"]: [] for node in tables.nodes}
    for number, (a, z) in enumerate(tables.edges):
        numbered[a].append((number, z))
    joint = [
        (c, a, q)
        for c, a in ends
        if a is not None
        for one, q in numbered[a]
        for other, end in numbered[c]
        if end == q and one != other
    ]
    query = f"{start} MATCH (a)-[:E]->(q:N), (c)-[:E]->(q) RETURN c.id, a.id, q.id"
    wrong |= checked(tables, query, joint)
    # If this fails, the engine has been fixed: the null nodes of ``_known_keys`` can be deleted.
    assert wrong or len(tables.nodes) < 100


def test_a_count_of_edges_includes_the_nodes_without_any(tables):
    counts = [len(tables.targets(node["id"])) for node in tables.nodes]
    number = {n: counts.count(n) for n in set(counts)}
    count = "COUNT { MATCH (a)-[:E]->(:N) }"
    wrong = [
        checked(tables, query, expected)
        for query, expected in {
            f"MATCH (a:N) RETURN {count} AS n, count(*)": number.items(),
            f"MATCH (a:N) WITH a, {count} AS n RETURN n, count(*)": number.items(),
            f"MATCH (a:N) WITH {count} AS n, count(*) AS m RETURN n, m": number.items(),
            f"MATCH (a:N) RETURN DISTINCT {count} AS n": [(n,) for n in number],
            f"MATCH (a:N) WHERE {count} = 0 RETURN count(*)": [(number[0],)],
        }.items()
    ]
    # If this fails, the engine has been fixed: ``_guarded_counts`` can be deleted.
    assert all(wrong)
    checked(tables, f"MATCH (a:N) RETURN a.id, {count} AS n", enumerate(counts))
    # One name may be a node of several labels, and a node may have another name after WITH.
    edges = "MATCH (a:N) RETURN COUNT { MATCH (a)-[:E]->(:N) } AS n"
    union = f"MATCH (a:M) RETURN COUNT {{ MATCH (a)--(:N) }} AS n UNION ALL {edges}"
    renamed = f"MATCH (f:N) WITH f AS a RETURN {count} AS n, count(*)"
    checked(tables, renamed, number.items())
    checked(tables, union, [(n,) for n in counts])


def test_a_subquery_without_match(tables):
    counts = [len(tables.targets(node["id"])) for node in tables.nodes]
    few = {a for a, _ in tables.few}
    positive = {node["id"] for node in tables.nodes if (node["i"] or 0) > 0}
    to_positive = {a for a, z in tables.few if z in positive}
    for query, rows in {
        "MATCH (a:N) RETURN a.id, COUNT { (a)-[:E]->(:N) }": enumerate(counts),
        "MATCH (a:N) WHERE NOT EXISTS {(a)-[:F]->()} RETURN a.id": [(i,) for i in range(len(counts)) if i not in few],
        "MATCH (a:N) WHERE EXISTS { (a)-[:F]->(z:N) WHERE z.i > 0 } RETURN a.id": [(a,) for a in to_positive],
        "MATCH (a:N) WHERE EXISTS { p = (a)-[:F]->(z:N {i: -1}) } RETURN a.id": [],
    }.items():  # fmt: skip
        assert tables.rows(query) == ordered(rows), query
    # If this fails, the engine has been fixed: ``_matched_subqueries`` can be deleted.
    with pytest.raises(RuntimeError, match="Parser exception"):
        tables.connection.execute("MATCH (a:N) WHERE EXISTS { (a)-[:F]->() } RETURN a.id")


def test_an_empty_text_is_contained_in_every_text(tables):
    known = [node for node in tables.nodes if node["s"] is not None]
    assert checked(
        tables, "MATCH (a:N) WHERE a.s CONTAINS '' RETURN a.id", [(n["id"],) for n in known]
    )
    small = "MATCH (a:N), (z:N) WHERE a.id < 10 AND z.id < 10 AND"
    pairs = [
        (a["id"], z["id"]) for a in known[:10] for z in known[:10] if max(a["id"], z["id"]) < 10
    ]
    query = f"{small} toLower(a.s) CONTAINS left(z.s, 0) RETURN a.id, z.id"
    # If this fails, the engine has been fixed: ``contained_texts`` can be deleted.
    assert checked(tables, query, pairs)
    inner = "CASE WHEN a.s CONTAINS left(z.s, 0) THEN '' END"
    checked(tables, f"{small} a.s CONTAINS {inner} RETURN a.id, z.id", pairs)
    for condition in ("CONTAINS ''", "STARTS WITH ''", "ENDS WITH ''"):
        query = f"MATCH (a:N) RETURN a.id, a.s {condition} AS x"
        checked(tables, query, [(n["id"], None if n["s"] is None else True) for n in tables.nodes])


@pytest.mark.parametrize(
    ("wanted", "params", "is_changed"),
    [
        ("$t", {"t": "a"}, False),
        ("$t", {"t": ""}, True),
        ("$t", {"t": None}, False),
        ("$t", {}, True),
        ("toLower(($t))", {"t": "A"}, False),
        ("toLower($t)", {"t": ""}, True),
        ("toUpper('')", {}, True),
        ("toLower('A')", {}, False),
        ("trim($t)", {"t": " "}, True),
        ("($t + $u)", {"t": "", "u": ""}, True),
        ("a.s", {}, True),
    ],
)
def test_only_a_text_that_may_be_empty_is_also_compared_as_a_start(
    tables, wanted, params, is_changed
):
    query = f"MATCH (a:N) WHERE a.s CONTAINS {wanted} RETURN a.id"
    text = rewritten(query, params)
    assert (text != query) == is_changed
    if not params or None in params.values():
        return
    meant = "" if wanted in ("trim($t)", "($t + $u)") else params["t"].lower()
    ids = [n["id"] for n in tables.nodes if n["s"] is not None and meant in n["s"]]
    assert ordered(tables.connection.execute(text, params).get_all()) == ordered(
        (id,) for id in ids
    )


def test_a_condition_that_is_coalesce(tables):
    nodes = tables.nodes
    start = "MATCH (a:N)-[:E]->(z:N) WHERE"
    wrong = False
    for condition, holds in {
        "coalesce(a.id > -1, z.b) AND z.id > 3": lambda a, z: z["id"] > 3,
        "z.id > 3 AND (coalesce(a.b, z.b))": lambda a, z: (
            z["id"] > 3 and (z["b"] if a["b"] is None else a["b"])
        ),
        "NOT coalesce(a.b, z.b)": lambda a, z: (z["b"] if a["b"] is None else a["b"]) is False,
        "CASE WHEN a.b THEN z.b ELSE a.id > 2 END": lambda a, z: z["b"] if a["b"] else a["id"] > 2,
    }.items():
        expected = [(a, z) for a, z in tables.edges if holds(nodes[a], nodes[z])]
        wrong |= checked(tables, f"{start} {condition} RETURN a.id, z.id", expected)
    two = [(a, z, y) for a, z in tables.edges for y in tables.targets(z, tables.few)]
    start = "MATCH (a:N)-[:E]->(z:N)-[:F]->(y:N) WHERE"
    condition = "coalesce(any(x IN ['a'] WHERE x = 'a'), z.b)"
    wrong |= checked(tables, f"{start} {condition} RETURN a.id, z.id, y.id", two)
    # If this fails, the engine has been fixed: ``_compared_calls`` can be deleted.
    assert wrong


def test_a_group_by_an_edge_without_an_arrow_is_refused(tables):
    for projection, number in {
        "WITH e, count(*) AS n RETURN n": len(tables.edges),
        "WITH DISTINCT e RETURN 1": len(tables.edges),
        "WITH e, a, count(*) AS n RETURN n": None,
    }.items():
        query = f"MATCH (a:N)-[e:E]-(z:N) {projection}"
        with pytest.raises(QueryFailed, match="because its pattern has no arrow"):
            check_faults(query)
        if number is not None:
            # If this fails, the engine has been fixed: ``_check_undirected`` can be deleted.
            assert len(tables.connection.execute(query).get_all()) > number
    checked(
        tables, "MATCH (a:N)-[e:E]->(z:N) WITH DISTINCT e RETURN count(*)", [(len(tables.edges),)]
    )
    check_faults("MATCH (a:N)-[e:E]-(z:N) WITH e, a, z, count(*) AS n RETURN n")
    check_faults("MATCH (a:N)-[e:E]-(z:N) RETURN a.id, e.w, count(*), max(e.w)")


def test_a_null_in_a_list_equals_nothing(tables):
    nodes = tables.nodes[:12]
    start = "MATCH (a:N), (z:N) WHERE a.id < 12 AND z.id < 12 AND"
    pairs = [(a, z) for a in nodes for z in nodes]
    wrong = False
    for condition, holds in {
        "0 IN [z.i]": lambda a, z: z["i"] == 0,
        "a.i IN [z.i, 2]": lambda a, z: equal(a["i"], z["i"]) or a["i"] == 2,
        "-a.i IN [-z.i, -2]": lambda a, z: equal(a["i"], z["i"]) or a["i"] == 2,
        "a.b IN [z.b]": lambda a, z: equal(a["b"], z["b"]),
        "NOT a.s IN ['a', z.s]": lambda a, z: (
            None not in (a["s"], z["s"]) and a["s"] not in ("a", z["s"])
        ),
    }.items():
        expected = [(a["id"], z["id"]) for a, z in pairs if holds(a, z)]
        wrong |= checked(tables, f"{start} {condition} RETURN a.id, z.id", expected)
    # If this fails, the engine has been fixed: ``_listed_values`` can be deleted.
    assert wrong


@pytest.fixture(scope="module")
def connection():
    return engine().Connection(engine().Database(":memory:"))


NUMBERS = "UNWIND [-1.0, 0.0, 1.0, -2.0, -0.25] AS x"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"{NUMBERS} RETURN x, -x AS y ORDER BY y LIMIT 2", [1.0, 0.0]),
        (f"{NUMBERS} RETURN x, x * -1 AS y ORDER BY y DESC LIMIT 4", [-2, -1, -0.25, 0]),
        (f"{NUMBERS} WITH x, round(x, 0) AS y RETURN x ORDER BY y, x LIMIT 2", [-2, -1]),
        (f"{NUMBERS} RETURN x ORDER BY x * -2.0 LIMIT 2", [1.0, 0.0]),
        (
            f"{NUMBERS} RETURN x, CASE WHEN x > -9 THEN -x ELSE x END AS y ORDER BY y LIMIT 2",
            [1.0, 0.0],
        ),
        (f"{NUMBERS} RETURN x, coalesce(-x, 0.0) AS y ORDER BY y LIMIT 2", [1.0, 0.0]),
        (f"{NUMBERS} WITH x, max(-x) AS y RETURN x ORDER BY y LIMIT 2", [1.0, 0.0]),
    ],
)
def test_a_negative_zero_is_sorted_as_zero(connection, query, expected):
    check_faults(query)
    assert [row[0] for row in connection.execute(rewritten(query)).get_all()] == expected


def test_a_negative_zero_is_sorted_first_without_rewriting(connection):
    query = f"{NUMBERS} RETURN -x AS y ORDER BY y LIMIT 1"
    # If this fails, the engine has been fixed: ``positive_zeros`` can be deleted.
    assert connection.execute(query).get_all() == [[0]]


@pytest.mark.parametrize("size", [3_000, 30_000])
def test_values_after_a_text_are_sorted(size):
    draw = random.Random(size)
    rows = [
        {
            "id": id,
            "s": draw.choice(["tiny-a-l1-wide", "tiny-a-l1-wine", "b"]),
            "b": draw.random() < 0.5,
        }
        for id in range(size)
    ]
    connection = engine().Connection(engine().Database(":memory:"))
    connection.execute("CREATE NODE TABLE N (id INT64, s STRING, b BOOL, PRIMARY KEY (id))")
    connection.execute("COPY N FROM $rows", {"rows": pa.Table.from_pylist(rows)})
    wrong = False
    for order, key in {
        "s, id": lambda row: (row["s"], row["id"]),
        "s, b, id DESC": lambda row: (row["s"], row["b"], -row["id"]),
        "b DESC, s, id": lambda row: (not row["b"], row["s"], row["id"]),
    }.items():
        for limit in (20, size):
            projection = f"a.id AS id, a.s AS s, a.b AS b ORDER BY {order} LIMIT {limit}"
            query = f"MATCH (a:N) RETURN {projection}"
            expected = [row["id"] for row in sorted(rows, key=key)[:limit]]
            assert [row[0] for row in connection.execute(rewritten(query)).get_all()] == expected, (
                query
            )
            first = rewritten(f"MATCH (a:N) WITH {projection} RETURN id")
            assert sorted(r[0] for r in connection.execute(first).get_all()) == sorted(expected)
            wrong |= [row[0] for row in connection.execute(query).get_all()] != expected
    # If this fails, the engine has been fixed: ``final_texts`` can be deleted.
    assert wrong or size < 10_000


def test_an_order_by_a_projected_expression(tables):
    groups = {}
    for node in tables.nodes:
        groups.setdefault(node["s"], []).append(node["id"])
    rows = [(s, len(ids)) for s, ids in groups.items()]
    by_count = sorted(rows, key=lambda row: (-row[1], row[0] or "z"))
    by_text = sorted(rows, key=lambda row: row[0] or "z")
    for end, expected in {
        "RETURN a.s AS s, count(*) AS n ORDER BY count(*) DESC, a.s": by_count,
        "WITH a.s AS s, count(*) AS n ORDER BY a.s ASC LIMIT 9 RETURN s, n ORDER BY s": by_text,
    }.items():
        query = f"MATCH (a:N) {end}"
        check_faults(query)
        found = tables.connection.execute(rewritten(query)).get_all()
        assert list(map(tuple, found)) == expected, query
    # If this fails, the engine has been fixed: ``named_order`` can be deleted.
    with pytest.raises(RuntimeError):
        tables.connection.execute(
            "MATCH (a:N) RETURN a.s AS s, count(*) AS n ORDER BY count(*) DESC"
        )


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (a:N) RETURN a.id, count(*) AS n ORDER BY n DESC LIMIT 3",
        "MATCH (a:N)-[e:E]->(z:N)-[:F]->(y) WHERE a.i = 3 AND z.s = $s RETURN *",
        "MATCH (a:N {i: 3})-[e:E {c: $c}]->(z) WHERE a.i > z.i RETURN a.i + 1 + z.i AS t, a.i + 2 ORDER BY t",
        "MATCH (a:N) WHERE a.s CONTAINS 'x' AND a.i IN [1, 2] RETURN a.id",
        "MATCH (a:N) RETURN any(x IN [1, 2] WHERE x = 1), CASE a.i WHEN 1 THEN -2 END AS n ORDER BY n",
        "MATCH (f) WHERE f.effect_kl + f.effect_ce > 0.5 RETURN f.frequency + f.effect_kl",
        "MATCH (a:N) WHERE a.i = a.id RETURN a.id AS `a = b`",
        "MATCH (a:N) OPTIONAL MATCH (a)-[:E]->(b) OPTIONAL MATCH (b)-[:E]->(c) WHERE c.i > 1 RETURN c.id",
    ],
)
def test_other_queries_are_not_rewritten(query):
    check_faults(query)
    assert rewritten(query) == query


def test_headings_are_those_of_the_typed_query():
    query = "MATCH (a:N) RETURN a.id, a.s CONTAINS '' , -a.i * 2 AS n, a.i IN [a.id]\nORDER BY n"
    assert headings(query, ["a.id", "OR", "n", "EQUALS"]) == [
        "a.id",
        "a.s CONTAINS ''",
        "n",
        "a.i IN [a.id]",
    ]
    query = "MATCH (a:N)-[e]->() RETURN DISTINCT a.id, count(e), 1+2, size( collect(a.s) )"
    assert headings(query, ["a.id", "COUNT(e._ID)", "+(1,2)", "SIZE(…)"]) == [
        "a.id",
        "count(e)",
        "1+2",
        "size( collect(a.s) )",
    ]
    assert headings("MATCH (a) RETURN *, 1", ["a", "b", "1"]) == ["a", "b", "1"]


def test_a_text_joined_with_null_is_null(tables):
    nodes = tables.nodes

    def joined(*texts):
        return None if None in texts else "".join(texts)

    known = [n["s"] for n in nodes if n["s"] is not None]
    groups = {s: sum(n["s"] == s for n in nodes) for s in {n["s"] for n in nodes}}
    wrong = [
        checked(tables, query, rows)
        for query, rows in {
            "MATCH (a:N) RETURN a.id, a.s + 'x' AS t": [(n["id"], joined(n["s"], "x")) for n in nodes],
            "MATCH (a:N) RETURN count(a.s + 'x'), count(DISTINCT 'y' + (a.s + 'x'))": [(len(known), len({*known}))],
            "MATCH (a:N) RETURN 'x' + a.s AS t, count(*)": [(joined("x", s), n) for s, n in groups.items()],
            "MATCH (a:N)-[:E]->(z:N) RETURN a.id, z.id, a.s + ('-' + z.s) + z.s": [
                (a, z, joined(nodes[a]["s"], "-", nodes[z]["s"], nodes[z]["s"]))
                for a, z in tables.edges
                if joined(nodes[a]["s"], nodes[z]["s"])
            ] + [(a, z, None) for a, z in tables.edges if not joined(nodes[a]["s"], nodes[z]["s"])],
            "MATCH (a:N)-[:E]->(z:N) RETURN a.id, z.id, a.s + z.s": [(a, z, joined(nodes[a]["s"], nodes[z]["s"])) for a, z in tables.edges],
            "MATCH (a:N) OPTIONAL MATCH (a)-[:F]->(z:N) WHERE a.s + 'x' = z.s + 'x' RETURN a.id, z.id": [
                (n["id"], z)
                for n in nodes
                for z in [z for z in tables.targets(n["id"], tables.few) if equal(nodes[z]["s"], n["s"])] or [None]
            ],
            "MATCH (a:N) WHERE a.id < 0 RETURN max(a.s) + 'x'": [(None,)],
        }.items()
    ]  # fmt: skip
    # If this fails, the engine has been fixed: ``joined_texts`` can be deleted.
    assert sum(wrong) >= 5
    # The engine reads ``a + (b CONTAINS c)`` in these.
    for condition, count in {
        "a.s + 'x' CONTAINS ''": len(known),
        "NOT 'x' + toUpper(a.s) STARTS WITH 'xA'": sum(s != "a" for s in known),
    }.items():
        assert tables.rows(f"MATCH (a:N) WHERE {condition} RETURN count(*)") == [(count,)]
    numbers = "MATCH (a:N)-[:E]->(z:N) RETURN a.id, z.id, a.i + z.i, a.i + z.i - 2 * a.i"
    sums = [(a, z, nodes[a]["i"], nodes[z]["i"]) for a, z in tables.edges]
    expected = [
        (a, z, *((None, None) if None in (x, y) else (x + y, y - x))) for a, z, x, y in sums
    ]
    assert not checked(tables, numbers, expected)
    found = tables.connection.execute(rewritten("MATCH (a:N) RETURN count(a.s + $t)"), {"t": "x"})
    assert found.get_all() == [[len(known)]]


def test_the_total_of_no_values_is_zero(tables):
    nodes = tables.nodes
    few = {a["id"]: tables.targets(a["id"], tables.few) for a in nodes}
    sums = {a: sum(nodes[z]["i"] or 0 for z in targets) for a, targets in few.items()}
    texts = {a: [nodes[z]["s"] for z in t if nodes[z]["s"] is not None] for a, t in few.items()}
    start = "MATCH (a:N) OPTIONAL MATCH (a)-[:F]->(z:N)"
    wrong = [
        checked(tables, f"{start} WITH a, sum(z.i) AS n WHERE n = 0 RETURN a.id", [(a,) for a, n in sums.items() if not n]),
        checked(tables, f"{start} WITH a, 2 + sum(1.5 * z.i) AS n RETURN a.id, n", [(a, 2 + 1.5 * n) for a, n in sums.items()]),
        checked(tables, f"{start} WITH a, collect(z.s) AS l RETURN a.id, size(l)", [(a, len(found)) for a, found in texts.items()]),
        checked(tables, f"{start} WITH a, size(COLLECT (DISTINCT z.s)) AS n RETURN a.id, n", [(a, len({*found})) for a, found in texts.items()]),
        checked(tables, "MATCH (a:N) WHERE a.id < 0 RETURN sum(a.i), collect(a.s), collect(a), sum(DISTINCT a.id)", [(0, [], [], 0)]),
    ]  # fmt: skip
    # If this fails, the engine has been fixed: ``empty_totals`` can be deleted.
    assert all(wrong)
    query = "MATCH (a:N) RETURN a.s, sum(a.id), coalesce(sum(a.i), 0) AS n ORDER BY sum(a.id), a.s"
    assert rewritten(query).count("coalesce") == 3
    total = {s: sum(n["id"] for n in nodes if n["s"] == s) for s in {n["s"] for n in nodes}}
    found = tables.connection.execute(rewritten(query)).get_all()
    assert [(s, int(n)) for s, n, _ in found] == sorted(total.items(), key=lambda each: each[1])


TRAILS = {  # the hops of a path and their types, and forms that select it; the nodes are n0, n1, …
    ("any E", "any E"): ["(n0)-[a:E]-(n1)-[b:E]-(n2)", "(n0)-[:E]-(n1), (n2)-[b:E]-(n1)"],
    ("out E", "in E"): ["(n0)-[:E]->(n1)<-[:E]-(n2)", "(n0)-[:E {w: -1}]->(n1)<-[b:E {w: -1}]-(n2)"],
    ("any", "any"): ["(n0)--(n1)--(n2)", "(n0)-[]-(n1)--(n2)", "(n0)-[:E|F]-(n1)-[:F|E]-(n2)"],
    ("any F", "any F", "any F"): ["(n0)-[:F]-(n1)-[:F]-(n2)-[:F]-(n3)"],
    ("in E", "out F"): ["(n0)<-[:E]-(n1)-[:F]->(n2)"],
}  # fmt: skip


def trails(edges, hops):
    """Return the nodes of each path without a repeated edge; edges are (number, type, source, target)."""
    paths = [((a,), ()) for a in range(EIGHT)]
    for hop in hops:
        way, _, kind = hop.partition(" ")
        paths = [
            ((*nodes, end), (*used, number))
            for nodes, used in paths
            for number, its_kind, a, z in edges
            for start, end, its_way in ((a, z, "out"), (z, a, "in"))
            if number not in used and start == nodes[-1]
            if way in (its_way, "any") and kind in (its_kind, "")
        ]
    return [nodes for nodes, _ in paths]


EIGHT = 8


@pytest.fixture(scope="module")
def few_edges():
    """Return a connection to a graph of eight nodes, and its edges, some of them parallel."""
    draw = random.Random(8)
    connection = engine().Connection(engine().Database(":memory:"))
    connection.execute("CREATE NODE TABLE N (id INT64, PRIMARY KEY (id))")
    for id in range(EIGHT):
        connection.execute(f"CREATE (:N {{id: {id}}})")
    edges = []
    for kind in "EF":
        connection.execute(f"CREATE REL TABLE {kind} (FROM N TO N, w INT64)")
        ends = [draw.sample(range(EIGHT), 2) for _ in range(9)]
        for a, z in [*ends, ends[0]]:
            edges.append((len(edges), kind, a, z))
            ends_of_edge = f"MATCH (a:N {{id: {a}}}), (z:N {{id: {z}}})"
            connection.execute(f"{ends_of_edge} CREATE (a)-[:{kind} {{w: -1}}]->(z)")
    return connection, edges


@pytest.mark.parametrize("hops", TRAILS)
def test_one_match_uses_no_edge_twice(few_edges, hops):
    connection, edges = few_edges
    paths = trails(edges, hops)
    names = ", ".join(f"n{i}.id" for i in range(len(hops) + 1))
    wrong = []
    for pattern in TRAILS[hops]:
        start = f"MATCH {pattern.replace('(n0)', '(n0:N)', 1)}"
        from_0 = [nodes for nodes in paths if nodes[0] == 0]
        ends = {nodes[0] for nodes in paths}
        counts = [(a, sum(nodes[0] == a for nodes in paths)) for a in range(EIGHT)]
        queries = {
            f"{start} RETURN {names}": paths,
            f"{start} WHERE n0.id = 0 OR n0.id = 9 RETURN {names}": from_0,
            f"MATCH (n0:N) WHERE EXISTS {{ MATCH {pattern} }} RETURN n0.id": [(a,) for a in ends],
            f"MATCH (n0:N) RETURN n0.id, COUNT {{ MATCH {pattern} }}": counts,
            f"MATCH (n0:N) OPTIONAL MATCH {pattern} RETURN {names}": [
                *paths,
                *((a, *[None] * len(hops)) for a in range(EIGHT) if a not in ends),
            ],
        }
        for query, expected in queries.items():
            check_faults(query)
            found = ordered(connection.execute(rewritten(query)).get_all())
            assert found == ordered(expected), query
            wrong.append(ordered(connection.execute(query).get_all()) != found)
    # If this fails, the engine has been fixed: ``compared_edges`` can be deleted.
    assert any(wrong) or hops == ("in E", "out F")


@pytest.mark.parametrize("way", ["any", "out", "in"])
def test_a_repeated_edge_is_a_trail(few_edges, way):
    connection, edges = few_edges
    left, right = {"any": ("-", "-"), "out": ("-", "->"), "in": ("<-", "-")}[way]
    for length in ("1..3", "2..3", "3"):
        shortest, most = int(length[0]), int(length[-1])
        expected = [
            (nodes[0], nodes[-1])
            for hops in range(shortest, most + 1)
            for nodes in trails(edges, [f"{way} E"] * hops)
        ]
        for name in ("", "e"):
            query = f"MATCH (a:N){left}[{name}:E*{length}]{right}(z:N) RETURN a.id, z.id"
            check_faults(query)
            found = ordered(connection.execute(rewritten(query)).get_all())
            assert found == ordered(expected), query


def test_edges_that_cannot_be_compared_are_refused():
    for query in (
        "MATCH (a)-[:E*1..2]-(b)-[e:E]-(c) RETURN c.id",
        "MATCH (a)-[:E*1..2]-(b), (b)-[:E*2]-(c) RETURN c.id",
    ):
        with pytest.raises(QueryFailed, match="in a MATCH of its own"):
            check_faults(query)
    for query in (
        "MATCH (a)-[:E]-(b)--(c) RETURN *",
        "MATCH (a)--(b)--(c) WITH DISTINCT * RETURN 1",
    ):
        with pytest.raises(QueryFailed, match="Write the variables instead of"):
            check_faults(query)
    check_faults("MATCH (a)-[:E*1..2]-(b)-[:F]-(c) RETURN *")
    check_faults("MATCH (a)-[d:E]-(b)-[e:E]-(c) WITH * RETURN *, 2 * 3")
    check_faults("MATCH (a)-[:E]-(b)-[:E]-(c) WITH * WHERE a.x > 1 RETURN count(*)")


OPEN_TO_NULL = {  # for the property b of the outer node and of the inner one
    "coalesce(a.b, true)": lambda a, z: a is not False,
    "a.b IS NULL": lambda a, z: a is None,
    "NOT (a.b AND z.b)": lambda a, z: a is False or z is False,
    "(a.b OR z.b)": lambda a, z: a is True or z is True,
    "a.b IS NULL OR z.b": lambda a, z: a is None or z is True,
    "CASE WHEN a.b THEN z.b ELSE true END": lambda a, z: z is True if a is True else True,
}


def test_a_condition_that_may_be_true_for_null_is_refused(tables):
    """The typed query is wrong where it is refused; the form named by the message is right."""
    if len(tables.nodes) > 100:
        pytest.skip("one size is enough")
    wrong = 0
    for condition, holds in OPEN_TO_NULL.items():
        found = {
            a["id"]: [z for z in tables.targets(a["id"]) if holds(a["b"], tables.nodes[z]["b"])]
            for a in tables.nodes
        }
        query = f"MATCH (a:N) OPTIONAL MATCH (a)-[:E]->(z:N) WHERE {condition} RETURN a.id, z.id"
        with pytest.raises(QueryFailed, match="finds no match for"):
            check_faults(query)
        rows = ordered((a, z) for a, targets in found.items() for z in targets or [None])
        typed = tables.connection.execute(query.replace("WHEN a.b THEN", "WHEN a.b = true THEN"))
        wrong += ordered(typed.get_all()) != rows
        exists = (
            f"MATCH (a:N) WHERE EXISTS {{ MATCH (a)-[:E]->(z:N) WHERE {condition} }} RETURN a.id"
        )
        with pytest.raises(QueryFailed, match="finds no match for"):
            check_faults(exists)
        if condition != "CASE WHEN a.b THEN z.b ELSE true END":
            before = "WITH *, coalesce(a.b, false) AS yes, coalesce(NOT a.b, false) AS no, a.b IS NULL AS unknown"
            inner = {
                "coalesce(a.b, true)": "no = false",
                "a.b IS NULL": "unknown",
                "NOT (a.b AND z.b)": "no OR NOT z.b",
                "(a.b OR z.b)": "yes OR z.b",
                "a.b IS NULL OR z.b": "unknown OR z.b",
            }[condition]
            right = f"MATCH (a:N) {before} OPTIONAL MATCH (a)-[:E]->(z:N) WHERE {inner} RETURN a.id, z.id"
            checked(tables, right, rows)
    # If this fails, the engine has been fixed: ``_check_nulls`` can be deleted.
    assert wrong == len(OPEN_TO_NULL)


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (f) OPTIONAL MATCH (f)-[m:M]->(g) WHERE m.q < 0.05 AND g.sae <> f.sae RETURN f.id, g.id",
        "MATCH (f) OPTIONAL MATCH (f)-[m:M]->(g) WHERE coalesce(m.q, 1.0) <= f.x RETURN f.id, g.id",
        "MATCH (f) OPTIONAL MATCH (f)-[m:M]->(g) WHERE (m.a OR g.b IS NULL) AND f.b RETURN f.id",
        "MATCH (f) OPTIONAL MATCH (f)-[m:M]->(g) WHERE NOT f.x > g.x AND f.x IS NOT NULL RETURN f.id",
        "MATCH (f) WITH f, count(*) AS n OPTIONAL MATCH (f)-->(g) WHERE n > 3 OR g.dead RETURN f.id",
        "MATCH (f) WITH f, f.x IS NULL AS none OPTIONAL MATCH (f)-->(g) WHERE none OR g.dead RETURN f.id",
        "MATCH (f) WHERE EXISTS { MATCH (f)-->(g) WHERE g.dead OR g.x IS NULL } RETURN f.id",
        "MATCH (f)-->(g) WHERE coalesce(f.x, 1) = g.x OR f.dead RETURN f.id",
        "MATCH (f) WITH f.sae AS sae MATCH (f) OPTIONAL MATCH (g) WHERE g.sae = sae RETURN g.id",
    ],
)
def test_accepted_optional_conditions(query):
    check_faults(query)


SEARCHED = [  # each selects the nodes whose ``i`` is 0
    "WITH a, [a.i, 5] AS l WHERE 0 IN l",
    "WITH a, [5, a.i] AS l WITH a, l AS m, 1 AS x WHERE 0 IN m",
    "WITH a, CASE WHEN a.id > -1 THEN [a.i] ELSE [1] END AS l WHERE 0 IN l",
    "WITH a WHERE list_contains([a.i], 0)",
    "WITH a WHERE 0 IN list_concat([1], [a.i])",
    "WITH a WHERE list_position([5, a.i], 0) > 0",
    "WITH a WHERE 0 IN coalesce([a.i], [1])",
]


@pytest.mark.parametrize("search", SEARCHED)
def test_a_search_in_a_list_with_nulls_is_refused(tables, search):
    query = f"MATCH (a:N) {search} RETURN a.id"
    with pytest.raises(QueryFailed, match=r"wrongly if (l|m|a) in the list is null"):
        check_faults(query)
    found = ordered(tables.connection.execute(query).get_all())
    # If this fails, the engine has been fixed: ``check_lists`` can be deleted.
    assert found != [(n["id"],) for n in tables.nodes if n["i"] == 0]
    right = query.replace("[a.i", "[coalesce(a.i, -1)").replace("a.i]", "coalesce(a.i, -1)]")
    checked(tables, right, [(n["id"],) for n in tables.nodes if n["i"] == 0])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("0 IN [null, 1]", lambda i: False),
        ("a.i IN [null, 1]", lambda i: i == 1),
        ("a.i IN [$p, 1]", lambda i: i == 1),
        ("NOT a.i IN [$p, 1]", lambda i: False),
    ],
)
def test_a_literal_or_parameter_that_is_null_equals_nothing(tables, condition, holds):
    params = {"p": None} if "$p" in condition else {}
    query = f"MATCH (a:N) WITH * WHERE {condition} RETURN a.id"
    check_faults(query, params)
    text = rewritten(query, params)
    found = tables.connection.execute(text, params).get_all()
    assert ordered(found) == [(n["id"],) for n in tables.nodes if holds(n["i"])]


@pytest.mark.parametrize(
    "query",
    [
        "WITH [1, 2] AS l MATCH (a:N) WHERE a.i IN l RETURN a.id",
        "MATCH (a:N) WITH collect(a.i) AS l RETURN 0 IN l",
        "MATCH (a:N) WHERE 'x' IN a.l RETURN [a.i, a.id] AS pair",
        "MATCH (a:N) WITH a, [a.i, a.id] AS pair RETURN pair, size(pair) AS n ORDER BY n",
        "MATCH (a:N) WITH a, size([a.i]) AS n WHERE n = 1 AND a.i IN [n] RETURN a.id",
        "MATCH (a:N) WITH a, CASE WHEN a.i IN [a.id, 1] THEN 1 ELSE 0 END AS n WHERE n = 1 RETURN a.id",
        "MATCH (a:N)<-[e:E {i: 3}]-(z:N) WITH a, e.i AS x WHERE x = 3 AND x IN [1, 2] + [3] RETURN x",
        "WITH [$p, 1] AS l MATCH (a:N) WHERE a.i IN l RETURN a.id",
    ],
)
def test_accepted_lists(query):
    check_faults(query, {"p": 1})
    with (
        pytest.raises(QueryFailed, match="this IN wrongly if l in the list")
        if "$p" in query
        else nullcontext()
    ):
        check_faults(query, {"p": None} if "$p" in query else {})


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("MATCH (a) WITH [a.i] AS l WHERE l = [0] RETURN l", "comparison of lists wrongly if l"),
        ("MATCH (a) WHERE [0] = [a.i] RETURN a.i", "comparison of lists wrongly if a"),
        ("MATCH (a) WHERE NOT [a.i] <> [0] RETURN a.i", "comparison of lists wrongly if a"),
        ("MATCH (a) WHERE [0] IN [[a.i]] RETURN a.i", "this IN wrongly if a"),
        (
            "MATCH (a) WITH [a.i] AS l WHERE any(x IN l WHERE x = 0) RETURN l",
            "predicate wrongly if l",
        ),
        (
            "MATCH (a) WHERE any(x IN [null, 1] WHERE x = 0) RETURN a.i",
            "a value of null in the list",
        ),
        (
            "MATCH (f) OPTIONAL MATCH (f)-->(p) WHERE p.x > f.frequency OR p.x = 1 RETURN p.id",
            "if f.frequency is null.* coalesce\\(f.frequency, 0\\) AS x, then write x instead",
        ),
        (
            "MATCH (f) OPTIONAL MATCH (f)-->(p) WHERE f.dead OR p.x = 1 RETURN p.id",
            "coalesce\\(f.dead, false\\)",
        ),
        (
            "MATCH (f) WITH f, f.x AS k OPTIONAL MATCH (f)-->(p) WHERE k OR p.x = 1 RETURN p.id",
            "coalesce\\(k, false\\)",
        ),
        ("MATCH (a) MATCH (a)-->(:N {i: a.i}) RETURN a.id", "Give the node or edge a name"),
        (
            "MATCH (a) OPTIONAL MATCH (a)-->(z) WHERE a IS NOT NULL RETURN z.id",
            "Use a property of a",
        ),
        (
            "MATCH (c) OPTIONAL MATCH (c)-->(a) OPTIONAL MATCH (a)-[e]->(c) WHERE e.w > c.x RETURN e.w",
            "WITH \\* WHERE a IS NOT NULL",
        ),
        (
            "MATCH (a), (z) WHERE any(x IN [a.i, z.i] WHERE x = 0) RETURN a.id",
            "if a value of a in the list is null",
        ),
    ],
)
def test_refused_forms(query, reason):
    with pytest.raises(QueryFailed, match=reason):
        check_faults(query)
