"""States: the codes of several SAEs on the same tokens, with and without an edit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from analysis.steering.subject import Subject
from atlas.errors import BadInput
from atlas.progress import Progress, Stage
from ingest.model.edits import SiteEdit
from ingest.model.next_token import NextTokenModel
from ingest.sae.autoencoder import Autoencoder
from ingest.text.tokenization import Batch

__all__ = [
    "State",
    "TextSample",
    "contexts_with",
    "reached_tokens",
    "read_state",
    "sampled_text",
    "text_with_features",
]


@dataclass(frozen=True, eq=False)
class TextSample:
    """Batches of text.

    Parameters
    ----------
    batches
        The batches.
    document
        int64, (tokens,). Document of each counted token, over all batches.
    searched
        Tokens of text that were read to find the batches.
    """

    batches: tuple[Batch, ...]
    document: NDArray[np.int64]
    searched: int | None = None


def sampled_text(subject: Subject, tokens: int, *, seed: int) -> TextSample:
    """Return random batches of the text of the atlas, until they hold some tokens."""
    found = list(subject.sampled(tokens, seed=seed))
    document = np.concatenate([document for _, document in found])
    return TextSample(tuple(batch for batch, _ in found), document, len(document))


def text_with_features(
    subject: Subject,
    features: Sequence[int],
    *,
    tokens: int,
    search: int,
    seed: int,
    progress: Progress,
) -> TextSample:
    """Return random contexts of the text of the atlas in which one of some features is active.

    An edit of active features changes nothing in other contexts.

    Parameters
    ----------
    subject
        The SAE and its model, which is run up to the site.
    features
        The features.
    tokens
        Contexts are added until they hold this number of tokens.
    search
        Most tokens of text that are searched; the last batch is read completely.
    seed
        Seed of the order of the text.
    progress
        Shows how far the search is.

    Raises
    ------
    BadInput
        If no feature is active in the searched text.
    """
    batches, documents = [], []
    found = searched = 0
    with progress.stage("Contexts with the features", total=search, unit="tokens") as stage:
        for batch, document in subject.sampled(search, seed=seed):
            some, inside = contexts_with(subject, batch, features)
            if len(some):
                batches.append(
                    Batch(
                        batch.input_ids[some],
                        batch.attention_mask[some],
                        batch.keep[some],
                        batch.rows[inside],
                    )
                )
                documents.append(document[inside])
                found += int(inside.sum())
            # The last batch is read completely, so that more than ``search`` tokens can be searched.
            stage.advance(max(0, min(len(document), search - searched)))
            searched += len(document)
            if found >= tokens:
                break
    if not batches:
        names = ", ".join(f"{subject.name}/{feature}" for feature in features)
        raise BadInput(
            f"The edit changes nothing: {names} is active at none of the {searched:,} tokens of text that were "
            "searched. Search more with `search`."
        )
    return TextSample(tuple(batches), np.concatenate(documents), searched)


def contexts_with(
    subject: Subject, batch: Batch, features: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the contexts of a batch in which one of some features is active.

    Parameters
    ----------
    subject
        The SAE and its model, which is run up to the site.
    batch
        The batch.
    features
        The features.

    Returns
    -------
    contexts
        int64. Row of each of these contexts in the batch, ascending.
    inside
        bool, (tokens,). Whether each counted token is in one of them.
    """
    ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
    read = subject.model.run(ids, mask, hooks=subject.sae.info.hooks)
    codes = subject.sae.codes(subject.sae.reads(read, keep, ids))
    context = batch.keep.nonzero()[0]
    token = np.repeat(np.arange(len(context)), np.diff(codes.indptr))
    some = np.unique(context[token[np.isin(codes.indices, features)]])
    return some, np.isin(context, some)


@dataclass(frozen=True, eq=False)
class State:
    """The codes of several SAEs on the tokens of a text.

    Parameters
    ----------
    codes
        By name of the SAE, (tokens, features).
    site
        float32, (tokens, width). Activations at the edited site, after the edit.
    """

    codes: Mapping[str, sparse.csr_array]
    site: NDArray[np.float32]


def read_state(
    model: NextTokenModel,
    saes: Sequence[Autoencoder],
    text: TextSample,
    *,
    hook: str,
    edits: Sequence[SiteEdit],
    stage: Stage | None = None,
) -> State:
    """Run a text with some edits and return the state.

    Parameters
    ----------
    model
        The complete model.
    saes
        The SAEs whose codes are returned.
    text
        The text.
    hook
        The edited site.
    edits
        The edits; none for the state before.
    stage
        Advanced by one for each batch.

    Raises
    ------
    BadInput
        If an edit changes nothing in the complete text, or produces NaN.
    """
    hooks = list(dict.fromkeys([hook, *(h for sae in saes for h in sae.info.hooks)]))
    parts: dict[str, list[sparse.csr_array]] = {sae.info.name: [] for sae in saes}
    site = []
    with model.edited(list(edits)):  # around all batches: a feature can be inactive in one of them
        for batch in text.batches:
            ids, mask, keep = map(
                torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep)
            )
            _, read = model.run(ids, mask, hooks=hooks)
            site.append(read[hook][keep.to(read[hook].device)].float().cpu().numpy())
            for sae in saes:
                codes = sae.codes(sae.reads(read, keep, ids))
                parts[sae.info.name].append(
                    sparse.csr_array(
                        (codes.values, codes.indices.astype(np.int64), codes.indptr),
                        shape=(int(keep.sum()), sae.info.d_sae),
                    )
                )
            if stage is not None:
                stage.advance()
    codes_of = {
        name: sparse.csr_array(sparse.vstack(each, format="csr")) for name, each in parts.items()
    }
    return State(codes_of, np.concatenate(site))


def reached_tokens(
    text: TextSample, before: NDArray[np.float32], after: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which tokens an edit can have changed: the edited ones and all later ones of a context.

    The others have equal activations at every site, because the model is causal.

    Parameters
    ----------
    text
        The text.
    before, after
        (tokens, width). Activations at the edited site.
    """
    edited = (before != after).any(axis=1)
    found = np.zeros(len(edited), dtype=np.bool_)
    first = 0
    for batch in text.batches:
        size = int(batch.keep.sum())
        cells = np.zeros(batch.keep.shape, dtype=np.bool_)
        cells[batch.keep] = edited[first : first + size]
        found[first : first + size] = np.logical_or.accumulate(cells, axis=1)[batch.keep]
        first += size
    return found
