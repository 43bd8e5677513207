"""The random graph of ``small_graph`` with thousands of features, of which each has a few edges."""

import random
from collections.abc import Iterable

import small_graph
from small_graph import MadeEffect, MadeNear, MadePair, MadeSae

from atlas.stores import Graph

__all__ = ["large_graph"]


def large_graph(seed: int, *, features: int) -> Graph:
    """Return a graph of three SAEs with that number of features each, in shuffled tables."""
    thin = {"_random_pairs": _pairs, "_random_near": _near, "_random_effects": _effects}
    dense = {name: getattr(small_graph, name) for name in thin}
    try:
        for name, function in thin.items():
            setattr(small_graph, name, function)
        return small_graph.random_graph(seed, features=features, shuffled=seed)
    finally:
        for name, function in dense.items():
            setattr(small_graph, name, function)


def _live(saes: tuple[MadeSae, ...]) -> dict[str, list[int]]:
    return {sae.name: [i for i, f in enumerate(sae.features) if f.active] for sae in saes}


def _pairs(rng: random.Random, live: list[int]) -> Iterable[MadePair]:
    drawn = {tuple(sorted((one, two))) for one in live for two in rng.sample(live, 3) if one != two}
    for one, two in sorted(drawn):
        joint = rng.choice([2, 4])
        weight, cosine = rng.choice([0.25, 0.5]), rng.choice([0.25, 0.5])
        phi = rng.choice([None, 0.0, 0.5])
        yield MadePair(one, two, rng.choice([1, joint]), 0.5, weight, joint, cosine, phi)


def _near(rng: random.Random, saes: tuple[MadeSae, ...]) -> Iterable[MadeNear]:
    live = _live(saes)
    for one, own in live.items():
        for i in own:
            for two, others in live.items():
                near = [j for j in rng.sample(others, 3) if (two, j) != (one, i)][:2]
                for rank, j in enumerate(near):
                    cosine, q = rng.choice([0.25, 0.5, 0.75]), rng.choice([None, 0.25, 0.03125])
                    yield MadeNear(f"{one}/{i}", f"{two}/{j}", cosine, rank, q)


def _effects(rng: random.Random, saes: tuple[MadeSae, ...]) -> Iterable[MadeEffect]:
    live = _live(saes)
    for number, sae in enumerate(saes):
        later = [f"{t.name}/{j}" for t in saes[number + 1 :] for j in live[t.name]]
        for i in live[sae.name] if later else []:
            for rank, target in enumerate(rng.sample(later, rng.choice([0, 0, 1, 3]))):
                yield MadeEffect(f"{sae.name}/{i}", target, rng.choice([-0.5, 0.5, 1.0]), rank)
