"""The control task at a place: what a probe would be trained and scored on if ids swapped their rates."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from ingest.probe.controls import control_positives, permuted
from ingest.probe.counts import Counts
from ingest.probe.probe_data import ProbeData
from ingest.probe.rows import Dense, Rows
from ingest.probe.site_design import SiteDesign
from ingest.probe.train_val_counts import Sides, natural

__all__ = ["ControlTask", "Task"]

Floats: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Counts, Counts]


@dataclass(frozen=True, eq=False)
class Task:
    """One draw of the control task.

    Parameters
    ----------
    fitted, scored
        Expected positives and negatives on the rows that are trained on, and scored.
    seen
        bool, (scored rows, features). Rows of ids that its own training has seen, where
        tokens are drawn; None: those that the probe's training has seen.
    """

    fitted: Dense
    scored: Dense
    seen: NDArray[np.bool_] | None


class ControlTask:
    """Draws control tasks for the features of one SAE, at one place, by one split.

    Parameters
    ----------
    place
        What is read.
    kept
        The SAE's codes.
    train
        bool, (tokens,). The training side.
    fitted, scored
        The rows that probes are trained on, and scored.
    seed
        Seed of the draws.
    """

    def __init__(
        self,
        place: SiteDesign,
        kept: ProbeData,
        train: NDArray[np.bool_],
        *,
        fitted: Rows,
        scored: Rows,
        seed: int,
    ) -> None:
        self._place, self._kept, self._train = place, kept, train
        self._fitted, self._scored, self._seed = fitted, scored, seed

    def draw(self, sides: Sides, *, draw: int, features: NDArray[np.int64]) -> Task:
        """Return one draw.

        It is trained on all that is expected of the training side, or on as many tokens of
        each class as were drawn for the probe; then what is left of all validates, if it
        does for the probe.
        """
        place, kept = self._place, self._kept
        plain = sides
        if sides.drawn is not None:
            plain = natural(self._train, sides.active, features=sides.features)
        rows = plain.counts(place.row, place.design.rows)
        types = rows if place.at_embedding else plain.counts(kept.type, len(kept.ids))
        swap = permuted(types[0].occurrences + types[1].occurrences, draw=draw, seed=self._seed)
        fitted, scored = (
            self._of_rows(expected, by_type=t, by_row=r, rows=which)
            for expected, t, r, which in zip(
                control_positives(*types, swap), types, rows, (self._fitted, self._scored),
                strict=True,
            )
        )  # fmt: skip
        if sides.drawn is None:
            return Task(fitted, scored, None)
        number = sides.counts(place.row, place.design.rows)[0].active.astype(np.int64)
        rngs = [np.random.default_rng([self._seed, 4, draw, f]) for f in features.tolist()]
        if sides.rest:  # rows of both sides are all rows
            fitted = fitted[0] + scored[0], fitted[1] + scored[1]
        drawn = _drawn(fitted[0], number, rngs), _drawn(fitted[1], number, rngs)
        if sides.rest:
            left = [np.maximum(all_ - taken, 0) for all_, taken in zip(fitted, drawn, strict=True)]
            scored = left[0], left[1]
        return Task(drawn, scored, self._seen(drawn[0] + drawn[1]))

    def _of_rows(self, expected: Any, *, by_type: Counts, by_row: Counts, rows: Rows) -> Dense:
        """Spread what is expected of token ids over rows of these ids."""
        of = self._place.row_type[rows.numbers]
        tokens = by_row.occurrences[rows.numbers, None].astype(np.float64)
        in_all = np.maximum(by_type.occurrences[of, None], 1)
        positives: Floats = expected.tocsr()[of].toarray() * (tokens / in_all)
        return positives, tokens - positives

    def _seen(self, trained: Floats) -> NDArray[np.bool_]:
        """Return which scored rows are of ids among what was trained on, (fitted rows, features)."""
        types = self._place.row_type
        shape = (int(types.max(initial=-1)) + 1, len(self._fitted.numbers))
        of = (types[self._fitted.numbers], np.arange(shape[1]))
        each = csr_array(coo_array((np.ones(shape[1]), of), shape=shape))
        seen: NDArray[np.bool_] = np.asarray(each @ trained)[types[self._scored.numbers]] > 0
        return seen


def _drawn(expected: Floats, number: NDArray[np.int64], rngs: list[np.random.Generator]) -> Floats:
    """Draw so many tokens of each feature, rows by what is expected of them; (rows, features)."""
    found = np.empty_like(expected)
    for feature, tokens in enumerate(number.tolist()):
        share = expected[:, feature] / expected[:, feature].sum()
        found[:, feature] = rngs[feature].multinomial(tokens, share)
    return found
