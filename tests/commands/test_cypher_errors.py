"""Errors of Cypher state names of the schema, positions in the typed query, and types."""

import pytest

import queries
from atlas.errors import QueryFailed
from atlas.stores.cypher_errors import explained
from atlas.stores.cypher_names import check_names, names_in


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_the_names_of_named_queries_are_in_the_schema(query):
    check_names(query.cypher)
    assert names_in(query.cypher).tables


@pytest.mark.parametrize(
    "cypher",
    [
        "MATCH (f:Feature) RETURN f.id AS id, {a: f.idx} AS m",
        "MATCH (f:Feature) WITH {weight: 1} AS f RETURN f.anything",
        "MATCH (f) WHERE f.anything = 1 RETURN f",
        "MATCH (f:Feature)-[m:MATCHES|CO_ACTIVATES]->(g:Feature) RETURN m.count, m.pearson",
        "MATCH (f:Feature) WHERE (f.idx + 1) * 2 > 3 RETURN [1, 2, 3][1:2] AS x",
        "MATCH (f:Feature) RETURN f.id AS x // a comment: (x:Nothing)",
        "MATCH (f:Feature) WHERE f.id = '(x:Nothing)' RETURN f.id",
        "CALL show_tables() RETURN name",
    ],
)
def test_other_names_are_allowed_outside_labels_types_and_properties(cypher):
    check_names(cypher)


@pytest.mark.parametrize(
    ("cypher", "sentence"),
    [
        ("MATCH (f:Feture) RETURN f", "no label 'Feture'. Nearest: Feature"),
        ("MATCH (:Feature {idd: 3}) RETURN 1", "Feature has no property 'idd'. Nearest: id"),
        ("MATCH (f:`Feature`) RETURN f.topToken", "'topToken'. Nearest: top_token"),
        ("MATCH ()-[m:MATCH]->() RETURN m", "no edge type 'MATCH'. Nearest: MATCHES"),
        ("MATCH ()-[:MATCHES|FIRES]->() RETURN 1", "no edge type 'FIRES'. Nearest: FIRES_ON"),
        ("MATCH (f:MATCHES) RETURN f", "no label 'MATCHES'; it is an edge type"),
        ("MATCH (a:SAE)-[r:READS]->(s) RETURN r.weight", "READS has no property 'weight'. It has none."),
        ("MATCH (f:Feature) WHERE NOT (f)-[:MATCHS]-() RETURN f", "Nearest: MATCHES"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_nearest(cypher, sentence):
    with pytest.raises(QueryFailed) as failure:
        check_names(cypher)
    assert sentence in str(failure.value)


# Messages of kuzu 0.11.3 and Neo4j 5.26.
MESSAGES = [
    (
        "Parser exception: Invalid input <MATCH (f:Feature RETURN>: expected rule oC_SingleQuery "
        "(line: 1, offset: 17)\n...",
        "MATCH (f:Feature RETURN f",
        0,
        [
            "The query failed at line 1, column 18: syntax error near 'RETURN'. The ( at character 7 "
            "is not closed.",
            "  MATCH (f:Feature RETURN f",
            "                   ^",
        ],
    ),
    (
        "Invalid input 'RETRUN': expected ... (line 1, column 27 (offset: 26))\n...",
        "MATCH (f:Feature) RETRUN f",
        8,
        [
            "The query failed at line 1, column 19: syntax error near 'RETRUN'. Nearest: RETURN.",
            "  MATCH (f:Feature) RETRUN f",
            "                    ^",
        ],
    ),
    (
        "Variable `g` not defined (line 1, column 33 (offset: 32))",
        "MATCH (f:Feature) RETURN g.id",
        8,
        ["The query failed: it uses the variable g, which it does not define; it defines f."],
    ),
    (
        'Conversion exception: Cast failed. Could not convert "a" to INT64.',
        "",
        0,
        [
            "The query failed: the text 'a' is used as a whole number. Compare texts with texts, or "
            "convert the value."
        ],
    ),
    (
        "Binder exception: Function LIST_CONTAINS did not receive correct arguments:\nActual:   "
        "(INT64,INT64)\nExpected: (LIST,ANY) -> BOOL\n\n",
        "",
        0,
        ["The query failed: IN cannot take a whole number and a whole number."],
    ),
    (
        "Catalog exception: function TYPE does not exist.",
        "",
        0,
        ["The query failed: there is no function type. The type of an edge r is label(r) here."],
    ),
    (
        "Catalog exception: function FOO does not exist.",
        "",
        0,
        ["The query failed: there is no function foo."],
    ),
    ("unordered_map::at", "", 0, None),
    ("", "", 0, ["The query failed: no reason reported."]),
]


@pytest.mark.parametrize(("message", "cypher", "prefix", "lines"), MESSAGES)
def test_messages_of_engines_are_rephrased(message, cypher, prefix, lines):
    text = explained(message, cypher, prefix=prefix)
    for word in ("exception", "oC_", "unordered", "INT64", "Binder", "offset"):
        assert word not in text
    assert lines is None or text.split("\n") == lines


@pytest.mark.parametrize("cypher", ["", "x", "MATCH (f:Feature)\r\nRETURN f", "é" * 300, "'"])
@pytest.mark.parametrize("position", ["(line: 9, offset: 900)", "(line 1, column 1 (offset: 0))"])
def test_positions_outside_the_query_are_accepted(cypher, position):
    text = explained(f"Invalid input <x> {position}", cypher, prefix=8)
    assert text.startswith("The query failed at line ")
