"""Real ablations of many features at many tokens, each in a row of a batch of the upper blocks.

A row is a context with a change of the site at one token. Measured are the changes at that token
and, summed, at later tokens of the context: of the loss, of KL(model ‖ edited model), and of the
activations of later SAEs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.effects.ablation.sample import SHORTER, Contexts
from ingest.error_translation import memory_errors
from ingest.precision import ieee_float32

if TYPE_CHECKING:
    from atlas.progress import Stage
    from ingest.model.upper_blocks import UpperBlocks
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["LOSSES", "Changes", "Edits", "measured", "measured_predictions"]

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]

#: Columns of ``Changes.loss``.
LOSSES = ("ce", "ce_later", "kl", "kl_later")

#: Most numbers in the logits or the codes of a batch, and most rows: on a CPU, arrays that stay in
#: its cache are faster; other devices need larger batches.
_NUMBERS = {"cpu": 1 << 22, "other": 1 << 27}
_ROWS = {"cpu": 64, "other": 2048}

#: Most contexts whose unedited activations are in memory, and most of their logits: 512 MiB.
_GROUP, _LOGITS = 16, 1 << 27


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
    read: dict[str, torch.Tensor]
    width: int


def measured(
    upper: "UpperBlocks",
    contexts: Contexts,
    edits: Edits,
    *,
    targets: "Sequence[Autoencoder]",
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
    predictions
        Also return the changes of all log-probabilities at the token.
    stage
        Advanced by the number of edits.
    """
    hooks = list(dict.fromkeys(sae.info.hook for sae in targets))
    group = _group_size(upper, contexts.ids.shape[1])
    for first, some in _groups(edits.context, edits.position, group):
        own = contexts.take(slice(first, first + group))
        clean = _clean(upper, own, hooks=hooks, targets=targets)
        for rows in _batches(some, clean):
            at = (
                torch.from_numpy(edits.context[rows] - first),
                torch.from_numpy(edits.position[rows]),
            )
            delta = edits.delta[torch.from_numpy(rows)]
            edited = _edited(upper, clean, at, delta, hooks=hooks)
            yield _changes(clean, edited, rows, targets=targets, predictions=predictions)
            if stage is not None:
                stage.advance(len(rows))


def measured_predictions(
    upper: "UpperBlocks",
    contexts: Contexts,
    tokens: tuple[Ints, Ints],
    *,
    delta: Callable[[Ints, dict[str, torch.Tensor]], torch.Tensor],
    hooks: Sequence[str],
    stage: "Stage | None" = None,
) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Measure the changes of the predictions at edited tokens alone, batch by batch.

    Contexts are cut behind the last edited token of a group, since the model is causal.

    Parameters
    ----------
    upper, contexts
        As for ``measured``.
    tokens
        Contexts and positions of the edited tokens, int64, (n,) each.
    delta
        Function from numbers of edits, and by hook the activations at their tokens, (m, width), to
        the change of the site at these tokens, (m, d_in).
    hooks
        Sites whose activations ``delta`` reads.
    stage
        Advanced by the number of edits.

    Yields
    ------
        Numbers of edits, (m,), and the change of the log-probabilities of the next token,
        float32, (m, vocabulary).
    """
    context, position = tokens
    group = _group_size(upper, int(position.max(initial=0)) + 1)
    for first, some in _groups(context, position, group):
        end = int(position[some].max()) + 1
        own = contexts.take(slice(first, first + group)).cut(end)
        clean = _clean(upper, own, hooks=hooks, targets=())
        for rows in _batches(some, clean):
            at = torch.from_numpy(context[rows] - first), torch.from_numpy(position[rows])
            read = {
                hook: clean.read[hook][tuple(i.to(clean.read[hook].device) for i in at)]
                for hook in hooks
            }
            edited = _edited(upper, clean, at, delta(rows, read), hooks=())
            yield rows, _moved(clean, edited)
            if stage is not None:
                stage.advance(len(rows))


def _group_size(upper: "UpperBlocks", positions: int) -> int:
    """Return the number of contexts whose unedited activations are in memory."""
    causal: Any = upper.model.causal
    vocabulary = int(causal.get_output_embeddings().weight.shape[0])
    return int(max(1, min(_GROUP, _LOGITS // max(1, positions * vocabulary))))


def _groups(context: Ints, position: Ints, size: int) -> Iterator[tuple[int, Ints]]:
    """Yield the first context of each group of contexts, and its edits by position."""
    order = np.lexsort((position, context // size))
    numbers = context[order] // size
    for number in np.unique(numbers):
        yield int(number) * size, order[numbers == number]


def _batches(some: Ints, clean: _Clean) -> Iterator[Ints]:
    positions = clean.contexts.ids.shape[1]
    widest = max(clean.log_p.shape[-1], *(c.shape[-1] for c in clean.codes), clean.width, 1)
    kind = "cpu" if clean.log_p.device.type == "cpu" else "other"
    size = int(max(1, min(_ROWS[kind], _NUMBERS[kind] // (positions * widest))))
    for start in range(0, len(some), size):
        yield some[start : start + size]


@memory_errors("the contexts without an edit", todo=SHORTER)
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
    return _Clean(contexts, stream, log_p, codes, read, read[upper.hook].shape[-1])


def _codes(sae: "Autoencoder", x: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Return dense codes, 0 at tokens that SAEs do not read."""
    keep = read.to(x.device)
    codes = torch.zeros((*x.shape[:2], sae.info.d_sae), device=sae.device)
    codes[keep.to(sae.device)] = sae.encode(x[keep].float())
    return codes


@dataclass(frozen=True, eq=False)
class _Edited:
    """Rows of the upper blocks with an edit each.

    Parameters
    ----------
    own, position
        (rows,). The context in its group, and the position of the edit.
    start
        The first position of ``logits``; None if each row has the logits of its edited token alone.
    logits
        (rows, positions from ``start`` on, vocabulary), or (rows, 1, vocabulary).
    read
        By hook, the activations.
    """

    own: torch.Tensor
    position: torch.Tensor
    start: int | None
    logits: torch.Tensor
    read: dict[str, torch.Tensor]

    @property
    def at(self) -> torch.Tensor:
        """The position of the edit in ``logits``, (rows,)."""
        return torch.zeros_like(self.own) if self.start is None else self.position - self.start


@memory_errors("contexts with an edit", todo=SHORTER)
def _edited(
    upper: "UpperBlocks",
    clean: _Clean,
    at: tuple[torch.Tensor, torch.Tensor],
    change: torch.Tensor,
    *,
    hooks: Sequence[str],
) -> _Edited:
    """Run one row for each edit: its context, its position, and the change of the site there."""
    own, position = at
    contexts, device = clean.contexts, clean.log_p.device
    if not upper.mixes_tokens and not hooks:
        return _edited_tokens(upper, clean, at, change)
    start = int(position.min())
    with ieee_float32(), torch.inference_mode():
        ids, mask = contexts.ids[own], contexts.mask[own]
        delta = torch.zeros(len(own), ids.shape[1], clean.width, device=device)
        delta[torch.arange(len(own)), position] = change.to(device)
        stream = clean.stream[own.to(device)] if len(clean.stream) else clean.stream
        logits, read = upper.run(
            stream, ids, mask, delta=delta, hooks=hooks, last=ids.shape[1] - start
        )
    return _Edited(own, position, start, logits, read)


def _edited_tokens(
    upper: "UpperBlocks", clean: _Clean, at: tuple[torch.Tensor, torch.Tensor], change: torch.Tensor
) -> _Edited:
    """Run the edited tokens alone: above the last block, no other token changes."""
    own, position = at
    contexts, device = clean.contexts, clean.log_p.device
    with ieee_float32(), torch.inference_mode():
        stream = clean.stream[own.to(device), position.to(device)][:, None]
        ids, mask = (part[own, position][:, None] for part in (contexts.ids, contexts.mask))
        logits, read = upper.run(stream, ids, mask, delta=change.to(device)[:, None], hooks=())
    return _Edited(own, position, None, logits, read)


@memory_errors("changes of predictions", todo=SHORTER)
def _moved(clean: _Clean, edited: _Edited) -> torch.Tensor:
    """Return the changes of the log-probabilities at the edited tokens, (rows, vocabulary)."""
    device = edited.logits.device
    row = torch.arange(len(edited.own), device=device)
    with ieee_float32(), torch.inference_mode():
        before = clean.log_p[edited.own.to(device), edited.position.to(device)]
        after = edited.logits[row, edited.at.to(device)]
        return (after.log_softmax(-1) - before).cpu()


@memory_errors("changes of later features", todo=SHORTER)
def _changes(
    clean: _Clean,
    edited: _Edited,
    rows: Ints,
    *,
    targets: "Sequence[Autoencoder]",
    predictions: bool,
) -> Changes:
    own, start, at = edited.own, edited.start, edited.at
    here, total = [], []
    with ieee_float32(), torch.inference_mode():
        if start is None:
            loss = _losses_here(edited, clean)
        else:
            loss = _losses(edited.logits, clean, own, at=at, start=start)
        for sae, codes in zip(targets, clean.codes, strict=True):
            x = edited.read[sae.info.hook][:, start:]
            change = (
                _codes(sae, x, clean.contexts.read[own, start:])
                - codes[own.to(codes.device), start:]
            )
            here.append(change[torch.arange(len(rows)), at].cpu())
            total.append(change.sum(1).cpu())
    moved = _moved(clean, edited) if predictions else None
    return Changes(rows, loss, here, total, moved)


def _losses_here(edited: _Edited, clean: _Clean) -> NDArray[np.float64]:
    """Return the same as ``_losses`` where no later token changes."""
    device = edited.logits.device
    own, position = edited.own, edited.position
    following = (position + 1).clamp(max=clean.contexts.ids.shape[1] - 1)
    counts = (clean.contexts.read[own, following] & (following > position)).to(device)
    ids = clean.contexts.ids[own, following].to(device)[:, None]
    log_p, values = clean.log_p[own.to(device), position.to(device)], edited.logits[:, 0]
    rise, divergence = _rise_and_divergence(log_p, values, ids)
    here = clean.contexts.read[own, position].to(device)
    columns = torch.zeros(len(own), len(LOSSES), dtype=torch.float64)
    columns[:, 0], columns[:, 2] = (rise * counts).cpu(), (divergence * here).cpu()
    found: NDArray[np.float64] = columns.numpy()
    return found


def _rise_and_divergence(
    log_p: torch.Tensor, logits: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rise of the loss of the tokens ``ids``, and the KL of p from the edited predictions.

    KL is Σ p log p + logsumexp(logits) Σ p - Σ p logits. In float32, Σ p is not exactly 1, and a
    product of matrices sums too inexactly. The last dimension is the vocabulary, or 1 for ``ids``;
    the others of ``log_p`` and ``ids`` are equal, and are expanded to those of ``logits``.
    """
    p, total = log_p.exp(), logits.logsumexp(-1)
    cross = total * p.sum(-1) - (logits * p).sum(-1)
    log_q = logits.gather(-1, ids.expand(*logits.shape[:-1], 1))[..., 0] - total
    return log_p.gather(-1, ids)[..., 0] - log_q, (p * log_p).sum(-1) + cross


def _losses(
    logits: torch.Tensor, clean: _Clean, own: torch.Tensor, *, at: torch.Tensor, start: int
) -> NDArray[np.float64]:
    """Return the changes of the loss and the divergence at the token and at later ones.

    Contexts are compared one by one, so that no array of the size of all logits is written.
    """
    device = logits.device
    ids, read = (part[:, start:].to(device) for part in (clean.contexts.ids, clean.contexts.read))
    divergence = torch.empty(logits.shape[:2], device=device)
    rise = torch.zeros_like(divergence)
    for context in sorted(set(own.tolist())):
        rows = (own == context).nonzero()[:, 0].to(device)
        log_p = clean.log_p[context, start:]
        values = logits[rows].transpose(0, 1)  # (positions, rows, vocabulary)
        following = ids[context].roll(-1)[:, None, None]  # that of the last position is not used
        risen, moved = _rise_and_divergence(log_p[:, None], values, following)
        divergence[rows] = moved.T * read[context]
        rise[rows, :-1] = (risen[:-1].T * read[context, 1:]).to(rise.dtype)
    there = torch.arange(len(at), device=device), at.to(device)
    columns = []
    for change in (rise, divergence):
        one = change[there].double()
        columns += [one, change.sum(1, dtype=torch.float64) - one]
    found: NDArray[np.float64] = torch.stack(columns, 1).cpu().numpy()
    return found
