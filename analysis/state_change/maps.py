"""Both states of the features of an SAE on one map, which is fitted once to the state before."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.feature_map.embedding import FEWEST, StateMap, UmapSettings
from analysis.statistics.directions import directed_rows, nearest

__all__ = ["StateMaps", "map_states", "neighbour_overlap"]

#: Fewest tokens on which a feature of the map is active before.
_ACTIVE = 3

#: Largest change of a row, as a share of its length, that does not move it.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True, eq=False)
class StateMaps:
    """Positions of features before and after an edit.

    Parameters
    ----------
    features
        int64, (features,). Features that are active before.
    before, after
        float64, (features, 2). NaN after for features that are never active then.
    """

    features: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def rows(self, sae: str) -> list[dict[str, Any]]:
        """Return a row for each feature."""
        return [
            {
                "sae": sae,
                "feature": f"{sae}/{i}",
                "x_before": x,
                "y_before": y,
                "x_after": None if np.isnan(u) else u,
                "y_after": None if np.isnan(v) else v,
            }
            for i, (x, y), (u, v) in zip(
                self.features.tolist(), self.before.tolist(), self.after.tolist(), strict=True
            )
        ]


def map_states(
    before: sparse.csr_array,
    after: sparse.csr_array,
    *,
    method: Literal["umap", "pca"],
    seed: int,
) -> StateMaps | None:
    """Map the features of both states, each by its activations on all tokens.

    Two maps fitted to two states differ even where no feature changed. So one map is fitted
    to the state before, and the state after is projected onto it. A feature that does not change
    does not move.

    Parameters
    ----------
    before, after
        (tokens, features). Activations on the same tokens.
    method
        ``"umap"`` (cosine) or ``"pca"``.
    seed
        Seed of the map.

    Returns
    -------
        None if fewer than five features are active on three tokens.
    """
    active = np.asarray((before > 0).sum(axis=0)).ravel()
    features = np.flatnonzero(active >= _ACTIVE)
    if len(features) < FEWEST:
        return None
    rows = _directions(before, features)
    fitted = StateMap(rows, method=method, settings=UmapSettings(seed=seed))
    later = _directions(after, features)
    # UMAP finds the position of a changed row by a search of its own, so a negligible change must not start one.
    change = np.linalg.norm(later - rows, axis=1)
    same = change <= _NEGLIGIBLE * np.linalg.norm(rows, axis=1)
    later[same] = rows[same]
    silent = ~later.any(axis=1)
    later[silent] = rows[silent]  # without a direction; removed below
    points = fitted.transform(later)
    points[silent] = np.nan
    return StateMaps(features, fitted.points, points)


def neighbour_overlap(
    before: sparse.csr_array, after: sparse.csr_array, *, neighbours: int
) -> float | None:
    """Return the mean Jaccard index of the nearest features, by cosine of activations, in both states.

    Only features that are active in both states count; None for fewer than two more of them than
    neighbours.
    """
    shared = np.flatnonzero(
        (np.asarray((before > 0).sum(axis=0)).ravel() >= _ACTIVE)
        & (np.asarray((after > 0).sum(axis=0)).ravel() > 0)
    )
    if len(shared) < neighbours + 2:
        return None
    one, two = (
        nearest(directed_rows(_directions(state, shared), dtype=np.float32)[0], k=neighbours).index
        for state in (before, after)
    )
    found = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a, b in zip(one.tolist(), two.tolist(), strict=True)
    ]
    return float(np.mean(found))


def _directions(state: sparse.csr_array, features: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the activations of some features, float32 of shape (features, tokens)."""
    dense: NDArray[np.float32] = state[:, features].toarray().T.astype(np.float32)
    return dense
