"""Baselines that need no graph: correlation of activations, and cosine of decoder vectors."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from atlas.folder import Folder
from atlas.progress import SILENT, Progress
from ingest.match.align import align
from ingest.match.aligned_codes import CodeRows
from ingest.match.cosines import decoders
from ingest.match.inputs import open_side
from ingest.text.corpus import Corpus

__all__ = ["activation_scores", "correlations", "decoder_scores"]

Scores: TypeAlias = NDArray[np.float32]

# Features that are active together on fewer tokens are not candidates, as in a match.
_JOINT = 10

_CHUNK = 512  # features of A


def activation_scores(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    features: NDArray[np.int64],
    documents: NDArray[np.int64],
) -> Scores:
    """Compute Pearson correlations of selected features of A with all features of B.

    Parameters
    ----------
    folder
        The atlas.
    sae_a, sae_b
        The SAEs.
    features
        Features of A.
    documents
        Numbers of the documents to use.

    Returns
    -------
    float32, (features, features of B). -1 for pairs that are not candidates of a match.
    """
    sound = folder.sound()
    a, b = (open_side(folder, sound, name) for name in (sae_a, sae_b))
    with TemporaryDirectory(prefix="counterparts-") as scratch:
        aligned = align(
            a.shards, b.shards, Corpus.open(folder.corpus_file), documents=documents,
            how="tokens" if a.tokenizer == b.tokenizer else "words", scratch=Path(scratch),
        )  # fmt: skip
        return correlations(aligned.a, aligned.b, features)


def correlations(a: CodeRows, b: CodeRows, features: NDArray[np.int64]) -> Scores:
    """Compute Pearson correlations of selected features of A with all features of B."""
    one, two = (
        csr_array((x.values.astype(np.float64), x.indices.astype(np.int64), x.indptr),
                  shape=(len(x), x.d_sae))
        for x in (a, b)
    )  # fmt: skip
    units = max(len(a), 1)
    columns = one.tocsc()[:, features]
    mean_a, mean_b = columns.sum(axis=0) / units, two.sum(axis=0) / units
    spread_a, spread_b = (
        np.sqrt(np.maximum(x.power(2).sum(axis=0) / units - mean**2, 0))
        for x, mean in ((columns, mean_a), (two, mean_b))
    )
    on = csr_array((np.ones(len(two.data)), two.indices, two.indptr), shape=two.shape)
    out = np.full((len(features), b.d_sae), -1, dtype=np.float32)
    for i in range(0, len(features), _CHUNK):
        some = columns[:, i : i + _CHUNK].T.tocsr()
        together = csr_array((np.ones(len(some.data)), some.indices, some.indptr), shape=some.shape)
        joint = (together @ on).toarray()
        covariance = (some @ two).toarray() / units - np.outer(mean_a[i : i + _CHUNK], mean_b)
        spread = np.outer(spread_a[i : i + _CHUNK], spread_b)
        np.divide(covariance, spread, out=out[i : i + _CHUNK],
                  where=(joint >= _JOINT) & (spread > 0), casting="same_kind")  # fmt: skip
    return out


def decoder_scores(
    folder: Folder,
    sae_a: str,
    sae_b: str,
    *,
    features: NDArray[np.int64],
    progress: Progress = SILENT,
) -> Scores | None:
    """Compute cosines of decoder vectors of selected features of A with all features of B.

    The result is None if the SAEs write into different spaces or weights are not available.
    """
    sound = folder.sound()
    sides = open_side(folder, sound, sae_a), open_side(folder, sound, sae_b)
    vectors = decoders(sides, progress=progress)
    if vectors is None:
        return None
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in vectors)
    scores: Scores = a[features] @ b.T
    return scores
