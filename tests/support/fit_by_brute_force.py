"""The largest part of a graph that fits on a server, by an enumeration of all parts."""

from atlas import schema

__all__ = ["chosen", "part_of", "parts", "size"]

_ROWS = {}  # id of a graph -> the graph, so that no other has its id, and its rows by table

BEST = {  # order of the edges of a type at a feature, best first
    "CO_ACTIVATES": lambda e, w: (-w(e["weight"]), -w(e["count"])),
    "MATCHES": lambda e, w: (-w(e["pearson"]),),
    "NEAR_DIRECTION": lambda e, w: (-w(e["cosine"]),),
    "AFFECTS": lambda e, w: (-w(None if e["mean"] is None else abs(e["mean"])),),
    "FIRES_ON": lambda e, w: (-w(None if e["rank"] is None else -e["rank"]),),
    "PROMOTES": lambda e, w: (-w(None if e["rank"] is None else -e["rank"]),),
    "SUPPRESSES": lambda e, w: (-w(None if e["rank"] is None else -e["rank"]),),
}


def number(value):
    return float("-inf") if value is None else value


def parts(graph):
    """Return the edges of each type, each with its smaller rank at its two ends."""
    examples = {e["id"]: e for e in graph.tables["Example"].to_pylist()}
    kinds = sorted({e["kind"] for e in examples.values()}, reverse=True)
    features = {f["id"]: i for i, f in enumerate(graph.tables["Feature"].to_pylist())}
    idx = {f["id"]: f["idx"] for f in graph.tables["Feature"].to_pylist()}
    tokens = {t["id"]: i for i, t in enumerate(graph.tables["Token"].to_pylist())}
    found = {}
    for name in [*BEST, "SHOWN_BY"]:
        edges = graph.tables[name].to_pylist()
        levels = [10**9] * len(edges)
        for feature in features:

            def order(i, feature=feature, edges=edges, name=name):
                e = edges[i]
                other = e["target"] if e["source"] == feature else e["source"]
                if name == "SHOWN_BY":
                    example = examples[e["target"]]
                    key = (example["rank"], kinds.index(example["kind"]))
                else:
                    key = BEST[name](e, number)
                tie = (
                    (idx[other], features[other]) if other in features else (tokens.get(other, 0),)
                )
                return *key, *tie

            mine = [i for i, e in enumerate(edges) if feature in (e["source"], e["target"])]
            for rank, i in enumerate(sorted(mine, key=order)):
                levels[i] = min(levels[i], rank)
        found[name] = list(zip(edges, levels, strict=True))
    return found


def part_of(graph, levels, co, others):
    """Return the tables of a graph limited to these levels; None is all."""
    limits = {n: co if n == "CO_ACTIVATES" else others for n in levels}
    if id(graph) not in _ROWS:
        _ROWS[id(graph)] = graph, {n: t.to_pylist() for n, t in graph.tables.items()}
    tables = dict(_ROWS[id(graph)][1])
    for name, rows in levels.items():
        if limits[name] is not None:
            tables[name] = [e for e, level in rows if level < limits[name]]
    if others is not None:
        for label, names in (
            ("Example", ["SHOWN_BY"]),
            ("Token", ["FIRES_ON", "PROMOTES", "SUPPRESSES"]),
        ):
            used = {e["target"] for name in names for e in tables[name]}
            tables[label] = [n for n in tables[label] if n["id"] in used]
    return tables


def size(tables):
    nodes = sum(len(tables[n.label]) for n in schema.NODES)
    return nodes, sum(len(tables[e.type]) for e in schema.EDGES)


def chosen(graph, levels, capacity, enough):
    """Return the levels of the definition, tried from the highest to the lowest."""

    def fits(co, others):
        nodes, edges = size(part_of(graph, levels, co, others))
        return nodes <= capacity.nodes and edges <= capacity.edges

    if fits(None, None):
        return None, None
    highest = 1 + max(
        (level for rows in levels.values() for _, level in rows if level < 10**9), default=0
    )
    downward = range(highest, -1, -1)
    co = next((n for n in downward if fits(n, None)), None)
    if co is not None and co >= enough:
        return co, None
    others = next((n for n in downward if fits(n, n)), None)
    if others is None:
        return None
    return next(n for n in downward if n >= others and fits(n, others)), others
