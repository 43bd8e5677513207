"""The measured change of each token's log-probability when a feature is ablated where it is active.

The ablation is a delta: the activation of the feature is set to 0, and the stream becomes
``x + decode(changed) - decode(original)``. The reconstruction error of the SAE therefore stays.
The change is that of the prediction at the ablated token itself. The model is causal, so a
context is cut behind that token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import Mismatch
from atlas.progress import SILENT, Progress
from ingest.codes.active_tokens import ActiveTokens
from ingest.text.corpus import Corpus
from ingest.text.tokenization import Batch, ContextSettings, TokenizedBlock, tokenize

if TYPE_CHECKING:
    from ingest.model.next_token import NextTokenModel
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Ablated", "Text", "ablate"]

#: Most logits of a batch, so that they take 128 MiB.
_LOGITS = 2**25

#: Largest share of tokens on which a feature may be inactive although its stored codes are active.
#: Codes near the threshold depend on the last digits, and these on the size of the batch.
_FLIPPED = 0.01


@dataclass(frozen=True, eq=False)
class Text:
    """The text of an atlas, split into contexts as for one of its SAEs."""

    corpus: Corpus
    tokenizer: object
    contexts: ContextSettings
    batch_tokens: int

    def block(self, number: int) -> TokenizedBlock:
        """Return a block."""
        return tokenize(
            self.corpus.block(number),
            self.tokenizer,  # type: ignore[arg-type]
            settings=self.contexts,
            batch_tokens=self.batch_tokens,
        )


@dataclass(frozen=True, eq=False)
class Ablated:
    """Changes of log-probabilities by the ablation of features.

    Parameters
    ----------
    features
        int64, (features,). The ablated features, ascending.
    positions
        int64, (features,). Tokens on which each was ablated.
    change
        float64, (features, vocabulary). Mean change of the log-probability of each token, in
        nats: below 0 for tokens that the feature makes more likely.
    """

    features: NDArray[np.int64]
    positions: NDArray[np.int64]
    change: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Jobs:
    """Ablations in the contexts of one batch: a row each.

    Parameters
    ----------
    feature
        The feature.
    context, column
        The cell of the token in the batch.
    """

    feature: NDArray[np.int64]
    context: NDArray[np.int64]
    column: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.feature)

    def __getitem__(self, which: NDArray[np.int64]) -> "_Jobs":
        return _Jobs(self.feature[which], self.context[which], self.column[which])


def ablate(
    model: "NextTokenModel",
    sae: "Autoencoder",
    tokens: ActiveTokens,
    *,
    text: Text,
    progress: Progress = SILENT,
) -> Ablated:
    """Ablate features on tokens on which they are active, one feature and token at a time.

    Parameters
    ----------
    model
        The complete model.
    sae
        The SAE.
    tokens
        The features, and the tokens on which each is ablated.
    text
        The text of the tokens.
    progress
        Shows how far the work is.

    Raises
    ------
    Mismatch
        If features are inactive on more than 1% of the tokens in this model.
    """
    features = np.unique(tokens.feature)
    positions = np.zeros(len(features), dtype=np.int64)
    total = np.zeros((len(features), _vocabulary(model)))
    with progress.stage("Ablation of features", total=len(tokens), unit="tokens") as stage:
        for number in np.unique(tokens.block).tolist():
            block, own = text.block(number), tokens.of_block(number)
            for batch in block.batches:
                jobs = _jobs(batch, own)
                for some, active, change in _changes(model, sae, batch, jobs=jobs):
                    at = np.searchsorted(features, some.feature[active])
                    np.add.at(total, at, change[active])
                    np.add.at(positions, at, 1)
                    stage.advance(len(some))
    inactive = len(tokens) - int(positions.sum())
    if inactive > _FLIPPED * len(tokens):
        raise Mismatch(
            f"Features of {sae.info.name} are inactive on {inactive:,} of {len(tokens):,} tokens on which their stored "
            "codes are active. Ablating an inactive feature changes nothing. Ingest the SAE again with --replace."
        )
    done = positions > 0
    return Ablated(features[done], positions[done], total[done] / positions[done, None])


def _vocabulary(model: "NextTokenModel") -> int:
    causal: Any = model.causal
    return int(causal.get_output_embeddings().weight.shape[0])


def _jobs(batch: Batch, tokens: ActiveTokens) -> _Jobs:
    """Return the ablations whose tokens are in a batch, those of short contexts first."""
    context, column = np.nonzero(batch.keep)
    order = np.argsort(batch.rows)
    where = np.searchsorted(batch.rows[order], tokens.row)
    where = np.minimum(where, len(order) - 1)
    inside = batch.rows[order][where] == tokens.row
    cell = order[where[inside]]
    jobs = _Jobs(tokens.feature[inside], context[cell], column[cell])
    return jobs[np.lexsort((jobs.feature, jobs.context, jobs.column))]


def _changes(
    model: "NextTokenModel", sae: "Autoencoder", batch: Batch, *, jobs: _Jobs
) -> Iterator[tuple[_Jobs, NDArray[np.bool_], NDArray[np.float32]]]:
    """Yield ablations as ``_change`` returns them, as many at once as fit into memory."""
    vocabulary, first = _vocabulary(model), 0
    while first < len(jobs):
        # The columns ascend, so the last of a run of jobs has the longest context.
        size = 1
        while (
            first + size < len(jobs)
            and (size + 1) * (int(jobs.column[first + size]) + 1) * vocabulary <= _LOGITS
        ):
            size += 1
        some = jobs[np.arange(first, first + size)]
        yield some, *_change(model, sae, batch, jobs=some)
        first += size


def _change(
    model: "NextTokenModel", sae: "Autoencoder", batch: Batch, *, jobs: _Jobs
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return whether the feature of each ablation is active, and the change of all log-probabilities.

    The change has the shape (jobs, vocabulary).
    """
    length = int(jobs.column.max()) + 1
    contexts, which = np.unique(jobs.context, return_inverse=True)
    rows, column = torch.from_numpy(which), torch.from_numpy(jobs.column)
    seen: dict[str, torch.Tensor] = {}

    def read(hook: str, x: torch.Tensor) -> torch.Tensor:
        seen[hook] = x[rows.to(x.device), column.to(x.device)]
        return x

    ids = torch.from_numpy(batch.input_ids[contexts, :length])
    mask = torch.from_numpy(batch.attention_mask[contexts, :length])
    reads = {hook: (lambda x, hook=hook: read(hook, x)) for hook in sae.info.hooks}
    before = model.logits(ids, mask, edits=reads)[rows, column].log_softmax(-1)
    cell = torch.arange(len(jobs))
    active, delta = _delta(sae, seen, ids[rows, column], torch.from_numpy(jobs.feature))

    def edit(x: torch.Tensor) -> torch.Tensor:
        changed = x.clone()
        changed[cell, column] += delta.to(x.device, x.dtype)
        return changed

    after = model.logits(ids[rows], mask[rows], edits={sae.info.hook: edit})[cell, column]
    return active, (after.log_softmax(-1) - before).cpu().numpy()


def _delta(
    sae: "Autoencoder", seen: dict[str, torch.Tensor], ids: torch.Tensor, features: torch.Tensor
) -> tuple[NDArray[np.bool_], torch.Tensor]:
    """Return which features are active, and decode(z with a feature at 0) - decode(z)."""
    one = torch.ones(len(ids), 1, dtype=torch.bool)
    at = {hook: value[:, None] for hook, value in seen.items()}
    z = sae.encode(sae.reads(at, one, ids[:, None])).clone()
    row, which = torch.arange(len(z), device=z.device), features.to(z.device)
    active: NDArray[np.bool_] = (z[row, which] > 0).cpu().numpy()
    original = sae.decode(z)
    z[row, which] = 0.0
    return active, sae.decode(z) - original
