"""Real ablations of many features at many tokens, each in a row of a batch of the upper blocks.

A row is a context with a change of the site at one token. Measured are the changes at that token
and, summed, at later tokens of the context: of the loss, of KL(model ‖ edited model), and of the
activations of later SAEs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.sample import Contexts
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from atlas.progress import Stage
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["LOSSES", "Changes", "Edits", "measured"]

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]

#: Columns of ``Changes.loss``.
LOSSES = ("ce", "ce_later", "kl", "kl_later")

#: Most numbers in the logits or the codes of a batch, and most rows: on a CPU, arrays that stay in
#: its cache are faster; other devices need larger batches.
_NUMBERS = {"cpu": 1 << 22, "other": 1 << 27}
_ROWS = {"cpu": 64, "other": 2048}


@dataclass(frozen=True, eq=False)
class Edits:
    """Changes of a site, one token each.

    Parameters
    ----------
    context, position
        int64, (n,). The token.
    delta
        (n, d_in). What is added to the activations of the site.
    """

    context: Ints
    position: Ints
    delta: torch.Tensor

    def __len__(self) -> int:
        return len(self.context)


@dataclass(frozen=True, eq=False)
class Changes:
    """Changes by edit.

    Parameters
    ----------
    rows
        int64, (m,). The edits of this batch.
    loss
        float64, (m, 4); see ``LOSSES``. In nats; ``later`` is summed over later tokens.
    here, total
        By target SAE, float32, (m, features): change of the activations at the token, and summed
        over the token and later ones.
    predictions
        (m, vocabulary), if requested: change of the log-probabilities of the next token, at the
        token.
    """

    rows: Ints
    loss: NDArray[np.float64]
    here: list[torch.Tensor]
    total: list[torch.Tensor]
    predictions: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Clean:
    """A group of contexts without edits."""

    contexts: Contexts
    stream: torch.Tensor
    log_p: torch.Tensor
    codes: list[torch.Tensor]
    width: int


def measured(
    upper: "UpperBlocks",
    contexts: Contexts,
    edits: Edits,
    *,
    targets: "Sequence[Autoencoder]",
    group: int = 16,
    predictions: bool = False,
    stage: "Stage | None" = None,
) -> Iterator[Changes]:
    """Measure the changes of all edits, batch by batch, in the order of their contexts.

    Parameters
    ----------
    upper
        The model from the site on.
    contexts
        The contexts.
    edits
        The edits.
    targets
        SAEs at later sites.
    group
        Contexts whose unedited activations are in memory.
    predictions
        Also return the changes of all log-probabilities at the token.
    stage
        Advanced by the number of edits.
    """
    hooks = list(dict.fromkeys(sae.info.hook for sae in targets))
    order = np.lexsort((edits.position, edits.context // group))
    numbers = edits.context[order] // group
    for number in np.unique(numbers):
        some = order[numbers == number]
        own = slice(int(number) * group, (int(number) + 1) * group)
        clean = _clean(upper, contexts.take(own), hooks=hooks, targets=targets)
        for rows in _batches(some, clean):
            yield _changes(
                upper,
                clean,
                edits,
                rows,
                targets=targets,
                hooks=hooks,
                first=int(number) * group,
                predictions=predictions,
            )
            if stage is not None:
                stage.advance(len(rows))


def _batches(some: Ints, clean: _Clean) -> Iterator[Ints]:
    positions = clean.contexts.ids.shape[1]
    widest = max(clean.log_p.shape[-1], *(c.shape[-1] for c in clean.codes), clean.width, 1)
    kind = "cpu" if clean.log_p.device.type == "cpu" else "other"
    size = int(max(1, min(_ROWS[kind], _NUMBERS[kind] // (positions * widest))))
    for start in range(0, len(some), size):
        yield some[start : start + size]


def _clean(
    upper: "UpperBlocks",
    contexts: Contexts,
    *,
    hooks: Sequence[str],
    targets: "Sequence[Autoencoder]",
) -> _Clean:
    stream, logits, read = upper.below(
        contexts.ids, contexts.mask, hooks=list(dict.fromkeys([*hooks, upper.hook]))
    )
    with ieee_float32(), torch.inference_mode():
        log_p = logits.log_softmax(-1)
        codes = [_codes(sae, read[sae.info.hook], contexts.read) for sae in targets]
    return _Clean(contexts, stream, log_p, codes, read[upper.hook].shape[-1])


def _codes(sae: "Autoencoder", x: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Return dense codes, 0 at tokens that SAEs do not read."""
    keep = read.to(x.device)
    codes = torch.zeros((*x.shape[:2], sae.info.d_sae), device=sae.device)
    codes[keep.to(sae.device)] = sae.encode(x[keep].float())
    return codes


def _changes(
    upper: "UpperBlocks",
    clean: _Clean,
    edits: Edits,
    rows: Ints,
    *,
    targets: "Sequence[Autoencoder]",
    hooks: Sequence[str],
    first: int,
    predictions: bool,
) -> Changes:
    own = torch.from_numpy(edits.context[rows] - first)
    position = torch.from_numpy(edits.position[rows])
    contexts = clean.contexts
    start = int(position.min())
    device = clean.log_p.device
    with ieee_float32(), torch.inference_mode():
        ids, mask = contexts.ids[own], contexts.mask[own]
        delta = torch.zeros(len(rows), ids.shape[1], clean.width, device=device)
        delta[torch.arange(len(rows)), position] = edits.delta[torch.from_numpy(rows)].to(device)
        stream = clean.stream[own.to(device)] if len(clean.stream) else clean.stream
        logits, read = upper.run(
            stream, ids, mask, delta=delta, hooks=hooks, last=ids.shape[1] - start
        )
        at = position - start
        loss = _losses(logits, clean, own, at=at, start=start)
        each = torch.arange(len(rows), device=device), at.to(device)
        moved = None
        if predictions:
            before = clean.log_p[own.to(device), position.to(device)]
            moved = (logits[each].log_softmax(-1) - before).cpu()
        here, total = [], []
        for sae, codes in zip(targets, clean.codes, strict=True):
            x = read[sae.info.hook][:, start:]
            change = (
                _codes(sae, x, contexts.read[own, start:]) - codes[own.to(codes.device), start:]
            )
            here.append(change[torch.arange(len(rows)), at].cpu())
            total.append(change.sum(1).cpu())
    return Changes(rows, loss, here, total, moved)


def _losses(
    logits: torch.Tensor, clean: _Clean, own: torch.Tensor, *, at: torch.Tensor, start: int
) -> NDArray[np.float64]:
    """Return the changes of the loss and the divergence at the token and at later ones.

    KL is Σ p log p - Σ p logits + logsumexp(logits) Σ p, context by context, so that no array of the
    size of all logits is written. In float32, Σ p is not exactly 1, and a product of matrices sums
    too inexactly.
    """
    device = logits.device
    ids, read = (part[:, start:].to(device) for part in (clean.contexts.ids, clean.contexts.read))
    divergence = torch.empty(logits.shape[:2], device=device)
    rise = torch.zeros_like(divergence)
    for context in sorted(set(own.tolist())):
        rows = (own == context).nonzero()[:, 0].to(device)
        log_p = clean.log_p[context, start:]
        p = log_p.exp()
        values = logits[rows].transpose(0, 1)  # (positions, rows, vocabulary)
        total = values.logsumexp(-1)
        cross = total * p.sum(-1)[:, None] - (values * p[:, None]).sum(-1)
        divergence[rows] = ((p * log_p).sum(-1)[:, None] + cross).T * read[context]
        following = ids[context, 1:, None, None].expand(-1, len(rows), 1)
        log_q = values[:-1].gather(2, following)[..., 0] - total[:-1]
        before = log_p[:-1].gather(1, ids[context, 1:, None])
        rise[rows, :-1] = ((before - log_q).T * read[context, 1:]).to(rise.dtype)
    there = torch.arange(len(at), device=device), at.to(device)
    columns = []
    for change in (rise, divergence):
        one = change[there].double()
        columns += [one, change.sum(1, dtype=torch.float64) - one]
    found: NDArray[np.float64] = torch.stack(columns, 1).cpu().numpy()
    return found
