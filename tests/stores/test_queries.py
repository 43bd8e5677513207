"""Named queries: files and headers, and answers of both engines compared with plain Python."""

import doctest
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from expected_answers import ANSWERS, World
from neo4j_server import wipe
from small_graph import random_graph, small_graph

import queries
from atlas.api import Atlas
from atlas.errors import BadInput, UnknownName
from atlas.named_queries import named
from atlas.progress import SILENT
from atlas.stores.kuzu.store import KuzuStore
from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.store import Neo4jStore
from queries.record import parse


def with_floors(graph):
    """Return a graph in which the first SAE is a floor, and the last has a model with random weights."""
    rows = sorted(graph.tables["SAE"].to_pylist(), key=lambda row: row["name"])
    rows[0]["role"] = "frozen-decoder"
    rows[1]["role"] = "trained"
    rows[-1] |= {"role": "trained", "random_model": True}
    saes = pa.Table.from_pylist(rows, schema=graph.tables["SAE"].schema)
    return replace(graph, tables={**graph.tables, "SAE": saes})


GRAPHS = {  # shuffled, to detect an order that is not total
    "small": lambda: small_graph(shuffled=1),
    "ties": lambda: with_floors(random_graph(1, shuffled=1)),
    "ties again": lambda: with_floors(random_graph(1, shuffled=2)),
}
# In addition to the examples and defaults of the files: other SAEs, absent names, dead features,
# texts that break quoting, and ranges that are open or empty.
SAES = [{"sae": s} for s in ("tiny-a-l1-s1", "tiny-b-l0", "tiny-a-embed", "absent")]
FEATURES = [
    {"feature": f} for f in ("tiny-a-l1-s0/0", "tiny-a-l1-s0/2", "tiny-a-embed/1", "absent/0")
]
# Pairs in reverse (edges are stored in one direction), of two models, never compared, absent.
TWO_SAES = [
    {"sae_a": a, "sae_b": b}
    for a, b in (
        ("tiny-a-l1-s1", "tiny-a-l1-s0"),
        ("tiny-a-l1-wide", "tiny-a-l1-s0"),
        ("tiny-b-l0", "tiny-a-l1-s0"),
        ("tiny-a-l1-s0", "tiny-a-embed"),
        ("tiny-a-l1-s0", "tiny-a-l1-s0"),
        ("absent", "tiny-a-l1-s0"),
    )
]
CONCEPTS = ("gender/female", "kinds/animal", "absent")
MAX_Q = [{"max_q": q} for q in (0.0, 0.02, 0.3, 1.0)] + [
    {"max_q": 1.0, "sae_a": "tiny-a-l1-s0", "sae_b": "tiny-b-l0"}
]
WEIGHTS = [{"by": b} for b in ("count", "cosine", "jaccard", "phi", "lift")]
RUNS = [{"run": r} for r in ("type/active/l2=0.001", "document/activation/l2=0.001", "absent")]
PROBES = [
    *SAES,
    *RUNS,
    *({"site": f"tiny-a/{h}"} for h in ("blocks.1.hook_resid_post", "hook_pos_embed", "absent")),
    {"sae": "tiny-b-l0", "site": "tiny-b/hook_embed"},
    {"sae": "tiny-b-l0"},
]
DELTAS = [{"delta": d} for d in (0.0, 0.25, 0.5)]
RESIDUAL = [
    *({"sae": case["sae_a"], "sae_baseline": case["sae_b"]} for case in TWO_SAES),
    *({"max_q": q} for q in (0.0, 0.3, 1.0)),
    {"sae": "tiny-a-l1-s1", "sae_baseline": "tiny-a-l1-s0", "max_q": 1.0},
]
SPLIT_PAIRS = [
    {"sae": case["sae_a"], "other": case["sae_b"]}
    for case in [
        *TWO_SAES,
        {"sae_a": "tiny-a-l1-s1", "sae_b": "tiny-a-l1-wide"},
        {"sae_a": "tiny-a-l1-s0", "sae_b": "tiny-a-l1-s1"},
    ]
]
CASES = {
    "absorbed_features": SPLIT_PAIRS,
    "beyond_token_features": [
        *SAES,
        *RUNS,
        {"site": "tiny-a/hook_embed"},
        {"sae": "tiny-a-l1-wide"},
    ],
    "bridges": [
        *SAES,
        *({"max_inner_share": m} for m in (0.0, 0.75, 1.0)),
        {"sae": "tiny-a-l1-wide", "max_inner_share": 1.0},
    ],
    "broad_features": [*SAES, {"min_tokens": 0}, {"min_tokens": 101}],
    "busiest_tokens": SAES,
    "children_of_feature": [
        *FEATURES,
        *({"feature": f"tiny-a-l1-s0/{i}"} for i in (1, 3)),
        {"sae": "tiny-a-l1-wide"},
        {"sae": "absent"},
        {"feature": "tiny-a-l1-s1/0"},
    ],
    "communities_of_sae": [*SAES, {"min_size": 1}, {"sae": "tiny-a-l1-wide", "min_size": 2}],
    "concept_counterparts": [
        *TWO_SAES,
        *({"concept": c} for c in CONCEPTS),
        {"sae_a": "tiny-a-l1-s1", "sae_b": "tiny-a-l1-s0", "concept": "kinds/animal"},
    ],
    "concepts_of_feature": [*FEATURES, {"feature": "tiny-a-l1-s1/3"}, {"feature": "tiny-b-l0/1"}],
    "conserved_edges": [*TWO_SAES, *MAX_Q, {"min_count": 1}, {"min_count": 12}],
    "context_features": PROBES,
    "context_features_of_residual": [*RESIDUAL, *RUNS, {"site": "absent"}],
    "contested_counterparts": [*TWO_SAES, {"min_claims": 1}, {"min_claims": 3}],
    "counterpart_chain": [
        dict(zip(("sae_a", "sae_b", "sae_c"), names.split(), strict=True))
        for names in (
            "tiny-a-l1-wide tiny-a-l1-s0 tiny-a-l1-s1",
            "tiny-a-l1-s1 tiny-a-l1-wide tiny-a-l1-s0",
            "tiny-b-l0 tiny-a-l1-s0 tiny-a-l1-s1",
            "tiny-a-l1-s0 tiny-a-l1-s1 tiny-a-l1-s0",
            "tiny-a-l1-s0 tiny-a-l1-s1 absent",
        )
    ],
    "counterpart_of_community": [
        *TWO_SAES,
        *MAX_Q,
        *({"community": c} for c in (1, 2, 9)),
        {"sae_a": "tiny-a-l1-s1", "sae_b": "tiny-a-l1-wide", "max_q": 1.0},
        {"max_token_q": 1.0},
        {"max_token_q": 0.3, "max_q": 1.0},
    ],
    "counterparts_of_feature": [
        *FEATURES,
        {"feature": "tiny-a-l1-s1/3"},
        {"feature": "tiny-a-l1-wide/1"},
        {"feature": "tiny-b-l0/0"},
        {"sae": "tiny-a-l1-wide"},
        {"sae": "absent"},
    ],
    "counterparts_of_sae": [*TWO_SAES, *MAX_Q],
    "dead_features": SAES,
    "drivers_of_feature": [
        *FEATURES,
        *({"feature": f"tiny-a-l1-{i}"} for i in ("s1/0", "wide/3", "wide/4")),
        {"sae": "tiny-a-embed"},
        {"sae": "absent"},
        {"feature": "tiny-a-l1-wide/3", "sae": "tiny-a-l1-s1"},
    ],
    "effect_by_frequency": [{"sae": "tiny-a-l1-s0"}, *SAES],
    "effect_chains": [
        dict(zip(("sae_a", "sae_b", "sae_c"), names.split(), strict=True))
        for names in (
            "tiny-a-l1-s0 tiny-a-l1-s1 tiny-a-l1-wide",
            "tiny-a-embed tiny-a-l1-s0 tiny-a-l1-s1",
            "tiny-a-l1-s0 absent tiny-a-l1-wide",
        )
    ],
    "effects_of_feature": [
        *FEATURES,
        {"feature": "tiny-a-l1-s0/7"},
        {"feature": "tiny-a-l1-s1/1"},
        {"feature": "tiny-a-l1-s0/7", "sae": "tiny-a-l1-wide"},
        {"sae": "absent"},
    ],
    "community_of_feature": FEATURES,
    "examples_of_feature": FEATURES,
    "examples_with_text": [
        {"text": t} for t in ("A TIME", 'hi"', " 'GIRL'", "CAFÉ 😀", "\n", "\\", "absent")
    ]
    + [{"text": " t", "sae": "tiny-a-l1-s1"}, {"text": " ", "sae": "absent"}],
    "feature_card": FEATURES,
    "features_by_first_site": [*SAES, *RUNS, *DELTAS],
    "features_by_token_part": [{"text": t} for t in ("TH", "'", '"', "\\", "É", "😀", "absent")]
    + [{"text": "i", "sae": "tiny-b-l0"}],
    "features_by_token_start": [{"text": t} for t in ("I", " T", " t", "'", "absent")]
    + [{"text": " ", "sae": "tiny-a-l1-s1"}],
    "features_by_logit_agreement": SAES,
    "features_described_by_tokens": SAES,
    "features_beyond_tokens": SAES,
    "features_that_promote_token": [{"token": t} for t in ("'s", ' "', "\n", "girl", "absent")]
    + [{"token": " the", "sae": "tiny-b-l0"}],
    "promoted_tokens": FEATURES,
    "suppressed_tokens": FEATURES,
    "features_in_frequency_range": [
        {"low": 0.0, "high": 1.0},
        {"low": 0.03, "high": 0.09},
        {"low": 0.5, "high": 0.1},
        *SAES,
    ],
    "features_of_community": [*SAES, *({"community": c} for c in (1, 2, 9))],
    "features_of_concept": [
        *({"concept": c} for c in CONCEPTS),
        {"sae": "tiny-a-l1-s1"},
        {"sae": "absent"},
    ],
    "features_of_token": [{"token": t} for t in ("'s", ' "', "\n", " 😀", "\\", "girl")]
    + [{"token": " girl", "sae": "tiny-b-l0"}],
    "features_of_tokens": [{"tokens": t} for t in ([], [" girl"], [" girl", "'s", " 😀", "absent"])]
    + [{"tokens": [" girl", " the"], "sae": "tiny-a-l1-s1"}]
    + [{"min_active": n} for n in (0, 1, 90)],
    "features_without_counterpart": [
        {"sae": case["sae_a"], "other": case["sae_b"]} for case in TWO_SAES
    ]
    + [{"max_q": q} for q in (0.0, 0.3, 1.0)]
    + [
        {"sae": "tiny-a-l1-s0", "other": o, "max_q": q}
        for o in ("tiny-b-l0", "tiny-a-l1-wide")
        for q in (0.375, 1.0)
    ],
    "first_site_of_feature": [
        *FEATURES,
        *RUNS,
        *DELTAS,
        {"feature": "tiny-a-l1-s0/5", "delta": 0.5},
        *({"feature": f"tiny-a-l1-s0/{i}"} for i in (1, 3, 4)),
        {"feature": "tiny-a-l1-s1/1"},
    ],
    "first_sites_of_sae": [*SAES, *RUNS, *DELTAS],
    "frequency_histogram": SAES,
    "frequent_features_without_effect": [
        {"sae": "tiny-a-l1-s0"},
        *SAES,
        *({"sae": "tiny-a-l1-s0", "min_q": q} for q in (0.0, 1.0)),
        *({"sae": "tiny-a-l1-s0", "min_frequency": f} for f in (0.0, 0.05)),
    ],
    "high_lift_pairs": [*SAES, {"min_lift": 0.0, "max_joint": 100}, {"max_joint": 1}],
    "hubs": [*SAES, {"min_degree": 0}, {"min_degree": 3}, {"sae": "tiny-b-l0", "min_degree": 0}],
    "least_frequent_features": SAES,
    "least_predictable_features": PROBES,
    "lookup_features": PROBES,
    "matches_beyond_token": [*TWO_SAES, *MAX_Q],
    "matches_of_shared_token": [*TWO_SAES, *MAX_Q],
    "most_frequent_features": SAES,
    "most_predictable_features": PROBES,
    "most_separating_features": SAES,
    "most_split_features": SPLIT_PAIRS,
    "narrow_features": [*SAES, {"min_degree": 0}, {"min_degree": 3}],
    "neighbours_of_feature": [
        *FEATURES,
        *WEIGHTS,
        {"feature": "tiny-a-l1-s0/0"},
        {"min_count": 5},
        {"min_count": 41},
    ],
    "neighbours_of_two_features": [
        {"feature_a": "tiny-a-l1-s0/0"},
        {"feature_b": "tiny-a-l1-s0/3"},
        {"feature_b": "tiny-a-l1-s0/7"},
        {"feature_b": "tiny-a-l1-s1/3"},
        {"feature_b": "absent/0"},
    ],
    "parents_of_feature": [
        *FEATURES,
        *({"feature": f"tiny-a-l1-wide/{i}"} for i in (0, 3, 4)),
        {"sae": "tiny-a-l1-s0"},
        {"sae": "absent"},
        {"feature": "tiny-a-l1-s0/1"},
    ],
    "predictable_without_counterpart": [
        *RUNS,
        *({"max_q": q} for q in (0.0, 0.3, 1.0)),
        *({"sae": case["sae_a"], "other": case["sae_b"]} for case in TWO_SAES),
        {"other": "tiny-b-l0", "max_q": 1.0},
        {"other": "tiny-a-l1-wide", "max_q": 1.0},
        {"sae": "tiny-b-l0", "other": "tiny-a-l1-s0", "site": "tiny-b/hook_embed", "max_q": 1.0},
        {"site": "tiny-a/blocks.1.hook_resid_post"},
        {"site": "absent"},
    ],
    "probes_of_feature": [
        *FEATURES,
        {"feature": "tiny-a-l1-s0/0"},
        {"feature": "tiny-b-l0/1"},
    ],
    "residual_features_with_counterpart": RESIDUAL,
    "residual_features_without_counterpart": [*RESIDUAL, *RUNS, {"site": "absent"}],
    "retained_concepts": [{"concept": c} for c in CONCEPTS],
    "sae_summary": SAES,
    "saes_at_site": [{"site": "tiny-b/blocks.0.hook_resid_post"}, {"site": "absent"}],
    "saes_of_model": [{"model": "tiny-b"}, {"model": "absent"}],
    "sampled_examples_of_feature": FEATURES,
    "score_by_frequency": PROBES,
    "score_by_layer": [*RUNS, {"model": "tiny-b"}, {"model": "absent"}],
    "shared_tokens": [
        {"sae_b": "tiny-a-l1-s0"},
        {"sae_a": "tiny-a-l1-s1", "sae_b": "tiny-a-l1-s0"},
        {"sae_b": "tiny-b-l0"},
    ],
    "similar_features": [*FEATURES, {"sae": "tiny-a-l1-s1"}, {"sae": "absent"}],
    "single_token_features": [*SAES, {"min_tokens": 0}],
    "splitting_chains": [
        dict(zip(("sae_a", "sae_b", "sae_c"), names.split(), strict=True))
        for names in (
            "tiny-a-l1-s0 tiny-a-l1-s1 tiny-a-l1-wide",
            "tiny-a-l1-wide tiny-a-l1-s0 tiny-a-l1-s1",
            "tiny-a-l1-s0 tiny-a-l1-s0 tiny-a-l1-s0",
            "tiny-a-l1-s1 absent tiny-a-l1-wide",
        )
    ],
    "strongest_effects": [
        *SAES,
        {"sae": "tiny-a-l1-s0"},
        *({"sae": "tiny-a-l1-s0", "other": t} for t in ("tiny-a-l1-wide", "tiny-a-l1-s1")),
    ],
    "strongest_edges": [*SAES, *WEIGHTS, {"min_count": 1}, {"min_count": 1, "by": "phi"}],
    "strongest_features": SAES,
    "token_detectors": [
        *SAES,
        {"min_share": 0.0, "min_rate": 0.8},
        {"min_share": 0.0, "min_rate": 0.0},
    ],
    "tokens_of_feature": FEATURES,
    "tokens_of_two_features": [
        {"feature_a": "tiny-a-l1-s0/0", "feature_b": "tiny-b-l0/0"},
        {"feature_b": "tiny-a-l1-s1/3"},
        {"feature_b": "tiny-a-l1-s0/7"},
        {"feature_b": "absent/0"},
    ],
    "verdicts_of_sae": SAES,
    "transcoder_quality": [{"model": m} for m in ("tiny-b", "tiny-random", "absent")],
    "unconserved_edges": [*TWO_SAES, *MAX_Q, {"min_count": 1}, {"min_count": 4}],
}

PYTHON = {"string": str, "int64": int, "double": float, "bool": bool}
BOTH = [pytest.param(("kuzu", g), id=f"kuzu, {g}") for g in GRAPHS] + [
    pytest.param(("neo4j", g), id=f"neo4j, {g}", marks=pytest.mark.neo4j) for g in GRAPHS
]


only_small = pytest.mark.parametrize(
    "loaded", [p for p in BOTH if p.values[0][1] == "small"], indirect=True
)


@pytest.fixture(scope="module", params=BOTH)
def loaded(request, tmp_path_factory):
    """Return a store with one of the graphs, and the graph as lists."""
    engine, name = request.param
    graph = GRAPHS[name]()
    if engine == "kuzu":
        store = KuzuStore.open(tmp_path_factory.mktemp("kuzu") / "g.kuzu", graph=lambda: graph)
    else:
        server = request.getfixturevalue("neo4j_server")
        wipe(server)
        store = Neo4jStore(Bolt(server.url, username=server.username, password=server.password))
        store.sync(store.plan(graph), SILENT)
    yield store, World(graph)
    store.close()


def required(query):
    return {p.name: p.example for p in query.parameters if p.required}


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def cases(query):
    """Yield the parameters of each run of a query: one changed at a time, and some row limits."""
    yield {}
    yield from CASES.get(query.name, [])
    if any(p.name == "limit" for p in query.parameters):
        yield from ({"limit": n} for n in (0, 2, 1000))


@pytest.mark.parametrize("name", queries.names())
def test_answers_are_those_of_plain_python(loaded, name):
    store, world = loaded
    query = queries.get(name)
    for case in cases(query):
        parameters = query.fill({**required(query), **case})
        table = store.query(query.cypher, parameters)
        assert table.column_names == [c.name for c in query.columns], case
        assert rows(table) == ANSWERS[name](world, **parameters), case
        for column in query.columns:
            check_type(column, [v for v in table[column.name].to_pylist() if v is not None])


def check_type(column, values):
    """Check that every value has the type that the header states."""
    if column.type.endswith("[]"):
        assert all(type(v) is list for v in values), column
        values = [item for v in values for item in v]
    assert {type(v) for v in values} <= {PYTHON[column.type.removesuffix("[]")]}, column


@only_small
@pytest.mark.parametrize("name", queries.names())
def test_the_text_of_the_file_answers_for_its_examples(loaded, name):
    """The text of the file, which users paste, answers as the parsed query with the examples.

    One graph suffices: the test above compares the parsed query with plain Python on every graph.
    """
    store, _ = loaded
    query = queries.get(name)
    assert rows(store.query(query.text, {})) == rows(
        store.query(query.cypher, query.fill(required(query)))
    )


def ask(loaded, name, **parameters):
    query = queries.get(name)
    return rows(loaded[0].query(query.cypher, query.fill({**required(query), **parameters})))


@only_small
def test_answers_checked_by_hand(loaded):
    assert ask(loaded, "saes") == [
        ("tiny-a-embed", "tiny-a", "hook_embed", "standard", 2, *[None] * 6),
        (
            "tiny-a-l1-s0",
            "tiny-a",
            "blocks.1.hook_resid_post",
            "topk",
            8,
            None,
            None,
            1000,
            0.503,
            0.12,
            0.125,
        ),
        (
            "tiny-a-l1-s1",
            "tiny-a",
            "blocks.1.hook_resid_post",
            "topk",
            4,
            None,
            None,
            1000,
            0.24,
            0.13,
            0.25,
        ),
        (
            "tiny-a-l1-wide",
            "tiny-a",
            "blocks.1.hook_resid_post",
            "topk",
            5,
            None,
            None,
            1000,
            0.285,
            0.11,
            0.2,
        ),
        (
            "tiny-b-l0",
            "tiny-b",
            "blocks.0.hook_resid_post",
            "jumprelu",
            3,
            None,
            None,
            500,
            0.156,
            0.05,
            0.0,
        ),
    ]
    assert ask(loaded, "tokens_of_feature") == [
        (0, " he", 30, 30 / 90, 0.05, 0.6, 2.5),
        (1, " she", 30, 30 / 90, 0.06, 0.5, 2.0),
        (2, " girl", 10, 10 / 90, 0.04, 0.25, 1.5),
        (3, " They", 8, 8 / 90, 0.01, 0.8, 3.0),
    ]
    assert ask(loaded, "features_of_token") == [
        ("tiny-b-l0/0", 1.0, 1.0, 1.0, 20, 0, 1.0),
        ("tiny-a-l1-s0/0", 0.75, 1.0, 0.75, 30, 0, 2.0),
        ("tiny-a-l1-s1/1", 0.25, 0.5, 0.5, 20, 0, 3.0),
        ("tiny-a-l1-s0/7", pytest.approx(2.5 / 90), 10 / 90, 0.25, 10, 2, 1.5),
    ]
    assert ask(loaded, "features_of_tokens", tokens=[" girl", " he"]) == [
        ("tiny-a-l1-s0/0", 1.0, 0.04, 0.75, 1, 0.03, " girl", False),
        ("tiny-b-l0/0", 1.0, 0.04, 1.0, 1, 0.04, " girl", False),
        ("tiny-a-l1-s0/1", 0.5, 0.05, 0.8, 1, 0.08, " he", False),
        ("tiny-a-l1-s1/1", 0.5, 0.04, 0.5, 1, 0.04, " girl", False),
        ("tiny-a-l1-s1/3", 0.5, 0.05, 1.0, 1, 0.1, " he", False),
        ("tiny-a-l1-s0/7", 0.444444, 0.09, 0.444444, 2, 0.09, " he", False),
    ]
    assert ask(loaded, "dead_share_by_sae") == [
        ("tiny-a-l1-s1", 0.25, 1, 4, 1000),
        ("tiny-a-l1-wide", 0.2, 1, 5, 1000),
        ("tiny-a-l1-s0", 0.125, 1, 8, 1000),
        ("tiny-b-l0", 0.0, 0, 3, 500),
    ]
    assert ask(loaded, "frequency_histogram") == [
        (0, "0", 1, 0.125),
        (4, "0.001 - 0.01", 2, 0.25),
        (5, "0.01 - 0.1", 3, 0.375),
        (6, "0.1 - 1", 2, 0.25),
    ]
    assert ask(loaded, "similar_features") == [
        ("tiny-a-l1-s0/1", 0.5, 2, 0.08, " he"),
        ("tiny-a-l1-s1/1", 0.5, 2, 0.04, " girl"),
        ("tiny-a-l1-s1/3", 0.5, 2, 0.1, " he"),
        ("tiny-a-l1-s0/0", 0.25, 1, 0.03, " girl"),
    ]
    (card,) = ask(loaded, "feature_card", feature="tiny-a-l1-s0/2")
    assert card[4:] == (0.0, 0, None, None, None, True, [], None)


@only_small
def test_answers_on_edges_checked_by_hand(loaded):
    s0, s1 = "tiny-a-l1-s0/", "tiny-a-l1-s1/"
    assert [r[:4] for r in ask(loaded, "neighbours_of_feature", limit=3)] == [
        (s0 + "4", "ing", 1.0, 1),
        (s0 + "0", " girl", 0.5, 12),
        (s0 + "1", " he", 0.5, 40),
    ]
    by_phi = [r[0] for r in ask(loaded, "neighbours_of_feature", by="phi")]
    assert by_phi == [s0 + i for i in "014635"]  # 5 has none
    assert ask(loaded, "high_lift_pairs", limit=1) == [
        (s0 + "4", "ing", s0 + "6", " 😀", 500.0, 1, 0.002, 1, 2, 0.75)
    ]
    assert ask(loaded, "neighbours_of_two_features") == [
        (s0 + "0", " girl", 0.5, 0.75, 12, 12),
        (s0 + "3", " the", 0.25, 0.125, 9, 10),
    ]
    assert [r[:3] for r in ask(loaded, "tokens_of_two_features")] == [(" he", 0, 0), (" she", 1, 1)]
    assert [r[0] for r in ask(loaded, "counterparts_of_sae")] == [s0 + i for i in "370"]
    assert [(r[0], r[3]) for r in ask(loaded, "features_without_counterpart")] == [
        (s0 + "5", "not one to one"),
        (s0 + "1", "not one to one"),
        (s0 + "6", "no match"),
        (s0 + "4", "no match"),
    ]
    without = ask(loaded, "features_without_counterpart", other="tiny-a-l1-wide")
    assert [(r[0], r[3]) for r in without if r[4]] == [
        (s0 + "1", "not one to one"),
        (s0 + "6", "by chance"),
    ]
    without = ask(loaded, "features_without_counterpart", other="tiny-b-l0")
    assert [r[3] for r in without if r[0] == s0 + "0"] == ["not tested"]
    assert ask(loaded, "features_without_counterpart", other="tiny-a-embed") == []  # not compared
    assert [(r[0], r[2], r[3], r[9]) for r in ask(loaded, "contested_counterparts")] == [
        (s1 + "0", 2, s0 + "3", True),
        (s1 + "0", 2, s0 + "5", False),
        (s1 + "3", 2, s0 + "7", True),
        (s1 + "3", 2, s0 + "1", False),
    ]
    assert [r[0] for r in ask(loaded, "matches_beyond_token")] == [s0 + "7"]
    assert [r[0] for r in ask(loaded, "matches_of_shared_token")] == [s0 + "0"]
    assert ask(loaded, "conserved_edges") == [
        (s0 + "0", s0 + "7", [" girl", " he"], s1 + "1", s1 + "3", 0.5, 0.625, 12, 11),
        (s0 + "3", s0 + "7", [" the", " he"], s1 + "0", s1 + "3", 0.25, 0.125, 9, 8),
    ]
    assert [r[:5] for r in ask(loaded, "unconserved_edges")] == [
        (s0 + "0", s0 + "3", [" girl", " the"], s1 + "1", s1 + "0")
    ]
    wide = "tiny-a-l1-wide/"
    assert [(r[0], *r[2:4], *r[5:7]) for r in ask(loaded, "counterpart_chain")] == [
        (s0 + "3", s1 + "0", wide + "0", wide + "0", True),
        (s0 + "7", s1 + "3", wide + "4", wide + "1", False),
        (s0 + "0", s1 + "1", wide + "3", None, False),
    ]


@only_small
def test_answers_on_communities_checked_by_hand(loaded):
    s0 = "tiny-a-l1-s0/"
    assert [(*r[:3], r[7]) for r in ask(loaded, "communities_of_sae", min_size=1)] == [
        (0, 4, [" the", '"'], 6),
        (1, 2, [], 1),
        (2, 1, [" the", '"'], 0),
    ]
    assert ask(loaded, "communities_of_sae", sae="tiny-b-l0", min_size=1) == []  # no edges
    assert [(r[0], *r[3:6]) for r in ask(loaded, "features_of_community")] == [
        (s0 + "0", 3, 3, 1.0),
        (s0 + "1", 3, 3, 1.0),
        (s0 + "3", 3, 3, 1.0),
        (s0 + "7", 3, 6, 1.25 / 2.75),
    ]
    # 6 partners where nothing is expected or known come after 3 of 2, and before 3 of 0.
    assert [(r[0], r[2]) for r in ask(loaded, "hubs", min_degree=3)] == [
        (s0 + "0", 1.5),
        (s0 + "1", 0.75),
        (s0 + "7", None),
        (s0 + "3", None),
    ]
    assert [(r[0], r[3], r[8]) for r in ask(loaded, "bridges")] == [
        (s0 + "5", 0.0, 1),
        (s0 + "4", 0.5, 1),
        (s0 + "7", 1.25 / 2.75, 2),
    ]
    # The counterparts of 0, 3 and 7 are 1, 0 and 3: two in {1, 3}, one in {0}.
    found = ask(loaded, "counterpart_of_community", max_token_q=1.0)
    assert [r[:1] + r[2:] for r in found] == [
        (0, 2, 2, 2 / 3, 2 / 3, 1.0, 2 / 3),
        (1, 1, 1, 1 / 3, 1 / 3, 1.0, 1 / 3),
    ]
    assert ask(loaded, "counterpart_of_community", community=1) == []
    assert [r[0] for r in ask(loaded, "narrow_features", min_degree=3)] == [s0 + i for i in "0137"]


@only_small
def test_answers_on_transcoders_checked_by_hand(loaded):
    found = ask(loaded, "transcoder_quality")
    assert [(r[0], r[2], r[4].split("/")[0], r[6], r[12]) for r in found] == [
        (None, 0, "closed form", 0.75, 0.0),
        (None, 1, "adam", 0.375, -0.375),
        (None, 1, "closed form", 0.5, -0.25),
        (0, 1, "closed form", 0.875, 0.125),
        (1, None, "closed form", None, None),
        (1, 1, "closed form", 1.0, 0.25),
    ]
    (alone,) = ask(loaded, "transcoder_quality", model="tiny-random")  # no SAE reads it
    assert (alone[1], alone[6]) == ("tiny-random/hook_embed", 0.0625)


@only_small
def test_answers_on_probes_checked_by_hand(loaded):
    s0, s1, embedding = "tiny-a-l1-s0/", "tiny-a-l1-s1/", "tiny-a/hook_embed"
    block = "tiny-a/blocks.{}.hook_resid_{}".format
    # The other model's embedding and a site of this one are read by no SAE.
    assert [(r[0], r[4]) for r in ask(loaded, "sites")] == [
        (embedding, 1),
        (block(1, "post"), 3),
        (block(0, "post").replace("-a/", "-b/"), 1),
    ]
    document, by_type, amount = (
        f"{r}/l2=0.001" for r in ("document/active", "type/active", "document/activation")
    )
    assert [(r[0], r[2], r[4], r[11], r[13]) for r in ask(loaded, "probes_of_feature")] == [
        (embedding, amount, None, 0.25, None),
        (embedding, document, 0.75, None, "token"),
        (embedding, by_type, 0.75, None, "token"),
        ("tiny-a/hook_pos_embed", document, 0.75, None, "undecided"),
        (block(1, "post"), document, 0.75, None, "undecided"),
    ]
    assert [r[0] for r in ask(loaded, "most_predictable_features")] == [s0 + i for i in "3067145"]
    assert [r[0] for r in ask(loaded, "least_predictable_features")] == [s0 + i for i in "1457063"]
    assert ask(loaded, "least_predictable_features", run=amount) == []
    assert [r[2:] for r in ask(loaded, "verdicts_of_sae", sae="tiny-a-l1-s0")][:3] == [
        (amount, None, None, None, 2, None),
        (document, "token", "linear", None, 2, 0.9375),
        (document, "token", "lookup", None, 2, 0.8125),
    ]
    assert [(r[0], r[4]) for r in ask(loaded, "context_features")] == [
        (s0 + "1", None),
        (s0 + "4", "position"),
        (s0 + "5", "bigram"),
    ]
    assert [(r[0], r[4]) for r in ask(loaded, "lookup_features")] == [
        (s0 + "0", 0.125),
        (s0 + "7", 0.125),
    ]
    assert [(r[0], r[5]) for r in ask(loaded, "beyond_token_features")] == [
        (s0 + "1", 0.3125),
        (s0 + "4", 0.1875),
        (s0 + "5", 0.1875),
    ]
    assert [(r[0], r[4], r[6]) for r in ask(loaded, "predictable_without_counterpart")] == [
        (s0 + "3", s1 + "0", "not predictable"),
        (s0 + "6", None, "no counterpart"),
        (s0 + "7", s1 + "3", "not probed"),
    ]
    assert ask(loaded, "score_by_frequency") == [
        (4, "0.001 - 0.01", 2, 0.6875, 0.875, 1, 0, 1, 0),
        (5, "0.01 - 0.1", 3, 0.708333, 0.875, 2, 0, 1, 0),
        (6, "0.1 - 1", 2, 0.75, 0.875, 1, 0, 1, 0),
    ]
    assert [r[:6] for r in ask(loaded, "score_by_layer")][-3:] == [
        (1, "tiny-a-l1-s0", 1, block(1, "post"), 5, 0.95),
        (1, "tiny-a-l1-s1", None, embedding, 2, 0.75),
        (1, "tiny-a-l1-s1", 1, block(1, "post"), 1, 0.875),
    ]
    # The input of a block precedes its layers, independent of the names.
    assert [(r[0], r[2]) for r in ask(loaded, "first_sites_of_sae")] == [
        (s0 + "7", embedding),
        (s0 + "0", block(0, "pre")),
        *((s0 + i, block(1, "post")) for i in "145"),
    ]
    assert ask(loaded, "first_site_of_feature", feature=s0 + "3") == []  # probed at one site
    assert ask(loaded, "features_by_first_site", delta=0.125) == [
        (embedding, None, 2, 0.8125, 0.875),
        (block(1, "post"), 1, 3, 1.0, 1.0),
    ]


# Requests without an answer

S0, S1, EMBED, B = "tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-embed", "tiny-b-l0"
COMPARING = [q for q in queries.every() if q.matched]


@only_small
@pytest.mark.parametrize(
    ("name", "parameter"),
    [(q.name, p.name) for q in queries.every() for p in q.parameters if p.names],
)
def test_an_unknown_name_is_refused(loaded, name, parameter):
    """Except the site of a query that has rows for every site."""
    if (name, parameter) == ("residual_features_without_counterpart", "site"):
        return
    query = queries.get(name)
    (kind,) = (p.names for p in query.parameters if p.name == parameter)
    for absent in ("absent", f"{S0}/999") if kind == "feature" else ("absent",):
        with pytest.raises(
            UnknownName, match=r"^No (SAE|feature|site|model|concept) is named"
        ) as caught:
            Atlas("x", store=loaded[0]).ask(name, **{**required(query), parameter: absent})
        assert caught.value.requested == absent
        assert caught.value.exit_code == 2


@only_small
@pytest.mark.parametrize("query", COMPARING, ids=lambda q: q.name)
def test_saes_that_were_never_matched_are_an_error(loaded, query):
    atlas = Atlas("x", store=loaded[0])
    assert atlas.ask(query.name, **required(query)).num_rows
    for one, other in query.matched:
        sae = S0 if one == "feature" else required(query)[one]
        with pytest.raises(BadInput, match="was never matched with") as caught:
            atlas.ask(query.name, **{**required(query), other: EMBED})
        message = str(caught.value)
        assert f"{sae} was never matched with {EMBED}" in message
        assert f"`atlas match {sae} {EMBED}`" in message
        with pytest.raises(BadInput, match=f"{sae} is named twice"):
            atlas.ask(query.name, **{**required(query), other: sae})


@only_small
def test_matched_saes_may_have_an_empty_answer(loaded):
    atlas = Atlas("x", store=loaded[0])
    for sae_a, sae_b in ((S0, B), (B, S0)):  # their edge is stored in one direction
        assert not atlas.ask("conserved_edges", sae_a=sae_a, sae_b=sae_b).num_rows
    assert not atlas.ask("features_without_counterpart", sae=S0, other=S1, limit=0).num_rows
    assert not atlas.ask("counterparts_of_feature", feature=f"{S0}/2").num_rows  # dead
    with pytest.raises(BadInput, match=f"{EMBED} was never matched with another SAE"):
        atlas.ask("counterparts_of_feature", feature=f"{EMBED}/0")


# The files themselves


def patterns(cypher):
    """Yield the node patterns of each MATCH as (variable, label), in order."""
    for path in re.findall(r"MATCH (\(.*\))", cypher):
        yield [m.groups() for m in re.finditer(r"\((\w+)(?::(\w+))?(?: \{[^}]*\})?\)", path)]


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_everything_is_reached_through_features_and_saes(query):
    """On a server, only these two labels distinguish shown rows from staged ones.

    A path may continue from a node that an earlier path reached. Maps between sites need no SAE,
    because SAEs share them and a push updates them directly.
    """
    labels = {}
    for path in patterns(query.cypher):
        goes_on = path[0][0] in labels
        for variable, label in path:
            labels[variable] = labels.get(variable) or label
        assert all(labels[variable] for variable, _ in path), path
        through = {"Feature", "SAE"} & {labels[variable] for variable, _ in path}
        assert through or goes_on or "[e:MAPS_TO]" in query.cypher, path
    assert labels


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_headers_declare_names_and_matches(query):
    """Headers declare the kind of each name, and the matches that an answer uses."""
    kinds = {
        "SAE": "SAE",
        "Feature": "feature",
        "Site": "site",
        "Model": "model",
        "Concept": "concept",
    }
    names = {p.name: p.names for p in query.parameters}
    for label, word in re.findall(r":(\w+) \{(?:id|name): \$(\w+)\}", query.cypher):
        assert names[word] == kinds[label], word
    for word, kind in names.items():
        is_name = re.fullmatch(r"(sae|other|feature|site|model|concept)(_\w+)?", word)
        assert bool(kind) == bool(is_name), word
    assert bool(query.matched) == ("MATCHES" in query.cypher)


def test_every_query_has_an_expected_answer():
    assert set(ANSWERS) == set(queries.names())
    assert set(CASES) <= set(queries.names())
    assert len(queries.names()) >= 16
    assert queries.names() == sorted(queries.names())


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_headers_are_complete(query):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", query.name)
    assert query.title[0].isupper()
    assert query.question.endswith("?")
    assert all(line == line.rstrip() and len(line) <= 100 for line in query.text.splitlines())
    assert set(re.findall(r"\$(\w+)", query.cypher)) == {p.name for p in query.parameters}
    assert "/*" not in query.cypher
    assert "//" not in query.cypher
    assert ";" not in query.cypher
    # kuzu returns wrong rows for CASE of a bare boolean; write `= true`.
    assert not re.search(r"CASE WHEN (NOT )?[a-z][\w.]* THEN", query.cypher)
    last = query.cypher[query.cypher.rindex("RETURN") :]
    assert "\nORDER BY " in last
    returned = re.findall(r"\bAS (\w+)", last.split("ORDER BY")[0])
    assert set(returned) <= {c.name for c in query.columns}
    for thing in (*query.parameters, *query.columns):
        assert thing.meaning.strip()
    for p in query.parameters:
        assert p.value(p.example) == p.example


MEANING_OF_NULL = r"\bnull(, as below)?:|\bnull (if|for|at|where|as|without)\b|if any"


@pytest.mark.parametrize("query", queries.every(), ids=lambda q: q.name)
def test_each_column_that_can_be_null_states_what_null_means(query):
    rows = ANSWERS[query.name](
        World(small_graph()), **{p.name: p.example for p in query.parameters}
    )
    for i, column in enumerate(query.columns):
        if any(tuple(row)[i] is None for row in rows):
            assert re.search(MEANING_OF_NULL, column.meaning), column


def test_the_docstring_runs_and_shows_a_file_that_parses():
    assert doctest.testmod(queries).failed == 0
    shown = re.search(r"::\n\n(.*?)\n\nA parameter", queries.__doc__, re.DOTALL)[1]
    text = "\n".join(line.removeprefix("    ") for line in shown.splitlines())
    assert [p.name for p in parse("shown", text).parameters] == ["feature", "limit"]


GOOD = """\
// title: T
// question: Q?
// param sae (string, such as 'a'): an SAE
// param on (bool, default true): whether
// column x (string): it
MATCH (s:SAE {name: 'a' /* $sae */}) WHERE true /* $on */ RETURN s.name AS x ORDER BY x
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("// title: T\n", ""), "the header has no title"),
        (("// question: Q?\n", ""), "the header has no question"),
        (("(string, such as 'a')", "(text, such as 'a')"), "cannot be parsed: // param sae"),
        (("// column x (string): it", "// column x: it"), "cannot be parsed: // column x: it"),
        (("'a' /* $sae */", "'a'"), "marks"),
        (("'a' /* $sae */", "'b' /* $sae */"), "marks"),
        (("// param on (bool, default true): whether\n", ""), "marks"),
        (
            ("// column x", "// matched: sae, on\n// column x"),
            "name an SAE or a feature; got on, sae",
        ),
        (("// column x", "// matched: sae\n// column x"), "cannot be parsed: // matched: sae"),
        (("default true)", "default true, or false)"), "cannot be parsed: // param on"),
    ],
)
def test_a_faulty_file_is_refused(change, message):
    assert parse("good", GOOD).cypher == (
        "MATCH (s:SAE {name: $sae}) WHERE $on RETURN s.name AS x ORDER BY x\n"
    )
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse("bad", GOOD.replace(*change))
    assert str(caught.value).startswith("bad.cypher: ")


# Names and values


def test_an_unknown_name_is_reported_with_the_valid_ones():
    with pytest.raises(queries.UnknownQuery, match="No query is named 'feature_crad'") as caught:
        queries.get("feature_crad")
    assert isinstance(caught.value, LookupError)
    assert caught.value.name == "feature_crad"
    assert caught.value.known == queries.names()


def test_fill_adds_defaults_and_parses_texts():
    query = queries.get("token_detectors")
    assert query.fill({"sae": "a", "min_share": "0.25", "min_rate": 1, "limit": "5"}) == {
        "sae": "a",
        "min_share": 0.25,
        "min_rate": 1.0,
        "limit": 5,
    }
    assert query.fill({"sae": "a"})["limit"] == 20
    tokens = queries.get("features_of_tokens")
    assert tokens.fill({"tokens": " he, she"})["tokens"] == [" he", " she"]
    assert tokens.fill({"tokens": '[" he", ","]'})["tokens"] == [" he", ","]
    assert tokens.fill({"tokens": (" he",)})["tokens"] == [" he"]
    assert parse("good", GOOD).fill({"sae": "b", "on": "false"}) == {"sae": "b", "on": False}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "The query 'token_detectors' needs a value for: sae (such as 'tiny-a-l1-s0')."),
        (
            {"sea": "a"},
            "The query 'token_detectors' has no parameter 'sea'; it has: sae (such as 'tiny-a-l1-s0'), "
            "min_share (default 0.5), min_rate (default 0.5), limit (default 20).",
        ),
        ({"sae": ""}, "The parameter sae (such as 'tiny-a-l1-s0') is empty; pass a value."),
        ({"sae": 7}, "The parameter sae is 7; expected a text, such as 'tiny-a-l1-s0'."),
        ({"sae": None}, "sae is None; expected"),
        ({"sae": "a", "limit": "many"}, "limit is 'many'; expected a whole number, such as 20."),
        ({"sae": "a", "limit": 2.0}, "limit is 2.0; expected"),
        ({"sae": "a", "limit": -3}, "limit is -3; expected 0 or more rows."),
        ({"sae": "a", "limit": True}, "limit is True; expected"),
        ({"sae": "a", "limit": 2**63}, f"limit is {2**63}; expected"),
        ({"sae": "a", "min_rate": "nan"}, "min_rate is 'nan'; expected a number, such as 0.5."),
        ({"sae": "a", "min_rate": True}, "min_rate is True; expected"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(queries.BadParameters, match=re.escape(message)) as caught:
        queries.get("token_detectors").fill(values)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["neighbours_of_feature", "strongest_edges"])
def test_other_values_than_the_choices_are_refused(name):
    query = queries.get(name)
    (by,) = (p for p in query.parameters if p.name == "by")
    choices = ("weight", "count", "cosine", "jaccard", "phi", "lift")
    assert by.choices == choices
    assert set(re.findall(r"WHEN '(\w+)' THEN", query.cypher)) == set(choices)
    for choice in choices:
        assert query.fill({**required(query), "by": choice})["by"] == choice
    message = (
        "The parameter by is 'wight'; expected one of 'weight', 'count', 'cosine', 'jaccard', 'phi', "
        "'lift'."
    )
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        named(name, {**required(query), "by": "wight"})
    assert caught.value.exit_code == 2


def test_wrong_lists_and_booleans_are_refused():
    tokens = queries.get("features_of_tokens")
    for value in (7, [1], '["a"', '["a", 1]', ["a", None]):
        with pytest.raises(queries.BadParameters, match="expected a list of texts"):
            tokens.fill({"tokens": value})
    with pytest.raises(queries.BadParameters, match="on is 'maybe'; expected true or false"):
        parse("good", GOOD).fill({"sae": "a", "on": "maybe"})
    with pytest.raises(queries.BadParameters, match="has no parameter 'x'; it has none"):
        queries.get("saes").fill({"x": 1})
