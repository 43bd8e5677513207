"""What each named query should answer, worked out from the tables in plain Python.

``ANSWERS[name](world, **parameters)`` gives rows as tuples in the order of the
query's columns. Sorting and joining here is Python's own, so that an engine's idea
of order, text or arithmetic is checked and not repeated.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from atlas.stores import Graph

Row = dict


class World:
    """The tables of a graph as lists of dicts, with the few joins that answers need."""

    def __init__(self, graph: Graph) -> None:
        for name, table in graph.tables.items():
            setattr(self, name, table.to_pylist())
        self.sae = {s["name"]: s for s in self.SAE}
        self.feature = {f["id"]: f for f in self.Feature}
        self.token = {t["id"]: t for t in self.Token}
        self.example = {e["id"]: e for e in self.Example}
        self.site = {s["id"]: s for s in self.Site}
        self.reads = {e["source"]: self.site[e["target"]] for e in self.READS}
        self.fires = [  # the edge, its feature and its token in one dict
            {**self.feature[e["source"]], "feature": e["source"], "token": e["target"],
             "text": self.token[e["target"]]["text"],
             **{k: e[k] for k in ("rank", "count", "share", "rate", "mean_activation")}}
            for e in self.FIRES_ON
        ]  # fmt: skip
        self.shown = [(self.feature[e["source"]], self.example[e["target"]]) for e in self.SHOWN_BY]

    def of(self, sae: str) -> list[Row]:
        """The features of an SAE."""
        return [f for f in self.Feature if f["sae"] == sae]


ANSWERS: dict[str, Callable[..., list[tuple]]] = {}


def answers(function: Callable) -> Callable:
    ANSWERS[function.__name__] = function
    return function


def pick(rows: Iterable[Row], *columns: str) -> list[tuple]:
    return [tuple(row[c] for c in columns) for row in rows]


def first(place: Row) -> int:
    return -1 if place["layer"] is None else place["layer"]


@answers
def saes(w):
    rows = sorted(w.SAE, key=lambda s: s["name"])
    return pick(
        rows, "name", "model", "hook", "architecture", "d_sae", "tokens", "l0", "fvu", "dead_share"
    )


@answers
def sae_summary(w, sae):
    if sae not in w.sae:
        return []
    (corpus,) = w.Corpus
    row = {**w.sae[sae], "layer": w.reads[sae]["layer"], "corpus": corpus["name"]}
    columns = (
        "name source architecture model hook layer d_in d_sae seed context_size prepend_bos "
        "corpus tokens l0 fvu dead dead_share neuronpedia_id"
    )
    return pick([row], *columns.split())


@answers
def saes_of_model(w, model):
    rows = [{**s, "layer": w.reads[s["name"]]["layer"]} for s in w.SAE if s["model"] == model]
    rows.sort(key=lambda r: (first(r), r["hook"], r["name"]))
    return pick(rows, "layer", "hook", "name", "architecture", "d_sae", "l0", "fvu", "dead_share")


@answers
def saes_at_site(w, site):
    rows = sorted(
        (w.sae[n] for n, s in w.reads.items() if s["id"] == site), key=lambda s: s["name"]
    )
    return pick(rows, "name", "architecture", "d_sae", "seed", "l0", "fvu", "dead_share")


@answers
def sites(w):
    rows = sorted(w.Site, key=lambda s: (s["model"], first(s), s["id"]))
    many = [s["id"] for s in w.reads.values()]
    return [(s["id"], s["model"], s["layer"], s["width"], many.count(s["id"])) for s in rows]


@answers
def corpora(w):
    (c,) = w.Corpus
    return [
        (
            c["name"],
            c["id"],
            c["source"],
            c["revision"],
            c["documents"],
            c["characters"],
            len(w.SAE),
        )
    ]


@answers
def dead_share_by_sae(w):
    rows = [s for s in w.SAE if s["dead_share"] is not None]
    rows.sort(key=lambda s: (-s["dead_share"], s["name"]))
    return pick(rows, "name", "dead_share", "dead", "d_sae", "tokens")


@answers
def frequency_histogram(w, sae):
    names = [
        "0",
        "< 0.00001",
        "0.00001 - 0.0001",
        "0.0001 - 0.001",
        "0.001 - 0.01",
        "0.01 - 0.1",
        "0.1 - 1",
    ]
    bins = defaultdict(int)
    for f in w.of(sae):
        if f["frequency"] is not None:
            edges = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
            bins[0 if f["frequency"] == 0 else 1 + sum(f["frequency"] >= e for e in edges)] += 1
    return [(b, names[b], bins[b], bins[b] / w.sae[sae]["d_sae"]) for b in sorted(bins)]


@answers
def feature_card(w, feature):
    if feature not in w.feature:
        return []
    f = w.feature[feature]
    sae = w.sae[f["sae"]]
    fires = sorted((r for r in w.fires if r["feature"] == feature), key=lambda r: r["rank"])
    row = {**f, "model": sae["model"], "hook": sae["hook"], "top": [r["text"] for r in fires[:10]]}
    columns = (
        "id sae model hook frequency active_tokens mean_activation std_activation max_activation "
        "dead top neuronpedia"
    )
    return pick([row], *columns.split())


@answers
def tokens_of_feature(w, feature, limit):
    rows = sorted((r for r in w.fires if r["feature"] == feature), key=lambda r: r["rank"])
    return pick(rows[:limit], "rank", "text", "count", "share", "rate", "mean_activation")


def firing(w, sae, limit, wanted):
    """Edges to the wanted tokens, the highest share first."""
    rows = [r for r in w.fires if wanted(r["text"]) and sae in ("", r["sae"])]
    return sorted(rows, key=lambda r: (-r["share"], r["sae"], r["idx"], r["rank"]))[:limit]


@answers
def features_of_token(w, token, sae, limit):
    rows = firing(w, sae, None, lambda text: text == token)
    rows = sorted(rows, key=lambda r: (-(r["share"] * r["rate"]), r["sae"], r["idx"], r["rank"]))
    return pick(rows[:limit], "feature", "share", "rate", "count", "rank", "mean_activation")


@answers
def features_by_token_part(w, text, sae, limit):
    rows = firing(w, sae, limit, lambda t: text.lower() in t.lower())
    return pick(rows, "feature", "text", "share", "count", "rank")


@answers
def features_by_token_start(w, text, sae, limit):
    rows = firing(w, sae, limit, lambda t: t.startswith(text))
    return pick(rows, "feature", "text", "share", "count", "rank")


@answers
def features_of_tokens(w, tokens, sae, limit):
    found = defaultdict(set)
    for r in w.fires:
        if r["text"] in tokens and sae in ("", r["sae"]):
            found[r["feature"]].add(r["text"])
    rows = [{**w.feature[name], "found": len(texts)} for name, texts in found.items()]
    rows.sort(key=lambda r: (-r["found"], r["frequency"], r["sae"], r["idx"]))
    return pick(rows[:limit], "id", "found", "frequency", "top_token")


EXAMPLE = ("activation", "text", "tokens", "activations", "peak", "document", "start")


@answers
def examples_of_feature(w, feature, limit):
    rows = [e for f, e in w.shown if f["id"] == feature and e["kind"] == "top"]
    return pick(sorted(rows, key=lambda e: e["rank"])[:limit], "rank", *EXAMPLE)


@answers
def sampled_examples_of_feature(w, feature, limit):
    rows = [e for f, e in w.shown if f["id"] == feature and e["kind"] != "top"]
    rows.sort(key=lambda e: (e["kind"], e["activation"], e["rank"]))
    return pick(rows[:limit], "kind", *EXAMPLE)


@answers
def examples_with_text(w, text, sae, limit):
    rows = [
        (f, e)
        for f, e in w.shown
        if e["kind"] == "top" and text.lower() in e["text"].lower() and sae in ("", f["sae"])
    ]
    rows.sort(key=lambda r: (r[1]["rank"], -r[1]["activation"], r[0]["sae"], r[0]["idx"]))
    return [
        (f["id"], e["rank"], e["activation"], e["text"], f["top_token"]) for f, e in rows[:limit]
    ]


def listed(rows, limit, by):
    rows = sorted(rows, key=lambda f: (by(f), f["idx"]))[:limit]
    columns = "id frequency active_tokens mean_activation max_activation top_token"
    return pick(rows, *columns.split())


def live(w, sae):
    return [f for f in w.of(sae) if f["active_tokens"]]


@answers
def most_frequent_features(w, sae, limit):
    return listed(live(w, sae), limit, lambda f: -f["active_tokens"])


@answers
def least_frequent_features(w, sae, limit):
    return listed(live(w, sae), limit, lambda f: f["active_tokens"])


@answers
def strongest_features(w, sae, limit):
    return listed(live(w, sae), limit, lambda f: -f["max_activation"])


@answers
def features_in_frequency_range(w, sae, low, high, limit):
    rows = [f for f in w.of(sae) if f["frequency"] is not None and low <= f["frequency"] <= high]
    return listed(rows, limit, lambda f: -f["active_tokens"])


def by_top_token(w, sae, min_tokens, limit, sign):
    rows = [
        r
        for r in w.fires
        if r["sae"] == sae and r["rank"] == 0 and r["active_tokens"] >= min_tokens
    ]
    rows.sort(key=lambda r: (sign * r["share"], -r["active_tokens"], r["idx"]))
    return pick(rows[:limit], "feature", "text", "share", "rate", "active_tokens")


@answers
def single_token_features(w, sae, min_tokens, limit):
    return by_top_token(w, sae, min_tokens, limit, -1)


@answers
def broad_features(w, sae, min_tokens, limit):
    return by_top_token(w, sae, min_tokens, limit, 1)


@answers
def token_detectors(w, sae, min_share, min_rate, limit):
    rows = [
        r for r in w.fires if r["sae"] == sae and r["share"] >= min_share and r["rate"] >= min_rate
    ]
    rows.sort(key=lambda r: (-r["rate"], -r["share"], r["idx"], r["rank"]))
    return pick(rows[:limit], "feature", "text", "share", "rate", "count")


@answers
def dead_features(w, sae, limit):
    rows = sorted((f for f in w.of(sae) if f["dead"]), key=lambda f: f["idx"])
    return pick(rows[:limit], "id", "idx", "neuronpedia")


@answers
def busiest_tokens(w, sae, limit):
    many = defaultdict(int)
    for r in w.fires:
        if r["sae"] == sae:
            many[r["token"]] += 1
    rows = [(w.token[t]["text"], w.token[t]["token_id"], n) for t, n in many.items()]
    return sorted(rows, key=lambda r: (-r[2], r[1]))[:limit]


@answers
def shared_tokens(w, sae_a, sae_b, limit):
    tops = [r for r in w.fires if r["rank"] == 0]
    rows = [
        (a, b)
        for a in tops
        for b in tops
        if a["sae"] == sae_a and b["sae"] == sae_b and a["token"] == b["token"] and a is not b
    ]
    rows.sort(key=lambda r: (-r[0]["share"], -r[1]["share"], r[0]["idx"], r[1]["idx"]))
    return [
        (a["text"], a["feature"], b["feature"], a["share"], b["share"], a["rate"], b["rate"])
        for a, b in rows[:limit]
    ]


@answers
def similar_features(w, feature, sae, limit):
    kept = defaultdict(set)
    for r in w.fires:
        kept[r["feature"]].add(r["token"])
    rows = []
    for name, tokens in kept.items():
        shared = len(tokens & kept.get(feature, set()))
        if name != feature and shared and sae in ("", w.feature[name]["sae"]):
            share = shared / len(tokens | kept[feature])
            rows.append({**w.feature[name], "jaccard": share, "shared": shared})
    rows.sort(key=lambda r: (-r["jaccard"], -r["shared"], r["sae"], r["idx"]))
    return pick(rows[:limit], "id", "jaccard", "shared", "frequency", "top_token")
