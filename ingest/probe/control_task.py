"""The control task at a site: training and validation counts with rates swapped among token ids."""

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
        Expected positives and negatives on the training rows and on the scored rows.
    seen
        bool, (scored rows, features). Where tokens are sampled: rows of ids in the
        training sample of this draw. None: use the ids of the probe's training.
    """

    fitted: Dense
    scored: Dense
    seen: NDArray[np.bool_] | None


class ControlTask:
    """Draws of the control task for the features of one SAE, at one site, for one split.

    Parameters
    ----------
    site
        The site that is read.
    data
        The SAE's codes.
    train
        bool, (tokens,). Mask of the training tokens.
    fitted, scored
        The rows on which probes are trained, and on which they are scored.
    seed
        Seed of the draws.
    """

    def __init__(
        self,
        site: SiteDesign,
        data: ProbeData,
        train: NDArray[np.bool_],
        *,
        fitted: Rows,
        scored: Rows,
        seed: int,
    ) -> None:
        self._site, self._data, self._train = site, data, train
        self._fitted, self._scored, self._seed = fitted, scored, seed

    def draw(self, sides: Sides, *, draw: int, features: NDArray[np.int64]) -> Task:
        """Return one draw.

        Training uses all expected counts of the training side. If the probe was trained on
        sampled tokens, training uses an equal number of tokens of each class; the remaining
        tokens are then used for validation if they are for the probe.
        """
        site, data = self._site, self._data
        plain = sides
        if sides.drawn is not None:
            plain = natural(self._train, sides.active, features=sides.features)
        rows = plain.counts(site.row, site.design.rows)
        types = rows if site.at_embedding else plain.counts(data.type, len(data.ids))
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
        number = sides.counts(site.row, site.design.rows)[0].active.astype(np.int64)
        rngs = [np.random.default_rng([self._seed, 4, draw, f]) for f in features.tolist()]
        if sides.rest:  # rows of both sides are all rows
            fitted = fitted[0] + scored[0], fitted[1] + scored[1]
        drawn = _drawn(fitted[0], number, rngs), _drawn(fitted[1], number, rngs)
        if sides.rest:
            rest = [np.maximum(all_ - taken, 0) for all_, taken in zip(fitted, drawn, strict=True)]
            scored = rest[0], rest[1]
        return Task(drawn, scored, self._seen(drawn[0] + drawn[1]))

    def _of_rows(self, expected: Any, *, by_type: Counts, by_row: Counts, rows: Rows) -> Dense:
        """Distribute the expected positives of each token id over the rows of that id."""
        ids = self._site.row_type[rows.numbers]
        tokens = by_row.occurrences[rows.numbers, None].astype(np.float64)
        in_all = np.maximum(by_type.occurrences[ids, None], 1)
        positives: Floats = expected.tocsr()[ids].toarray() * (tokens / in_all)
        return positives, tokens - positives

    def _seen(self, trained: Floats) -> NDArray[np.bool_]:
        """Return which scored rows have an id with trained tokens.

        ``trained`` has tokens, (fitted rows, features).
        """
        types = self._site.row_type
        shape = (int(types.max(initial=-1)) + 1, len(self._fitted.numbers))
        cells = (types[self._fitted.numbers], np.arange(shape[1]))
        rows_of_id = csr_array(coo_array((np.ones(shape[1]), cells), shape=shape))
        seen: NDArray[np.bool_] = np.asarray(rows_of_id @ trained)[types[self._scored.numbers]] > 0
        return seen


def _drawn(expected: Floats, number: NDArray[np.int64], rngs: list[np.random.Generator]) -> Floats:
    """Sample ``number`` tokens of each feature from rows in proportion to ``expected``."""
    sample = np.empty_like(expected)
    for feature, tokens in enumerate(number.tolist()):
        share = expected[:, feature] / expected[:, feature].sum()
        sample[:, feature] = rngs[feature].multinomial(tokens, share)
    return sample
