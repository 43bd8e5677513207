"""The classifiers that probe a site: linear probes, and networks with a hidden layer."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ingest.probe.random_features import with_random_features
from ingest.probe.settings import Kind, ProbeSettings
from ingest.probe.site_design import SiteDesign
from ingest.probe.solver.design import Design, Spectrum
from ingest.probe.solver.mlp import MlpSolution, mlp_bytes_needed, mlp_margins, solve_mlp
from ingest.probe.solver.solve import Solution, bytes_needed, margins, solve

__all__ = ["Fitted", "Linear", "Mlp", "bytes_of_fit", "classifier", "read_site"]

#: Share of λ at which the search of an MLP ends, in units of the tolerance of a linear probe. Its
#: optimum is a local one, so a smaller gradient would not make scores more exact.
MLP_TOLERANCE = 100

Margins: TypeAlias = NDArray[np.floating]


class Fitted(Protocol):
    """Fitted probes of a block of features: how long each took, and their margins on any rows."""

    @property
    def iterations(self) -> NDArray[np.int64]:
        """Passes over the vectors until the search of each feature ended; (features,)."""

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Whether each search met its tolerance; (features,)."""

    def margins(self, design: Design) -> Margins:
        """Return the margins of rows; (rows, features)."""


@dataclass(frozen=True, eq=False)
class _Fitted:
    solution: Solution | MlpSolution

    @property
    def iterations(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.solution.iterations.cpu().numpy()
        return found

    @property
    def converged(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.solution.converged.cpu().numpy()
        return found

    def margins(self, design: Design) -> Margins:
        solution = self.solution
        z = (
            mlp_margins(design, solution)
            if isinstance(solution, MlpSolution)
            else margins(design, solution)
        )
        found: Margins = z.cpu().numpy()
        return found


class Classifier(Protocol):
    """Fits probes to many features at once."""

    @property
    def form(self) -> str:
        """``"linear"`` or ``"non-linear"``."""

    def fit(
        self, design: Design, weight: Tensor, target: Tensor, *, penalty: Tensor, basis: Spectrum
    ) -> Fitted:
        """Fit each feature.

        Parameters
        ----------
        design
            The vectors.
        weight, target
            (rows, features). Weights, and the part of them that is active.
        penalty
            float64, (features,). λ.
        basis
            Mean and covariance of the vectors.
        """


@dataclass(frozen=True)
class Linear:
    """L2 logistic regression, linear in the design's vectors.

    Parameters
    ----------
    settings
        How features are probed.
    form
        Whether the probe is linear in the vectors of the site too.
    """

    settings: ProbeSettings
    form: str = "linear"

    def fit(
        self, design: Design, weight: Tensor, target: Tensor, *, penalty: Tensor, basis: Spectrum
    ) -> Fitted:
        """Fit each feature; see ``Classifier``."""
        return _Fitted(
            solve(
                design,
                weight,
                target,
                penalty=penalty.to(design.device, design.dtype),
                tolerance=self.settings.gradient_tolerance(float(penalty.min())),
                max_iterations=self.settings.iterations,
                basis=basis,
            )
        )


@dataclass(frozen=True)
class Mlp:
    """A network with one hidden layer for each feature."""

    settings: ProbeSettings
    form: str = "non-linear"

    def fit(
        self, design: Design, weight: Tensor, target: Tensor, *, penalty: Tensor, basis: Spectrum
    ) -> Fitted:
        """Fit each feature; see ``Classifier``."""
        s = self.settings
        return _Fitted(
            solve_mlp(
                design,
                weight,
                target,
                hidden=s.hidden,
                penalty=penalty.to(design.device, design.dtype),
                seed=s.seed,
                tolerance=MLP_TOLERANCE * s.gradient_tolerance(float(penalty.min())),
                max_iterations=s.iterations,
                basis=basis,
            )
        )


def classifier(kind: Kind, settings: ProbeSettings) -> Classifier:
    """Return the classifier of a kind of probe."""
    if kind == "mlp":
        return Mlp(settings)
    return Linear(settings, "linear" if kind == "active" else "non-linear")


def read_site(site: SiteDesign, kind: Kind, settings: ProbeSettings) -> SiteDesign:
    """Return the site as a kind of probe reads it: with random features, or as it is."""
    if kind != "random-features":
        return site
    design = with_random_features(site.design, settings.random_features, seed=settings.seed)
    return replace(site, design=design)


def bytes_of_fit(rows: int, width: int, *, labels: int, settings: ProbeSettings) -> int:
    """Return the largest number of bytes that fits of the kinds of the settings need."""
    needed = [bytes_needed(rows, width, labels=labels)]
    if "random-features" in settings.kinds:
        needed.append(bytes_needed(rows, width + settings.random_features, labels=labels))
    if "mlp" in settings.kinds:
        needed.append(mlp_bytes_needed(rows, width, labels=labels, hidden=settings.hidden))
    return max(needed)
