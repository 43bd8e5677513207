"""Non-linear probes of labelled words: a small network, and ridge regression on random features.

Both read the rotated vectors of an arm, as the linear probe does. If their held-out AUROC is not
higher, a linear probe loses nothing that these probes can find.
"""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.concepts.probing.ridge import Space, balanced_weights, rotated
from ingest.precision import ieee_float32

__all__ = ["HIDDEN", "RANDOM_FEATURES", "mlp_margins", "random_features"]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

HIDDEN = 32
"""Hidden units of the network."""

RANDOM_FEATURES = 1024
"""Random features of ridge regression."""

_STEPS, _RATE, _DECAY = 200, 0.01, 1e-3


def random_features(space: Space, *, seed: int, count: int = RANDOM_FEATURES) -> Space:
    """Return random cosine features of vectors, as a space for a ridge probe.

    Parameters
    ----------
    space
        The vectors; their mean squared length is 1.
    seed, count
        Seed and number of the features.

    Notes
    -----
    Inner products of these features approximate a Gaussian kernel [1]_. Its width is the median
    distance between two rows.

    References
    ----------
    .. [1] A. Rahimi and B. Recht, "Random Features for Large-Scale Kernel Machines", 2007.

    Examples
    --------
    >>> x = rotated(np.random.default_rng(0).normal(size=(6, 4)))
    >>> random_features(x, seed=0).rows.shape
    (6, 5)
    """
    rng = np.random.default_rng([seed, 4])
    x = space.rows
    pairs = rng.integers(0, len(x), (2, 1000))
    distance = np.linalg.norm(x[pairs[0]] - x[pairs[1]], axis=1)
    positive = distance[distance > 0]
    width = float(np.median(positive)) if len(positive) else 1.0
    directions = rng.standard_normal((x.shape[1], count)) / width
    phase = rng.uniform(0, 2 * np.pi, count)
    return rotated(np.cos(x @ directions + phase))


@ieee_float32()
def mlp_margins(space: Space, labels: Bools, train: Bools, *, seed: int) -> Floats:
    """Train a network of one hidden layer for each column; return the margins of all rows.

    Parameters
    ----------
    space
        The vectors, (rows, dimensions).
    labels, train
        bool, (columns, rows).
    seed
        Seed of the first weights.

    Returns
    -------
    float64, (columns, rows).

    Notes
    -----
    ReLU, 32 hidden units, 200 steps of Adam on all training rows, weight decay 0.001. These
    settings are fixed, so that no split chooses them.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = float(np.sqrt((space.rows**2).mean())) or 1.0
    x = torch.from_numpy((space.rows / spread).astype(np.float32))
    columns, width = len(labels), x.shape[1]
    shapes = ((columns, width, HIDDEN), (columns, 1, HIDDEN), (columns, HIDDEN, 1), (columns, 1, 1))
    scales = (width**-0.5, 0.0, HIDDEN**-0.5, 0.0)
    weights = [
        (torch.randn(shape, generator=generator) * scale).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    share = torch.from_numpy(balanced_weights(labels, train).astype(np.float32))
    target = torch.from_numpy(labels.astype(np.float32))
    optimiser = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)

    def margins() -> torch.Tensor:
        hidden = torch.relu(torch.matmul(x, weights[0]) + weights[1])
        found: torch.Tensor = (torch.matmul(hidden, weights[2]) + weights[3])[:, :, 0]
        return found

    for _ in range(_STEPS):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            margins(), target, weight=share, reduction="sum"
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        return margins().numpy().astype(np.float64)
