"""The small graph and an SAE in which each picture of Neo4j Browser reaches its limit.

Feature ``crowd-0/0`` has 39 neighbours, 30 counterparts, 39 conserved edges, 20 tokens, and a
community of 34 members, of whom more than 25 have a larger share of their edges inside. With the SAEs of the small
graph there are more than 50 SAEs, one of which is beyond the limit and compared with another.
"""

import random

from small_graph import (
    BY_HAND,
    COMPARED,
    DEAD,
    VOCABULARY,
    MadeComparison,
    MadeFeature,
    MadeMatch,
    MadePair,
    MadeSae,
    make_graph,
)

from atlas.stores import Graph

__all__ = ["CROWDED_FEATURE", "crowded_graph"]

CROWDED_FEATURE = "crowd-0/0"
FEATURES = 40
INSIDE = 34  # features of the first community
MODEL, HOOK = "tiny-crowd", "blocks.1.hook_resid_post"


def _sae(name: str, features: tuple[MadeFeature, ...], **more: object) -> MadeSae:
    return MadeSae(name, MODEL, HOOK, "topk", 1000, 1.0, 0.5, features, **more)  # type: ignore[arg-type]


def _features() -> tuple[MadeFeature, ...]:
    tokens = tuple((i, 20 - i, 1.0) for i in sorted(VOCABULARY[MODEL]))
    first = MadeFeature(300, 1.0, 0.5, 2.0, tokens)
    return (
        first,
        *(MadeFeature(100, 1.0, 0.5, 2.0, ((i % 20, 10, 1.0),)) for i in range(1, FEATURES)),
    )


def _pairs(rng: random.Random) -> tuple[MadePair, ...]:
    """Return edges from feature 0 to all others, and about a third of the other pairs."""
    weights = iter(rng.sample(range(1, 2000), 1000))
    return tuple(
        MadePair(one, two, 5, 1.0, (next(weights) + 2048 * (one == 0 and two >= INSIDE)) / 4096, 6)
        for one in range(FEATURES)
        for two in range(one + 1, FEATURES)
        if one == 0 or rng.random() < 1 / 3
    )


def crowded_graph() -> Graph:
    """Return the small graph with the crowded SAEs, as tables of the schema."""
    rng = random.Random(7)
    edges = _pairs(rng)
    groups = (tuple(range(INSIDE)), tuple(range(INSIDE, FEATURES)))
    saes = [
        _sae("crowd-0", _features(), pairs=edges, communities=groups),
        _sae("crowd-1", _features(), pairs=edges),
        *(_sae(f"crowd-none-{i:02}", (DEAD,)) for i in range(45)),
        _sae("zz-beyond-the-limit", (DEAD,)),
    ]
    scores = iter(rng.sample(range(1, 1000), 200))
    matches = [MadeMatch(i, i, next(scores) / 1024, shared=0) for i in range(FEATURES)] + [
        MadeMatch(0, i, next(scores) / 1024, (i, 0), one_to_one=False) for i in range(1, 30)
    ]
    compared = [
        MadeComparison("crowd-0", "crowd-1", tuple(matches)),
        MadeComparison("crowd-0", "zz-beyond-the-limit", ()),
    ]
    return make_graph((*BY_HAND, *saes), (*COMPARED, *compared))
