"""The features of an SAE that are measured, their tokens, and the changes of the site at these tokens."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.sample import (
    Contexts,
    Occurrences,
    drawn,
    nearest_other,
    occurrences_of,
)
from analysis.effects.settings import EffectSettings
from atlas.errors import BadInput

if TYPE_CHECKING:
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Source", "ablation_delta", "random_delta", "random_directions", "source_of"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """The features that are measured, and the tokens at which each is ablated.

    Parameters
    ----------
    features
        int64, (sources,), ascending.
    every
        All occurrences of all features in the contexts.
    chosen
        Occurrences of the measured features.
    other
        For each chosen occurrence another feature at the same token; see ``nearest_other``.
    vectors
        (d_sae, d_in). The change of the site per unit of each feature.
    """

    features: Ints
    every: Occurrences
    chosen: Occurrences
    other: Occurrences
    vectors: torch.Tensor

    @property
    def row(self) -> Ints:
        """Number of the source of each chosen occurrence."""
        return np.searchsorted(self.features, self.chosen.feature)

    def take(self, some: slice) -> "Source":
        """Return some consecutive sources, with their tokens."""
        rows = self.row
        inside = (rows >= some.start) & (rows < some.stop)
        return replace(
            self,
            features=self.features[some],
            chosen=self.chosen.take(inside),
            other=self.other.take(inside),
        )

    @property
    def has_other(self) -> NDArray[np.bool_]:
        """Return whether another feature is active at the token of each chosen occurrence."""
        found: NDArray[np.bool_] = self.other.feature != self.chosen.feature
        return found


def source_of(
    sae: "Autoencoder",
    x: torch.Tensor,
    contexts: Contexts,
    *,
    settings: EffectSettings,
    only: Ints | None = None,
) -> Source:
    """Choose the features that are measured, and their tokens.

    Parameters
    ----------
    sae
        The SAE.
    x
        (tokens that are read, d_in). Its input on the contexts.
    contexts
        The contexts.
    settings
        Numbers of features and tokens, and the seed.
    only
        Features to choose from; all if None.

    Raises
    ------
    BadInput
        If no feature is active at enough tokens, or each vector is normalised.
    """
    every = occurrences_of(sae, x, contexts.read)
    chosen = drawn(
        every, most=settings.occurrences, least=settings.min_occurrences, seed=settings.seed
    )
    if only is not None:
        chosen = chosen.take(np.isin(chosen.feature, only))
    features = np.unique(chosen.feature)
    if settings.features is not None and len(features) > settings.features:
        rng = np.random.default_rng(settings.seed)
        features = np.sort(rng.choice(features, settings.features, replace=False))
        chosen = chosen.take(np.isin(chosen.feature, features))
    if not len(features):
        raise BadInput(
            f"No feature of {sae.info.name} is active at {settings.min_occurrences} or more tokens of the "
            f"sample of {len(contexts)} contexts. Use more `contexts`, or a lower `min_occurrences`."
        )
    vectors = sae.rows(torch.arange(sae.info.d_sae))
    if vectors is None:
        raise BadInput(
            f"The SAE {sae.info.name} normalises each vector, so its features have no fixed direction. Effects "
            "are measured for SAEs without such normalisation."
        )
    count = np.bincount(every.feature, minlength=sae.info.d_sae)
    total = np.bincount(every.feature, weights=every.activation, minlength=sae.info.d_sae)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    other = nearest_other(chosen, every, frequency=count.astype(np.float64), activation=mean)
    return Source(features, every, chosen, other, vectors)


def ablation_delta(source: Source, occurrences: Occurrences) -> torch.Tensor:
    """Return the delta of the ablation of each occurrence, (n, d_in)."""
    vectors = source.vectors[torch.from_numpy(occurrences.feature).to(source.vectors.device)]
    return -torch.from_numpy(occurrences.activation).to(vectors.device)[:, None] * vectors


def random_directions(source: Source, draws: int, *, seed: int) -> list[torch.Tensor]:
    """Return unit random directions of each source, (draws) of (sources, d_in)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(source.features), source.vectors.shape[1])
    normal = [torch.randn(shape, generator=generator) for _ in range(draws)]
    return [one / one.norm(dim=1, keepdim=True) for one in normal]


def random_delta(source: Source, unit: torch.Tensor) -> torch.Tensor:
    """Return the delta of each occurrence along a direction of its feature, with equal norm."""
    device = source.vectors.device
    feature = torch.from_numpy(source.chosen.feature).to(device)
    size = torch.from_numpy(source.chosen.activation).to(device) * source.vectors[feature].norm(
        dim=1
    )
    delta: torch.Tensor = -size[:, None] * unit.to(device)[torch.from_numpy(source.row).to(device)]
    return delta
