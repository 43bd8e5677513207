"""The table of the k most active features of each token, read from stored codes, and its edges."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from atlas.disk.folder import Folder
from atlas.errors import BadInput, Missing, UnknownName
from ingest.codes.store import Block, Tokens, read_shard, stored_shards
from ingest.reduce import pair_counting

__all__ = [
    "Membership",
    "Rule",
    "edges",
    "of_documents",
    "open_membership",
    "read_membership",
    "rule_of",
]

Edges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Rule:
    """The rule of a graph: pairs among the ``k`` most active features, on ``min_count`` tokens or more."""

    k: int = 4
    min_count: int = 1


@dataclass(frozen=True, eq=False)
class Membership:
    """S_t for every token t: its k most active features at most, in compressed sparse row form.

    Parameters
    ----------
    indptr
        int64, tokens + 1. The features of token t are ``features[indptr[t]:indptr[t + 1]]``.
    features
        int32. Features, ascending within a token.
    document
        int64, one per token. Its document; tokens are in corpus order.
    active
        int64, d_sae. Number of tokens on which each feature is active, among the k or not.
    """

    indptr: NDArray[np.int64]
    features: NDArray[np.int32]
    document: NDArray[np.int64]
    active: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.document)

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return len(self.active)

    def counts(self) -> NDArray[np.int64]:
        """Return the number of tokens on which each feature is among the k most active; (d_sae,)."""
        return np.bincount(self.features, minlength=self.d_sae)


def rule_of(folder: Folder, sae: str) -> Rule:
    """Return the rule by which the graph of an SAE was computed.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If the atlas has no edges of the SAE.
    """
    sound = folder.sound()
    if sae not in sound.saes:
        raise UnknownName("SAE", sae, known=sound.saes, hint="`atlas list` shows them.")
    part = sound.parts.get(f"coactivation/{sae}")
    if part is None:
        raise Missing(
            f"{folder.path} has no co-activation of {sae}; ingest it again with `replace=True`."
        )
    settings = part.manifest.settings
    return Rule(int(settings["k"]), int(settings["min_count"]))


def open_membership(
    folder: Folder,
    sae: str,
    *,
    tokens: int | None = None,
    documents: NDArray[np.int64] | None = None,
) -> Membership:
    """Read the table of an SAE in an atlas, with the k of its graph.

    Parameters
    ----------
    folder
        The atlas.
    sae
        The SAE's name.
    tokens
        Read only this many tokens (of the documents), from the first; all if None.
    documents
        Numbers of the documents to read; all if None.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes are not stored, or it has no edges.
    BrokenPart
        If its codes have changed since they were written.
    BadInput
        If it has fewer tokens.
    """
    rule, sound = rule_of(folder, sae), folder.sound()
    shards = stored_shards(folder, sound, sae, what="The features that are active on each token")
    (row,) = sound.parts[f"sae/{sae}"].table("SAE").to_pylist()
    blocks = (block for shard in shards for block in read_shard(shard))
    membership = read_membership(
        blocks, d_sae=int(row["d_sae"]), k=rule.k, tokens=tokens, documents=documents
    )
    if tokens is not None and len(membership) < tokens:
        raise BadInput(
            f"{tokens:,} tokens of {sae} were requested, and the atlas has {len(membership):,}; "
            "request fewer."
        )
    return membership


def read_membership(
    blocks: Iterable[Block],
    *,
    d_sae: int,
    k: int,
    tokens: int | None = None,
    documents: NDArray[np.int64] | None = None,
) -> Membership:
    """Compute the table from codes.

    A token takes 16 bytes of memory and 4 for each of its features (k at most), and twice as
    much while the table is built.

    Parameters
    ----------
    blocks
        The codes in corpus order; read once and not held in memory.
    d_sae
        Number of features.
    k
        Most features of a token; ties go to the lower index.
    tokens
        Read only this many tokens (of the documents), from the first; all if None.
    documents
        Numbers of the documents to read; all if None.
    """
    sizes, features, document = [np.zeros(1, np.int64)], [], []
    active = np.zeros(d_sae, dtype=np.int64)
    remaining = tokens
    for full_block in blocks:
        block = full_block if documents is None else of_documents(full_block, documents)
        take = len(block) if remaining is None else min(remaining, len(block))
        end = int(block.indptr[take])
        codes = pair_counting.codes_of(block)
        in_top_k = pair_counting.chosen(codes, k)[:end]
        active += np.bincount(codes.indices[:end], minlength=d_sae)
        sizes.append(np.bincount(block.rows[:end][in_top_k], minlength=take))
        features.append(codes.indices[:end][in_top_k])
        document.append(block.tokens.document[:take].copy())
        remaining = None if remaining is None else remaining - take
        if remaining == 0:
            break
    return Membership(
        indptr=np.cumsum(np.concatenate(sizes)),
        features=np.concatenate([np.zeros(0, np.int32), *features]),
        document=np.concatenate([np.zeros(0, np.int64), *document]),
        active=active,
    )


def of_documents(block: Block, documents: NDArray[np.int64]) -> Block:
    """Restrict a block to some documents.

    Parameters
    ----------
    block
        The block.
    documents
        Numbers of the documents.
    """
    keep = np.isin(block.tokens.document, documents)
    sizes = np.diff(block.indptr)
    entries = np.repeat(keep, sizes)
    return replace(
        block,
        tokens=Tokens(*(getattr(block.tokens, field.name)[keep] for field in fields(Tokens))),
        indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[keep])]),
        indices=block.indices[entries],
        values=block.values[entries],
    )


def edges(membership: Membership, tokens: int | None = None, *, min_count: int = 1) -> Edges:
    """Return the pairs of features that are both among the k most active of a token.

    Parameters
    ----------
    membership
        The table.
    tokens
        Count only this many tokens, from the first; all if None.
    min_count
        Return only pairs on at least this many tokens.

    Returns
    -------
    pairs
        int64, (pairs, 2). Lower feature first; sorted by both features.
    count
        int64, (pairs,). The number of tokens of each pair.
    """
    indptr = membership.indptr if tokens is None else membership.indptr[: tokens + 1]
    features = membership.features[: indptr[-1]]
    numbers = np.arange(len(features), dtype=np.int32)
    shape = (len(indptr) - 1, membership.d_sae)
    columns = csr_array((numbers, features, indptr), shape).tocsc()
    codes = pair_counting.Codes(
        indptr,
        features,
        np.zeros(0),  # counting pairs needs no activations
        columns.indptr.astype(np.int64),
        columns.data,
        columns.indices.astype(np.int32),
    )
    key, count = pair_counting.count_pairs(codes, first=0, end=membership.d_sae)
    frequent = count >= min_count
    return np.stack([key[frequent] >> 32, key[frequent] & 0xFFFFFFFF], axis=1), count[frequent]
