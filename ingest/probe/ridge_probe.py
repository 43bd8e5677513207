"""Ridge probes: predict the activation of each feature, compared with its token table and ceiling.

The columns are those of PREDICTED_FROM; ``atlas.schema`` defines each.
"""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.probe.logistic_probe import Columns
from ingest.probe.probe_data import Occurrences, ProbeData, natural
from ingest.probe.scores import ActivationSums, r2_ceiling, r2_of, r2_table
from ingest.probe.settings import ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import spectrum
from ingest.probe.solver.solve import Solution, margins, solve

__all__ = ["ActivationProbe"]

Floats: TypeAlias = NDArray[np.float64]


class ActivationProbe:
    """Regression of the activations of one SAE's features on one site, for one split.

    Parameters
    ----------
    site
        The site that is read.
    data
        The SAE's codes.
    train
        bool, (tokens,). Mask of the training tokens.
    settings
        How features are probed.
    """

    def __init__(
        self,
        site: SiteDesign,
        data: ProbeData,
        train: NDArray[np.bool_],
        *,
        settings: ProbeSettings,
    ) -> None:
        self._site, self._data, self._train, self._settings = site, data, train, settings
        self._rows = [np.unique(site.row[side]) for side in (train, ~train)]
        self._designs = [site.design.take(rows) for rows in self._rows]
        self._basis = spectrum(self._designs[0])

    def columns(self, active: Occurrences, features: NDArray[np.int64]) -> Columns:
        """Probe a block of features; parameters and result are those of ``ActiveProbe.columns``."""
        sides = natural(self._train, active, features=len(features))
        train, validation = sides.sums(self._site.row, self._site.design.rows)
        types = sides.sums(self._data.type, len(self._data.ids))
        solution = self._solve(train, active_only=False)
        on_active = self._solve(train, active_only=True)
        train_error = self._errors(solution, 0, sums=train)
        error = self._errors(solution, 1, sums=validation)
        active_error = self._errors(on_active, 1, sums=validation, active_only=True)
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

    def _solve(self, train: ActivationSums, *, active_only: bool) -> Solution:
        """Fit on all tokens or on active ones, with activations scaled to root mean square 1."""
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
        scaled = solve(
            design,
            design.tensor(weight),
            design.tensor(target),
            link="squared",
            penalty=self._settings.penalty / 2,  # the solver's loss is half the mean square
            tolerance=self._settings.gradient_tolerance(self._settings.penalty / 2),
            max_iterations=self._settings.iterations,
            basis=self._basis,
        )
        back = design.tensor(unit)
        return Solution(
            scaled.coef * back[:, None],
            scaled.intercept * back,
            scaled.iterations,
            scaled.converged,
        )

    def _errors(
        self, solution: Solution, side: int, *, sums: ActivationSums, active_only: bool = False
    ) -> Floats:
        """Return the sum of squared errors, (features,): Σ z² - 2 z·x + x²."""
        rows = self._rows[side]
        z = margins(self._designs[side], solution).cpu().numpy().astype(np.float64)
        tokens = sums.active[rows].toarray() if active_only else sums.occurrences[rows, None]
        cross = (z * sums.sums[rows].toarray()).sum(0)
        errors: Floats = (z**2 * tokens).sum(0) - 2 * cross + sums.squares
        return errors
