"""The table of tokens and their most active features, read from kept codes; and the edges it gives."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from atlas.errors import BadInput, Missing, UnknownName
from atlas.folder import Folder
from ingest.codes.store import Block, Tokens, read_shard
from ingest.codes.stored import stored_shards
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
    """How an SAE's graph was made: of the ``k`` most active features, pairs met ``min_count`` times."""

    k: int = 4
    min_count: int = 1


@dataclass(frozen=True, eq=False)
class Membership:
    """S_t for every token t: the up to k features most active on it, in compressed sparse row form.

    Parameters
    ----------
    indptr
        int64, tokens + 1. The features of token t are ``features[indptr[t]:indptr[t + 1]]``.
    features
        int32. Features, ascending within a token.
    document
        int64, one a token. Its document; tokens stand in the order of the corpus.
    active
        int64, d_sae. On how many of the tokens each feature is active at all.
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
        """Return among the most active of how many tokens each feature is; (d_sae,)."""
        return np.bincount(self.features, minlength=self.d_sae)


def rule_of(folder: Folder, sae: str) -> Rule:
    """Return how the graph of an SAE was made.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If it has no edges of it.
    """
    sound = folder.sound()
    if sae not in sound.saes:
        raise UnknownName("SAE", sae, known=sound.saes, hint="`atlas list` shows them.")
    part = sound.parts.get(f"coactivation/{sae}")
    if part is None:
        raise Missing(
            f"{folder.path} has no co-activation of {sae}; ingest it again with --replace."
        )
    said = part.manifest.settings
    return Rule(int(said["k"]), int(said["min_count"]))


def open_membership(
    folder: Folder,
    sae: str,
    *,
    tokens: int | None = None,
    documents: NDArray[np.int64] | None = None,
) -> Membership:
    """Read the table of an SAE in an atlas, with the k its graph was made with.

    Parameters
    ----------
    folder
        The atlas.
    sae
        The SAE's name.
    tokens
        Only the first so many tokens (of the documents); all if None.
    documents
        Numbers of the documents to read; all if None.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE.
    Missing
        If its codes were not kept, or it has no edges.
    BrokenPart
        If its codes have changed since they were written.
    BadInput
        If it has fewer tokens.
    """
    rule, sound = rule_of(folder, sae), folder.sound()
    shards = stored_shards(folder, sound, sae, what="The features that are active on each token")
    (row,) = sound.parts[f"sae/{sae}"].table("SAE").to_pylist()
    blocks = (block for shard in shards for block in read_shard(shard))
    found = read_membership(
        blocks, d_sae=int(row["d_sae"]), k=rule.k, tokens=tokens, documents=documents
    )
    if tokens is not None and len(found) < tokens:
        raise BadInput(
            f"{tokens:,} tokens of {sae} were asked for, and the atlas has {len(found):,}; "
            "ask for fewer."
        )
    return found


def read_membership(
    blocks: Iterable[Block],
    *,
    d_sae: int,
    k: int,
    tokens: int | None = None,
    documents: NDArray[np.int64] | None = None,
) -> Membership:
    """Make the table from codes.

    What is held is 4 bytes for each of up to k features of a token and 16 for the token,
    twice that while it is put together.

    Parameters
    ----------
    blocks
        The codes in the order of the corpus; not kept.
    d_sae
        Number of features.
    k
        How many features of a token at most; ties go to the lower index.
    tokens
        Only the first so many tokens (of the documents); all if None.
    documents
        Numbers of the documents to read; all if None.
    """
    sizes, features, document = [np.zeros(1, np.int64)], [], []
    active = np.zeros(d_sae, dtype=np.int64)
    left = tokens
    for whole in blocks:
        block = whole if documents is None else of_documents(whole, documents)
        take = len(block) if left is None else min(left, len(block))
        end = int(block.indptr[take])
        codes = pair_counting.codes_of(block)
        which = pair_counting.chosen(codes, k)[:end]
        active += np.bincount(codes.indices[:end], minlength=d_sae)
        sizes.append(np.bincount(block.rows[:end][which], minlength=take))
        features.append(codes.indices[:end][which])
        document.append(block.tokens.document[:take].copy())
        left = None if left is None else left - take
        if left == 0:
            break
    return Membership(
        indptr=np.cumsum(np.concatenate(sizes)),
        features=np.concatenate([np.zeros(0, np.int32), *features]),
        document=np.concatenate([np.zeros(0, np.int64), *document]),
        active=active,
    )


def of_documents(block: Block, documents: NDArray[np.int64]) -> Block:
    """Return what a block holds of some documents.

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
    """Return the pairs of features that are both among the most active of a token.

    Parameters
    ----------
    membership
        The table.
    tokens
        Count the first so many tokens only; all if None.
    min_count
        Only pairs met on so many tokens.

    Returns
    -------
    pairs
        int64, (pairs, 2). Lower feature first; in the order of both.
    count
        int64, (pairs,). On how many tokens.
    """
    indptr = membership.indptr if tokens is None else membership.indptr[: tokens + 1]
    features = membership.features[: indptr[-1]]
    numbers = np.arange(len(features), dtype=np.int32)
    shape = (len(indptr) - 1, membership.d_sae)
    columns = csr_array((numbers, features, indptr), shape).tocsc()
    codes = pair_counting.Codes(
        indptr, features, np.zeros(0),  # counting pairs asks for no activation
        columns.indptr.astype(np.int64), columns.data, columns.indices.astype(np.int32),
    )  # fmt: skip
    key, count = pair_counting.count_pairs(codes, first=0, end=membership.d_sae)
    met = count >= min_count
    return np.stack([key[met] >> 32, key[met] & 0xFFFFFFFF], axis=1), count[met]
