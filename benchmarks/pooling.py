"""The pooled p of matches: is it valid, and what does it find? Octaves alone, compared with merged octaves.

    python -m benchmarks.pooling                all of it, 200 sets each: about 20 minutes
    python -m benchmarks.pooling --sets 20 power

Both ways to pool are applied to the same sets of two planted SAEs and to the same draws.

*validity*: two SAEs without any true match, with features of very different frequency. The share
of features whose best match has p <= α is to be α at most. Standard errors are over sets.
The second table has the same by the feature's own frequency: p is pooled, so it may be too low for
a kind of feature that is rare in its pool. The last sets have 10 rare features among 50 frequent ones.
*discovery*: the same SAEs with 20 true pairs: of the pairs with q <= 0.05, the share that is false.
*power*: true pairs with q <= 0.05, at the default number of draws.
"""

import argparse
import hashlib
import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from atlas.errors import BadInput
from ingest.match.correlate import Correlator
from ingest.match.nulls import (
    Null,
    shifted_documents,
    shuffled_occurrences,
    shuffled_within_documents,
)
from ingest.match.pairs import Pairs
from ingest.match.settings import MatchSettings
from ingest.synthetic import KINDS, Planted

NULLS = {
    "shifted documents": (shifted_documents, {"private": 30, "bursty": 30}),
    "shuffled occurrences": (shuffled_occurrences, {"private": 30, "token": 30}),
    "shuffled within documents": (
        shuffled_within_documents,
        {"private": 20, "token": 20, "token_document": 20},
    ),
}
"""Each null, and features that have no match under it."""

TEXT = {"documents": 250, "document_length": 120, "vocabulary": 2000}
MIXED = {"spread": 1.5, "rate": 0.0325}  # 95% of the features: 17 to 6,000 activations
WAYS = ("octaves", "merged")
LEVELS = (0.002, 0.01, 0.05, 0.1)
RATES = (10, 50, 150, 500, 1500, 10**9)
POWER = {
    "10 true, 50 others, 36 activations": {"shared": 10, "private": 50, "rate": 0.004},
    "60 true, 60 others, 36 activations": {"shared": 60, "private": 60, "rate": 0.004},
    "10 true, 10 others, 36 activations": {"shared": 10, "private": 10, "rate": 0.004},
    "10 true, 50 others, mixed": {"shared": 10, "private": 50, **TEXT, **MIXED},
    "60 true, 60 others, mixed": {"shared": 60, "private": 60, **TEXT, **MIXED},
}
POWER_SETS = {10: 8, 60: 6}

Shares = NDArray[np.float64]


class Remembering(Correlator):
    """A correlation that computes each draw once."""

    @cached_property
    def _done(self) -> dict[bytes, tuple[Shares, Shares]]:
        return {}

    def maxima(self, order: NDArray[np.int64]) -> tuple[Shares, Shares]:
        """Return the best correlations under a draw."""
        key = hashlib.blake2b(order.tobytes()).digest()
        if key not in self._done:
            self._done[key] = super().maxima(order)
        return self._done[key]


class Made:
    """Two planted SAEs, their matches, and what each way to pool makes of them."""

    def __init__(self, planted: Planted, null: Callable[..., Null], *, seed: int, min_joint: int):
        self.planted = planted
        self.work = Remembering(
            planted.rows("a"), planted.rows("b"), best=3, min_joint=min_joint, memory=1 << 30
        )
        self.pairs: Pairs = self.work.pairs()

        def drawn() -> Null:
            draws = MatchSettings().draws
            return null(self.work, planted.units, self.pairs, draws=draws, seed=seed)

        self.merged = drawn()
        with patch("ingest.match.pooling.merged", _apart):
            self.octaves = drawn()

    @property
    def ends(self) -> tuple[tuple[NDArray, ...], ...]:
        """Of both SAEs: the feature of each pair, its rank, and the features' counts."""
        a, b, pairs = self.work.of_a, self.work.of_b, self.pairs
        return (
            (pairs.a, pairs.rank_ab, a.count, a.eligible),
            (pairs.b, pairs.rank_ba, b.count, b.eligible),
        )

    def best(self, way: str) -> tuple[NDArray, Shares]:
        """Return the count of each eligible feature, and p_pooled of its best match; 1 without."""
        counts, found = [], []
        for feature, rank, count, eligible in self.ends:
            p = np.ones(len(count))
            p[feature[rank == 0]] = getattr(self, way).p_pooled[rank == 0]
            counts.append(count[eligible])
            found.append(p[eligible])
        return np.concatenate(counts), np.concatenate(found)

    def found(self, way: str) -> tuple[int, int]:
        """Return how many true and how many false pairs have q <= 0.05."""
        pairs, q = self.pairs, getattr(self, way).q
        truth = {tuple(pair) for pair in self.planted.truth.tolist()}
        claimed = set(zip(pairs.a[q <= 0.05].tolist(), pairs.b[q <= 0.05].tolist(), strict=True))
        return len(claimed & truth), len(claimed - truth)


def _apart(octave: NDArray[np.int64], *, enough: int) -> NDArray[np.int64]:
    """Return each octave as a pool."""
    pool = np.unique(octave, return_inverse=True)[1].astype(np.int64)
    return np.where(octave < 0, -1, pool - int((octave < 0).any()))


def sets(
    null: Callable[..., Null], number: int, *, min_joint: int = 10, **settings: object
) -> Iterator[Made]:
    """Yield so many sets; a seed whose text is too short for a feature's rate is passed over."""
    made, seed = 0, 0
    while made < number:
        seed += 1
        try:
            planted = Planted.make(seed, **{**dict.fromkeys(KINDS, 0), **settings})
        except BadInput:
            continue
        yield Made(planted, null, seed=seed, min_joint=min_joint)
        made += 1


def share(good: list[int], every: list[int]) -> str:
    """Return a share over sets and its standard error."""
    x, n = np.array(good, dtype=float), np.array(every, dtype=float)
    mean = x.sum() / max(n.sum(), 1)
    error = np.sqrt(((x - mean * n) ** 2).sum()) / max(n.sum(), 1)
    return f"{mean:.4f} ± {error:.4f}"


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def head(*cells: str) -> None:
    """Print the head of a table."""
    print()
    line(*cells)
    line(*["---"] * len(cells))


def validity(number: int) -> None:
    """Print the share of p <= α without true matches, over all features and by frequency."""
    cases = [(name, null, {**TEXT, **MIXED, **kinds}, 10) for name, (null, kinds) in NULLS.items()]
    rare = {**TEXT, "private": 50, "bursty": 10, "rates": {"private": 0.07, "bursty": 0.001}}
    cases.append(("shifted, 10 rare of 60", shifted_documents, rare, 3))
    by_rate = []
    head("null", "pools", *(f"p <= {level}" for level in LEVELS), "features")
    for name, null, settings, min_joint in cases:
        best = [
            {way: made.best(way) for way in WAYS}
            for made in sets(null, number, min_joint=min_joint, **settings)
        ]
        for way in WAYS:
            every = [len(b[way][1]) for b in best]
            line(
                name,
                way,
                *(
                    share([int((b[way][1] <= level).sum()) for b in best], every)
                    for level in LEVELS
                ),
                sum(every),
            )
            for low, high in itertools.pairwise(RATES):
                here = [b[way][1][(b[way][0] >= low) & (b[way][0] < high)] for b in best]
                if sum(map(len, here)):
                    sizes = [len(p) for p in here]
                    by_rate.append(
                        (
                            name,
                            way,
                            f"{low} to {high - 1:,}" if high < 10**9 else f"{low} or more",
                            *(
                                share([int((p <= level).sum()) for p in here], sizes)
                                for level in LEVELS[:3]
                            ),
                            sum(sizes),
                        )
                    )
    head("null", "pools", "activations", *(f"p <= {level}" for level in LEVELS[:3]), "features")
    for row in by_rate:
        line(*row)


def discovery(number: int) -> None:
    """Print the false share of what is found, with 20 true pairs among 80 features."""
    head("null", "pools", "found", "of true", "false discovery rate")
    for name, (null, kinds) in NULLS.items():
        found = [
            {way: made.found(way) for way in WAYS}
            for made in sets(null, number, **{**TEXT, **MIXED, **kinds, "shared": 20})
        ]
        for way in WAYS:
            true, false = np.array([f[way] for f in found]).T
            rate = false / np.maximum(true + false, 1)
            error = rate.std(ddof=1) / np.sqrt(len(rate))
            line(
                name,
                way,
                int((true + false).sum()),
                f"{int(true.sum())} of {20 * len(found)}",
                f"{rate.mean():.4f} ± {error:.4f}",
            )


def power(number: int) -> None:
    """Print how many true pairs are found at the default number of draws."""
    head("null", "planted", *(f"{way}: true, false" for way in WAYS), "draws needed")
    for name, (null, _) in NULLS.items():
        for what, settings in POWER.items():
            text = {"documents": 150, **settings}
            true = int(settings["shared"])
            made = list(sets(null, min(number, POWER_SETS[true]), min_joint=3, **text))
            cells = []
            for way in WAYS:
                good, bad = np.array([m.found(way) for m in made]).sum(axis=0)
                cells.append(f"{good} of {true * len(made)}, {bad}")
            needed = [m.merged.draws_needed for m in made]
            line(name, what, *cells, f"{min(needed)} to {max(needed)}")


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", metavar="validity|discovery|power")
    parser.add_argument("--sets", type=int, default=200)
    args = parser.parse_args()
    tables = {"validity": validity, "discovery": discovery, "power": power}
    for name in args.what or tables:
        tables[name](args.sets)


if __name__ == "__main__":
    main()
