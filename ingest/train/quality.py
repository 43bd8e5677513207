"""Quality of SAEs on held-out text: reconstruction, activity, and the model's loss with the reconstruction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atlas.progress import SILENT, Progress
from ingest.reduce.fidelity import Fidelity
from ingest.reduce.protocol import Sizes
from ingest.text.corpus import Document
from ingest.text.tokenization import Batch, ContextSettings, tokenize

if TYPE_CHECKING:
    from ingest.model.language_model import LanguageModel
    from ingest.model.next_token import Edit, NextTokenModel
    from ingest.sae.autoencoder import Autoencoder

__all__ = ["COLUMNS", "quality"]

#: Columns of the table of ``quality``, after the name of the SAE.
COLUMNS = (
    "tokens",
    "fvu",
    "l0",
    "dead_share",
    "ce_model",
    "ce_spliced",
    "ce_error_term",
    "ce_zero",
    "ce_mean",
    "recovered_zero",
    "recovered_mean",
    "kl_spliced",
    "kl_error_term",
    "kl_zero",
    "kl_mean",
)

#: Largest number of logits in memory; a batch of contexts is made smaller for a large vocabulary.
_LOGITS = 1 << 25


@dataclass
class _Effect:
    """Sums over predicted tokens of the loss and of KL(model ‖ edited model), in nats."""

    loss: float = 0.0
    divergence: float = 0.0


@dataclass
class _Sums:
    """Sums of one SAE."""

    state: Any
    active: int = 0
    ever: "np.ndarray[Any, Any] | None" = None
    spliced: _Effect = field(default_factory=_Effect)
    with_error: _Effect = field(default_factory=_Effect)


def quality(
    saes: "Sequence[Autoencoder]",
    documents: Sequence[Document],
    *,
    model: "LanguageModel",
    head: "NextTokenModel | None",
    contexts: ContextSettings,
    batch_tokens: int,
    most: int,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Measure SAEs on held-out documents.

    An SAE's reconstruction replaces the activations at its site, at all tokens that SAEs read:
    BOS, other special tokens and padding keep theirs. Loss and KL are means over the predicted
    tokens that SAEs read, in nats.

    Parameters
    ----------
    saes
        The SAEs, of one model and one kind of context.
    documents
        The held-out documents.
    model
        The model, loaded up to the deepest site.
    head
        The complete model; None omits the columns that need one.
    contexts, batch_tokens
        How text is split into contexts and batches.
    most
        Number of tokens after which no further batch is read.
    progress
        Receives the progress.

    Returns
    -------
    list
        A row for each SAE: ``sae`` and ``COLUMNS``. ``ce_spliced`` is the loss with the
        reconstruction, ``ce_error_term`` with reconstruction plus error, which is the loss of the
        model up to rounding. ``ce_zero`` and ``ce_mean`` are the losses with the site's
        activations replaced by 0 and by their mean over the same tokens. ``recovered_zero`` is
        (ce_zero - ce_spliced) / (ce_zero - ce_model), and ``recovered_mean`` likewise; None where
        the ablation does not raise the loss. ``dead_share`` is the share of features without an
        activation on these tokens.
    """
    size = batch_tokens
    if head is not None:
        size = max(1, min(batch_tokens, _LOGITS // max(1, model.vocabulary)))
    text = tokenize(documents, model.tokenizer, settings=contexts, batch_tokens=size)
    hooks = list(dict.fromkeys(hook for sae in saes for hook in sae.info.hooks))
    measured = _Measured(model, head, hooks, saes)
    taken = list(_until(text.batches, most))
    if not taken:
        return []
    measured.average(taken)
    with progress.stage("Quality on held-out text", total=len(taken), unit="batches") as stage:
        for batch in taken:
            measured.add(batch)
            stage.advance()
    return measured.rows()


def _until(batches: Sequence[Batch], most: int) -> Iterator[Batch]:
    total = 0
    for batch in batches:
        if total >= most:
            return
        total += len(batch.rows)
        yield batch


class _Measured:
    """Accumulates the sums of all SAEs, batch by batch."""

    def __init__(
        self,
        model: "LanguageModel",
        head: "NextTokenModel | None",
        hooks: list[str],
        saes: "Sequence[Autoencoder]",
    ) -> None:
        self._model, self._head, self._hooks, self._saes = model, head, hooks, saes
        self._fidelity = Fidelity()
        self._sums = [
            _Sums(self._fidelity.start(_sizes(sae)), ever=np.zeros(sae.info.d_sae, bool))
            for sae in saes
        ]
        self._zero = {sae.info.hook: _Effect() for sae in saes}
        self._mean = {sae.info.hook: _Effect() for sae in saes}
        self._means: dict[str, Tensor] = {}
        self._own = 0.0
        self._tokens = self._predicted = 0

    def average(self, batches: Sequence[Batch]) -> None:
        """Compute the mean activation at each site."""
        totals: dict[str, Tensor] = {}
        number = 0
        for batch in batches:
            ids, mask, keep = map(
                torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep)
            )
            read = self._model.run(ids, mask, hooks=self._hooks)
            number += len(batch.rows)
            for hook, x in read.items():
                part = x[keep.to(x.device)].double().sum(0)
                totals[hook] = totals[hook] + part if hook in totals else part
        self._means = {hook: total / number for hook, total in totals.items()}

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
        read = self._model.run(ids, mask, hooks=self._hooks)
        self._tokens += len(batch.rows)
        losses = _Losses(self._head, ids, mask, keep) if self._head is not None else None
        if losses is not None:
            self._own += losses.own
            self._predicted += losses.number
            for hook in self._zero:
                x, at = read[hook], keep.to(read[hook].device)
                mean = self._means[hook].to(x.dtype)
                losses.add(self._zero[hook], hook, at=at, values=torch.zeros_like(mean))
                losses.add(self._mean[hook], hook, at=at, values=mean)
        for sae, sums in zip(self._saes, self._sums, strict=True):
            self._add_sae(sae, sums, read, keep, ids, losses)

    def _add_sae(
        self,
        sae: "Autoencoder",
        sums: _Sums,
        read: dict[str, Tensor],
        keep: Tensor,
        ids: Tensor,
        losses: "_Losses | None",
    ) -> None:
        x = sae.reads(read, keep, ids)
        _, indices, values, decoded = sae.codes_and_reconstruction(x)
        self._fidelity.update(sums.state, x, decoded)
        sums.active += len(values)
        assert sums.ever is not None
        sums.ever[indices] = True
        if losses is None:
            return
        hook = sae.info.hook
        site = read[hook]
        at = keep.to(site.device)
        # An SAE on activations less a subtraction reconstructs that difference.
        spliced = site[at].float() + (decoded - x)
        losses.add(sums.spliced, hook, at=at, values=spliced.to(site.dtype))
        whole = (spliced + (x - decoded)).to(site.dtype)
        losses.add(sums.with_error, hook, at=at, values=whole)

    def rows(self) -> list[dict[str, Any]]:
        """Return the row of each SAE."""
        return [self._row(sae, sums) for sae, sums in zip(self._saes, self._sums, strict=True)]

    def _row(self, sae: "Autoencoder", sums: _Sums) -> dict[str, Any]:
        total = float(sums.state["m2"].sum())
        assert sums.ever is not None
        row: dict[str, Any] = {
            "sae": sae.info.name,
            "tokens": self._tokens,
            "fvu": float(sums.state["residual"].sum()) / total if total > 0 else None,
            "l0": sums.active / self._tokens,
            "dead_share": float(1 - sums.ever.mean()),
        }
        if not self._predicted:
            return row | dict.fromkeys(COLUMNS[4:])
        hook, number = sae.info.hook, self._predicted
        own = self._own / number
        effects = {
            "spliced": sums.spliced,
            "error_term": sums.with_error,
            "zero": self._zero[hook],
            "mean": self._mean[hook],
        }
        loss = {name: effect.loss / number for name, effect in effects.items()}
        row["ce_model"] = own
        row |= {f"ce_{name}": loss[name] for name in effects}
        for name in ("zero", "mean"):
            rise = loss[name] - own
            row[f"recovered_{name}"] = (loss[name] - loss["spliced"]) / rise if rise > 0 else None
        row |= {f"kl_{name}": effect.divergence / number for name, effect in effects.items()}
        return {name: row[name] for name in ("sae", *COLUMNS)}


class _Losses:
    """Losses of the model on a batch, without and with edits of a site."""

    def __init__(self, head: "NextTokenModel", ids: Tensor, mask: Tensor, keep: Tensor) -> None:
        self._head, self._ids, self._mask = head, ids, mask
        # Position t predicts the token at t + 1, where that token is one that SAEs read.
        self._at = keep[:, 1:]
        self._next = ids[:, 1:][self._at]
        self._log_p = self._log_probabilities({})
        self.number = len(self._next)
        self.own = self._loss(self._log_p)

    def add(self, effect: _Effect, hook: str, *, at: Tensor, values: Tensor) -> None:
        """Add the loss and the divergence with new activations at the tokens ``at``."""

        def edit(x: Tensor) -> Tensor:
            new = x.clone()
            new[at] = values
            return new

        log_q = self._log_probabilities({hook: edit})
        effect.loss += self._loss(log_q)
        p = self._log_p.exp()
        effect.divergence += float((p * (self._log_p - log_q)).sum(dtype=torch.float64))

    def _log_probabilities(self, edits: "dict[str, Edit]") -> Tensor:
        logits = self._head.logits(self._ids, self._mask, edits=edits)
        return logits[:, :-1][self._at.to(logits.device)].log_softmax(-1)

    def _loss(self, log_p: Tensor) -> float:
        chosen = log_p.gather(1, self._next.to(log_p.device)[:, None])
        return -float(chosen.sum(dtype=torch.float64))


def _sizes(sae: "Autoencoder") -> Sizes:
    return Sizes(
        d_in=sae.info.d_in, d_sae=sae.info.d_sae, tokens=0, l0=0.0, vocabulary=0, codes_stored=False
    )
