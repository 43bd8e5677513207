"""Runs of the upper blocks of a model on words, with features of an SAE ablated at the tokens of the word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from analysis.concepts.words.contexts import WordContext
from analysis.concepts.words.encoding import Matrix, pool_rows, word_tokens
from ingest.text.corpus import Document
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from analysis.concepts.settings import Pool
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Ablated", "WordRuns", "read_word_runs"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ablated:
    """The effect of an ablation.

    Parameters
    ----------
    later
        float64, (contexts, width). Activations of the words at the later site.
    size
        float64, (contexts,). Mean over the tokens of a word of the norm of the change / the norm of
        the vector that the SAE reads.
    active
        bool, (contexts,). Whether a feature is active at a token of the word.
    """

    later: Floats
    size: Floats
    active: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class WordRuns:
    """Words in their contexts, with what is needed to run them again from the site of an SAE.

    Parameters
    ----------
    upper, sae
        The model from the site of the SAE on, and the SAE.
    hook
        The later site, where the effect is measured.
    pool
        How the tokens of a word are combined.
    batch_tokens
        Most tokens of a run, padding included.
    contexts
        int64, (contexts,). Which of the passed contexts each is; those whose word has no token
        are excluded.
    ids, mask
        int64, (rows, positions). A row is a context of the model.
    stream
        (rows, positions, d_model). Activations from which the upper blocks start.
    owner, row, position
        int64, (tokens,). Context, row and position of each token of a word, sorted by context.
    read
        (tokens, d_in). The vectors that the SAE reads.
    tokens
        float32, (tokens, width). Unedited activations at the later site.
    """

    upper: "UpperBlocks"
    sae: "Autoencoder"
    hook: str
    pool: "Pool"
    batch_tokens: int
    contexts: Ints
    ids: torch.Tensor
    mask: torch.Tensor
    stream: torch.Tensor
    owner: Ints
    row: Ints
    position: Ints
    read: torch.Tensor
    tokens: NDArray[np.float32]

    @property
    def bytes(self) -> int:
        """Bytes of the stored activations, and of dense codes of all tokens."""
        stored = sum(x.numel() * x.element_size() for x in (self.stream, self.read))
        return stored + self.tokens.nbytes + 4 * len(self.owner) * self.sae.info.d_sae

    def clean(self) -> Floats:
        """Return the unedited activations at the later site; float64, (contexts, width)."""
        return self._pooled(self.tokens, self.owner)

    def codes(self) -> Matrix:
        """Return the unedited codes of each context, combined over its tokens; (contexts, d_sae)."""
        indptr, indices, values = self.sae.codes(self.read)
        shape = (len(self.owner), self.sae.info.d_sae)
        rows = sparse.csr_array((values, indices.astype(np.int64), indptr), shape=shape)
        return pool_rows(rows, _ends(self.owner), pool=self.pool)

    def ablated(
        self,
        contexts: Ints,
        sets: Sequence[Ints],
        *,
        directions: Sequence[Floats] | None = None,
    ) -> Iterator[Ablated]:
        """Ablate each of several sets of features in some contexts.

        Parameters
        ----------
        contexts
            int64, sorted. Numbers of the contexts.
        sets
            Indices of the features of each set.
        directions
            Of each set, float64, (features, d_in), of norm 1. They replace the directions of the decoder
            vectors; the change of each token is rescaled to its norm along the decoder vectors.

        Yields
        ------
            The effect of each set. Contexts in which no feature of the set is active are not run.
        """
        chosen = np.flatnonzero(np.isin(self.owner, contexts))
        norms = self._read_at(chosen).norm(dim=1).clamp(min=1e-12)
        owner = self.owner[chosen]
        word = np.unique(owner, return_inverse=True)[1]
        for change, active in self._changes(chosen, sets, directions):
            later = self.tokens[chosen].copy()
            moved = change.any(1).cpu().numpy()
            rows = np.unique(self.row[chosen[moved]])
            for some, inside, at in self._batches(chosen, rows):
                delta = self._delta(change, some, inside, at)
                _, read = self._edited(some, delta, last=1)
                later[inside] = read[at].float().cpu().numpy()
            size = (change.to(norms.device).norm(dim=1) / norms).double().cpu().numpy()
            yield Ablated(
                self._pooled(later, owner),
                np.bincount(word, size) / np.bincount(word),
                np.bincount(word, active) > 0,
            )

    def divergences(
        self,
        contexts: Ints,
        sets: Sequence[Ints],
        *,
        directions: Sequence[Floats] | None = None,
    ) -> Floats:
        """Return how much each ablation changes the predictions of the next token.

        Parameters
        ----------
        contexts, sets, directions
            As for ``ablated``.

        Returns
        -------
        float64, (sets,). KL(model ‖ edited model) in nats, the mean over the tokens of the words of
        these contexts; NaN without a token.
        """
        chosen = np.flatnonzero(np.isin(self.owner, contexts))
        total = np.zeros(len(sets))
        none = torch.zeros(len(chosen), self.sae.info.d_in)
        for some, inside, at in self._batches(chosen, np.unique(self.row[chosen])):
            logits, _ = self._edited(some, self._delta(none, some, inside, at), last=0)
            log_p = logits[at].log_softmax(-1)
            p = log_p.exp()
            own = chosen[inside]
            for number, (change, _) in enumerate(self._changes(own, sets, directions)):
                if change.any():
                    delta = self._delta(change, some, np.arange(len(own)), at)
                    log_q = self._edited(some, delta, last=0)[0][at].log_softmax(-1)
                    total[number] += float((p * (log_p - log_q)).sum(dtype=torch.float64))
        return total / len(chosen) if len(chosen) else np.full(len(sets), np.nan)

    def _read_at(self, chosen: Ints) -> torch.Tensor:
        return self.read[torch.from_numpy(chosen).to(self.read.device)]

    def _changes(
        self, chosen: Ints, sets: Sequence[Ints], directions: Sequence[Floats] | None
    ) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
        """Yield, for each set, the change at some tokens, (tokens, d_in), and where a feature is active."""
        with torch.inference_mode():
            codes = self.sae.encode(self._read_at(chosen))
        every = torch.arange(len(chosen), device=codes.device)
        for number, features in enumerate(sets):
            along = None if directions is None else torch.from_numpy(directions[number]).float()
            with torch.inference_mode():
                columns = torch.from_numpy(np.asarray(features)).to(codes.device)
                change = self.sae.change(
                    -codes[:, columns],
                    columns,
                    rows=every,
                    directions=None if along is None else along.to(codes.device),
                )
            yield change, (codes[:, columns] != 0).any(1).cpu().numpy()

    def _batches(self, chosen: Ints, rows: Ints) -> Iterator[tuple[Ints, Ints, tuple[Ints, Ints]]]:
        """Yield batches of rows: the rows, which of the chosen tokens they have, and where these are."""
        step = max(1, self.batch_tokens // max(1, self.ids.shape[1]))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            number = np.full(len(self.ids), -1)
            number[some] = np.arange(len(some))
            inside = np.flatnonzero(number[self.row[chosen]] >= 0)
            yield some, inside, (number[self.row[chosen[inside]]], self.position[chosen[inside]])

    def _delta(
        self, change: torch.Tensor, some: Ints, inside: Ints, at: tuple[Ints, Ints]
    ) -> torch.Tensor:
        """Return the change of a batch, (rows, positions, d_in), 0 outside of the tokens."""
        device = self.upper.model.causal.device
        delta = torch.zeros(len(some), self.ids.shape[1], change.shape[1], device=device)
        delta[at] = change[torch.from_numpy(inside).to(change.device)].to(device)
        return delta

    def _edited(
        self, some: Ints, delta: torch.Tensor, *, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a batch of rows with a change; return the logits and the later site."""
        own = torch.from_numpy(some)
        stream = self.stream[own.to(self.stream.device)] if len(self.stream) else self.stream
        logits, read = self.upper.run(
            stream, self.ids[own], self.mask[own], delta=delta, hooks=[self.hook], last=last
        )
        return logits, read[self.hook]

    def _pooled(self, tokens: NDArray[np.float32], owner: Ints) -> Floats:
        if not len(owner):
            return np.zeros((0, tokens.shape[1]))
        return np.asarray(pool_rows(tokens, _ends(owner), pool=self.pool), dtype=np.float64)


def _ends(owner: Ints) -> Ints:
    """Return the token after the last one of each context."""
    return np.append(np.flatnonzero(np.diff(owner)) + 1, len(owner)).astype(np.int64)


def read_word_runs(
    upper: "UpperBlocks",
    sae: "Autoencoder",
    contexts: Sequence[WordContext],
    *,
    tokenizer: Any,
    layout: ContextSettings,
    batch_tokens: int,
    hook: str,
    pool: "Pool",
) -> WordRuns:
    """Run the model without edits on words, and store what repeated runs need.

    Parameters
    ----------
    upper, sae
        The model from the site of the SAE on, and the SAE.
    contexts
        The words in their contexts.
    tokenizer, layout, batch_tokens
        Tokenizer, contexts and batches of the model.
    hook
        The later site.
    pool
        How the tokens of a word are combined.

    Raises
    ------
    Mismatch
        If the tokenizer reports no character offsets.
    OutOfSpace
        If a batch does not fit into memory.
    """
    documents = [Document(i, context.text) for i, context in enumerate(contexts)]
    text = tokenize(documents, tokenizer, settings=layout, batch_tokens=batch_tokens)
    inside = word_tokens(text, contexts)
    parts = [_read(upper, sae, text, batch, inside, hook=hook) for batch in text.batches]
    return _joined(parts, upper, sae, hook=hook, pool=pool, batch_tokens=batch_tokens)


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows of a batch that have a token of a word, and these tokens."""

    ids: torch.Tensor
    mask: torch.Tensor
    stream: torch.Tensor
    token: Ints
    owner: Ints
    row: Ints
    position: Ints
    read: torch.Tensor
    tokens: NDArray[np.float32]


def _read(
    upper: "UpperBlocks",
    sae: "Autoencoder",
    text: TokenizedBlock,
    batch: Batch,
    inside: NDArray[np.bool_],
    *,
    hook: str,
) -> _Part:
    keep = batch.keep.copy()
    keep[keep] = inside[batch.rows]
    rows = np.flatnonzero(keep.any(axis=1))
    ids, mask = (torch.from_numpy(a[rows]) for a in (batch.input_ids, batch.attention_mask))
    read_here = torch.from_numpy(keep[rows])
    hooks = list(dict.fromkeys([*sae.info.hooks, hook]))
    stream, _, read = upper.below(ids, mask, hooks=hooks)
    row, position = np.nonzero(keep[rows])
    with torch.inference_mode():
        vectors = sae.reads(read, read_here, ids)
    token = batch.rows[inside[batch.rows]]
    return _Part(
        ids,
        mask,
        stream,
        token,
        text.tokens.document[token],
        row.astype(np.int64),
        position.astype(np.int64),
        vectors,
        read[hook][read_here.to(read[hook].device)].float().cpu().numpy(),
    )


def _joined(
    parts: Sequence[_Part],
    upper: "UpperBlocks",
    sae: "Autoencoder",
    *,
    hook: str,
    pool: "Pool",
    batch_tokens: int,
) -> WordRuns:
    """Join the batches, padded to one width; tokens are sorted by context and position in the text."""
    longest = max(part.ids.shape[1] for part in parts)
    begins = np.cumsum([0, *(len(part.ids) for part in parts)])
    row = np.concatenate([part.row + b for part, b in zip(parts, begins, strict=False)])
    order = np.argsort(np.concatenate([part.token for part in parts]), kind="stable")
    owner = np.concatenate([part.owner for part in parts])[order]
    contexts, numbers = np.unique(owner, return_inverse=True)
    vectors = torch.cat([part.read for part in parts])
    read = vectors[torch.from_numpy(order).to(vectors.device)]
    return WordRuns(
        upper=upper,
        sae=sae,
        hook=hook,
        pool=pool,
        batch_tokens=batch_tokens,
        contexts=contexts.astype(np.int64),
        ids=_padded([part.ids for part in parts], longest),
        mask=_padded([part.mask for part in parts], longest),
        stream=_padded([part.stream for part in parts], longest),
        owner=numbers.astype(np.int64),
        row=row[order],
        position=np.concatenate([part.position for part in parts])[order],
        read=read,
        tokens=np.concatenate([part.tokens for part in parts])[order],
    )


def _padded(parts: Sequence[torch.Tensor], longest: int) -> torch.Tensor:
    """Join rows, with zeros after the last position of shorter ones."""
    if parts[0].ndim < 2:
        return parts[0]
    wide = []
    for part in parts:
        shape = (part.shape[0], longest - part.shape[1], *part.shape[2:])
        wide.append(torch.cat([part, part.new_zeros(shape)], dim=1))
    return torch.cat(wide)
