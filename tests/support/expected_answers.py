"""The expected answer of each named query, computed from the tables in plain Python.

``ANSWERS[name](world, **parameters)`` returns rows as tuples in the order of the
query's columns. Sorting and joining here is Python's own, so that an engine's idea
of order, text or arithmetic is checked and not repeated.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

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
        self.concept = {c["id"]: c for c in self.Concept}
        self.example = {e["id"]: e for e in self.Example}
        self.site = {s["id"]: s for s in self.Site}
        self.reads = {e["source"]: self.site[e["target"]] for e in self.READS}
        self.fires = [  # the edge, its feature and its token in one dict
            {
                **self.feature[e["source"]],
                "feature": e["source"],
                "token": e["target"],
                "text": self.token[e["target"]]["text"],
                **{k: e[k] for k in ("rank", "count", "share", "rate", "mean_activation")},
            }
            for e in self.FIRES_ON
        ]
        self.probes = [  # the edge, with its feature and its site
            {**e, "feature": self.feature[e["source"]], "site": self.site[e["target"]]}
            for e in self.PREDICTED_FROM
        ]
        self.co_active = defaultdict(list)  # each edge of a feature, with its other feature
        for e in self.CO_ACTIVATES:
            self.co_active[e["source"]].append((e["target"], e))
            self.co_active[e["target"]].append((e["source"], e))
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


def earliest(layer: int | None) -> int:
    return -1 if layer is None else layer


def first(site: Row) -> int:
    return earliest(site["layer"])


@answers
def saes(w):
    rows = sorted(w.SAE, key=lambda s: s["name"])
    return pick(
        rows,
        "name",
        "model",
        "hook",
        "architecture",
        "d_sae",
        "role",
        "floor_of",
        "tokens",
        "l0",
        "fvu",
        "dead_share",
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
    many = Counter(s["id"] for s in w.reads.values())  # others are there for probes only
    return [
        (s["id"], s["model"], s["layer"], s["width"], many[s["id"]])
        for s in rows
        if s["id"] in many
    ]


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
def spectra_of_saes(w):
    rows = [s for s in w.SAE if s["decoder_participation_ratio"] is not None]
    rows.sort(key=lambda s: (-s["decoder_participation_ratio"], s["name"]))
    return pick(
        rows,
        "name",
        "model",
        "hook",
        "decoder_participation_ratio",
        "decoder_participation_p",
        "decoder_stable_rank",
        "decoder_slope",
        "decoder_mean_share",
    )


@answers
def topology_of_saes(w):
    rows = [s for s in w.SAE if s["homology_p"] is not None]
    rows.sort(key=lambda s: (s["homology_p"], s["name"]))
    return pick(rows, "name", "homology_p", "mapper_p", *(f"homology_h{k}" for k in range(3)))


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
    rows = [
        {**r, "expected": round(r["count"] / r["rate"] / w.sae[r["sae"]]["tokens"], 9)}
        for r in rows[:limit]
    ]
    columns = ("rank", "text", "count", "share", "expected", "rate", "mean_activation")
    return pick(rows, *columns)


def firing(w, sae, limit, wanted):
    """Edges to the wanted tokens, the highest share first."""
    rows = [r for r in w.fires if wanted(r["text"]) and sae in ("", r["sae"])]
    return sorted(rows, key=lambda r: (-r["share"], r["sae"], r["idx"], r["rank"]))[:limit]


@answers
def features_of_token(w, token, sae, limit):
    rows = firing(w, sae, None, lambda text: text == token)
    rows = [{**r, "product": r["share"] * r["rate"]} for r in rows]
    rows = sorted(rows, key=lambda r: (-r["product"], r["sae"], r["idx"], r["rank"]))
    columns = "feature product share rate count rank mean_activation"
    return pick(rows[:limit], *columns.split())


@answers
def features_by_token_part(w, text, sae, limit):
    rows = firing(w, sae, limit, lambda t: text.lower() in t.lower())
    return pick(rows, "feature", "text", "share", "count", "rank")


@answers
def features_by_token_start(w, text, sae, limit):
    rows = firing(w, sae, limit, lambda t: t.startswith(text))
    return pick(rows, "feature", "text", "share", "count", "rank")


@answers
def features_of_tokens(w, tokens, sae, min_active, min_rate, limit):
    found = defaultdict(list)
    for r in w.fires:
        if r["text"] in tokens and sae in ("", r["sae"]) and r["active_tokens"] >= min_active:
            found[r["feature"]].append(r)
    rows = [
        {
            **w.feature[name],
            "share": round(sum(r["share"] for r in own), 6),
            # Occurrences of the tokens / tokens of the text.
            "expected": round(
                sum(r["count"] / r["rate"] * r["frequency"] / r["active_tokens"] for r in own), 6
            ),
            # Active occurrences of the tokens / their occurrences.
            "rate": round(
                sum(r["count"] for r in own) / sum(r["count"] / r["rate"] for r in own), 6
            ),
            "found": len({r["text"] for r in own}),
            "floor": w.sae[own[0]["sae"]]["role"] not in (None, "trained")
            or w.sae[own[0]["sae"]]["random_model"] is True,
        }
        for name, own in found.items()
    ]
    rows = [r for r in rows if r["rate"] >= min_rate]
    rows.sort(key=lambda r: (r["floor"], -r["share"], -r["found"], r["sae"], r["idx"]))
    columns = ("id", "share", "expected", "rate", "found", "frequency", "top_token", "floor")
    return pick(rows[:limit], *columns)


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
    of_token = defaultdict(list)
    for b in tops:
        if b["sae"] == sae_b:
            of_token[b["token"]].append(b)
    rows = [(a, b) for a in tops if a["sae"] == sae_a for b in of_token[a["token"]] if a is not b]
    rows.sort(key=lambda r: (-r[0]["share"], -r[1]["share"], r[0]["idx"], r[1]["idx"]))
    return [
        (a["text"], a["feature"], b["feature"], a["share"], b["share"], a["rate"], b["rate"])
        for a, b in rows[:limit]
    ]


@answers
def similar_features(w, feature, sae, limit):
    tokens_of = defaultdict(set)
    for r in w.fires:
        tokens_of[r["feature"]].add(r["token"])
    rows = []
    for name, tokens in tokens_of.items():
        shared = len(tokens & tokens_of.get(feature, set()))
        if name != feature and shared and sae in ("", w.feature[name]["sae"]):
            share = shared / len(tokens | tokens_of[feature])
            rows.append({**w.feature[name], "jaccard": share, "shared": shared})
    rows.sort(key=lambda r: (-r["jaccard"], -r["shared"], r["sae"], r["idx"]))
    return pick(rows[:limit], "id", "jaccard", "shared", "frequency", "top_token")


# Logits


@answers
def promoted_tokens(w, feature, limit, edges="PROMOTES"):
    rows = [{**w.token[e["target"]], **e} for e in getattr(w, edges) if e["source"] == feature]
    rows.sort(key=lambda r: r["rank"])
    return pick(rows[:limit], "rank", "text", "value", "ablated_change")


@answers
def suppressed_tokens(w, feature, limit):
    return promoted_tokens(w, feature, limit, edges="SUPPRESSES")


@answers
def features_that_promote_token(w, token, sae, limit):
    rows = [
        {**w.feature[e["source"]], **e}
        for e in w.PROMOTES
        if w.token[e["target"]]["text"] == token and sae in ("", w.feature[e["source"]]["sae"])
    ]
    rows.sort(key=lambda r: (-r["value"], r["sae"], r["idx"], r["rank"]))
    return pick(rows[:limit], "source", "value", "rank", "ablated_change", "frequency", "top_token")


@answers
def features_by_logit_agreement(w, sae, limit):
    first = {e["source"]: w.token[e["target"]]["text"] for e in w.PROMOTES if e["rank"] == 0}
    rows = [
        {**f, "promotes": first.get(f["id"])} for f in w.of(sae) if f["logit_agreement"] is not None
    ]
    rows.sort(key=lambda r: (-r["logit_agreement"], r["idx"]))
    return pick(
        rows[:limit],
        "id",
        "logit_agreement",
        "logit_agreement_control",
        "logit_agreement_p",
        "logit_positions",
        "promotes",
        "frequency",
    )


# Marks of interpretability


def with_mark(w, sae, limit, mark):
    rows = [f for f in w.of(sae) if f[mark] is not None]
    return sorted(rows, key=lambda f: (-f[mark], f["idx"]))[:limit]


@answers
def features_described_by_tokens(w, sae, limit):
    return pick(
        with_mark(w, sae, limit, "detection"),
        "id",
        "top_token",
        "detection",
        "detection_control",
        "top_token_share",
        "token_entropy",
        "context_dependence",
        "frequency",
    )


@answers
def features_beyond_tokens(w, sae, limit):
    return pick(
        with_mark(w, sae, limit, "context_dependence"),
        "id",
        "top_token",
        "context_dependence",
        "detection",
        "detection_control",
        "token_entropy",
        "frequency",
    )


# Directions


@answers
def nearest_directions(w, feature, sae, limit):
    rows = [
        {**w.feature[e["target"]], **e}
        for e in w.NEAR_DIRECTION
        if e["source"] == feature and sae in ("", w.feature[e["target"]]["sae"])
    ]
    rows.sort(key=lambda r: (-r["cosine"], r["sae"], r["idx"]))
    return pick(rows[:limit], "id", "cosine", "rank", "p", "q", "frequency", "top_token")


def within(w, sae):
    """The edges of near directions between features of an SAE, by the set of both ends."""
    found = defaultdict(list)
    for e in w.NEAR_DIRECTION:
        one, two = w.feature[e["source"]], w.feature[e["target"]]
        if one["sae"] == two["sae"] == sae:
            found[frozenset((one["id"], two["id"]))].append(e)
    return found


@answers
def near_never_together(w, sae, min_cosine, limit):
    together = {frozenset((e["source"], e["target"])) for e in w.CO_ACTIVATES}
    rows = []
    for ends, edges in within(w, sae).items():
        edges = [e for e in edges if e["cosine"] >= min_cosine]
        if not edges or ends in together:
            continue
        f, g = sorted((w.feature[end] for end in ends), key=lambda x: x["idx"])
        known = [e["q"] for e in edges if e["q"] is not None]
        cosine = max(e["cosine"] for e in edges)
        rows.append((f, g, cosine, min(known) if known else None))
    rows.sort(key=lambda r: (-r[2], r[0]["idx"], r[1]["idx"]))
    return [(f["id"], g["id"], c, q, f["top_token"], g["top_token"]) for f, g, c, q in rows[:limit]]


@answers
def together_not_near(w, sae, min_count, max_cosine, limit):
    rows = []
    for e in w.CO_ACTIVATES:
        f, g, cosine = w.feature[e["source"]], w.feature[e["target"]], e["decoder_cosine"]
        near = cosine is None or abs(cosine) > max_cosine
        if f["sae"] == sae and e["count"] >= min_count and not near:
            rows.append((f, g, e))
    rows.sort(key=lambda r: (-r[2]["weight"], -r[2]["count"], r[0]["idx"], r[1]["idx"]))
    names = ("weight", "count", "lift", "decoder_cosine")
    return [
        (f["id"], g["id"], *(e[name] for name in names), f["top_token"], g["top_token"])
        for f, g, e in rows[:limit]
    ]


# Edges

BY = ("weight", "count", "cosine", "jaccard", "phi", "lift")
EDGE = ("weight", "count", "expected", "cosine", "joint_count", "jaccard", "phi", "lift")


def by_strength(edge, by):
    """A key for edges, the strongest first and the unknown last."""
    return -(-2 if edge[by] is None else edge[by])


def around(w, feature):
    """Features that co-activate with one: each with the edge."""
    for there, e in w.co_active[feature]:
        yield w.feature[there], e


@answers
def neighbours_of_feature(w, feature, by, min_count, limit):
    if by not in BY:
        return []
    rows = [(g, e) for g, e in around(w, feature) if e["count"] >= min_count]
    rows.sort(key=lambda r: (by_strength(r[1], by), r[0]["idx"]))
    return [(g["id"], g["top_token"], *(e[c] for c in EDGE)) for g, e in rows[:limit]]


def edges_of(w, sae):
    """Co-activation edges of an SAE: both features and the edge."""
    for e in w.CO_ACTIVATES:
        one, two = w.feature[e["source"]], w.feature[e["target"]]
        if one["sae"] == sae:
            yield one, two, e


@answers
def strongest_edges(w, sae, by, min_count, limit):
    if by not in BY:
        return []
    rows = [r for r in edges_of(w, sae) if r[2]["count"] >= min_count]
    rows.sort(key=lambda r: (by_strength(r[2], by), r[0]["idx"], r[1]["idx"]))
    return [
        (one["id"], one["top_token"], two["id"], two["top_token"], *(e[c] for c in EDGE))
        for one, two, e in rows[:limit]
    ]


@answers
def high_lift_pairs(w, sae, min_lift, max_joint, limit):
    rows = [
        (one, two, e)
        for one, two, e in edges_of(w, sae)
        if e["lift"] >= min_lift and e["joint_count"] <= max_joint
    ]
    rows.sort(key=lambda r: (-r[2]["lift"], -r[2]["joint_count"], r[0]["idx"], r[1]["idx"]))
    return [
        (
            one["id"],
            one["top_token"],
            two["id"],
            two["top_token"],
            e["lift"],
            e["joint_count"],
            one["active_tokens"] * two["active_tokens"] / w.sae[sae]["tokens"],
            one["active_tokens"],
            two["active_tokens"],
            e["phi"],
        )
        for one, two, e in rows[:limit]
    ]


@answers
def neighbours_of_two_features(w, feature_a, feature_b, limit):
    mine, theirs = ({g["id"]: e for g, e in around(w, f)} for f in (feature_a, feature_b))
    rows = [(w.feature[n], mine[n], theirs[n]) for n in mine if n in theirs]
    rows.sort(key=lambda r: (-min(r[1]["weight"], r[2]["weight"]), r[0]["idx"]))
    return [
        (n["id"], n["top_token"], a["weight"], b["weight"], a["count"], b["count"])
        for n, a, b in rows[:limit]
    ]


@answers
def tokens_of_two_features(w, feature_a, feature_b):
    mine, theirs = ([r for r in w.fires if r["feature"] == f] for f in (feature_a, feature_b))
    rows = []
    for a in mine:
        for b in theirs:
            one = w.token[a["token"]]["tokenizer"] == w.token[b["token"]]["tokenizer"]
            if a["token"] == b["token"] or (not one and a["text"] == b["text"]):
                rows.append((a, b))
    rows.sort(key=lambda r: (r[0]["rank"], r[1]["rank"]))
    both = ("rank", "share", "rate")
    return [(a["text"], *(side[c] for c in both for side in (a, b))) for a, b in rows]


def matches_from(w, sae):
    """Matches of an SAE's features as the other SAE's features are seen from there.

    Each is the feature, its match, the edge, and the values of the edge in this direction:
    the match's rank among the feature's, the feature's among the match's, the claims
    on the match.
    """
    for e in w.MATCHES:
        a, b = w.feature[e["source"]], w.feature[e["target"]]
        if a["sae"] == sae:
            yield a, b, e, (e["rank_ab"], e["rank_ba"], e["claims_on_target"])
        if b["sae"] == sae:
            yield b, a, e, (e["rank_ba"], e["rank_ab"], e["claims_on_source"])


def between(w, sae_a, sae_b):
    return [m for m in matches_from(w, sae_a) if m[1]["sae"] == sae_b]


def partners(w, sae_a, sae_b, max_q=None):
    """One-to-one matches with a q so small, as feature id -> (partner's id, edge)."""
    return {
        a["id"]: (b["id"], e)
        for a, b, e, _ in between(w, sae_a, sae_b)
        if e["one_to_one"] and (max_q is None or (1.0 if e["q"] is None else e["q"]) <= max_q)
    }


@answers
def counterparts_of_feature(w, feature, sae, limit):
    of = w.feature.get(feature, {}).get("sae")
    rows = [r for r in matches_from(w, of) if r[0]["id"] == feature and sae in ("", r[1]["sae"])]
    rows.sort(key=lambda r: (-r[2]["pearson"], r[1]["sae"], r[1]["idx"]))
    return [
        (
            g["id"],
            e["one_to_one"],
            e["pearson"],
            e["token_document_null_pearson"],
            e["token_document_q"],
            e["q"],
            e["token_q"],
            g["top_token"],
            rank,
            back,
            e["mutual"],
            claims,
            e["joint_count"],
            e["shared_tokens"],
            e["decoder_cosine"],
            e["p_pooled"],
            e["token_document_p_pooled"],
            e["alignment"],
            g["sae"],
            w.sae[g["sae"]]["model"],
            w.sae[g["sae"]]["hook"],
        )
        for _, g, e, (rank, back, claims) in rows[:limit]
    ]


@answers
def counterparts_of_sae(w, sae_a, sae_b, max_q, limit):
    rows = [
        (w.feature[a], w.feature[b], e) for a, (b, e) in partners(w, sae_a, sae_b, max_q).items()
    ]
    rows.sort(key=lambda r: (-r[2]["pearson"], r[0]["idx"]))
    columns = (
        "pearson",
        "token_document_null_pearson",
        "token_document_q",
        "q",
        "token_q",
        "mutual",
        "joint_count",
        "shared_tokens",
        "decoder_cosine",
    )
    return [
        (a["id"], a["top_token"], b["id"], b["top_token"], *(e[c] for c in columns))
        for a, b, e in rows[:limit]
    ]


@answers
def features_without_counterpart(w, sae, other, max_q, limit):
    if {sae, other} not in [{e["source"], e["target"]} for e in w.COMPARED_WITH]:
        return []
    have, assigned = partners(w, sae, other, max_q), partners(w, sae, other)
    of_feature = defaultdict(list)
    for a, _, e, _ in between(w, sae, other):
        of_feature[a["id"]].append(e)
    rows = []
    for f in live(w, sae):
        name, found = f["id"], of_feature[f["id"]]
        q = assigned[name][1]["q"] if name in assigned else None
        reason = "by chance"
        if not found:
            reason = "no match"
        elif name not in assigned:
            reason = "not one to one"
        elif q is None:
            reason = "not tested"
        if name not in have:
            best = max((e["pearson"] for e in found), default=None)
            rows.append({**f, "reason": reason, "matches": len(found), "best": best, "q": q})
    rows.sort(key=lambda r: (-r["active_tokens"], r["idx"]))
    columns = "id top_token active_tokens reason matches best q"
    return pick(rows[:limit], *columns.split())


@answers
def contested_counterparts(w, sae_a, sae_b, min_claims, limit):
    rows = [m for m in between(w, sae_a, sae_b) if m[3][0] == 0 and m[3][2] >= min_claims]
    rows.sort(key=lambda m: (-m[3][2], m[1]["idx"], -m[2]["pearson"], m[0]["idx"]))
    return [
        (
            b["id"],
            b["top_token"],
            claims,
            a["id"],
            a["top_token"],
            e["pearson"],
            e["token_document_null_pearson"],
            e["token_document_q"],
            back,
            e["one_to_one"],
        )
        for a, b, e, (_, back, claims) in rows[:limit]
    ]


def by_token(w, sae_a, sae_b, max_q, limit, wanted):
    rows = [
        (w.feature[a], w.feature[b], e)
        for a, (b, e) in partners(w, sae_a, sae_b).items()
        if e["q"] is not None and e["q"] <= max_q and wanted(e["token_q"], e["token_document_q"])
    ]
    rows.sort(key=lambda r: (-r[2]["pearson"], r[0]["idx"]))
    columns = (
        "pearson token_document_null_pearson token_document_q q token_q token_null_pearson "
        "shared_tokens fixed_share"
    )
    return [
        (a["id"], a["top_token"], b["id"], b["top_token"], *(e[c] for c in columns.split()))
        for a, b, e in rows[:limit]
    ]


@answers
def matches_beyond_token(w, sae_a, sae_b, max_q, limit):
    def clear(*qs):
        return all(q is not None and q <= max_q for q in qs)

    return by_token(w, sae_a, sae_b, max_q, limit, clear)


@answers
def matches_of_shared_token(w, sae_a, sae_b, max_q, limit):
    def explained(*qs):
        return any(q is not None and q > max_q for q in qs)

    return by_token(w, sae_a, sae_b, max_q, limit, explained)


def carried(w, sae_a, sae_b, max_q, min_count):
    """Edges of an SAE whose ends have counterparts: the edge, these, and their edge if any."""
    edges = {frozenset((e["source"], e["target"])): e for e in w.CO_ACTIVATES}
    to = partners(w, sae_a, sae_b, max_q)
    rows = [
        (one, two, e, to[one["id"]][0], to[two["id"]][0])
        for one, two, e in edges_of(w, sae_a)
        if e["count"] >= min_count and one["id"] in to and two["id"] in to
    ]
    rows.sort(key=lambda r: (-r[2]["weight"], r[0]["idx"], r[1]["idx"]))
    for one, two, e, c, d in rows:
        ends = (one["id"], two["id"], [one["top_token"], two["top_token"]], c, d)
        yield ends, e, edges.get(frozenset((c, d)))


@answers
def conserved_edges(w, sae_a, sae_b, max_q, min_count, limit):
    return [
        (*ends, e["weight"], there["weight"], e["count"], there["count"])
        for ends, e, there in carried(w, sae_a, sae_b, max_q, min_count)
        if there
    ][:limit]


@answers
def unconserved_edges(w, sae_a, sae_b, max_q, min_count, limit):
    return [
        (*ends, e["weight"], e["count"], e["expected"])
        for ends, e, there in carried(w, sae_a, sae_b, max_q, min_count)
        if not there
    ][:limit]


@answers
def counterpart_chain(w, sae_a, sae_b, sae_c, limit):
    first, second = partners(w, sae_a, sae_b), partners(w, sae_b, sae_c)
    direct_partners = partners(w, sae_a, sae_c)
    rows = []
    for a, (b, ab) in first.items():
        if b in second:
            c, bc = second[b]
            direct, ac = direct_partners.get(a, (None, {"pearson": None}))
            steps = (ab["pearson"], bc["pearson"], ac["pearson"])
            token_a, token_c = (w.feature[x]["top_token"] for x in (a, c))
            rows.append((a, token_a, b, c, token_c, direct, direct == c, *steps))
    rows.sort(key=lambda r: (-r[7], -r[8], w.feature[r[0]]["idx"]))
    return rows[:limit]


@answers
def similarity_of_saes(w):
    rows = sorted(w.COMPARED_WITH, key=lambda e: (e["source"], e["target"]))
    values = [
        f"{space}_{measure}{suffix}"
        for space in ("decoder", "activation")
        for measure in ("svcca", "cka", "rsa", "knn_jaccard")
        for suffix in ("", "_null", "_p")
    ]
    found = [e for e in rows if e["similarity_pairs"] is not None]
    unique = [f"unique_{way}{suffix}" for way in ("ab", "ba") for suffix in ("", "_null")]
    return pick(found, "source", "target", "similarity_pairs", *values, *unique)


@answers
def comparisons_of_saes(w):
    rows = sorted(w.COMPARED_WITH, key=lambda e: (e["source"], e["target"]))
    columns = (
        "source target one_to_one beyond_token undecided best_ab token_document_null_best_ab "
        "significant mutual matches null_best_ab token_null_best_ab best_ba "
        "token_document_null_best_ba null_best_ba token_null_best_ba null_threshold "
        "token_null_threshold token_document_null_threshold draws p_floor draws_needed tokens alignment"
    )
    return pick(rows, *columns.split())


# Probes


def mean(values):
    """The mean of exact sums, rounded to six decimals; null without values."""
    known = [Fraction(v) for v in values if v is not None]
    if not known:
        return None
    exact = sum(known) / len(known)
    decimal = Decimal(exact.numerator) / exact.denominator
    return float(decimal.quantize(Decimal("0.000001"), ROUND_HALF_UP))


def of_probes(rows, features, columns):
    """Rows of some columns of features, then some of their probes."""
    columns = columns.split()
    return [(*(r["feature"][c] for c in features.split()), *(r[c] for c in columns)) for r in rows]


def probes(w, sae, site, run, verdict=None):
    """Scored probes of an SAE's features from a site in a run."""
    return [
        r
        for r in w.probes
        if (r["feature"]["sae"], r["site"]["id"], r["run"]) == (sae, site, run)
        and r["balanced_accuracy"] is not None
        and verdict in (None, r["verdict"])
    ]


def ranked(rows, limit, by):
    return sorted(rows, key=lambda r: (by(r), r["feature"]["idx"]))[:limit]


@answers
def probes_of_feature(w, feature):
    rows = [r for r in w.probes if r["source"] == feature]
    rows.sort(key=lambda r: (first(r["site"]), r["target"], r["run"]))
    columns = (
        "run positives balanced_accuracy low high token_table token_ceiling control selectivity r2 "
        "r2_token_ceiling verdict how context_by generalises"
    )
    found = pick(rows, *columns.split())
    return [(r["target"], r["site"]["layer"], *f) for r, f in zip(rows, found, strict=True)]


PREDICTABLE = "balanced_accuracy token_table token_ceiling selectivity positives verdict"


@answers
def most_predictable_features(w, sae, site, run, limit):
    rows = ranked(probes(w, sae, site, run), limit, lambda r: -r["balanced_accuracy"])
    return of_probes(rows, "id top_token", PREDICTABLE)


@answers
def least_predictable_features(w, sae, site, run, limit):
    rows = ranked(probes(w, sae, site, run), limit, lambda r: r["balanced_accuracy"])
    return of_probes(rows, "id top_token", PREDICTABLE)


@answers
def verdicts_of_sae(w, sae):
    groups = defaultdict(list)
    for r in w.probes:
        if r["feature"]["sae"] == sae:
            group = tuple(r[c] for c in ("run", "verdict", "how", "context_by"))
            groups[r["target"], r["site"]["layer"], *group].append(r["balanced_accuracy"])
    rows = [(*key, len(scores), mean(scores)) for key, scores in groups.items()]
    return sorted(
        rows,
        key=lambda r: (earliest(r[1]), r[0], r[2], -r[6], *(t or "" for t in r[3:6])),
    )


@answers
def context_features(w, sae, site, run, limit):
    rows = ranked(probes(w, sae, site, run, "context"), limit, lambda r: r["token_ceiling"])
    columns = (
        "token_ceiling token_ceiling_high context_by position_table bigram_table balanced_accuracy"
    )
    found = of_probes(rows, "id top_token active_tokens", columns)
    return [(*f[:2], *f[3:], f[2]) for f in found]


@answers
def lookup_features(w, sae, site, run, limit):
    rows = [
        {**r, "short_by": r["token_table"] - r["balanced_accuracy"]}
        for r in probes(w, sae, site, run, "token")
        if r["how"] == "lookup"
    ]
    columns = "balanced_accuracy token_table short_by token_ceiling generalises"
    return of_probes(ranked(rows, limit, lambda r: -r["short_by"]), "id top_token", columns)


@answers
def beyond_token_features(w, sae, site, run, limit):
    rows = [
        {**r, "lead": r["low"] - r["token_ceiling"]}
        for r in probes(w, sae, site, run, "beyond token")
    ]
    columns = "balanced_accuracy low token_ceiling lead bigram_table"
    return of_probes(ranked(rows, limit, lambda r: -r["lead"]), "id top_token", columns)


@answers
def predictable_without_counterpart(w, sae, other, site, run, max_q, limit):
    if {sae, other} not in [{e["source"], e["target"]} for e in w.COMPARED_WITH]:
        return []
    to = partners(w, sae, other, max_q)
    there = {(r["source"], r["site"]["hook"], r["run"]): r for r in w.probes}
    rows = []
    for r in ranked(probes(w, sae, site, run, "token"), None, lambda r: -r["token_table"]):
        name, edge = to.get(r["source"], (None, {"pearson": None}))
        theirs = there.get((name, r["site"]["hook"], run), {})
        if theirs.get("verdict") != "token":
            reason = "not predictable" if theirs else "not probed" if name else "no counterpart"
            scores = [theirs.get(c) for c in ("balanced_accuracy", "token_table", "verdict")]
            (mine,) = of_probes([r], "id top_token", "balanced_accuracy token_table")
            rows.append((*mine, name, edge["pearson"], reason, *scores))
    return rows[:limit]


@answers
def score_by_frequency(w, sae, site, run):
    names = [
        "< 0.00001",
        "0.00001 - 0.0001",
        "0.0001 - 0.001",
        "0.001 - 0.01",
        "0.01 - 0.1",
        "0.1 - 1",
    ]
    bins = defaultdict(list)
    for r in probes(w, sae, site, run):
        frequency = r["feature"]["frequency"]
        bins[sum(frequency >= e for e in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))].append(r)
    verdicts = ("token", "beyond token", "context", "undecided")
    return [
        (
            b + 1,
            names[b],
            len(rows),
            mean(r["balanced_accuracy"] for r in rows),
            mean(r["token_ceiling"] for r in rows),
            *(sum(r["verdict"] == v for r in rows) for v in verdicts),
        )
        for b, rows in sorted(bins.items())
    ]


@answers
def score_by_layer(w, model, run):
    found = []
    for sae, home in w.reads.items():
        for site in w.Site if home["model"] == model else ():
            if rows := probes(w, sae, site["id"], run):
                found.append(
                    (
                        home["layer"],
                        sae,
                        site["layer"],
                        site["id"],
                        len(rows),
                        mean(r["balanced_accuracy"] for r in rows),
                        mean(r["token_ceiling"] for r in rows),
                        sum(r["verdict"] == "token" for r in rows),
                        sum(r["verdict"] == "beyond token" for r in rows),
                    )
                )
    return sorted(found, key=lambda r: (earliest(r[0]), r[1], earliest(r[2]), r[3]))


# The hooks of a block in the order of the forward pass.
HOOKS = (
    "hook_resid_pre",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)


def site_order(site):
    """The order of a site in its model, the embedding first."""
    hook = site["hook"].split(".", 2)[-1]
    return first(site), HOOKS.index(hook) if hook in HOOKS else len(HOOKS), site["id"]


def first_sites(w, run, delta, wanted):
    """The probe at the first site near the best, of each feature probed at two sites or more."""
    of = defaultdict(list)
    for r in w.probes:
        if wanted(r["feature"]) and r["run"] == run and r["balanced_accuracy"] is not None:
            of[r["source"]].append(r)
    for rows in of.values():
        best = max(r["balanced_accuracy"] for r in rows)
        near = [r for r in rows if best - r["balanced_accuracy"] <= delta + 1e-12]
        if len(rows) > 1:
            chosen = min(near, key=lambda r: site_order(r["site"]))
            yield {**chosen, "best": best, "sites": len(rows), "layer": chosen["site"]["layer"]}


FIRST = ("target", "layer", "balanced_accuracy", "best", "sites", "verdict")


@answers
def first_site_of_feature(w, feature, run, delta):
    return pick(first_sites(w, run, delta, lambda f: f["id"] == feature), *FIRST)


@answers
def first_sites_of_sae(w, sae, run, delta, limit):
    rows = list(first_sites(w, run, delta, lambda f: f["sae"] == sae))
    rows.sort(key=lambda r: (site_order(r["site"]), -r["best"], r["feature"]["idx"]))
    return of_probes(rows[:limit], "id top_token", " ".join(FIRST))


@answers
def features_by_first_site(w, sae, run, delta):
    groups = defaultdict(list)
    for r in first_sites(w, run, delta, lambda f: f["sae"] == sae):
        groups[site_order(r["site"])].append(r)
    return [
        (
            rows[0]["target"],
            rows[0]["layer"],
            len(rows),
            mean(r["balanced_accuracy"] for r in rows),
            mean(r["best"] for r in rows),
        )
        for _, rows in sorted(groups.items(), key=lambda g: g[0])
    ]


@answers
def transcoder_quality(w, model):
    rows = []
    for e in w.MAPS_TO:
        a, b = w.site[e["source"]], w.site[e["target"]]
        if a["model"] == model:
            both = e["r2_weighted"], e["token_r2_weighted"]
            difference = None if None in both else both[0] - both[1]
            rows.append({**e, "from": a["layer"], "to": b["layer"], "token_difference": difference})
    rows.sort(
        key=lambda r: (earliest(r["from"]), r["source"], earliest(r["to"]), r["target"], r["run"])
    )
    columns = (
        "from source to target run tokens r2_weighted r2_low r2_high token_r2_weighted "
        "token_r2_low token_r2_high token_difference token_difference_low token_difference_high r2 "
        "token_r2 r2_in_sample_weighted token_eta2_weighted token_omega2_weighted "
        "r2_with_bos_weighted r2_published bos_share"
    )
    return pick(rows, *columns.split())


def members(w, sae):
    """The features of an SAE that are in a community, with their edge to it and the community."""
    of = {c["id"]: c for c in w.Community}
    for e in w.IN_COMMUNITY:
        if w.feature[e["source"]]["sae"] == sae:
            yield w.feature[e["source"]], e, of[e["target"]]


@answers
def communities_of_sae(w, sae, min_size, limit):
    rows = [c for c in w.Community if c["sae"] == sae and c["size"] >= min_size]
    rows.sort(key=lambda c: c["number"])
    columns = (
        "number size tokens stability_halves stability_null stability_null_high stability edges"
    )
    return pick(
        rows[:limit], *columns.split(), "inner_share", "conductance", "weighted_by", "min_count"
    )


@answers
def features_of_community(w, sae, community, limit):
    rows = [{**e, **f} for f, e, c in members(w, sae) if c["number"] == community]
    rows.sort(key=lambda r: (-r["inner_degree"], r["idx"]))
    columns = "id top_token frequency inner_degree degree inner_share clustering"
    return pick(rows[:limit], *columns.split())


@answers
def community_of_feature(w, feature):
    rows = [
        {**c, "inner_share": e["inner_share"]}
        for f, e, c in members(w, feature.rpartition("/")[0])
        if f["id"] == feature
    ]
    columns = "number tokens size inner_share stability_halves stability_null stability_null_high"
    return pick(rows, *columns.split())


@answers
def hubs(w, sae, min_degree, limit):
    rows = []
    for f in w.of(sae):
        if f["degree"] is not None and f["degree"] >= min_degree:
            expected = f["partners_expected"]
            rows.append({**f, "ratio": f["degree"] / expected if expected else None})
    rows.sort(key=lambda r: (r["ratio"] is None, -(r["ratio"] or 0), -r["degree"], r["idx"]))
    columns = "id top_token ratio degree partners_expected frequency pagerank core community"
    return pick(rows[:limit], *columns.split())


@answers
def bridges(w, sae, max_inner_share, limit):
    rows = []
    for f, e, c in members(w, sae):
        if e["inner_share"] <= max_inner_share:
            met = {g["community"] for g, _ in around(w, f["id"])} - {f["community"]}
            rows.append({**f, **e, "tokens": c["tokens"], "reaches": len(met)})
    rows.sort(key=lambda r: (-r["betweenness"], r["idx"]))
    columns = "id top_token betweenness inner_share degree frequency community tokens reaches"
    return pick(rows[:limit], *columns.split())


@answers
def counterpart_of_community(w, sae_a, sae_b, community, max_q, max_token_q):
    pairs = [
        (w.feature[a]["community"], w.feature[b]["community"])
        for a, (b, e) in partners(w, sae_a, sae_b, max_q).items()
        if (1.0 if e["token_q"] is None else e["token_q"]) <= max_token_q
    ]
    pairs = [pair for pair in pairs if None not in pair]
    mine = [b for a, b in pairs if a == community]
    of = {c["number"]: c for c in w.Community if c["sae"] == sae_b}
    rows = []
    for other, n in Counter(mine).items():
        there = sum(b == other for _, b in pairs)
        share, by_size = n / len(mine), there / len(pairs)
        rows.append(
            (
                other,
                of[other]["tokens"],
                of[other]["size"],
                n,
                share,
                by_size,
                share / by_size,
                n / (len(mine) + there - n),
            )
        )
    return sorted(rows, key=lambda r: (-r[3], r[0]))


@answers
def narrow_features(w, sae, min_degree, limit):
    rows = [
        f for f in w.of(sae) if f["partner_diversity"] is not None and f["degree"] >= min_degree
    ]
    rows.sort(key=lambda f: (f["partner_diversity"], f["idx"]))
    columns = "id top_token partner_diversity degree partners_expected frequency community"
    return pick(rows[:limit], *columns.split())


@answers
def residual_features_with_counterpart(w, sae, sae_baseline, max_q, limit):
    rows = [
        (w.feature[f], w.feature[g], e)
        for f, (g, e) in partners(w, sae, sae_baseline, max_q).items()
    ]
    rows.sort(key=lambda r: (-r[2]["pearson"], r[0]["idx"], r[1]["idx"]))
    return [
        (
            f["id"],
            f["top_token"],
            w.sae[sae]["less"],
            g["id"],
            g["top_token"],
            e["pearson"],
            e["token_document_null_pearson"],
            e["token_document_q"],
            e["q"],
            e["token_q"],
        )
        for f, g, e in rows[:limit]
    ]


def compared(w, one, other):
    return {one, other} in [{e["source"], e["target"]} for e in w.COMPARED_WITH]


@answers
def residual_features_without_counterpart(w, sae, sae_baseline, site, run, max_q, limit):
    if not compared(w, sae, sae_baseline):
        return []
    have = partners(w, sae, sae_baseline, max_q)
    best = defaultdict(list)
    for f, _, e, _ in between(w, sae, sae_baseline):
        best[f["id"]].append(e["pearson"])
    there = {(r["source"], r["target"], r["run"]): r for r in w.probes}
    rows = [f for f in live(w, sae) if f["id"] not in have]
    rows.sort(key=lambda f: (-f["active_tokens"], f["idx"]))
    scores = ("balanced_accuracy", "token_ceiling", "verdict")
    return [
        (
            f["id"],
            f["top_token"],
            w.sae[sae]["less"],
            f["active_tokens"],
            max(best[f["id"]], default=None),
            *(there.get((f["id"], site, run), {}).get(c) for c in scores),
        )
        for f in rows[:limit]
    ]


@answers
def context_features_of_residual(w, sae, sae_baseline, site, run, max_q, limit):
    if not compared(w, sae, sae_baseline):
        return []
    to = {f: g for f, (g, _) in partners(w, sae, sae_baseline, max_q).items()}
    verdicts = {(r["source"], r["target"], r["run"]): r["verdict"] for r in w.probes}
    rows = []
    for r in ranked(probes(w, sae, site, run, "context"), None, lambda r: r["token_ceiling"]):
        other = to.get(r["source"])
        verdict = verdicts.get((other, site, run))
        if verdict != "context":
            f = r["feature"]
            rows.append(
                (
                    f["id"],
                    f["top_token"],
                    r["token_ceiling"],
                    r["balanced_accuracy"],
                    other,
                    verdict,
                    f["active_tokens"],
                )
            )
    return rows[:limit]


def split_rows(w, **ends):
    """Edges of splitting with both features; ``parent`` or ``child`` restricts an end to an SAE."""
    rows = [(w.feature[e["source"]], e, w.feature[e["target"]]) for e in w.SPLITS_INTO]
    return [
        (f, e, g)
        for f, e, g in rows
        if f["sae"] == ends.get("parent", f["sae"]) and g["sae"] == ends.get("child", g["sae"])
    ]


@answers
def children_of_feature(w, feature, sae, limit):
    rows = [r for r in split_rows(w) if r[0]["id"] == feature and sae in ("", r[2]["sae"])]
    rows.sort(key=lambda r: (r[2]["sae"], -r[1]["child_given_parent"], r[2]["idx"]))
    columns = (
        "child_given_parent parent_given_child decoder_cosine joint_count main main_absent coverage"
    )
    return [
        (
            g["sae"],
            g["id"],
            g["top_token"],
            *(e[c] for c in columns.split()),
            e["parent_class"],
            e["q"],
        )
        for _, e, g in rows[:limit]
    ]


@answers
def parents_of_feature(w, feature, sae, limit):
    rows = [r for r in split_rows(w) if r[2]["id"] == feature and sae in ("", r[0]["sae"])]
    rows.sort(key=lambda r: (r[0]["sae"], -r[1]["parent_given_child"], r[0]["idx"]))
    columns = "parent_given_child child_given_parent decoder_cosine parent_class child_class q"
    return [
        (f["sae"], f["id"], f["top_token"], *(e[c] for c in columns.split()))
        for f, e, _ in rows[:limit]
    ]


@answers
def most_split_features(w, sae, other, limit):
    children = defaultdict(list)
    for f, e, _ in split_rows(w, parent=sae, child=other):
        children[f["id"]].append(e)
    rows = [
        (
            f,
            w.feature[f]["top_token"],
            w.feature[f]["frequency"],
            len(edges),
            edges[0]["coverage"],
            edges[0]["coverage_null"],
            edges[0]["parent_class"],
        )
        for f, edges in children.items()
    ]
    return sorted(rows, key=lambda r: (-r[3], -r[4], r[0]))[:limit]


@answers
def absorbed_features(w, sae, other, limit):
    edges = split_rows(w, parent=sae, child=other)
    first = {f["id"]: g["id"] for f, e, g in edges if e["main"]}
    rows = [
        (f, e, g)
        for f, e, g in edges
        if (e["parent_class"], e["child_class"]) == ("absorbed", "absorbing") and not e["main"]
    ]
    rows.sort(key=lambda r: (-r[1]["main_absent"], r[0]["idx"], r[2]["idx"]))
    return [
        (
            f["id"],
            f["top_token"],
            first[f["id"]],
            g["id"],
            g["top_token"],
            e["main_absent"],
            e["joint_count"],
            e["parent_given_child"],
        )
        for f, e, g in rows[:limit]
    ]


@answers
def splitting_chains(w, sae_a, sae_b, sae_c, limit):
    direct = {(f["id"], g["id"]) for f, _, g in split_rows(w)}
    second = defaultdict(list)
    for b, y, c in split_rows(w, parent=sae_b, child=sae_c):
        second[b["id"]].append((y, c))
    rows = [
        (a, x, b, y, c)
        for a, x, b in split_rows(w, parent=sae_a, child=sae_b)
        for y, c in second[b["id"]]
    ]
    rows.sort(key=lambda r: (r[0]["idx"], r[2]["idx"], r[4]["idx"]))
    return chain_columns(rows[:limit], "parent_given_child", direct=direct)


def chain_columns(rows, value, *, direct):
    """Return ids, tokens and both values of chains, and whether an edge joins the ends."""
    return [
        (
            *(feature["id"] for feature in (a, b, c)),
            *(feature["top_token"] for feature in (a, b, c)),
            x[value],
            y[value],
            (a["id"], c["id"]) in direct,
        )
        for a, x, b, y, c in rows
    ]


def effect_rows(w):
    return [(w.feature[e["source"]], e, w.feature[e["target"]]) for e in w.AFFECTS]


@answers
def effects_of_feature(w, feature, sae, limit):
    rows = [r for r in effect_rows(w) if r[0]["id"] == feature and sae in ("", r[2]["sae"])]
    rows.sort(key=lambda r: (-abs(r[1]["mean"]), r[2]["sae"], r[2]["idx"]))
    columns = ("mean", "low", "high", "share", "here", "random", "q")
    return [
        (g["sae"], g["id"], g["top_token"], *(e[c] for c in columns)) for _, e, g in rows[:limit]
    ]


@answers
def drivers_of_feature(w, feature, sae, limit):
    rows = [r for r in effect_rows(w) if r[2]["id"] == feature and sae in ("", r[0]["sae"])]
    rows.sort(key=lambda r: (-abs(r[1]["mean"]), r[0]["sae"], r[0]["idx"]))
    columns = ("mean", "low", "high", "share", "rank", "q")
    return [
        (w.reads[f["sae"]]["hook"], f["id"], f["top_token"], *(e[c] for c in columns))
        for f, e, _ in rows[:limit]
    ]


@answers
def strongest_effects(w, sae, other, limit):
    rows = [r for r in effect_rows(w) if r[0]["sae"] == sae and other in ("", r[2]["sae"])]
    rows.sort(key=lambda r: (-abs(r[1]["mean"]), r[0]["idx"], r[2]["sae"], r[2]["idx"]))
    columns = ("mean", "random", "other", "q", "low", "high")
    return [
        (f["id"], f["top_token"], g["id"], g["top_token"], *(e[c] for c in columns))
        for f, e, g in rows[:limit]
    ]


@answers
def frequent_features_without_effect(w, sae, min_frequency, min_q, limit):
    number = Counter(e["source"] for e in w.AFFECTS)
    rows = [
        f
        for f in w.of(sae)
        if f["effect_q"] is not None and f["frequency"] >= min_frequency and f["effect_q"] >= min_q
    ]
    rows.sort(key=lambda f: (-f["frequency"], f["idx"]))
    return [
        (
            f["id"],
            f["top_token"],
            f["frequency"],
            f["effect_kl"] + f["effect_kl_later"],
            f["effect_kl_random"],
            f["effect_kl_other"],
            number[f["id"]],
            f["effect_q"],
        )
        for f in rows[:limit]
    ]


@answers
def effect_by_frequency(w, sae):
    names = [
        "< 0.00001",
        "0.00001 - 0.0001",
        "0.0001 - 0.001",
        "0.001 - 0.01",
        "0.01 - 0.1",
        "0.1 - 1",
    ]
    bins = defaultdict(list)
    for f in w.of(sae):
        if f["effect_kl"] is not None and f["frequency"] > 0:
            edges = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
            bins[sum(f["frequency"] >= e for e in edges)].append(f)
    return [
        (
            b + 1,
            names[b],
            len(rows),
            mean(f["effect_kl"] + f["effect_kl_later"] for f in rows),
            mean(f["effect_kl_random"] for f in rows),
            mean(f["effect_kl_other"] for f in rows),
            mean(f["effect_ce"] + f["effect_ce_later"] for f in rows),
            sum(f["effect_q"] <= 0.05 for f in rows),
        )
        for b, rows in sorted(bins.items())
    ]


@answers
def effect_chains(w, sae_a, sae_b, sae_c, limit):
    direct = {(e["source"], e["target"]) for e in w.AFFECTS}
    of_feature = defaultdict(list)
    for d, y, c in effect_rows(w):
        of_feature[d["id"]].append((y, c))
    rows = [
        (a, x, b, y, c)
        for a, x, b in effect_rows(w)
        for y, c in of_feature[b["id"]]
        if (a["sae"], b["sae"], c["sae"]) == (sae_a, sae_b, sae_c)
    ]
    rows.sort(
        key=lambda r: (
            -abs(r[1]["mean"]),
            -abs(r[3]["mean"]),
            r[0]["idx"],
            r[2]["idx"],
            r[4]["idx"],
        )
    )
    return chain_columns(rows[:limit], "mean", direct=direct)


@answers
def features_of_concept(w, concept, sae, limit):
    rows = []
    for e in w.SEPARATES:
        f, c = w.feature[e["source"]], w.concept[e["target"]]
        if c["name"] == concept and sae in ("", f["sae"]):
            rows.append((f, e, c))
    rows.sort(key=lambda r: (r[0]["sae"], -r[1]["auroc_held_out"], r[0]["idx"], r[2]["id"]))
    columns = [
        "auroc_held_out",
        "auroc",
        "effect",
        "active_positive",
        "active_negative",
        "p_max",
        "q",
    ]
    return [
        (
            f["sae"],
            f["id"],
            f["top_token"],
            e["direction"],
            c[e["direction"]],
            *(e[n] for n in columns),
            c["id"],
        )
        for f, e, c in rows[:limit]
    ]


@answers
def concepts_of_feature(w, feature, limit):
    rows = [(e, w.concept[e["target"]]) for e in w.SEPARATES if e["source"] == feature]
    rows.sort(key=lambda r: (-r[0]["auroc_held_out"], r[1]["name"], r[1]["id"]))
    columns = ["direction", "t", "auroc_held_out", "effect", "p_max", "q"]
    return [
        (c["name"], c["positive"], c["negative"], *(e[n] for n in columns), c["id"])
        for e, c in rows[:limit]
    ]


@answers
def concept_counterparts(w, sae_a, sae_b, concept, limit):
    separates = {(e["source"], e["target"]): e for e in w.SEPARATES}
    rows = []
    for m in w.MATCHES:
        for a, b in {(m["source"], m["target"]), (m["target"], m["source"])}:
            f, g = w.feature[a], w.feature[b]
            if (f["sae"], g["sae"]) != (sae_a, sae_b) or not m["one_to_one"]:
                continue
            for (source, target), e in separates.items():
                c = w.concept[target]
                if source == a and concept in ("", c["name"]):
                    d = separates.get((b, target))
                    rows.append((f, g, m, e, d, c))
    rows.sort(
        key=lambda r: (r[5]["name"], -r[3]["auroc_held_out"], r[0]["idx"], r[1]["idx"], r[5]["id"])
    )
    return [
        (
            c["name"],
            f["id"],
            g["id"],
            m["pearson"],
            m["token_document_null_pearson"],
            m["token_document_q"],
            m["q"],
            e["auroc_held_out"],
            d and d["auroc_held_out"],
            d and d["direction"] == e["direction"],
            c["id"],
        )
        for f, g, m, e, d, c in rows[:limit]
    ]


@answers
def most_separating_features(w, sae, limit):
    rows = [
        (w.feature[e["source"]], e, w.concept[e["target"]])
        for e in w.SEPARATES
        if w.feature[e["source"]]["sae"] == sae
    ]
    rows.sort(key=lambda r: (-r[1]["auroc_held_out"], r[0]["idx"], r[2]["id"]))
    return [
        (
            f["id"],
            f["top_token"],
            f["frequency"],
            c["name"],
            e["direction"],
            e["auroc_held_out"],
            e["effect"],
            e["p_max"],
            c["id"],
        )
        for f, e, c in rows[:limit]
    ]


@answers
def retained_concepts(w, concept, limit):
    rows = [(w.sae[e["source"]], e, w.concept[e["target"]]) for e in w.RETAINS]
    rows = [r for r in rows if concept in ("", r[2]["name"])]
    rows.sort(
        key=lambda r: (
            r[2]["name"],
            r[2]["id"],
            1000 if r[1]["area"] is None else -r[1]["area"],
            r[0]["name"],
        )
    )
    columns = (
        "auc layer_auc permuted_auc retained k90 effective_features area area_low area_high "
        "random_area"
    )
    return [
        (c["name"], s["name"], s["role"], s["hook"], *(e[n] for n in columns.split()), c["id"])
        for s, e, c in rows[:limit]
    ]
