"""Graphs for tests of stores and queries: one made by hand, and random ones full of ties.

The one made by hand (``small_graph``) can be checked on paper: three measured SAEs
and one that has no statistics yet, two models with a tokenizer each, dead features,
features with equal numbers, texts with quotes, backslashes, accents and emoji.
"""

import random
from dataclasses import dataclass

import pyarrow as pa

from atlas import schema
from atlas.stores import Graph

ATLAS = "11111111-2222-3333-4444-555555555555"
TOKENIZERS = {"tiny-a": "a" * 12, "tiny-b": "b" * 12}


@dataclass(frozen=True)
class MadeFeature:
    """A feature: where it is active, and the kept tokens as (token id, count, mean activation)."""

    active: int | None
    mean: float | None
    std: float | None
    max: float | None
    tokens: tuple[tuple[int, int, float], ...] = ()
    examples: tuple[tuple[str, float, list[str], list[float], int], ...] = ()


@dataclass(frozen=True)
class MadeSae:
    """An SAE: its model and hook, tokens counted (None: no statistics), and its features."""

    name: str
    model: str
    hook: str
    layer: int | None
    architecture: str
    tokens: int | None
    l0: float | None
    fvu: float | None
    features: tuple[MadeFeature, ...]


# model -> token id -> (text, times in the corpus)
VOCABULARY = {
    "tiny-a": {
        10: (" girl", 40),
        11: (" he", 50),
        12: (" she", 60),
        13: (" the", 100),
        14: ("ing", 25),
        15: ("'s", 20),
        16: (' "', 30),
        17: (" café", 5),
        18: ("\n", 15),
        19: (" They", 10),
        20: (" 😀", 2),
    },
    "tiny-b": {5: (" girl", 20), 6: ("Ing", 8), 7: ("\\", 4)},
}

DEAD = MadeFeature(0, None, None, None)
UNMEASURED = MadeFeature(None, None, None, None)

BY_HAND = (
    MadeSae("tiny-a-l1-s0", "tiny-a", "blocks.1.hook_resid_post", 1, "topk", 1000, 0.503, 0.12, (
        MadeFeature(30, 2.0, 0.5, 4.0, ((10, 30, 2.0),), (
            ("top", 4.0, ["Once", " upon", " a", " time", " a", " girl"], [0, 0, 0, 0, 0, 4.0], 5),
            ("top", 3.5, [" girl", "'s", ' "', "hi", '"'], [3.5, 0, 0, 0, 0], 0),
        )),
        MadeFeature(80, 1.5, 0.25, 3.0, ((11, 40, 1.5), (12, 20, 1.25))),
        DEAD,
        MadeFeature(100, 1.0, 0.125, 2.0, ((13, 100, 1.0),)),
        MadeFeature(1, 0.5, 0.0, 0.5, ((14, 1, 0.5),)),
        MadeFeature(200, 0.75, 0.5, 9.0, ((15, 10, 0.5), (16, 10, 0.25), (17, 5, 9.0), (18, 5, 1.0))),
        MadeFeature(2, 8.0, 1.0, 9.0, ((20, 2, 8.0),)),
        MadeFeature(90, 2.5, 0.75, 5.0, ((11, 30, 2.5), (12, 30, 2.0), (10, 10, 1.5), (19, 8, 3.0)), (
            ("top", 5.0, ["once", " upon", " a", " TIME", ",", " she"], [0, 0, 0.5, 0, 0, 5.0], 5),
            ("top", 4.0, [" he", " said"], [4.0, 0.25], 0),
            ("top", 4.0, [" They", " café", " 😀"], [4.0, 0, 0], 0),
            ("fifth 1", 0.5, [" a", " 'girl'"], [0, 0.5], 1),
            ("fifth 5", 4.5, ["\\n", " girl"], [0, 4.5], 1),
            ("fifth 5", 4.25, [" she", "\n"], [4.25, 0], 0),
        )),
    )),
    MadeSae("tiny-a-l1-s1", "tiny-a", "blocks.1.hook_resid_post", 1, "topk", 1000, 0.24, 0.13, (
        MadeFeature(100, 1.0, 0.5, 2.0, ((13, 90, 1.0),)),
        MadeFeature(40, 3.0, 0.5, 4.0, ((10, 20, 3.0), (12, 10, 2.5)), (
            ("top", 4.0, ["Once", " Upon", " A", " Time"], [0, 0, 0, 4.0], 3),
        )),
        DEAD,
        MadeFeature(100, 2.0, 0.5, 2.0, ((11, 50, 2.0), (12, 50, 2.0))),
    )),
    MadeSae("tiny-b-l0", "tiny-b", "blocks.0.hook_resid_post", 0, "jumprelu", 500, 0.156, 0.05, (
        MadeFeature(20, 1.0, 0.0, 1.0, ((5, 20, 1.0),)),
        MadeFeature(8, 1.0, 0.5, 2.0, ((6, 4, 1.0), (7, 2, 1.5))),
        MadeFeature(50, 0.25, 0.125, 0.5, ((7, 2, 0.25),)),
    )),
    MadeSae("tiny-a-embed", "tiny-a", "hook_embed", None, "standard", None, None, None, (
        UNMEASURED, UNMEASURED,
    )),
)  # fmt: skip


def small_graph(*, shuffled: int | None = None) -> Graph:
    """Return the graph made by hand, the rows of every table shuffled by a seed if one is given."""
    return make_graph(BY_HAND, shuffled=shuffled)


def random_graph(seed: int, *, features: int = 60, shuffled: int | None = None) -> Graph:
    """Return a graph of two SAEs on one site whose numbers are drawn from few values: all ties."""
    rng = random.Random(seed)

    def feature() -> MadeFeature:
        if rng.random() < 0.2:
            return DEAD
        kept = sorted(rng.sample(sorted(VOCABULARY["tiny-a"]), rng.randint(1, 4)))
        shown = [("top", 2.0, [" once", " upon"], [2.0, 0.0], 0)] * rng.randint(0, 3)
        shown += [
            ("fifth 2", rng.choice([0.5, 1.0]), [" a", " time"], [0.5, 0.0], 0)
        ] * rng.randint(0, 2)
        return MadeFeature(
            rng.choice([10, 20]), 1.0, 0.5, rng.choice([2.0, 4.0]),
            tuple((t, rng.choice([2, 1]), 1.0) for t in kept), tuple(shown),
        )  # fmt: skip

    saes = (
        MadeSae(n, "tiny-a", "blocks.1.hook_resid_post", 1, "topk", 1000, 1.0, 0.5,
                tuple(feature() for _ in range(features)))
        for n in ("tiny-a-l1-s0", "tiny-a-l1-s1")
    )  # fmt: skip
    return make_graph(tuple(saes), shuffled=shuffled)


def make_graph(saes: tuple[MadeSae, ...], *, shuffled: int | None = None) -> Graph:
    """Return SAEs as the tables of the schema."""
    rows: dict[str, list[dict[str, object]]] = {t.name: [] for t in (*schema.NODES, *schema.EDGES)}
    rows["Corpus"].append({
        "id": "c" * 12, "name": "stories", "source": "memory", "revision": None, "documents": 9,
        "characters": 4321,
    })  # fmt: skip
    for sae in saes:
        _add_places(rows, sae)
        _add_sae(rows, sae)
        for idx, feature in enumerate(sae.features):
            _add_feature(rows, sae, idx, feature)
    for model in {s.model for s in saes}:
        rows["Token"] += [
            {"id": _token(model, i), "tokenizer": TOKENIZERS[model], "token_id": i, "text": text}
            for i, (text, _) in VOCABULARY[model].items()
        ]
    if shuffled is not None:
        for of in rows.values():
            random.Random(shuffled).shuffle(of)
    tables = {n: pa.Table.from_pylist(r, schema=schema.arrow_schema(n)) for n, r in rows.items()}
    return Graph(ATLAS, "small", tables, {s.name: f"fingerprint of {s.name}" for s in saes})


def _token(model: str, token_id: int) -> str:
    return f"{TOKENIZERS[model]}/{token_id}"


def _edge(source: str, target: str, **properties: object) -> dict[str, object]:
    return {"source": source, "target": target, **properties}


def _add_places(rows: dict[str, list[dict[str, object]]], sae: MadeSae) -> None:
    """Add the model and the site of an SAE, where they are not there yet."""
    site = f"{sae.model}/{sae.hook}"
    if sae.model not in {r["name"] for r in rows["Model"]}:
        rows["Model"].append({
            "name": sae.model, "source": "memory", "weights": "w" * 64, "d_model": 96, "layers": 2,
            "architecture": "LlamaForCausalLM", "dtype": "float32",
            "tokenizer": TOKENIZERS[sae.model],
        })  # fmt: skip
    if site not in {r["id"] for r in rows["Site"]}:
        rows["Site"].append({
            "id": site, "model": sae.model, "hook": sae.hook, "layer": sae.layer, "width": 96,
        })  # fmt: skip
        rows["OF_MODEL"].append(_edge(site, sae.model))


def _add_sae(rows: dict[str, list[dict[str, object]]], sae: MadeSae) -> None:
    """Add an SAE with its edges; what statistics would say is null where it has none."""
    size = len(sae.features)
    dead = None if sae.tokens is None else sum(f.active == 0 for f in sae.features)
    rows["SAE"].append({
        "name": sae.name, "atlas": ATLAS, "source": "memory", "architecture": sae.architecture,
        "d_in": 96, "d_sae": size, "seed": 0, "model": sae.model, "hook": sae.hook,
        "context_size": 256, "prepend_bos": True, "dtype": "float32", "weights": "w" * 64,
        "tokens": sae.tokens, "l0": sae.l0, "fvu": sae.fvu, "dead": dead,
        "dead_share": None if dead is None else dead / size,
    })  # fmt: skip
    rows["READS"].append(_edge(sae.name, f"{sae.model}/{sae.hook}"))
    rows["MEASURED_ON"].append(_edge(sae.name, "c" * 12))


def _add_feature(
    rows: dict[str, list[dict[str, object]]], sae: MadeSae, idx: int, made: MadeFeature
) -> None:
    """Add a feature with its edges, tokens' numbers and examples."""
    name = f"{sae.name}/{idx}"
    words = VOCABULARY[sae.model]
    rows["Feature"].append({
        "id": name, "sae": sae.name, "idx": idx, "active_tokens": made.active,
        "neuronpedia": f"https://www.neuronpedia.org/{name}" if idx % 2 else None,
        "frequency": None if made.active is None else made.active / sae.tokens,
        "mean_activation": made.mean, "std_activation": made.std, "max_activation": made.max,
        "dead": None if made.active is None else made.active == 0,
        "top_token": words[made.tokens[0][0]][0] if made.tokens else None,
    })  # fmt: skip
    rows["IN_SAE"].append(_edge(name, sae.name))
    for rank, (token, count, mean) in enumerate(made.tokens):
        rows["FIRES_ON"].append(_edge(
            name, _token(sae.model, token), rank=rank, count=count, share=count / made.active,
            rate=count / words[token][1], mean_activation=mean,
        ))  # fmt: skip
    for rank, (kind, activation, tokens, activations, peak) in enumerate(made.examples):
        rows["Example"].append({
            "id": f"{name}/{rank}", "sae": sae.name, "idx": idx, "rank": rank, "kind": kind,
            "activation": activation, "text": "".join(tokens), "tokens": tokens,
            "activations": [float(a) for a in activations], "peak": peak, "document": rank,
            "start": 10 * rank,
        })  # fmt: skip
        rows["SHOWN_BY"].append(_edge(name, f"{name}/{rank}"))
