"""Graphs for tests of stores and queries: one written by hand, and random ones with many ties.

The one written by hand (``small_graph``) can be checked on paper: four measured SAEs
and one that has no statistics yet, two models with a tokenizer each, dead features,
features with equal numbers, texts with quotes, backslashes, accents and emoji. Its
co-activation edges and matches have ties, nulls, best matches that are not mutual,
features without a counterpart, conserved edges and others, and a chain over three SAEs
that closes for one feature only. Its probes are of several runs and sites, some of which
no SAE reads, with ties, nulls and every verdict. Its communities are of several sizes, one
of them a single feature; one SAE has a graph without edges, one no graph at all.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from small_concepts import BY_HAND as CONCEPTS
from small_concepts import MadeRetention, MadeSeparation, add_concepts, random_concepts

from atlas import schema
from atlas.stores import Graph

ATLAS = "11111111-2222-3333-4444-555555555555"
TOKENIZERS = {
    "tiny-a": "a" * 12,
    "tiny-b": "b" * 12,
    "tiny-random": "a" * 12,
    "tiny-crowd": "d" * 12,
}


@dataclass(frozen=True)
class MadeFeature:
    """A feature: where it is active, and the stored tokens as (token id, count, mean activation)."""

    active: int | None
    mean: float | None
    std: float | None
    max: float | None
    tokens: tuple[tuple[int, int, float], ...] = ()
    examples: tuple[tuple[str, float, list[str], list[float], int], ...] = ()


@dataclass(frozen=True)
class MadePair:
    """A co-activation edge between two features of one SAE, the lower index first."""

    one: int
    two: int
    count: int
    expected: float
    weight: float
    joint: int
    cosine: float = 0.5
    phi: float | None = 0.25
    decoder: float | None = None


@dataclass(frozen=True)
class MadeMatch:
    """A match: indices in both SAEs, and each one's rank among the other's partners."""

    a: int
    b: int
    pearson: float
    ranks: tuple[int | None, int | None] = (0, 0)
    one_to_one: bool = True
    p: float | None = 0.01
    q: float | None = 0.02
    token_q: float | None = 0.02
    shared: int = 1
    document_q: float | None = 0.03


@dataclass(frozen=True)
class MadeComparison:
    """Two SAEs that were matched, the one whose name sorts first as ``a``; no draws: no nulls."""

    a: str
    b: str
    matches: tuple[MadeMatch, ...]
    draws: int = 99
    alignment: str = "tokens"


@dataclass(frozen=True)
class MadeSplit:
    """An edge from a parent to a child: SAEs, indices, the shares of tokens, and the class of both."""

    a: str
    b: str
    parent: int
    child: int
    of_child: float
    of_parent: float
    main: bool = True
    absent: int = 0
    classes: tuple[str, str] = ("same", "same")
    coverage: float = 0.75


@dataclass(frozen=True)
class MadeEffect:
    """An edge of effects: the ablated feature, the target, the mean change and the rank."""

    source: str
    target: str
    mean: float
    rank: int = 0
    share: float = 0.75


DOCUMENT, TYPE, AMOUNT = (
    f"{run}/l2=0.001" for run in ("document/active", "type/active", "document/activation")
)


@dataclass(frozen=True)
class MadeProbe:
    """A probe of a feature from a hook: its score (of an amount: R²), tables and verdict."""

    feature: int
    hook: str
    score: float
    table: float = 0.875
    ceiling: float = 1.0
    verdict: str | None = "undecided"
    how: str | None = None
    by: str | None = None
    run: str = DOCUMENT


@dataclass(frozen=True)
class MadeMap:
    """A transcoder between two hooks of a model: its score, and the score of token means."""

    model: str
    source: str
    target: str
    score: float | None
    token: float | None = 0.75
    run: str = "closed form/cccccccccccc"


@dataclass(frozen=True)
class MadeNear:
    """An edge to a feature of a near decoder direction; no q: no null was drawn."""

    source: str
    target: str
    cosine: float
    rank: int = 0
    q: float | None = 0.03125


@dataclass(frozen=True)
class MadeSae:
    """An SAE: its model and hook, tokens counted (None: no statistics), and its features.

    Communities hold features that have an edge; None: no communities were computed.
    """

    name: str
    model: str
    hook: str
    architecture: str
    tokens: int | None
    l0: float | None
    fvu: float | None
    features: tuple[MadeFeature, ...]
    pairs: tuple[MadePair, ...] = ()
    probes: tuple[MadeProbe, ...] = ()
    communities: tuple[tuple[int, ...], ...] | None = None
    less: str | None = None


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
    "tiny-crowd": {i: (f" word{i}", 40) for i in range(20)},  # of crowded_graph.py
}

DEAD = MadeFeature(0, None, None, None)
UNMEASURED = MadeFeature(None, None, None, None)

BY_HAND = (
    MadeSae(
        "tiny-a-l1-s0",
        "tiny-a",
        "blocks.1.hook_resid_post",
        "topk",
        1000,
        0.503,
        0.12,
        (
            MadeFeature(
                30,
                2.0,
                0.5,
                4.0,
                ((10, 30, 2.0),),
                (
                    (
                        "top",
                        4.0,
                        ["Once", " upon", " a", " time", " a", " girl"],
                        [0, 0, 0, 0, 0, 4.0],
                        5,
                    ),
                    ("top", 3.5, [" girl", "'s", ' "', "hi", '"'], [3.5, 0, 0, 0, 0], 0),
                ),
            ),
            MadeFeature(80, 1.5, 0.25, 3.0, ((11, 40, 1.5), (12, 20, 1.25))),
            DEAD,
            MadeFeature(100, 1.0, 0.125, 2.0, ((13, 100, 1.0),)),
            MadeFeature(1, 0.5, 0.0, 0.5, ((14, 1, 0.5),)),
            MadeFeature(
                200, 0.75, 0.5, 9.0, ((15, 10, 0.5), (16, 10, 0.25), (17, 5, 9.0), (18, 5, 1.0))
            ),
            MadeFeature(2, 8.0, 1.0, 9.0, ((20, 2, 8.0),)),
            MadeFeature(
                90,
                2.5,
                0.75,
                5.0,
                ((11, 30, 2.5), (12, 30, 2.0), (10, 10, 1.5), (19, 8, 3.0)),
                (
                    (
                        "top",
                        5.0,
                        ["once", " upon", " a", " TIME", ",", " she"],
                        [0, 0, 0.5, 0, 0, 5.0],
                        5,
                    ),
                    ("top", 4.0, [" he", " said"], [4.0, 0.25], 0),
                    ("top", 4.0, [" They", " café", " 😀"], [4.0, 0, 0], 0),
                    ("fifth 1", 0.5, [" a", " 'girl'"], [0, 0.5], 1),
                    ("fifth 5", 4.5, ["\\n", " girl"], [0, 4.5], 1),
                    ("fifth 5", 4.25, [" she", "\n"], [4.25, 0], 0),
                ),
            ),
        ),
        (
            MadePair(0, 1, 12, 2.0, 0.75, 14, 0.75, 0.25),
            MadePair(0, 3, 3, 2.5, 0.125, 3, 0.125, 0.0, 0.0625),
            MadePair(
                0, 7, 12, 2.0, 0.5, 15, 0.5, 0.25, -0.0625
            ),  # weight and phi as those of (1, 7)
            MadePair(1, 3, 10, 7.5, 0.125, 10, 0.25, 0.0625, 0.0),
            MadePair(1, 7, 40, 6.0, 0.5, 60, 0.25, 0.25, -0.75),
            MadePair(3, 7, 9, 8.5, 0.25, 9, 0.25, 0.0, 0.5),  # lift 1
            MadePair(4, 6, 1, 0.002, 1.0, 1, 1.0, 0.75),  # lift 500 on one token
            MadePair(4, 7, 1, 0.08, 1.0, 1, 0.5, 0.125),  # lift as that of (6, 7)
            MadePair(5, 7, 5, 17.0, 0.25, 6, 0.5, None),
            MadePair(6, 7, 2, 0.16, 0.25, 2, 1.0, 0.125),
        ),
        (
            MadeProbe(0, "hook_embed", 0.875, 1.0, 1.0, "token", "lookup"),
            MadeProbe(1, "hook_embed", 0.5, 0.5, 0.625, "context"),
            MadeProbe(3, "hook_embed", 1.0, 1.0, 1.0, "token", "linear"),
            MadeProbe(4, "hook_embed", 0.5, 0.5, 0.75, "context", None, "position"),
            MadeProbe(5, "hook_embed", 0.5, 0.625, 0.75, "context", None, "bigram"),
            MadeProbe(6, "hook_embed", 0.875, 0.875, 1.0, "token", "linear"),
            MadeProbe(7, "hook_embed", 0.75, 0.875, 1.0, "token", "lookup"),
            MadeProbe(0, "hook_embed", 0.625, run=TYPE),
            MadeProbe(1, "hook_embed", 0.5, 0.5, 0.75, "context", run=TYPE),
            MadeProbe(3, "hook_embed", 0.625, run=TYPE),
            MadeProbe(7, "hook_embed", 0.75, 0.5, 1.0, "token", "linear", run=TYPE),
            MadeProbe(0, "hook_embed", 0.5, verdict=None, run=AMOUNT),
            MadeProbe(7, "hook_embed", 0.25, verdict=None, run=AMOUNT),
            # Two sites before the first block: only their names order them.
            MadeProbe(5, "hook_pos_embed", 0.5, 0.625, 0.75, "context", None, "position"),
            MadeProbe(7, "hook_pos_embed", 0.75),
            MadeProbe(0, "blocks.0.hook_resid_post", 1.0, 1.0, 1.0, "token", "linear"),
            MadeProbe(0, "blocks.0.hook_resid_pre", 1.0, 1.0, 1.0, "token", "linear"),
            MadeProbe(0, "blocks.1.hook_resid_post", 1.0, 1.0, 1.0, "token", "linear"),
            MadeProbe(1, "blocks.1.hook_resid_post", 1.0, 0.5, 0.625, "beyond token"),
            MadeProbe(4, "blocks.1.hook_resid_post", 1.0, 0.5, 0.75, "beyond token"),
            MadeProbe(5, "blocks.1.hook_resid_post", 1.0, 0.625, 0.75, "beyond token"),
            MadeProbe(7, "blocks.1.hook_resid_post", 0.75),
        ),
        ((0, 1, 3, 7), (4, 6), (5,)),
    ),
    MadeSae(
        "tiny-a-l1-s1",
        "tiny-a",
        "blocks.1.hook_resid_post",
        "topk",
        1000,
        0.24,
        0.13,
        (
            MadeFeature(100, 1.0, 0.5, 2.0, ((13, 90, 1.0),)),
            MadeFeature(
                40,
                3.0,
                0.5,
                4.0,
                ((10, 20, 3.0), (12, 10, 2.5)),
                (("top", 4.0, ["Once", " Upon", " A", " Time"], [0, 0, 0, 4.0], 3),),
            ),
            DEAD,
            MadeFeature(100, 2.0, 0.5, 2.0, ((11, 50, 2.0), (12, 50, 2.0))),
        ),
        (
            MadePair(0, 3, 8, 9.0, 0.125, 10),
            MadePair(1, 3, 11, 4.0, 0.625, 20),
        ),
        (
            MadeProbe(0, "hook_embed", 0.625, 0.75, 0.75, "context"),
            MadeProbe(1, "hook_embed", 0.875, 0.875, 1.0, "token", "linear"),
            MadeProbe(1, "blocks.1.hook_resid_post", 0.875),
        ),
        ((1, 3), (0,)),
    ),
    MadeSae(
        "tiny-a-l1-wide",
        "tiny-a",
        "blocks.1.hook_resid_post",
        "topk",
        1000,
        0.285,
        0.11,
        (
            MadeFeature(100, 1.0, 0.25, 1.5, ((13, 100, 1.0),)),
            MadeFeature(70, 2.0, 0.5, 4.0, ((16, 20, 2.0), (13, 20, 1.5))),
            DEAD,
            MadeFeature(25, 3.0, 0.5, 4.0, ((17, 4, 3.0),)),
            MadeFeature(90, 2.5, 0.5, 5.0, ((14, 20, 2.5),)),
        ),
        (
            MadePair(0, 4, 6, 8.5, 0.25, 9),
            MadePair(1, 3, 6, 1.5, 0.5, 6),
        ),
        (),
        ((0, 4), (1, 3)),
        "map from hook_embed",
    ),
    MadeSae(
        "tiny-b-l0",
        "tiny-b",
        "blocks.0.hook_resid_post",
        "jumprelu",
        500,
        0.156,
        0.05,
        (
            MadeFeature(20, 1.0, 0.0, 1.0, ((5, 20, 1.0),)),
            MadeFeature(8, 1.0, 0.5, 2.0, ((6, 4, 1.0), (7, 2, 1.5))),
            MadeFeature(50, 0.25, 0.125, 0.5, ((7, 2, 0.25),)),
        ),
        (),
        (
            MadeProbe(0, "hook_embed", 1.0, 1.0, 1.0, "token", "linear"),
            MadeProbe(1, "hook_embed", 0.75),
        ),
        (),
    ),
    MadeSae(
        "tiny-a-embed",
        "tiny-a",
        "hook_embed",
        "standard",
        None,
        None,
        None,
        (
            UNMEASURED,
            UNMEASURED,
        ),
    ),
)

# SAEs of another seed, another width, another model.
COMPARED = (
    MadeComparison(
        "tiny-a-l1-s0",
        "tiny-a-l1-s1",
        (
            MadeMatch(0, 1, 0.875, token_q=0.25),  # only a shared token
            MadeMatch(1, 3, 0.75, (0, 1), False, 0.03, 0.0625, 0.0625, 2),
            MadeMatch(3, 0, 1.0, token_q=None, document_q=None),
            MadeMatch(5, 0, 0.25, (0, 1), False, 0.5, 0.5, 0.75, 0),
            MadeMatch(7, 1, 0.25, (1, None), False, 0.5, 0.5, 0.5, 1),
            MadeMatch(7, 3, 1.0, shared=2),
        ),
    ),
    MadeComparison(
        "tiny-a-l1-s0",
        "tiny-a-l1-wide",
        (
            MadeMatch(1, 1, 0.5, (0, 1), False),
            MadeMatch(3, 0, 1.0, token_q=0.5),
            MadeMatch(
                6, 3, 0.125, p=0.25, q=0.375, token_q=0.5, shared=0, document_q=0.5
            ),  # one to one, by chance
            MadeMatch(7, 1, 0.625, document_q=0.125),
        ),
    ),
    MadeComparison(
        "tiny-a-l1-s1",
        "tiny-a-l1-wide",
        (
            MadeMatch(0, 0, 0.875),
            MadeMatch(1, 3, 0.5, shared=0, document_q=None),
            MadeMatch(3, 4, 0.75, shared=0),
        ),
    ),
    MadeComparison(
        "tiny-a-l1-s0",
        "tiny-b-l0",
        (
            MadeMatch(0, 0, 0.75, p=None, q=None, token_q=None, document_q=None),
            MadeMatch(7, 0, 0.5, (0, 1), False, None, None, None, document_q=None),
        ),
        0,
        "words",
    ),
)


L0, L1 = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"

# From the embedding and from a block, by two methods, to the same site, of a flat target.
MAPS = (
    MadeMap("tiny-a", "hook_embed", L1, 0.5),
    MadeMap("tiny-a", "hook_embed", L1, 0.375, run="adam/cccccccccccc"),
    MadeMap("tiny-a", "hook_embed", L0, 0.75),
    MadeMap("tiny-a", L0, L1, 0.875),
    MadeMap("tiny-a", L1, L1, 1.0),
    MadeMap("tiny-a", L1, "hook_embed", None, None),
    MadeMap("tiny-b", "hook_embed", L0, 0.25, 0.125),
    MadeMap("tiny-random", "hook_embed", L1, 0.0625, 0.125),  # which no SAE reads
)

# Mutual and one-sided, equal cosines, of pairs that are active together and of others, across SAEs.
NEAR = (
    MadeNear("tiny-a-l1-s0/0", "tiny-a-l1-s0/7", 0.75),
    MadeNear("tiny-a-l1-s0/0", "tiny-a-l1-s0/4", 0.625, 1, 0.0625),
    MadeNear("tiny-a-l1-s0/1", "tiny-a-l1-s0/5", 0.5),
    MadeNear("tiny-a-l1-s0/3", "tiny-a-l1-s0/5", 0.25, q=0.5),
    MadeNear("tiny-a-l1-s0/4", "tiny-a-l1-s0/0", 0.625, q=0.125),
    MadeNear("tiny-a-l1-s0/4", "tiny-a-l1-s0/6", 0.5, 1),
    MadeNear("tiny-a-l1-s0/5", "tiny-a-l1-s0/1", 0.5),
    MadeNear("tiny-a-l1-s0/7", "tiny-a-l1-s0/0", 0.75),
    MadeNear("tiny-a-l1-s0/7", "tiny-a-l1-s0/6", 0.75, 1, None),
    MadeNear("tiny-a-l1-s0/7", "tiny-a-l1-s1/3", 0.875, q=0.015625),
    MadeNear("tiny-a-l1-s0/7", "tiny-a-l1-wide/1", 0.75),
    MadeNear("tiny-a-l1-s1/3", "tiny-a-l1-s0/7", 0.875),
    MadeNear("tiny-a-l1-s1/0", "tiny-a-l1-s1/1", -0.125, q=1.0),
    MadeNear("tiny-a-l1-s1/3", "tiny-a-l1-s1/1", 0.125, q=0.75),
)


# Two widths and a chain; a parent with children of equal shares, and one that is absorbed twice.
SPLITS = (
    MadeSplit("tiny-a-l1-s0", "tiny-a-l1-wide", 0, 0, 1.0, 0.75),
    MadeSplit("tiny-a-l1-s0", "tiny-a-l1-wide", 1, 1, 0.875, 0.5, classes=("split", "split")),
    MadeSplit("tiny-a-l1-s0", "tiny-a-l1-wide", 1, 3, 0.5, 0.5, False, 12, ("split", "split")),
    MadeSplit("tiny-a-l1-s0", "tiny-a-l1-wide", 7, 1, 0.5, 0.75, classes=("absorbed", "split")),
    MadeSplit(
        "tiny-a-l1-s0", "tiny-a-l1-wide", 7, 4, 1.0, 0.25, False, 10, ("absorbed", "absorbing")
    ),
    MadeSplit(
        "tiny-a-l1-s0", "tiny-a-l1-wide", 7, 0, 1.0, 0.25, False, 10, ("absorbed", "absorbing")
    ),
    MadeSplit("tiny-a-l1-s1", "tiny-a-l1-s0", 0, 1, 0.75, 0.75),
    MadeSplit("tiny-a-l1-s1", "tiny-a-l1-s0", 3, 7, 0.5, 0.25, classes=("partial", "partial")),
    MadeSplit("tiny-a-l1-s1", "tiny-a-l1-wide", 0, 3, 0.625, 0.5, classes=("partial", "partial")),
)


# Targets of equal size and both signs, a chain over three SAEs that closes once, and a cycle.
EFFECTS = (
    MadeEffect("tiny-a-l1-s0/7", "tiny-a-l1-s1/0", -2.0, 0),
    MadeEffect("tiny-a-l1-s0/7", "tiny-a-l1-s1/1", 2.0, 1, 1.0),
    MadeEffect("tiny-a-l1-s0/7", "tiny-a-l1-wide/3", -0.5, 2),
    MadeEffect("tiny-a-l1-s0/0", "tiny-a-l1-s1/0", 0.25),
    MadeEffect("tiny-a-l1-s1/0", "tiny-a-l1-wide/3", -1.0),
    MadeEffect("tiny-a-l1-s1/1", "tiny-a-l1-wide/3", 1.0),
    MadeEffect("tiny-a-l1-s1/1", "tiny-a-l1-wide/4", 1.0, 1),
    MadeEffect("tiny-a-embed/1", "tiny-a-l1-s0/7", -0.125),
)


def small_graph(*, shuffled: int | None = None) -> Graph:
    """Return the graph written by hand; with a seed, the rows of every table are shuffled."""
    return make_graph(
        BY_HAND,
        COMPARED,
        maps=MAPS,
        near=NEAR,
        splits=SPLITS,
        effects=EFFECTS,
        concepts=CONCEPTS,
        shuffled=shuffled,
    )


def random_graph(seed: int, *, features: int = 60, shuffled: int | None = None) -> Graph:
    """Return a graph of three SAEs on one site, all numbers drawn from few values: all ties."""
    rng = random.Random(seed)
    names = ("tiny-a-l1-s0", "tiny-a-l1-s1", "tiny-a-l1-wide")

    def feature() -> MadeFeature:
        if rng.random() < 0.2:
            return DEAD
        stored = sorted(rng.sample(sorted(VOCABULARY["tiny-a"]), rng.randint(1, 4)))
        shown = [("top", 2.0, [" once", " upon"], [2.0, 0.0], 0)] * rng.randint(0, 3)
        shown += [
            ("fifth 2", rng.choice([0.5, 1.0]), [" a", " time"], [0.5, 0.0], 0)
        ] * rng.randint(0, 2)
        return MadeFeature(
            rng.choice([10, 20]),
            1.0,
            0.5,
            rng.choice([2.0, 4.0]),
            tuple((t, rng.choice([2, 1]), 1.0) for t in stored),
            tuple(shown),
        )

    def sae(name: str) -> MadeSae:
        made = tuple(feature() for _ in range(features))
        live = [i for i, f in enumerate(made) if f.active]
        pairs = tuple(_random_pairs(rng, live))
        probes = tuple(_random_probes(rng, live))
        linked = sorted({i for pair in pairs for i in (pair.one, pair.two)})
        groups = [rng.randrange(4) for _ in linked]
        by_group = [
            tuple(i for i, g in zip(linked, groups, strict=True) if g == n) for n in range(4)
        ]
        return MadeSae(
            name,
            "tiny-a",
            "blocks.1.hook_resid_post",
            "topk",
            1000,
            1.0,
            0.5,
            made,
            pairs,
            probes,
            tuple(g for g in by_group if g),
        )

    saes = tuple(sae(n) for n in names)
    compared = tuple(_random_matches(rng, a, b) for a in saes for b in saes if a.name < b.name)
    near = tuple(_random_near(rng, saes))
    splits = tuple(
        split for a in saes for b in saes if a.name < b.name for split in _random_splits(rng, a, b)
    )
    effects = tuple(_random_effects(rng, saes))
    live = {s.name: [i for i, f in enumerate(s.features) if f.active] for s in saes}
    concepts = tuple(random_concepts(rng, live))
    return make_graph(
        saes,
        compared,
        near=near,
        splits=splits,
        effects=effects,
        concepts=concepts,
        shuffled=shuffled,
    )


def _random_effects(rng: random.Random, saes: tuple[MadeSae, ...]) -> Iterable[MadeEffect]:
    """Yield effects of half of the live features on later SAEs, of few sizes."""
    live = {sae.name: [i for i, f in enumerate(sae.features) if f.active] for sae in saes}
    for number, sae in enumerate(saes):
        for i in live[sae.name]:
            later = [f"{t.name}/{j}" for t in saes[number + 1 :] for j in live[t.name]]
            chosen = rng.sample(later, min(len(later), rng.choice([0, 0, 1, 3])))
            for rank, target in enumerate(chosen):
                yield MadeEffect(f"{sae.name}/{i}", target, rng.choice([-0.5, 0.5, 1.0]), rank)


def _random_near(rng: random.Random, saes: tuple[MadeSae, ...]) -> Iterable[MadeNear]:
    """Yield two near directions in each SAE for each live feature, of few cosines."""
    live = {sae.name: [i for i, f in enumerate(sae.features) if f.active] for sae in saes}
    for one, own in live.items():
        for i in own:
            for two, others in live.items():
                near = rng.sample([j for j in others if (two, j) != (one, i)], 2)
                for rank, j in enumerate(near):
                    yield MadeNear(
                        f"{one}/{i}",
                        f"{two}/{j}",
                        rng.choice([0.25, 0.5, 0.75]),
                        rank,
                        rng.choice([None, 0.25, 0.03125]),
                    )


def _random_splits(rng: random.Random, a: MadeSae, b: MadeSae) -> Iterable[MadeSplit]:
    """Yield children of half of the live features; the first child is the main child."""
    live = [[i for i, f in enumerate(s.features) if f.active] for s in (a, b)]
    for parent in live[0]:
        classes = rng.choice(["split", "absorbed", "partial"])
        coverage = rng.choice([0.5, 0.75])
        chosen = rng.sample(live[1], rng.choice([0, 0, 1, 2, 4]))
        for number, child in enumerate(chosen):
            child_class = rng.choice(["absorbing", "partial"])
            yield MadeSplit(
                a.name,
                b.name,
                parent,
                child,
                rng.choice([0.5, 1.0]),
                rng.choice([0.25, 0.5]),
                number == 0,
                rng.choice([0, 10]),
                (classes, child_class),
                coverage,
            )


def _random_pairs(rng: random.Random, live: list[int]) -> Iterable[MadePair]:
    """Yield co-activation edges between a sixth of all pairs."""
    for one in live:
        for two in live:
            if one < two and rng.random() < 1 / 6:
                joint = rng.choice([2, 4])
                yield MadePair(
                    one,
                    two,
                    rng.choice([1, joint]),
                    0.5,
                    rng.choice([0.25, 0.5]),
                    joint,
                    rng.choice([0.25, 0.5]),
                    rng.choice([None, 0.0, 0.5]),
                )


def _random_probes(rng: random.Random, live: list[int]) -> Iterable[MadeProbe]:
    """Probe most features at some sites by two runs; scores are quarters."""
    hooks = (
        "hook_embed",
        "blocks.0.hook_resid_pre",
        "blocks.0.hook_mlp_out",
        "blocks.1.hook_resid_post",
    )
    verdicts = (
        ("token", "linear", None),
        ("token", "lookup", None),
        ("undecided", None, None),
        ("context", None, "bigram"),
        ("context", None, None),
        ("beyond token", None, None),
    )
    for feature in live:
        for hook in hooks:
            for run in (DOCUMENT, TYPE):
                if rng.random() < 0.8:
                    score, table, ceiling = (rng.choice([0.5, 0.75, 1.0]) for _ in range(3))
                    yield MadeProbe(
                        feature, hook, score, table, ceiling, *rng.choice(verdicts), run
                    )


def _random_matches(rng: random.Random, a: MadeSae, b: MadeSae) -> MadeComparison:
    """Match two SAEs: a random one-to-one assignment, and the same number of other matches."""
    live = [[i for i, f in enumerate(s.features) if f.active] for s in (a, b)]
    size = min(map(len, live)) * 2 // 3
    chosen = list(zip(*(rng.sample(side, size) for side in live), strict=True))
    extra = {(rng.choice(live[0]), rng.choice(live[1])) for _ in chosen} - set(chosen)
    made = [
        MadeMatch(
            *pair,
            rng.choice([0.25, 0.5]),
            (rng.choice([0, 1, None]), rng.choice([0, 1, None])),
            i < size,
            0.01,
            rng.choice([0.02, 0.05, 0.2]),
            rng.choice([None, 0.05, 0.2]),
            rng.randint(0, 2),
        )
        for i, pair in enumerate(chosen + sorted(extra))
    ]
    return MadeComparison(a.name, b.name, tuple(made))


def make_graph(
    saes: tuple[MadeSae, ...],
    compared: tuple[MadeComparison, ...] = (),
    *,
    maps: tuple[MadeMap, ...] = (),
    near: tuple[MadeNear, ...] = (),
    splits: tuple[MadeSplit, ...] = (),
    concepts: tuple[MadeSeparation | MadeRetention, ...] = (),
    effects: tuple[MadeEffect, ...] = (),
    shuffled: int | None = None,
) -> Graph:
    """Return SAEs as the tables of the schema."""
    rows: dict[str, list[dict[str, object]]] = {t.name: [] for t in (*schema.NODES, *schema.EDGES)}
    rows["Corpus"].append(
        {
            "id": "c" * 12,
            "name": "stories",
            "source": "memory",
            "revision": None,
            "documents": 9,
            "characters": 4321,
        }
    )
    rows["NEAR_DIRECTION"] += [
        _edge(
            e.source,
            e.target,
            cosine=e.cosine,
            rank=e.rank,
            q=e.q,
            p=None if e.q is None else e.q / 2,
        )
        for e in near
    ]
    for sae in saes:
        for hook in (sae.hook, *(p.hook for p in sae.probes)):
            _add_site(rows, sae.model, hook)
        _add_sae(rows, sae)
        for idx, feature in enumerate(sae.features):
            _add_feature(rows, sae, idx, feature)
        rows["CO_ACTIVATES"] += [_pair(sae, pair) for pair in sae.pairs]
        rows["PREDICTED_FROM"] += [_probe(sae, probe) for probe in sae.probes]
        if sae.communities is not None:
            _add_communities(rows, sae, sae.communities)
    for comparison in compared:
        _add_comparison(rows, comparison)
    for each in maps:
        for hook in (each.source, each.target):
            _add_site(rows, each.model, hook)
        rows["MAPS_TO"].append(_map(each))
    rows["SPLITS_INTO"] += [_split(split) for split in splits]
    add_concepts(rows, concepts)
    rows["AFFECTS"] += [_effect(effect) for effect in effects]
    if effects:
        for feature in rows["Feature"]:
            feature |= _effect_numbers(feature) | _mark_numbers(feature)
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


def _similarities(pairs: int) -> dict[str, object]:
    """Return values of similarity; those of activations differ, and CCA is not defined."""
    values = {"svcca": 0.5, "cka": 0.25, "rsa": 0.125, "knn_jaccard": 0.0625}
    found: dict[str, object] = {"similarity_pairs": pairs, "similarity_draws": 3}
    found |= {"unique_ab": 0.75, "unique_ab_null": 0.625}
    for space, factor in (("decoder", 1.0), ("activation", 1.5)):
        for name, value in values.items():
            one = f"{space}_{name}"
            found |= {one: factor * value, f"{one}_null": value / 8, f"{one}_p": 0.25}
    return found


def _edge(source: str, target: str, **properties: object) -> dict[str, object]:
    return {"source": source, "target": target, **properties}


def _add_site(rows: dict[str, list[dict[str, object]]], model: str, hook: str) -> None:
    """Add a model and a site of it, unless the rows have them."""
    site = f"{model}/{hook}"
    if model not in {r["name"] for r in rows["Model"]}:
        rows["Model"].append(
            {
                "name": model,
                "source": "memory",
                "weights": "w" * 64,
                "d_model": 96,
                "layers": 2,
                "architecture": "LlamaForCausalLM",
                "dtype": "float32",
                "tokenizer": TOKENIZERS[model],
            }
        )
    if site not in {r["id"] for r in rows["Site"]}:
        layer = int(hook.split(".")[1]) if hook.startswith("blocks.") else None
        rows["Site"].append(
            {
                "id": site,
                "model": model,
                "hook": hook,
                "layer": layer,
                "width": 96,
            }
        )
        rows["OF_MODEL"].append(_edge(site, model))


def _add_sae(rows: dict[str, list[dict[str, object]]], sae: MadeSae) -> None:
    """Add an SAE with its edges; columns of statistics are null if it has none."""
    size = len(sae.features)
    dead = None if sae.tokens is None else sum(f.active == 0 for f in sae.features)
    rows["SAE"].append(
        {
            "name": sae.name,
            "atlas": ATLAS,
            "source": "memory",
            "architecture": sae.architecture,
            "d_in": 96,
            "d_sae": size,
            "seed": 0,
            "model": sae.model,
            "hook": sae.hook,
            "context_size": 256,
            "prepend_bos": True,
            "dtype": "float32",
            "weights": "w" * 64,
            "less": sae.less,
            "tokens": sae.tokens,
            "l0": sae.l0,
            "fvu": sae.fvu,
            "dead": dead,
            "dead_share": None if dead is None else dead / size,
            **_geometry(size, dead),
        }
    )
    rows["READS"].append(_edge(sae.name, f"{sae.model}/{sae.hook}"))
    rows["MEASURED_ON"].append(_edge(sae.name, "c" * 12))


def _geometry(size: int, dead: int | None) -> dict[str, object]:
    """Return numbers of the decoder, null for an SAE without counts; many SAEs have equal ones."""
    if dead is None:
        return {}
    return {
        "decoder_participation_ratio": size / 4,
        "decoder_participation_p": 0.25,
        "decoder_stable_rank": size / 8,
        "decoder_slope": -0.5,
        "decoder_mean_share": 0.125,
        "homology_h0": 1.5,
        "homology_h1": 1.25,
        "homology_h2": 1.125,
        "homology_p": 0.025 if dead else 0.5,
        "mapper_p": 0.25,
    }


def _add_feature(
    rows: dict[str, list[dict[str, object]]], sae: MadeSae, idx: int, made: MadeFeature
) -> None:
    """Add a feature with its edges, tokens' numbers and examples."""
    name = f"{sae.name}/{idx}"
    words = VOCABULARY[sae.model]
    rows["Feature"].append(
        {
            "id": name,
            "sae": sae.name,
            "idx": idx,
            "active_tokens": made.active,
            "neuronpedia": f"https://www.neuronpedia.org/{name}" if idx % 2 else None,
            "frequency": None if made.active is None else made.active / sae.tokens,
            "mean_activation": made.mean,
            "std_activation": made.std,
            "max_activation": made.max,
            "dead": None if made.active is None else made.active == 0,
            "top_token": words[made.tokens[0][0]][0] if made.tokens else None,
            **_add_logits(rows, sae, idx, live=bool(made.active)),
        }
    )
    rows["IN_SAE"].append(_edge(name, sae.name))
    for rank, (token, count, mean) in enumerate(made.tokens):
        rows["FIRES_ON"].append(
            _edge(
                name,
                _token(sae.model, token),
                rank=rank,
                count=count,
                share=count / made.active,
                rate=count / words[token][1],
                mean_activation=mean,
            )
        )
    for rank, (kind, activation, tokens, activations, peak) in enumerate(made.examples):
        rows["Example"].append(
            {
                "id": f"{name}/{rank}",
                "sae": sae.name,
                "idx": idx,
                "rank": rank,
                "kind": kind,
                "activation": activation,
                "text": "".join(tokens),
                "tokens": tokens,
                "activations": [float(a) for a in activations],
                "peak": peak,
                "document": rank,
                "start": 10 * rank,
            }
        )
        rows["SHOWN_BY"].append(_edge(name, f"{name}/{rank}"))


def _add_logits(
    rows: dict[str, list[dict[str, object]]], sae: MadeSae, idx: int, *, live: bool
) -> dict[str, object]:
    """Add edges of logits to a live feature, with ties; return its properties, odd ones ablated."""
    name, tokens = f"{sae.name}/{idx}", sorted(VOCABULARY[sae.model])
    if not live:
        return {}
    ablated = idx % 2 == 1
    for edge, chosen, sign in (("PROMOTES", tokens[:3], 1), ("SUPPRESSES", tokens[-2:], -1)):
        for rank, token in enumerate(chosen):
            value = sign * (0.5 - 0.125 * (rank // 2) + 0.25 * (idx % 3))
            rows[edge].append(
                _edge(
                    name,
                    _token(sae.model, token),
                    rank=rank,
                    value=value,
                    ablated_change=-value / 4 if ablated else None,
                )
            )
    if not ablated:
        return {}
    return {
        "logit_agreement": 0.75 - 0.25 * (idx // 4),
        "logit_agreement_control": 0.125,
        "logit_agreement_p": 0.25,
        "logit_positions": 8,
    }


def _pair(sae: MadeSae, made: MadePair) -> dict[str, object]:
    """Return a co-activation edge; other columns are computed from the joint count."""
    one, two = (sae.features[i].active for i in (made.one, made.two))
    return _edge(
        f"{sae.name}/{made.one}",
        f"{sae.name}/{made.two}",
        count=made.count,
        expected=made.expected,
        weight=made.weight,
        cosine=made.cosine,
        joint_count=made.joint,
        jaccard=made.joint / (one + two - made.joint),
        phi=made.phi,
        lift=made.joint * sae.tokens / (one * two),
        decoder_cosine=made.decoder,
    )


def _add_communities(
    rows: dict[str, list[dict[str, object]]], sae: MadeSae, communities: tuple[tuple[int, ...], ...]
) -> None:
    """Add communities and the numbers of nodes; those that no query computes are arbitrary, with ties."""
    number = {i: n for n, members in enumerate(communities) for i in members}
    met: dict[int, list[tuple[int, float]]] = {i: [] for i in range(len(sae.features))}
    for pair in sae.pairs:
        met[pair.one].append((pair.two, pair.weight))
        met[pair.two].append((pair.one, pair.weight))
    for n, members in enumerate(communities):
        held = [w for i in members for j, w in met[i] if number[j] == n]
        rows["Community"].append(
            {
                "id": f"{sae.name}/{n}",
                "sae": sae.name,
                "number": n,
                "size": len(members),
                "edges": len(held) // 2,
                "inner_share": 0.75,
                "conductance": 0.25 if n else None,
                "tokens": [VOCABULARY[sae.model][13][0], '"'] if n % 2 == 0 else [],
                "weighted_by": "total",
                "min_count": 1,
                "stability": 0.5,
                "stability_halves": 0.5 if n else None,
                "stability_null": 0.125 if n else None,
                "stability_null_high": 0.25 if n else None,
            }
        )
    for row in [r for r in rows["Feature"] if r["sae"] == sae.name]:
        idx = int(str(row["idx"]))
        partners = met[idx]
        row |= {
            "degree": len(partners),
            "strength": sum(w for _, w in partners),
            "clustering": 0.25 * (idx % 2),
            "pagerank": 1 / len(sae.features),
            "core": min(len(partners), 2),
            "betweenness": 0.125 * (idx % 3),
            "component": idx % 2,
            "partners_expected": [2.0, 4.0, None, 0.0][idx % 4],
            "partner_diversity": 0.5 + 0.25 * (idx % 2) if len(partners) > 1 else None,
            "community": number.get(idx),
        }
        if idx in number:
            inner = [w for j, w in partners if number[j] == number[idx]]
            rows["IN_COMMUNITY"].append(
                _edge(
                    f"{sae.name}/{idx}",
                    f"{sae.name}/{number[idx]}",
                    inner_degree=len(inner),
                    inner_share=sum(inner) / sum(w for _, w in partners),
                )
            )


def _probe(sae: MadeSae, made: MadeProbe) -> dict[str, object]:
    """Return a probe's edge; of an amount, it has R² instead of balanced accuracies."""
    split, kind, _ = made.run.split("/")
    row: dict[str, object] = {
        "run": made.run,
        "split": split,
        "kind": kind,
        "penalty": 0.001,
        "threshold": 0.0,
        "train_tokens": 800,
        "train_positives": 80 + made.feature,
        "tokens": 200,
        "positives": 20 + made.feature,
        "seen_share": 0.75,
        "iterations": 9,
        "converged": True,
    }
    if kind == "activation":
        row |= {"r2": made.score, "r2_token_table": made.table, "r2_token_ceiling": made.ceiling}
    else:
        row |= {
            "balance": "weight",
            "balanced_accuracy": made.score,
            "low": made.score - 0.0625,
            "high": min(1.0, made.score + 0.0625),
            "auroc": made.score,
            "token_table": made.table,
            "token_table_low": made.table - 0.0625,
            "token_ceiling": made.ceiling,
            "token_ceiling_high": min(1.0, made.ceiling + 0.0625),
            "position_table": 0.5,
            "position_ceiling": 0.5625,
            "bigram_table": 0.625,
            "bigram_ceiling": 1.0,
            "control": 0.5 if made.feature else None,
            "shuffled": 0.5,
            "verdict": made.verdict,
            "selectivity": made.score - 0.5 if made.feature else None,
            "how": made.how,
            "context_by": made.by,
            "tau": 0.85,
            "delta": 0.02,
            "generalises": made.score > 0.75 if made.feature % 2 else None,
        }
    return _edge(f"{sae.name}/{made.feature}", f"{sae.model}/{made.hook}", **row)


def _effect(made: MadeEffect) -> dict[str, object]:
    """Return an edge of effects; other columns are computed from the mean change."""
    return _edge(
        made.source,
        made.target,
        mean=made.mean,
        here=made.mean / 2,
        low=made.mean - 0.125,
        high=made.mean + 0.125,
        share=made.share,
        positions=12,
        documents=10,
        attributed=made.mean * 1.25,
        random=abs(made.mean) / 4,
        other=made.mean / 8,
        p=0.001,
        p_other=0.002,
        q=0.0625 / (1 + made.rank),
        rank=made.rank,
    )


def _effect_numbers(feature: dict[str, object]) -> dict[str, object]:
    """Return the effects of a live feature, of few values; one in five was not measured."""
    idx = int(str(feature["idx"]))
    if not feature["active_tokens"] or idx % 5 == 4:
        return {}
    return {
        "effect_tokens": 12,
        "effect_ce": 0.125 * (idx % 3 - 1),
        "effect_ce_later": 0.0625,
        "effect_kl": 0.125 * (idx % 4),
        "effect_kl_later": 0.25,
        "effect_kl_random": 0.375,
        "effect_kl_other": 0.25 * (idx % 2),
        "effect_q": (1.0, 0.5, 0.03125)[idx % 3],
    }


def _mark_numbers(feature: dict[str, object]) -> dict[str, object]:
    """Return the marks of a live feature, of few values; one in four has too few active tokens."""
    idx = int(str(feature["idx"]))
    if not feature["active_tokens"] or idx % 4 == 3:
        return {}
    return {
        "top_token_share": 0.25 * (1 + idx % 3),
        "token_entropy": 1.5 * (idx % 2),
        "context_dependence": 0.125 * (idx % 4),
        "example_agreement": 0.5,
        "example_agreement_control": 0.0625,
        "detection": 0.5 + 0.125 * (idx % 3),
        "detection_control": 0.5,
    }


def _split(made: MadeSplit) -> dict[str, object]:
    """Return an edge of splitting; the counts follow from the shares."""
    return _edge(
        f"{made.a}/{made.parent}",
        f"{made.b}/{made.child}",
        decoder_cosine=made.of_child / 2,
        cosine_null=0.375,
        joint_count=int(40 * made.of_child),
        expected=2.5,
        parent_given_child=made.of_child,
        child_given_parent=made.of_parent,
        main=made.main,
        main_absent=made.absent,
        coverage=made.coverage,
        coverage_null=made.coverage / 4,
        parent_class=made.classes[0],
        child_class=made.classes[1],
        p_cosine=0.001,
        p_joint=0.002,
        q=0.01 * made.of_child,
    )


def _map(made: MadeMap) -> dict[str, object]:
    """Return a transcoder's edge; other columns are computed from its score and that of the token."""
    score, adam = made.score, made.run.startswith("adam")
    row: dict[str, object] = {
        "run": made.run,
        "method": made.run.split("/")[0],
        "corpus": "c" * 12,
        "tokens": 1000,
        "fit_tokens": 600 if adam else 800,
        "folds": 1 if adam else 5,
        "token_r2_weighted": made.token,
        "penalty": None if adam else 0.125,
        "steps": 640 if adam else None,
        "rank": 96,
        "rate": 0.001 if adam else None,
        "r2_weighted": score,
        "bos_share": 0.5,
    }
    if score is not None:
        row |= {
            "r2": score - 0.0625,
            "token_r2": made.token - 0.0625,
            "r2_low": score - 0.03125,
            "r2_high": min(1.0, score + 0.03125),
            "token_r2_low": made.token - 0.0625,
            "token_r2_high": made.token + 0.0625,
            "token_difference": score - made.token,
            "token_difference_low": score - made.token - 0.03125,
            "token_difference_high": score - made.token + 0.03125,
            "r2_in_sample_weighted": min(1.0, score + 0.125),
            "token_eta2_weighted": made.token + 0.125,
            "token_omega2_weighted": made.token + 0.0625,
            "r2_with_bos_weighted": score - 0.125,
            "r2_published": min(1.0, score + 0.25),
        }
    return _edge(f"{made.model}/{made.source}", f"{made.model}/{made.target}", **row)


def _add_comparison(rows: dict[str, list[dict[str, object]]], made: MadeComparison) -> None:
    """Add the matches of two SAEs, and their sums as an edge between the SAEs."""
    for m in made.matches:
        rank_ab, rank_ba = m.ranks
        rows["MATCHES"].append(
            _edge(
                f"{made.a}/{m.a}",
                f"{made.b}/{m.b}",
                pearson=m.pearson,
                phi=m.pearson / 2,
                joint_count=10 + m.a,
                rank_ab=rank_ab,
                rank_ba=rank_ba,
                mutual=m.ranks == (0, 0),
                one_to_one=m.one_to_one,
                claims_on_source=sum(x.ranks[1] == 0 for x in made.matches if x.a == m.a),
                claims_on_target=sum(x.ranks[0] == 0 for x in made.matches if x.b == m.b),
                alignment=made.alignment,
                shared_tokens=m.shared,
                decoder_cosine=m.pearson / 4 if made.alignment == "tokens" else None,
                encoder_cosine=m.pearson / 8 if made.alignment == "tokens" else None,
                p=m.p,
                p_pooled=m.p,
                q=m.q,
                token_p=m.token_q,
                token_p_pooled=m.token_q,
                token_q=m.token_q,
                null_pearson=m.pearson / 16,
                token_null_pearson=None if m.token_q is None else m.pearson / 2,
                **dict.fromkeys(
                    ("token_document_p", "token_document_p_pooled", "token_document_q"),
                    m.document_q,
                ),
                token_document_null_pearson=None if m.document_q is None else m.pearson / 1.6,
                fixed_share=m.pearson / 1.25,
                **dict.fromkeys(
                    ("p_floor", "token_p_floor", "token_document_p_floor"),
                    None if m.p is None else m.p / 2,
                ),
            )
        )
    paired = [m for m in made.matches if m.one_to_one]
    sound = [m for m in paired if m.q is not None and m.q <= 0.05]
    more = [m for m in sound if m.token_q is not None and m.token_q <= 0.05]
    beyond = [m for m in more if m.document_q is not None and m.document_q <= 0.05]
    undecided = [m for m in more if m not in beyond and m.pearson / 1.25 > 0.5]
    rows["COMPARED_WITH"].append(
        _edge(
            made.a,
            made.b,
            alignment=made.alignment,
            tokens=1000,
            documents=9,
            matches=len(made.matches),
            mutual=sum(m.ranks == (0, 0) for m in made.matches),
            one_to_one=len(paired),
            significant=len(sound) if made.draws else None,
            beyond_token=len(beyond) if made.draws else None,
            undecided=len(undecided) if made.draws else None,
            best_ab=0.5,
            best_ba=0.625,
            draws=made.draws,
            **dict.fromkeys(
                (
                    "null_best_ab",
                    "null_best_ba",
                    "token_null_best_ab",
                    "token_null_best_ba",
                    "token_document_null_best_ab",
                    "token_document_null_best_ba",
                    "null_threshold",
                    "token_null_threshold",
                    "token_document_null_threshold",
                ),
                0.125 if made.draws else None,
            ),
            p_floor=1 / (1 + made.draws),
            draws_needed=len(made.matches) + 3,
            matches_needed=len(paired) if made.draws else None,
            **_similarities(len(paired)) if made.draws else {},
        )
    )
