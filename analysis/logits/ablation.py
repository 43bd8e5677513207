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

from analysis.effects.ablation.rows import measured_predictions
from analysis.effects.ablation.sample import Contexts
from atlas.errors import Mismatch
from atlas.progress import SILENT, Progress, Stage
from ingest.codes.active_tokens import ActiveTokens
from ingest.model.upper_blocks import UpperBlocks
from ingest.text.context_text import ContextText
from ingest.text.tokenization import Batch

if TYPE_CHECKING:
    from ingest.model.next_token import NextTokenModel
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["Ablated", "ablate"]

#: Largest share of tokens on which a feature may be inactive although its stored codes are active.
#: Codes near the threshold depend on the last digits, and these on the size of the batch.
_FLIPPED = 0.01


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


def ablate(
    model: "NextTokenModel",
    sae: "Autoencoder",
    tokens: ActiveTokens,
    *,
    text: ContextText,
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
    upper = UpperBlocks(model, sae.info.hook)
    with progress.stage("Ablation of features", total=len(tokens), unit="tokens") as stage:
        for number in np.unique(tokens.block).tolist():
            block, own = text.block(number), tokens.of_block(number)
            for batch in block.batches:
                for feature, active, change in _changes(upper, sae, batch, own, stage=stage):
                    at = np.searchsorted(features, feature[active])
                    np.add.at(total, at, change[active])
                    np.add.at(positions, at, 1)
    inactive = len(tokens) - int(positions.sum())
    if inactive > _FLIPPED * len(tokens):
        raise Mismatch(
            f"Features of {sae.info.name} are inactive on {inactive:,} of {len(tokens):,} tokens on which their stored "
            "codes are active. Ablating an inactive feature changes nothing. Ingest the SAE again with `replace=True`."
        )
    done = positions > 0
    return Ablated(features[done], positions[done], total[done] / positions[done, None])


def _vocabulary(model: "NextTokenModel") -> int:
    causal: Any = model.causal
    return int(causal.get_output_embeddings().weight.shape[0])


def _changes(
    upper: UpperBlocks,
    sae: "Autoencoder",
    batch: Batch,
    tokens: ActiveTokens,
    *,
    stage: "Stage",
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]]:
    """Yield the features of ablations in a batch, whether each is active, and the changes.

    The changes are those of all log-probabilities, (ablations, vocabulary).
    """
    feature, cell = _cells(batch, tokens)
    if not len(feature):
        return
    # Contexts with edits of similar positions are cut together.
    rows, number = np.unique(cell[0], return_inverse=True)
    last = np.zeros(len(rows), dtype=np.int64)
    np.maximum.at(last, number, cell[1])
    order = np.argsort(last, kind="stable")
    rows, context, position = rows[order], np.argsort(order)[number], cell[1]
    ids, mask, keep = (
        torch.from_numpy(part[rows]) for part in (batch.input_ids, batch.attention_mask, batch.keep)
    )
    contexts = Contexts(ids, mask, keep, np.arange(len(rows)))
    active = np.zeros(len(feature), dtype=np.bool_)

    def delta(some: NDArray[np.int64], read: dict[str, torch.Tensor]) -> torch.Tensor:
        at = torch.from_numpy(context[some]), torch.from_numpy(position[some])
        active[some], change = _delta(sae, read, ids[at], torch.from_numpy(feature[some]))
        return change

    for some, change in measured_predictions(
        upper, contexts, (context, position), delta=delta, hooks=sae.info.hooks, stage=stage
    ):
        yield feature[some], active[some], change.numpy()


def _cells(
    batch: Batch, tokens: ActiveTokens
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the features whose tokens are in a batch, and contexts and positions of the tokens."""
    context, column = np.nonzero(batch.keep)
    order = np.argsort(batch.rows)
    where = np.searchsorted(batch.rows[order], tokens.row)
    where = np.minimum(where, len(order) - 1)
    inside = batch.rows[order][where] == tokens.row
    cell = order[where[inside]]
    return tokens.feature[inside], (context[cell], column[cell])


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
