"""Edits of a query: all of one step are written at once, also where a part is written twice."""

import random
from collections import Counter

import pytest

from atlas.errors import QueryFailed
from atlas.stores.cypher import checked, tokens_of
from atlas.stores.kuzu.engine import engine
from atlas.stores.kuzu.faults.edits import MAX_LENGTH, Edit, edited, insertion
from atlas.stores.kuzu.faults.refused import check_faults
from atlas.stores.kuzu.faults.rewrites import rewritten


def test_insertions_equal_a_list_of_characters_with_each_inserted():
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices("abc ", k=draw.randrange(12)))
        places = [(draw.randint(0, len(text)), str(i)) for i in range(draw.randrange(6))]
        characters = [*text, ""]
        before = ["".join(new for at, new in places if at == i) for i in range(len(text) + 1)]
        expected = "".join(new + old for new, old in zip(before, characters, strict=True))
        assert edited(text, [insertion(at, new) for at, new in places]) == expected


def test_nested_edits_equal_a_recursive_replacement():
    """In each pair of brackets ``(x,y)`` of a random tree, ``x`` is written twice."""
    draw = random.Random(1)

    def tree(depth):
        """Return the text, what it becomes, and its edits relative to its start."""
        if depth == 0 or draw.random() < 0.3:
            leaf = draw.choice(["a", "bb", ""])
            return leaf, leaf, []
        (x, new_x, edits_x), (y, new_y, edits_y) = tree(depth - 1), tree(depth - 1)
        text = f"({x},{y})"
        start_x, start_y = 1, 2 + len(x)
        range_x, range_y = (start_x, start_x + len(x)), (start_y, start_y + len(y))
        inner = [moved(e, start_x) for e in edits_x] + [moved(e, start_y) for e in edits_y]
        outer = Edit(0, len(text), ["<", range_x, "|", range_y, "|", range_x, ">"])
        return text, f"<{new_x}|{new_y}|{new_x}>", [outer, *inner]

    def moved(edit, by):
        parts = [p if isinstance(p, str) else (p[0] + by, p[1] + by) for p in edit.parts]
        return Edit(edit.start + by, edit.end + by, parts)

    for _ in range(100):
        text, expected, edits = tree(5)
        draw.shuffle(edits)
        assert edited(text, edits) == expected


NESTED = {  # each level writes the level inside it twice
    "+": lambda x: f"({x} + 'x')",
    "CONTAINS": lambda x: f"CASE WHEN {x} CONTAINS f.b THEN 'x' END",
    "IN": lambda x: f"({x} IN [f.b, f.c])",
}


@pytest.mark.parametrize("operator", NESTED)
def test_a_nested_query_is_refused_before_its_text_is_too_long(operator):
    expression = "f.a"
    for _ in range(50):
        expression = NESTED[operator](expression)
    query = f"MATCH (f:Feature) RETURN {expression} AS x"
    checked(query, {})
    with pytest.raises(QueryFailed, match=r"more than 100,000 characters .* in a WITH before them"):
        rewritten(query)


def test_the_limit_counts_characters():
    text = "x" * (MAX_LENGTH - 2)
    assert len(edited(text, [insertion(5, "ab")])) == MAX_LENGTH
    with pytest.raises(QueryFailed, match="more than 100,000 characters"):
        edited(text, [insertion(5, "abc")])


@pytest.mark.parametrize("operator", ["CONTAINS f.b", "IN [f.b]", "+ f.b = 'x'"])
def test_many_conditions_are_all_rewritten(operator):
    query = f"MATCH (f:Feature) WHERE {' AND '.join([f'f.a {operator}'] * 400)} RETURN f.id"
    once = rewritten(f"MATCH (f:Feature) WHERE f.a {operator} RETURN f.id")
    condition = once.removeprefix("MATCH (f:Feature) WHERE ").removesuffix(" RETURN f.id")
    assert rewritten(query) == query.replace(f"f.a {operator}", condition)


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (f:N) WHERE f.i IN [1, f.i RETURN f.i",
        "MATCH (f:N RETURN coalesce(f.i, 1), sum(f.i)",
        "MATCH (f:N) RETURN sum(f.i))",
        "MATCH (f:N) RETURN [coalesce(f.i, 1)",
        "MATCH (f:N) RETURN [sum(f.i)",
        "RETURN COUNT { MATCH (f:N)",
        "MATCH (f:N) RETURN coalesce([f.i), 2]",
    ],
)
def test_the_engine_refuses_a_bracket_without_its_counterpart(query):
    connection = engine().Connection(engine().Database(":memory:"))
    connection.execute("CREATE NODE TABLE N (i INT64, PRIMARY KEY (i))")
    check_faults(query)
    assert rewritten(query) == query
    with pytest.raises(RuntimeError, match="Parser exception"):
        connection.execute(query)


def texts(query):
    """Return the number of each name, keyword and value of a query; ``IN`` is rewritten without this word."""
    return Counter(t.text.upper() for t in tokens_of(query) if t.kind != "sign" and t.text != "IN")


def test_a_wrong_query_is_refused_or_rewritten():
    """Words are cut out of a query; what remains is in the rewritten query, which the engine refuses."""
    draw = random.Random(2)
    query = (
        "MATCH (f:Feature {x: 1}) WHERE f.a IN [1, coalesce(f.b, [2]) + 3] AND CASE WHEN f.c CONTAINS 'x' THEN f.d "
        "END OPTIONAL MATCH (f)-[e:E*1..2]-(g) WHERE COUNT { MATCH (g)--(h) WHERE h.x = [1][0] } > 1 "
        "WITH sum(f.x) AS n, f ORDER BY n DESC, f.x LIMIT 3 RETURN any(x IN [1, 2] WHERE x = 1), f.a + f.b"
    )
    words = [token.text for token in tokens_of(query)]
    refused = 0
    for _ in range(300):
        start = draw.randrange(len(words))
        wrong = " ".join([*words[:start], *words[start + draw.randint(1, 4) :]])
        try:
            check_faults(wrong)
        except QueryFailed:
            refused += 1
        else:
            assert texts(wrong) <= texts(rewritten(wrong)), wrong
    assert refused < 200
