"""Grouped aggregates of the embedded engine, compared with Python."""

import itertools
import random

import pytest

from atlas.errors import QueryFailed
from atlas.stores.kuzu_aggregates import check_aggregates
from atlas.stores.kuzu_engine import engine

ROWS = [(i % 3, i % 4, i) for i in range(23)]
WITH = "UNWIND range(0, 22) AS x WITH x % 3 AS k, x % 4 AS d, x "
EXPECTED = {
    "count(DISTINCT d)": lambda rows: len({d for _, d, _ in rows}),
    "sum(DISTINCT d)": lambda rows: sum({d for _, d, _ in rows}),
    "count(x)": len,
    "count(*)": len,
    "sum(x)": lambda rows: sum(x for *_, x in rows),
    "max(x)": lambda rows: max(x for *_, x in rows),
}


@pytest.fixture(scope="module")
def connection():
    return engine().Connection(engine().Database(":memory:"))


def accepted(query):
    try:
        check_aggregates(query)
    except QueryFailed:
        return False
    return True


def by_key(names):
    groups = itertools.groupby(sorted(ROWS), key=lambda row: row[0])
    return {
        k: [EXPECTED[n](list(rows)) for n in names] for k, rows in ((k, list(g)) for k, g in groups)
    }


def test_accepted_orders_are_right_and_wrong_orders_are_refused(connection):
    draw = random.Random(0)
    refused = wrong = 0
    for _ in range(150):
        names = draw.sample(list(EXPECTED), draw.randint(1, 4))
        items = ["k", *names]
        if draw.random() < 0.5:
            items = [*names, "k"]
        query = WITH + "RETURN " + ", ".join(f"{n} AS c{i}" for i, n in enumerate(items))
        at = items.index("k")
        found = {
            int(row[at]): [int(v) if v is not None else None for i, v in enumerate(row) if i != at]
            for row in connection.execute(query).get_all()
        }
        if accepted(query):
            assert found == by_key(names), query
        else:
            refused += 1
            wrong += found != by_key(names)
    assert refused > 20
    # If this fails, the engine has been mended: the module can be deleted.
    assert wrong == refused


def test_without_a_key_every_order_is_right_and_accepted(connection):
    for names in itertools.permutations(EXPECTED, 3):
        query = WITH + "RETURN " + ", ".join(f"{n} AS c{i}" for i, n in enumerate(names))
        assert accepted(query)
        (row,) = connection.execute(query).get_all()
        assert [int(v) for v in row] == [EXPECTED[n](ROWS) for n in names]


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (f) RETURN f.sae, count(DISTINCT f.id), count(f)",
        "MATCH (f) WITH f.sae AS s, collect(DISTINCT f.id) AS a, avg(f.x) AS b WHERE b > 1 RETURN s",
        "MATCH (f) RETURN count(DISTINCT f.id) AS a, f.sae ORDER BY count(f)",
        "MATCH (f) RETURN f.sae, 1.0 * count(DISTINCT f.id) / count(f) AS share",
        "MATCH (f) return f.sae, Count (distinct f.id) as a, SUM(f.x) as b",
        "MATCH (f) RETURN f.sae, size(collect(DISTINCT f.id)), {a: max(f.x)}",
        "MATCH (s) WHERE EXISTS { MATCH (f) WITH f.sae AS s, count(DISTINCT f) AS a, count(f) AS b } RETURN s",
    ],
)
def test_refused(query):
    with pytest.raises(QueryFailed, match="Write the aggregates with DISTINCT last"):
        check_aggregates(query)


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (f) RETURN f.sae, count(f), count(DISTINCT f.id) AS n ORDER BY n LIMIT 3",
        "MATCH (f) RETURN DISTINCT f.sae, count(f)",
        "MATCH (f) WITH f.sae AS s, count(DISTINCT f.id) AS n RETURN s, n, count(*)",
        "MATCH (f) WITH DISTINCT f.sae AS s WHERE s STARTS WITH 'a' RETURN count(s)",
        "MATCH (f) RETURN count(DISTINCT f.id) AS a, count(f) AS b LIMIT 1",
        "MATCH (f) WHERE COUNT { (f)--() } > 1 RETURN f.sae, min(f.x)",
    ],
)
def test_accepted(query):
    check_aggregates(query)
