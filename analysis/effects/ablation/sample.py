"""The sample of an effects study: contexts of the text, and tokens at which features are active."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.text.corpus import Corpus
from ingest.text.tokenization import ContextSettings, tokenize

if TYPE_CHECKING:
    from ingest.sae.autoencoder import Autoencoder

__all__ = [
    "SHORTER",
    "Contexts",
    "Occurrences",
    "first_half",
    "nearest_other",
    "occurrences_of",
    "sample_contexts",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: What to do if memory does not suffice.
SHORTER = "use a smaller `context_size`, targets with fewer features (`on`), or another `device`"


@dataclass(frozen=True, eq=False)
class Contexts:
    """Contexts of different documents.

    Parameters
    ----------
    ids, mask, read
        (contexts, positions). Token ids, attention mask, and the tokens that SAEs read.
    document
        (contexts,). Index of the document.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    read: torch.Tensor
    document: Ints

    def __len__(self) -> int:
        return len(self.document)

    def take(self, rows: Ints | slice) -> "Contexts":
        """Return some of the contexts."""
        return Contexts(self.ids[rows], self.mask[rows], self.read[rows], self.document[rows])

    def cut(self, length: int) -> "Contexts":
        """Return the contexts without the positions from ``length`` on."""
        ids, mask, read = (part[:, :length] for part in (self.ids, self.mask, self.read))
        return Contexts(ids, mask, read, self.document)


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Tokens at which features are active.

    Parameters
    ----------
    feature, context, position
        int64, (n,). The feature, and the token.
    activation
        float32, (n,).
    """

    feature: Ints
    context: Ints
    position: Ints
    activation: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, rows: NDArray[Any]) -> "Occurrences":
        """Return some of the occurrences."""
        return Occurrences(
            self.feature[rows], self.context[rows], self.position[rows], self.activation[rows]
        )


def sample_contexts(
    corpus: Corpus, tokenizer: Any, *, settings: ContextSettings, contexts: int, seed: int
) -> Contexts:
    """Draw one context from each of several documents; a small text gives fewer contexts.

    Parameters
    ----------
    corpus
        The text.
    tokenizer
        The tokenizer of the model.
    settings
        How text is split into contexts.
    contexts
        Number of contexts.
    seed
        Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[tuple[NDArray[Any], ...], int]] = []
    share = -(-contexts // max(1, len(corpus)))
    for number in rng.permutation(len(corpus)):
        documents = corpus.block(int(number))
        drawn = 0
        for at in rng.permutation(len(documents)):
            if drawn == share or len(found) == contexts:
                break
            block = tokenize([documents[at]], tokenizer, settings=settings, batch_tokens=1 << 20)
            rows = [
                (batch.input_ids[i], batch.attention_mask[i], batch.keep[i])
                for batch in block.batches
                for i in np.flatnonzero(batch.keep.any(1))
            ]
            if rows:
                found.append((rows[rng.integers(len(rows))], documents[at].number))
                drawn += 1
    width = max((len(arrays[0]) for arrays, _ in found), default=0)
    parts = [[arrays[part] for arrays, _ in found] for part in range(3)]
    padded = [
        torch.stack([_padded(row, width) for row in part])
        if part
        else torch.zeros((0, 0), dtype=torch.long)
        for part in parts
    ]
    documents_of = np.array([number for _, number in found], dtype=np.int64)
    return Contexts(padded[0], padded[1], padded[2].bool(), documents_of)


def _padded(row: NDArray[Any], width: int) -> torch.Tensor:
    return torch.from_numpy(np.pad(row.astype(np.int64), (0, width - len(row))))


def occurrences_of(sae: "Autoencoder", x: torch.Tensor, read: torch.Tensor) -> Occurrences:
    """Return all tokens at which features are active, by feature, then by token.

    Parameters
    ----------
    sae
        The SAE.
    x
        (tokens that are read, d_in). Its input, in the order of ``read``.
    read
        (contexts, positions). True at the tokens that are read.
    """
    codes = sae.codes(x)
    token = np.repeat(np.arange(len(codes.indptr) - 1), np.diff(codes.indptr))
    where = read.nonzero().numpy()
    order = np.lexsort((token, codes.indices))
    token = token[order]
    return Occurrences(
        codes.indices[order].astype(np.int64),
        where[token, 0],
        where[token, 1],
        codes.values[order],
    )


def drawn(every: Occurrences, *, most: int, least: int, seed: int) -> Occurrences:
    """Draw up to ``most`` occurrences of each feature that has ``least`` or more.

    One occurrence of each context is drawn before a second of any.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(every))
    pair = every.feature[shuffled] * (every.context.max(initial=0) + 1) + every.context[shuffled]
    order = np.lexsort((np.arange(len(pair)), pair))
    repeat = np.empty(len(pair), dtype=np.int64)
    repeat[order] = _ranks(pair[order])
    order = np.lexsort((np.arange(len(pair)), repeat, every.feature[shuffled]))
    rows = shuffled[order]
    feature = every.feature[rows]
    chosen = (_ranks(feature) < most) & (np.bincount(feature)[feature] >= least)
    return every.take(np.sort(rows[chosen]))


def first_half(document: Ints, *, seed: int) -> NDArray[np.bool_]:
    """Return which tokens are in the documents of a random first half.

    Parameters
    ----------
    document
        (tokens,). Document of each token.
    seed
        Seed of the split.

    Examples
    --------
    >>> first_half(np.array([3, 3, 8]), seed=0).sum() in (1, 2)
    True
    """
    unique, number = np.unique(document, return_inverse=True)
    half = np.random.default_rng(seed).permutation(len(unique)) % 2 == 0
    found: NDArray[np.bool_] = half[number]
    return found


def nearest_other(
    chosen: Occurrences, every: Occurrences, *, frequency: Floats, activation: Floats
) -> Occurrences:
    """Return, for each occurrence, that of another feature at the same token.

    It is the active feature with the nearest log frequency and log mean activation.

    Parameters
    ----------
    chosen
        Occurrences.
    every
        All occurrences at the same tokens.
    frequency, activation
        (features,). Frequency and mean activation of each feature.

    Returns
    -------
        Of the length of ``chosen``; where no other feature is active, the feature itself with
        an activation of 0.
    """
    at = np.stack([_scaled(frequency), _scaled(activation)], 1)
    span = int(every.position.max(initial=0)) + 1
    token = every.context * span + every.position
    order = np.argsort(token, kind="stable")
    token = token[order]
    wanted = chosen.context * span + chosen.position
    first, last = np.searchsorted(token, wanted), np.searchsorted(token, wanted, side="right")
    best = np.empty(len(chosen), dtype=np.int64)
    strength = np.zeros(len(chosen), dtype=np.float32)
    for i, (low, high) in enumerate(zip(first, last, strict=True)):
        rows = order[low:high]
        rows = rows[every.feature[rows] != chosen.feature[i]]
        if len(rows):
            far = np.square(at[every.feature[rows]] - at[chosen.feature[i]]).sum(1)
            row = rows[np.argmin(far)]
            best[i], strength[i] = every.feature[row], every.activation[row]
        else:
            best[i] = chosen.feature[i]
    return Occurrences(best, chosen.context, chosen.position, strength)


def _scaled(values: Floats) -> Floats:
    """Return log values in standard deviations of the live features."""
    live = values > 0
    logs = np.log(np.where(live, values, 1.0))
    spread = logs[live].std() if live.any() else 0.0
    scaled: Floats = logs / spread if spread > 0 else logs * 0.0
    return scaled


def _ranks(group: Ints) -> Ints:
    """Number the members of each group of equal, contiguous values from 0."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
