"""Coordinates of rows in two dimensions: PCA, UMAP, aligned UMAP, and one fit for several states."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.directions import Floats, Ints, NearestRows, Rows, is_sparse
from atlas.errors import BadInput

__all__ = ["StateMap", "UmapSettings", "aligned_coordinates", "map_coordinates", "principal_axes"]

#: Strength by which pairs attract each other. The default of umap-learn, 0.01, is for slices that
#: share most neighbours; on the demo, features of two models did not approach their matches by it.
_ALIGNMENT = 1.0

#: Fewest points of a UMAP; fewer are placed by PCA.
FEWEST = 5


@dataclass(frozen=True)
class UmapSettings:
    """Settings of UMAP (McInnes, Healy & Melville 2018).

    Parameters
    ----------
    neighbours
        Number of neighbours of each point.
    min_dist
        Smallest distance of points in the map.
    seed
        Seed; equal seeds give equal maps.
    """

    neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 0


def principal_axes(rows: Rows, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Compute the first two principal components with scikit-learn.

    Parameters
    ----------
    rows
        (rows, dimensions). Unit rows.
    seed
        Seed of the solver's start.

    Returns
    -------
    points
        float64, (rows, 2).
    explained
        float64, (2,). Share of the variance of each component.
    """
    from sklearn.decomposition import PCA

    n, width = rows.shape
    points, explained = np.zeros((n, 2)), np.zeros(2)
    if n < 2:
        return points, explained
    small = min(n, width) <= 10
    if small and is_sparse(rows):
        rows = rows.toarray()
    if not is_sparse(rows):
        rows = rows.astype(np.float64)
    solver = PCA(min(2, n, width), svd_solver="full" if small else "arpack", random_state=seed)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal rows have no variance
        found = solver.fit_transform(rows)
    points[:, : found.shape[1]] = found
    explained[: found.shape[1]] = np.nan_to_num(solver.explained_variance_ratio_)
    return points, explained


def map_coordinates(
    rows: Rows, near: NearestRows, *, settings: UmapSettings, start: Floats
) -> Floats:
    """Compute the coordinates of rows with UMAP, from their exact nearest rows.

    Parameters
    ----------
    rows
        Unit rows; see ``analysis.statistics.directions.unit_rows``.
    near
        Their nearest rows, ``settings.neighbours`` or more. A neighbour with a cosine of 0 or less is
        ignored in sparse rows, which have no value in common then.
    settings
        Settings of UMAP.
    start
        float64, (rows, 2). First coordinates, such as the principal components.

    Returns
    -------
    float64, (rows, 2). NaN for a row without neighbours.
    """
    n = len(near.index)
    k = min(settings.neighbours, n - 1)
    if n < FEWEST or k < 2:
        return start.copy()
    known = near.index[:, :k]
    cosine = near.cosine[:, :k]
    if is_sparse(rows):
        known = np.where(cosine > 0, known, -1)
    # UMAP counts each point as its own first neighbour, and skips the index -1.
    index = np.column_stack([np.arange(n), known]).astype(np.int32)
    distance = np.column_stack([np.zeros(n), 1.0 - np.clip(np.nan_to_num(cosine), -1.0, 1.0)])
    model = _library().UMAP(
        n_neighbors=k + 1,
        min_dist=settings.min_dist,
        metric="cosine",
        random_state=settings.seed,
        init=_start(start),
        n_jobs=1,
        precomputed_knn=(index, np.maximum(distance, 0.0).astype(np.float32)),
    )
    with _one_thread():
        points = np.asarray(model.fit_transform(rows), dtype=np.float64)
    points[(known < 0).all(axis=1) & ~np.isin(np.arange(n), known)] = np.nan
    return points


def aligned_coordinates(
    a: Rows, b: Rows, pairs: Ints, *, settings: UmapSettings
) -> tuple[Floats, Floats]:
    """Compute one map of rows of two spaces with ``umap.AlignedUMAP``, from known pairs.

    Pairs attract each other in the map. That they are near each other is therefore no evidence
    that the spaces are similar.

    Parameters
    ----------
    a, b
        Unit rows of either space.
    pairs
        int64, (pairs, 2). Rows of A and B that correspond, one-to-one.
    settings
        Settings of UMAP.

    Returns
    -------
    float64, (rows of A, 2) and (rows of B, 2).

    Raises
    ------
    BadInput
        If there are fewer than three pairs, or too few rows.
    """
    if len(pairs) < 3 or min(a.shape[0], b.shape[0]) < FEWEST:
        raise BadInput(
            f"An aligned map needs three pairs of features and {FEWEST} features of each SAE; there are "
            f"{len(pairs)} pairs of {a.shape[0]:,} and {b.shape[0]:,} features. Draw the maps side by side."
        )
    k = min(settings.neighbours + 1, a.shape[0] - 1, b.shape[0] - 1)
    model = _library().AlignedUMAP(
        n_neighbors=k,
        min_dist=settings.min_dist,
        metric="cosine",
        n_epochs=200,
        alignment_regularisation=_ALIGNMENT,
        random_state=settings.seed,
        transform_seed=settings.seed,
    )
    relation = {int(i): int(j) for i, j in pairs}
    with _one_thread():
        model.fit([a, b], relations=[relation])
    one, two = (np.asarray(each, dtype=np.float64) for each in model.embeddings_)
    return one, two


class StateMap:
    """One map of the rows of a reference state, onto which other states are placed.

    Two maps fitted to two states differ even where no row changed. One fit avoids this: a row
    that is equal in both states has the same position.

    Parameters
    ----------
    reference
        (rows, dimensions). NumPy array of the reference state, such as activations before a change.
    method
        ``"umap"`` (cosine) or ``"pca"``.
    settings
        Settings of UMAP; the seed also applies to PCA.

    Attributes
    ----------
    points
        float64, (rows, 2). The map of the reference.

    Examples
    --------
    >>> before = np.random.default_rng(0).normal(size=(30, 4))
    >>> after = before.copy()
    >>> after[0] += 1.0
    >>> fitted = StateMap(before, method="pca")
    >>> moved = (fitted.transform(after) != fitted.points).any(axis=1)
    >>> moved.sum(), moved[0]
    (np.int64(1), np.True_)
    """

    def __init__(
        self,
        reference: NDArray[Any],
        *,
        method: Literal["umap", "pca"] = "umap",
        settings: UmapSettings = UmapSettings(),
    ) -> None:
        self._reference = np.array(reference, dtype=np.float32)
        n = len(self._reference)
        if self._reference.ndim != 2 or n < FEWEST or not np.isfinite(self._reference).all():
            raise BadInput(
                f"The reference has the shape {np.shape(reference)}; expected a matrix of finite numbers with "
                f"{FEWEST} rows or more."
            )
        self._model = _state_model(method, n, settings)
        with _one_thread():
            found = self._model.fit_transform(self._reference)
        self.points: Floats = np.asarray(found, dtype=np.float64)

    def transform(self, state: NDArray[Any]) -> Floats:
        """Return the positions of the rows of another state on the map of the reference.

        Parameters
        ----------
        state
            (rows, dimensions). Row i is compared with row i of the reference; more rows may follow.

        Raises
        ------
        BadInput
            If the state has other dimensions than the reference, or numbers that are not finite.
        """
        rows = np.array(state, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self._reference.shape[1]:
            raise BadInput(
                f"The state has the shape {rows.shape}; expected rows of {self._reference.shape[1]} dimensions, "
                "as in the reference."
            )
        if not np.isfinite(rows).all():
            raise BadInput("The state has numbers that are not finite.")
        common = min(len(rows), len(self._reference))
        changed = np.ones(len(rows), dtype=np.bool_)
        changed[:common] = (rows[:common] != self._reference[:common]).any(axis=1)
        points = np.empty((len(rows), 2))
        points[~changed] = self.points[:common][~changed[:common]]
        if changed.any():
            with _one_thread():
                points[changed] = self._model.transform(rows[changed])
        return points


def _state_model(method: str, rows: int, settings: UmapSettings) -> Any:
    if method == "pca":
        from sklearn.decomposition import PCA

        return PCA(2, random_state=settings.seed)
    return _library().UMAP(
        n_neighbors=min(settings.neighbours + 1, rows - 1),
        min_dist=settings.min_dist,
        metric="cosine",
        random_state=settings.seed,
        transform_seed=settings.seed,
        n_jobs=1,
    )


def _library() -> Any:
    """Return umap-learn, which warns at import if Tensorflow is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        import umap

        return umap


def _start(points: Floats) -> NDArray[np.float32]:
    """Return first coordinates for UMAP: those of the points, or a circle if all are equal."""
    if np.ptp(points, axis=0).all():
        return points.astype(np.float32)
    turn = np.linspace(0.0, 2.0 * np.pi, len(points), endpoint=False)
    return np.column_stack([np.cos(turn), np.sin(turn)]).astype(np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run numba on one thread, so that equal seeds give equal maps, and restore it afterwards.

    UMAP itself sets the number of threads and does not restore it.
    """
    import numba

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scarce spectra and disconnected points
            yield
    finally:
        numba.set_num_threads(threads)
