"""The vectors of the features of SAEs: decoder directions, and activations over the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.statistics.directions import Floats, Ints, Rows, directed_rows
from atlas.errors import BadInput, Mismatch
from atlas.studies.study import TaskContext
from ingest.codes.store import count_rows, read_shard, stored_shards
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.record import open_sae_record, reopen_sae

__all__ = ["FeatureRows", "activation_rows", "decoder_rows"]


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """The vectors of the features of one SAE.

    Parameters
    ----------
    sae
        Name of the SAE.
    features
        Number of all its features.
    idx
        int64. Features with a vector, ascending; dead features and zero vectors are excluded.
    rows
        Their unit vectors.
    frequency
        float64. Share of tokens on which each of them is active.
    dead
        Number of dead features.
    """

    sae: str
    features: int
    idx: Ints
    rows: Rows
    frequency: Floats
    dead: int

    def __len__(self) -> int:
        return len(self.idx)

    @property
    def directionless(self) -> int:
        """Number of live features whose vector is zero or not finite."""
        return self.features - self.dead - len(self)

    @property
    def ids(self) -> NDArray[np.object_]:
        """Their keys, ``sae/idx``."""
        return np.array([f"{self.sae}/{i}" for i in self.idx.tolist()], dtype=object)


def decoder_rows(at: TaskContext, sae: str, opened: Sequence[Autoencoder] = ()) -> FeatureRows:
    """Return the decoder directions of the live features of an SAE.

    Raises
    ------
    BadInput, Mismatch, Missing
        If the weights that were ingested cannot be opened, or have no decoder matrix.
    """
    record = open_sae_record(at.sound, sae)
    decoder = reopen_sae(record.row, opened).decoder
    if decoder is None:
        raise BadInput(
            f"{sae} has no decoder matrix (its architecture is {record.row['architecture']}). Use "
            "`atlas feature-map --space activation`."
        )
    return _live(at, sae, decoder)


def activation_rows(
    at: TaskContext, saes: Sequence[str], *, tokens: int, seed: int
) -> list[FeatureRows]:
    """Return the activations of the live features of SAEs over the same tokens.

    Parameters
    ----------
    at
        The atlas, with stored codes.
    saes
        Names of SAEs that are counted on the same tokens.
    tokens
        Number of tokens, at most: a random sample of more.
    seed
        Seed of the sample.

    Raises
    ------
    Mismatch
        If the codes of the SAEs are over different tokens.
    """
    read = [stored_shards(at.folder, at.sound, sae, what="A map of activations") for sae in saes]
    sizes = [sum(map(count_rows, shards)) for shards in read]
    total = sizes[0]
    chosen = np.arange(total)
    if total > tokens:
        chosen = np.sort(np.random.default_rng(seed).choice(total, tokens, replace=False))
    found = [_profiles(shards, chosen) for shards in read]
    if any(not np.array_equal(where, found[0][1]) for _, where in found) or len(set(sizes)) > 1:
        raise Mismatch(
            f"The codes of {' and '.join(saes)} are over different tokens, so their activations have no "
            "common map. Draw the maps side by side."
        )
    return [_live(at, sae, profiles) for sae, (profiles, _) in zip(saes, found, strict=True)]


def _profiles(shards: Sequence[Path], chosen: Ints) -> tuple[Rows, Ints]:
    """Return activations, (features, chosen tokens), and the locations of the tokens."""
    first, parts, where, d_sae = 0, [], [], 1
    for shard in shards:
        for block in read_shard(shard):
            low, high = np.searchsorted(chosen, [first, first + len(block)])
            own = chosen[low:high] - first
            d_sae = block.d_sae
            codes = sparse.csr_array(
                (block.values, block.indices.astype(np.int64), block.indptr),
                shape=(len(block), d_sae),
            )
            parts.append(codes[own])
            where.append(block.location[own])
            first += len(block)
    if not parts:
        return sparse.csr_array((d_sae, 0), dtype=np.float32), np.empty(0, dtype=np.int64)
    return sparse.csr_array(sparse.vstack(parts, format="csr").T), np.concatenate(where)


def _live(at: TaskContext, sae: str, vectors: Rows) -> FeatureRows:
    """Return the unit vectors of the live features."""
    counts = at.sound.parts[f"statistics/{sae}"].table("Feature").sort_by("id")
    numbers = [int(key.rpartition("/")[2]) for key in counts["id"].to_pylist()]
    frequency = np.zeros(vectors.shape[0])
    frequency[numbers] = np.nan_to_num(counts["frequency"].to_numpy())
    live = np.flatnonzero(frequency > 0)
    rows, which = directed_rows(vectors[live], dtype=np.float32)
    idx = live[which]
    return FeatureRows(
        sae, len(frequency), idx, rows, frequency[idx], dead=len(frequency) - len(live)
    )
