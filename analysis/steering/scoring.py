"""Scores of steering: success and log-probability of targets, and damage on neutral text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.steering.subject import Subject
from analysis.steering.tasks import TestPrompt
from atlas.errors import BadInput
from atlas.progress import Progress
from ingest.model.edits import SiteEdit
from ingest.text.context_text import prompt_ids
from ingest.text.tokenization import Batch

__all__ = ["Damage", "Prompts", "Score", "damage", "target_rows"]

#: Most logits of a batch, so that they take 128 MiB.
_LOGITS = 2**25

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Score:
    """Scores of test prompts; both arrays are (prompts,).

    Parameters
    ----------
    success
        bool. Whether the most likely continuation begins with a target.
    logprob
        float64. Log-probability that the continuation begins with a target, in nats.
    """

    success: NDArray[np.bool_]
    logprob: Floats


@dataclass(frozen=True)
class _Row:
    """A prompt with one of its targets: number of the test, all token ids, length of the prompt."""

    test: int
    ids: tuple[int, ...]
    prompt: int


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokenized prompts with their targets."""

    number: int
    rows: tuple[_Row, ...]

    def score(self, subject: Subject, edits: Sequence[SiteEdit]) -> Score:
        """Score the prompts under some edits.

        A target of several tokens succeeds if each is the most likely one after the others, as in
        greedy generation. The probabilities of the targets of a prompt are summed.
        """
        success = np.zeros(self.number, dtype=np.bool_)
        logprob = np.full(self.number, -np.inf)
        for rows in self._batches(subject):
            for row, (hit, value) in zip(rows, _scored(subject, rows, edits), strict=True):
                success[row.test] |= hit
                logprob[row.test] = np.logaddexp(logprob[row.test], value)
        return Score(success, logprob)

    def _batches(self, subject: Subject) -> Iterator[list[_Row]]:
        """Yield rows whose prompts have one length, as many as fit into memory."""
        vocabulary = subject.model.vocabulary
        by_length = sorted(self.rows, key=lambda row: row.prompt)
        for _, group in groupby(by_length, key=lambda row: row.prompt):
            rows = list(group)
            longest = max(len(row.ids) for row in rows)
            size = max(1, _LOGITS // (longest * vocabulary))
            for first in range(0, len(rows), size):
                yield rows[first : first + size]


def target_rows(subject: Subject, tests: Sequence[TestPrompt]) -> Prompts:
    """Tokenize test prompts with their targets.

    A target counts if the tokens of the prompt are the beginning of the tokens of prompt and
    target together; otherwise the model could not continue the prompt by it. Of two targets, one
    of which begins with the other, only the shorter counts, so that no probability counts twice.

    Raises
    ------
    BadInput
        If no target of a prompt counts, or a prompt is longer than the context of the model.
    """
    tokenizer = subject.model.tokenizer
    bos = subject.text.contexts.prepend_bos
    longest = getattr(subject.model.base.config, "max_position_embeddings", None)
    rows: list[_Row] = []
    for number, test in enumerate(tests):
        prompt = prompt_ids(tokenizer, test.prompt, bos=bos)
        full = [
            tuple(prompt_ids(tokenizer, test.prompt + target, bos=bos)) for target in test.targets
        ]
        fits = [
            ids for ids in dict.fromkeys(full)
            if len(ids) > len(prompt) and list(ids[: len(prompt)]) == prompt
        ]  # fmt: skip
        chosen = [
            ids
            for ids in fits
            if not any(other != ids and ids[: len(other)] == other for other in fits)
        ]
        if not chosen:
            raise BadInput(
                f"No target of the prompt {test.prompt!r} can follow it: the tokenizer of {subject.model.name} joins "
                f"{test.targets[0]!r} with the end of the prompt. End the prompt where a token ends."
            )
        for ids in chosen:
            if longest is not None and len(ids) > longest:
                raise BadInput(
                    f"The prompt {test.prompt[:40]!r}… has {len(ids):,} tokens with its target, and "
                    f"{subject.model.name} takes {longest:,}. Shorten it."
                )
            rows.append(_Row(number, ids, len(prompt)))
    return Prompts(len(tests), tuple(rows))


def _scored(
    subject: Subject, rows: Sequence[_Row], edits: Sequence[SiteEdit]
) -> Iterator[tuple[bool, float]]:
    width = max(len(row.ids) for row in rows)
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
    first = rows[0].prompt - 1
    with subject.complete.edited(list(edits), first=first):
        logits = subject.complete.logits(ids, mask)[:, first:-1]
    logprob = logits.log_softmax(-1).cpu()
    best = logprob.argmax(-1)
    for number, row in enumerate(rows):
        target = torch.tensor(row.ids[row.prompt :])
        own = logprob[number, torch.arange(len(target)), target]
        yield bool((best[number, : len(target)] == target).all()), float(own.double().sum())


@dataclass(frozen=True)
class Damage:
    """Damage on neutral text, in nats per token, on the halves for choosing and for reporting.

    Parameters
    ----------
    kl
        Mean Kullback-Leibler divergence of the edited from the unedited predictions.
    loss
        Mean log-probability of the text that is lost.
    """

    kl: tuple[float, float]
    loss: tuple[float, float]


def damage(
    subject: Subject,
    batches: Sequence[Batch],
    edits: Sequence[Sequence[SiteEdit]],
    *,
    progress: Progress,
) -> list[Damage]:
    """Measure the damage of several lists of edits on the same text.

    Predictions at BOS, special tokens and padding do not count. Contexts alternate between the
    half for choosing a strength and the half for reporting; a text of one context counts for both.

    Parameters
    ----------
    subject
        The SAE and its model.
    batches
        The text.
    edits
        Lists of edits; an empty one has no damage.
    progress
        Shows how far the work is.
    """
    sums = np.zeros((len(edits), 2, 2))  # edits; kl and loss; halves
    counts = np.zeros((2, 2))
    context = 0
    with progress.stage("Damage on neutral text", total=len(batches), unit="batches") as stage:
        for batch in batches:
            ids, mask, keep = (
                torch.from_numpy(x) for x in (batch.input_ids, batch.attention_mask, batch.keep)
            )
            followed = torch.zeros_like(keep)
            followed[:, :-1] = keep[:, :-1] & keep[:, 1:]
            half = (context + torch.arange(len(ids))) % 2
            context += len(ids)
            next_ids = ids.roll(-1, dims=1)
            before = subject.complete.logits(ids, mask).log_softmax(-1)
            for side in range(2):
                counts[:, side] += [int(where[half == side].sum()) for where in (keep, followed)]
            for number, chosen in enumerate(edits):
                if not chosen:
                    continue
                after = subject.complete.logits(ids, mask, edits=list(chosen)).log_softmax(-1)
                kl = (before.exp() * (before - after)).sum(-1).cpu().double()
                at = next_ids[..., None].to(before.device)
                lost = (before - after).gather(-1, at)[..., 0].cpu().double()
                for side in range(2):
                    own = (half == side)[:, None]
                    sums[number, 0, side] += float(kl[keep & own].sum())
                    sums[number, 1, side] += float(lost[followed & own].sum())
            stage.advance()
    if not counts.all():  # a text of one context has one half only
        sums[:], counts[:] = sums.sum(axis=2, keepdims=True), counts.sum(axis=1, keepdims=True)
    means = sums / np.maximum(counts, 1)
    return [Damage(tuple(kl.tolist()), tuple(loss.tolist())) for kl, loss in means]
