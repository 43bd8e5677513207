"""Codes and decoder vectors of an SAE of an atlas, for ``atlas["A"].codes`` and ``.decoder``."""

from typing import TYPE_CHECKING

import numpy as np

from atlas.errors import RequestError
from ingest.codes.store import read_shard, stored_shards

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from atlas.api import Atlas
    from atlas.disk.folder import Folder

__all__ = ["decoder_vectors", "sparse_codes"]


def sparse_codes(atlas: "Atlas", sae: str) -> "sparse.csr_array":
    """Return the stored codes of an SAE.

    Parameters
    ----------
    atlas
        An open atlas in a folder.
    sae
        Name of the SAE.

    Returns
    -------
    scipy.sparse.csr_array
        float32, (tokens, d_sae), in the order of the corpus.

    Raises
    ------
    RequestError
        If the atlas is on a server.
    UnknownName, Missing, BrokenPart
        As ``stored_shards`` does.
    """
    from scipy import sparse

    folder = _folder(atlas)
    files = stored_shards(folder, folder.sound(), sae, what="The matrix of codes")
    blocks = [block for file in files for block in read_shard(file)]
    parts = [
        sparse.csr_array((b.values, b.indices.astype(np.int64), b.indptr), shape=(len(b), b.d_sae))
        for b in blocks
    ]
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def decoder_vectors(atlas: "Atlas", sae: str) -> "NDArray[np.float32] | None":
    """Return the decoder vectors of an SAE from its stored source, (d_sae, d_in).

    Raises
    ------
    RequestError
        If the atlas is on a server.
    BadInput, Mismatch, Missing
        As ``reopen_sae`` does.
    """
    from ingest.sae.record import open_sae_record, reopen_sae

    return reopen_sae(open_sae_record(_folder(atlas).sound(), sae).row).decoder


def _folder(atlas: "Atlas") -> "Folder":
    if atlas.folder is None:
        raise RequestError(
            f"{atlas.url} is a server, which stores no codes and no SAEs; open the folder instead."
        )
    return atlas.folder
