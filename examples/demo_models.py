"""Language models of the demo: training, measuring, and writing stories."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

CONTEXT = 256
BATCH_ROWS = 16
PEAK_RATE = 4e-3
WARM_UP_STEPS = 150
DISCOUNT = 0.75

log = logging.getLogger("demo")


@dataclass(frozen=True)
class ModelSpec:
    """What makes one demo model.

    Parameters
    ----------
    name
        Name of its folder.
    tokenizer
        Kind of tokenizer, ``byte-level`` or ``metaspace``.
    vocab_size
        Entries of its vocabulary.
    d_model
        Width of the residual stream.
    d_mlp
        Width of the MLP.
    seed
        Seed of the weights and of the order of the rows.
    """

    name: str
    tokenizer: str
    vocab_size: int
    d_model: int
    d_mlp: int
    seed: int


MODELS = (
    ModelSpec("tiny-a", "byte-level", 2048, 96, 256, seed=0),
    ModelSpec("tiny-b", "metaspace", 1536, 80, 216, seed=1),
)


def new_model(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build a two-layer Llama with seeded random weights.

    Parameters
    ----------
    spec
        Sizes and seed.
    tokenizer
        Its tokenizer, for the ids of the special tokens.

    Returns
    -------
    The untrained model, in float32.
    """
    torch.manual_seed(spec.seed)
    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.d_model,
        intermediate_size=spec.d_mlp,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.04,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int) -> float:
    """Give the share of the peak rate at a step: linear warm-up, then cosine to 5 %.

    Parameters
    ----------
    step
        Step, from 0.
    steps
        Steps in all.

    Returns
    -------
    A factor from 0 to 1.
    """
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def train_model(model: LlamaForCausalLM, rows: NDArray[np.int64], *, seed: int, tokens: int) -> int:
    """Train a model on shuffled rows with AdamW.

    Parameters
    ----------
    model
        Model to train, in place.
    rows
        Token ids, shape (rows, context).
    seed
        Seed of the order of the rows.
    tokens
        Predicted tokens to train on; rows are used again when they run out.

    Returns
    -------
    Predicted tokens that the model was trained on.
    """
    steps = tokens // (BATCH_ROWS * (CONTEXT - 1))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps))
    batches = row_batches(rows, seed)
    model.train()
    began = time.monotonic()
    for step in range(steps):
        batch = next(batches)
        logits = model(input_ids=batch, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            spent = time.monotonic() - began
            log.info("step %d of %d: loss %.3f, %.0f s", step, steps, loss.item(), spent)
    model.train(mode=False)
    return steps * BATCH_ROWS * (CONTEXT - 1)


def row_batches(rows: NDArray[np.int64], seed: int) -> Iterator[torch.Tensor]:
    """Give batches of rows for ever, in a new order at each pass.

    Parameters
    ----------
    rows
        Token ids, shape (rows, context).
    seed
        Seed of the orders.

    Yields
    ------
    Token ids, shape (BATCH_ROWS, context).
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(rows))
        for i in range(0, len(order) - BATCH_ROWS + 1, BATCH_ROWS):
            yield torch.from_numpy(rows[order[i : i + BATCH_ROWS]])


@torch.inference_mode()
def model_loss(model: LlamaForCausalLM, rows: NDArray[np.int64], real: NDArray[np.bool_]) -> float:
    """Measure the mean loss of a model on the real tokens of padded rows.

    Parameters
    ----------
    model
        Model to measure.
    rows
        Token ids, shape (rows, context).
    real
        True where a token counts, shape (rows, context).

    Returns
    -------
    Nats per token.
    """
    total = 0.0
    for i in range(0, len(rows), 32):
        ids = torch.from_numpy(rows[i : i + 32])
        counts = torch.from_numpy(real[i : i + 32, 1:])
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        losses = functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        total += float(losses[counts.flatten()].double().sum())
    return total / float(real.sum())


def baselines(
    train: NDArray[np.int64],
    rows: NDArray[np.int64],
    real: NDArray[np.bool_],
    vocab_size: int,
) -> tuple[float, float]:
    """Measure unigram and bigram baselines, fitted on the training rows.

    The unigram counts start at one. The bigram is interpolated Kneser-Ney
    with discount 0.75: its lower order is the number of different tokens that
    a token was seen to follow.

    Parameters
    ----------
    train
        Training rows, shape (rows, context).
    rows
        Rows to measure on.
    real
        True where a token counts, of the shape of ``rows``.
    vocab_size
        Entries of the vocabulary.

    Returns
    -------
    unigram, bigram
        Nats per token on the real tokens.
    """
    size = vocab_size
    pairs = (train[:, :-1] * size + train[:, 1:]).ravel()
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    unigram = counts.sum(0) + 1.0
    follows = (counts > 0).sum(0) + 0.1
    after = np.maximum(counts.sum(1, keepdims=True), 1)
    weight = np.where(
        counts.sum(1, keepdims=True) > 0,
        DISCOUNT * (counts > 0).sum(1, keepdims=True) / after,
        1.0,
    )
    bigram = np.maximum(counts - DISCOUNT, 0) / after
    bigram = bigram + weight * (follows / follows.sum())
    keep = real[:, 1:]
    target, before = rows[:, 1:][keep], rows[:, :-1][keep]
    one = -np.log(unigram[target] / unigram.sum()).mean()
    return float(one), float(-np.log(bigram[before, target]).mean())


@torch.inference_mode()
def sample_ids(
    model: LlamaForCausalLM, *, stories: int, seed: int, top_k: int
) -> NDArray[np.int64]:
    """Let a model write stories from BOS, at temperature 1.

    Parameters
    ----------
    model
        Model that writes.
    stories
        Stories to write at once.
    seed
        Seed of the draws.
    top_k
        Each token is drawn among this many likeliest ones.

    Returns
    -------
    Token ids without BOS, shape (stories, context - 1); what follows an
    end-of-story token is noise.
    """
    draws = torch.Generator().manual_seed(seed)
    cache = DynamicCache(config=model.config)
    current = torch.tensor([[model.config.bos_token_id]] * stories)
    written = []
    for _ in range(CONTEXT - 1):
        out = model(input_ids=current, past_key_values=cache, use_cache=True)
        values, ids = out.logits[:, -1].topk(top_k)
        pick = torch.multinomial(values.softmax(-1), 1, generator=draws)
        current = ids.gather(1, pick)
        written.append(current)
    return np.asarray(torch.cat(written, 1).numpy(), dtype=np.int64)


def story_text(ids: NDArray[np.int64], tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Turn sampled ids into a story, or refuse them.

    Parameters
    ----------
    ids
        Sampled ids of one story.
    tokenizer
        Tokenizer of the model that wrote them.

    Returns
    -------
    The text up to the end-of-story token, or up to the last full sentence
    where there is none. None if the text does not begin with a capital letter
    (it continues a story that is not there) or is shorter than 200 characters.
    """
    ends = np.flatnonzero(ids == tokenizer.eos_token_id)
    text = str(tokenizer.decode(ids[: ends[0]] if len(ends) else ids))
    if not len(ends):
        text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
    text = text.rstrip()
    return text if text[:1].isupper() and len(text) >= 200 else None


def write_stories(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    characters: int,
    seed: int,
    top_k: int = 80,
) -> list[str]:
    """Let a model write different stories until there is text enough.

    Parameters
    ----------
    model
        Model that writes.
    tokenizer
        Its tokenizer.
    characters
        Characters to reach.
    seed
        Seed of the first round; each round adds one.
    top_k
        Each token is drawn among this many likeliest ones.

    Returns
    -------
    The stories, all different, in the order written.
    """
    stories: dict[str, None] = {}
    size = 0
    while size < characters:
        for ids in sample_ids(model, stories=256, seed=seed, top_k=top_k):
            text = story_text(ids, tokenizer)
            if text is not None and text not in stories and size < characters:
                stories[text] = None
                size += len(text)
        seed += 1
        log.info("%d stories, %d characters", len(stories), size)
    return list(stories)
