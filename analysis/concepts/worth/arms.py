"""Arms of a comparison: the features of an SAE, the layer it reads, and their controls.

==================  ======================================================================
``features``        codes of the SAE
``layer``           the activations that the SAE reads
``reconstruction``  the decoded codes
``error``           layer - reconstruction
``neurons``, …      further sites of the model, read without an SAE
``random``          random directions of the layer with a threshold; each is active on as
                    many words as one feature of the SAE
``subset``          random live features, as many as the layer has dimensions
==================  ======================================================================
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.concepts.units.observations import Live, live_columns
from analysis.concepts.words.encoding import SaeActivations

__all__ = ["CONTROLS", "Arm", "random_directions", "sae_arms"]

Floats: TypeAlias = NDArray[np.float64]

CONTROLS = ("random", "subset")
"""Arms that are controls of the features."""


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm: its name, and its live columns on the contexts of all words."""

    name: str
    live: Live

    @property
    def family(self) -> str:
        """The name without the number of a draw."""
        return self.name.split(" ")[0]


def sae_arms(
    found: SaeActivations,
    raw: "Mapping[str, NDArray[np.floating[Any]]]",
    *,
    subsets: int,
    seed: int,
) -> Iterator[Arm]:
    """Yield the arms of one SAE, the layer first.

    Parameters
    ----------
    found
        Activations of the SAE.
    raw
        By name of the arm, activations of further sites.
    subsets, seed
        Number of random subsets of the features, and the seed of all random choices.
    """
    layer = live_columns(found.layer)
    features = live_columns(found.codes)
    yield Arm("layer", layer)
    yield Arm("features", features)
    yield Arm("reconstruction", live_columns(found.reconstruction))
    yield Arm("error", live_columns(found.error))
    for name, values in raw.items():
        yield Arm(name, live_columns(values))
    active = (features.values > 0).sum(axis=0)
    rng = np.random.default_rng([seed, 6])
    drawn = random_directions(layer.values, active, rng)
    yield Arm("random", Live(drawn, features.units, features.total))
    width, live = layer.values.shape[1], features.values.shape[1]
    for draw in range(subsets if width < live else 0):
        columns = np.sort(rng.permutation(live)[:width])
        yield Arm(f"subset {draw + 1}", features.subset(columns))


def random_directions(layer: Floats, active: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return activations of random directions that are active on fixed numbers of rows.

    Parameters
    ----------
    layer
        float64, (rows, width).
    active
        int64, (units,). Rows on which each unit is active.
    rng
        Random generator.

    Returns
    -------
    float64, (rows, units). The projection on an isotropic random direction less a threshold, and
    0 below it. Equal rows are active together, so that a unit may be active on a few rows less.
    """
    if not len(layer):
        return np.zeros((0, len(active)))
    directions = rng.standard_normal((layer.shape[1], len(active)))
    projected = (layer - layer.mean(axis=0)) @ directions
    if not projected.size:
        return np.asarray(projected)
    descending = -np.sort(-projected, axis=0)
    last = np.minimum(active, len(layer) - 1)
    threshold = np.where(
        active < len(layer),
        descending[last, np.arange(len(active))],
        descending[-1] - np.abs(descending[-1]) - 1.0,
    )
    found: Floats = np.maximum(projected - threshold, 0.0)
    return found
