"""How active is the feature? Ridge probes of a block of features, beside their token table and ceiling.

Columns are those of PREDICTED_FROM in ``atlas.schema``, where each is defined.
"""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.probe.logistic_probe import Columns
from ingest.probe.probe_data import Occurrences, ProbeData
from ingest.probe.regression import Sums, r2_ceiling, r2_of, r2_table
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.preconditioner import spectrum
from ingest.probe.solver.solve import Solution, margins, solve
from ingest.probe.train_val_counts import natural

__all__ = ["ActivationProbe"]

Floats: TypeAlias = NDArray[np.float64]


class ActivationProbe:
    """Regresses the activations of one SAE's features at one place, by one split.

    Parameters
    ----------
    place
        What is read.
    kept
        The SAE's codes.
    train
        bool, (tokens,). The training side.
    settings
        How it is done.
    """

    def __init__(
        self,
        place: SiteDesign,
        kept: ProbeData,
        train: NDArray[np.bool_],
        *,
        settings: ProbeSettings,
    ) -> None:
        self._place, self._kept, self._train, self._settings = place, kept, train, settings
        self._rows = [np.unique(place.row[side]) for side in (train, ~train)]
        self._designs = [place.design.take(rows) for rows in self._rows]
        self._basis = spectrum(self._designs[0])

    def columns(self, active: Occurrences, features: NDArray[np.int64]) -> Columns:
        """Probe a block of features; parameters and what is returned as ``ActiveProbe.columns``."""
        sides = natural(self._train, active, features=len(features))
        train, validation = sides.sums(self._place.row, self._place.design.rows)
        types = sides.sums(self._kept.type, len(self._kept.ids))
        solution = self._solve(train, active_only=False)
        on_active = self._solve(train, active_only=True)
        train_error = self._errors(solution, 0, of=train)
        error = self._errors(solution, 1, of=validation)
        active_error = self._errors(on_active, 1, of=validation, active_only=True)
        train_loss = train_error / train.tokens()
        loss = error / validation.tokens()
        return {
            "r2": r2_of(error, validation),
            "r2_token_table": r2_table(*types),
            "r2_token_ceiling": r2_ceiling(types[1]),
            "r2_active": r2_of(active_error, validation, active_only=True),
            "r2_active_token_table": r2_table(*types, active_only=True),
            "r2_active_token_ceiling": r2_ceiling(types[1], active_only=True),
            "train_loss": train_loss,
            "loss": loss,
            "gap": loss - train_loss,
            "train_tokens": train.tokens(),
            "train_positives": train.tokens(active_only=True),
            "tokens": validation.tokens(),
            "positives": validation.tokens(active_only=True),
            "penalty": np.full(len(features), self._settings.penalty),
            "iterations": torch.maximum(solution.iterations, on_active.iterations).cpu().numpy(),
            "converged": (solution.converged & on_active.converged).cpu().numpy(),
        }

    def _solve(self, train: Sums, *, active_only: bool) -> Solution:
        """Fit all tokens, or active ones; activations in units of their root mean square meanwhile."""
        rows, design = self._rows[0], self._designs[0]
        tokens = np.maximum(train.tokens(active_only=active_only), 1)
        unit = np.sqrt(train.squares / tokens)
        unit[unit == 0] = 1
        weight = (
            train.active[rows].toarray() / tokens
            if active_only
            else train.occurrences[rows, None] / tokens[0]
        )
        target = train.sums[rows].toarray() / (tokens * unit)
        found = solve(
            design, design.tensor(weight), design.tensor(target), link="squared",
            penalty=self._settings.penalty / 2,  # the solver's loss is half the mean square
            tolerance=self._settings.gradient_tolerance(self._settings.penalty / 2),
            max_iterations=self._settings.iterations, basis=self._basis,
        )  # fmt: skip
        back = design.tensor(unit)
        return Solution(
            found.coef * back[:, None], found.intercept * back, found.iterations, found.converged
        )

    def _errors(
        self, solution: Solution, side: int, *, of: Sums, active_only: bool = False
    ) -> Floats:
        """Return the sum of squared errors, (features,): Σ z² - 2 z·x + x²."""
        rows = self._rows[side]
        z = margins(self._designs[side], solution).cpu().numpy().astype(np.float64)
        tokens = of.active[rows].toarray() if active_only else of.occurrences[rows, None]
        cross = (z * of.sums[rows].toarray()).sum(0)
        found: Floats = (z**2 * tokens).sum(0) - 2 * cross + of.squares
        return found
