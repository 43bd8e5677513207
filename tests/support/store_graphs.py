"""Small valid graphs for tests of stores, made from the schema: every table, every column, all kinds of values."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from atlas import schema
from atlas.progress import SILENT
from atlas.stores import Graph, Store, StoredSae

ATLAS = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
WORDS = [
    "",
    " the",
    "café",
    "naïve 😀",
    "a'b",
    'say "hi"',
    "back\\slash",
    "two\nlines",
    "\t",
    "null",
    "\u2028",
    "[x, y]",
    "{a: 1}",
    "$param",
    "// no comment",
    "`quoted`",
    "\x00",
    "日本語",
]
# Without -(2**63): in a column with other values, kuzu reads it back as 0.
INTS = [0, 1, -1, 2**53 + 1, 2**63 - 1, 1 - 2**63]
RUNS = ("document/active/l2=0.001", "type/active/l2=0.001", "\\ 'run'")
FLOATS = [0.0, 1.0, -1.5, 1e-300, 1e300, 0.1, float("inf")]


def make_graph(
    saes: Mapping[str, str] | Iterable[str] = ("a1", "a2", "b1"),
    *,
    atlas: str = ATLAS,
    name: str = "test",
    features: int = 7,
    nulls: float = 0.2,
    probed: bool = True,
) -> Graph:
    """Return a graph of some SAEs.

    Parameters
    ----------
    saes
        Their names, or a version for each name: another version has other values,
        other edges and another fingerprint. SAEs whose names begin with the same
        letter read the same site of the same model and share tokens.
    atlas, name
        Of the atlas.
    features
        How many each SAE has.
    nulls
        The share of nulls in columns that are no key.
    probed
        Whether features are probed: by several runs, from the site that their SAE reads
        and from one that none reads, which is there for the probes alone.
    """
    versions = dict(saes) if isinstance(saes, Mapping) else dict.fromkeys(saes, "v1")
    rows: dict[str, dict[Any, dict[str, Any]]] = {t.name: {} for t in _tables()}
    for sae, version in versions.items():
        _add(rows, sae, version, features=features, nulls=nulls)
        if probed:
            _add_probes(rows, sae, version, features=features, nulls=nulls)
    for (
        edge
    ) in schema.EDGES:  # between the features of two SAEs, where a test has added such a type
        if edge.source == edge.target == "Feature":
            _add_across(rows[edge.type], edge, versions, features)
    for sae in rows["SAE"].values():
        sae["atlas"] = atlas
    tables = {
        n: pa.Table.from_pylist(list(r.values()), schema=schema.arrow_schema(n))
        for n, r in rows.items()
    }
    return Graph(atlas, name, tables, {s: f"{s}@{v}" for s, v in versions.items()})


def _add(
    rows: dict[str, dict[Any, dict[str, Any]]],
    sae: str,
    version: str,
    *,
    features: int,
    nulls: float,
) -> None:
    own, shared = random.Random(f"{sae}@{version}"), random.Random(sae[0])
    model = f"model {sae[0]}"
    site = f"{model}/hook"

    def node(label: str, key: str, rng: random.Random, **known: Any) -> None:
        of = schema.node(label)
        rows[label][key] = _values(of.properties, rng, nulls) | known | {of.key: key}

    def edge(kind: str, source: str, target: str, rng: random.Random) -> None:
        ends = {"source": source, "target": target}
        rows[kind][source, target] = ends | _values(schema.edge(kind).properties, rng, nulls)

    node("Model", model, shared)
    node("Corpus", "corpus", random.Random("corpus"))
    node("Site", site, shared, model=model)
    edge("OF_MODEL", site, model, shared)
    for i in range(4):
        node("Token", f"{sae[0]}/{i}", shared, tokenizer=sae[0], token_id=i)
    node("SAE", sae, own)
    edge("READS", sae, site, own)
    edge("MEASURED_ON", sae, "corpus", own)
    for idx in range(features):
        feature = f"{sae}/{idx}"
        node("Feature", feature, own, sae=sae, idx=idx)
        edge("IN_SAE", feature, sae, own)
        for token in own.sample(range(4), own.randrange(4)):
            edge("FIRES_ON", feature, f"{sae[0]}/{token}", own)
        for rank in range(own.randrange(3)):
            node("Example", f"{feature}/{rank}", own, sae=sae, idx=idx, rank=rank)
            edge("SHOWN_BY", feature, f"{feature}/{rank}", own)


def _add_probes(
    rows: dict[str, dict[Any, dict[str, Any]]],
    sae: str,
    version: str,
    *,
    features: int,
    nulls: float,
) -> None:
    """Probe features by some runs from two sites; edges with the same ends differ in their run only."""
    own, shared = random.Random(f"probes of {sae}@{version}"), random.Random(f"{sae[0]} probed")
    model, of, edge = f"model {sae[0]}", schema.node("Site"), schema.edge("PREDICTED_FROM")
    site = {"id": f"{model}/embed", "model": model}
    rows["Site"][site["id"]] = _values(of.properties, shared, nulls) | site
    rows["OF_MODEL"][site["id"], model] = {"source": site["id"], "target": model}
    for idx in range(features):
        for target in (f"{model}/hook", site["id"]):
            for run in own.sample(RUNS, own.randrange(len(RUNS) + 1)):
                ends = {"source": f"{sae}/{idx}", "target": target}
                known = ends | {"run": run}
                rows[edge.type][tuple(known.values())] = (
                    _values(edge.properties, own, nulls) | known
                )


def _add_across(
    rows: dict[Any, dict[str, Any]], of: schema.Edge, versions: Mapping[str, str], features: int
) -> None:
    """Join each feature with some feature of every later SAE (and within an SAE)."""
    for left in versions:
        for right in versions:
            rng = random.Random(f"{left}@{versions[left]} {right}@{versions[right]}")
            for idx in range(features if left <= right else 0):
                ends = {"source": f"{left}/{idx}", "target": f"{right}/{rng.randrange(features)}"}
                rows[tuple(ends.values())] = ends | _values(of.properties, rng, 0.2)


def _values(
    properties: Iterable[schema.Property], rng: random.Random, nulls: float
) -> dict[str, Any]:
    return {p.name: None if rng.random() < nulls else _value(p.type, rng) for p in properties}


def _value(type: schema.Type, rng: random.Random) -> Any:
    if type.endswith("[]"):
        return [_value(type[:-2], rng) for _ in range(rng.randrange(4))]  # type: ignore[arg-type]
    if type == "bool":
        return rng.random() < 0.5
    if type == "string":
        return rng.choice(WORDS)
    return rng.choice(INTS) if type == "int64" else rng.choice([*FLOATS, rng.gauss(0, 1)])


def _tables() -> tuple[schema.Node | schema.Edge, ...]:
    return (*schema.NODES, *schema.EDGES)


def rows_of(graph: Graph, name: str, sae: str | None = None) -> list[dict[str, Any]]:
    """Return the expected rows of ``table(name, sae)``, in plain Python."""
    of, rows = schema.table(name), graph.tables[name].to_pylist()
    ends = {n.label: {r[n.key]: r for r in graph.tables[n.label].to_pylist()} for n in schema.NODES}

    def owner(label: str, row: dict[str, Any]) -> Any:
        return row["name"] if label == "SAE" else row.get("sae", "shared")

    if sae is not None and isinstance(of, schema.Edge):
        rows = [r for r in rows if owner(of.source, ends[of.source][r["source"]]) == sae]
    elif sae is not None and isinstance(of, schema.Node):
        rows = [r for r in rows if owner(of.label, r) in (sae, "shared")]
    return sorted(rows, key=lambda r: tuple(r[k] for k in of.keys))


TABLES = [t.name for t in (*schema.NODES, *schema.EDGES)]


def put(store: Store, graph: Graph) -> None:
    store.sync(store.plan(graph), SILENT)


def assert_shows(store: Store, graph: Graph) -> None:
    """Every table is the graph's, types and order included."""
    for name in TABLES:
        found = store.table(name)
        assert found.schema.equals(schema.arrow_schema(name)), name
        assert found.to_pylist() == rows_of(graph, name), name
    assert store.contents() == {s: StoredSae(graph.atlas, f) for s, f in graph.fingerprints.items()}
