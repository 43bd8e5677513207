"""Share of codes that a model in a number format of two bytes changes, compared with float32.

SAEs always run in float32, but the activations of a model in bfloat16 are rounded. Features
near their threshold then appear or vanish. The share is measured on a sample of the text, with
the same weights in both formats, and stored in the part of the SAE.

Features near their threshold are not checked again: the SAE itself is exact, and only a run of
the model in float32 would change what it reads.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import OutOfSpace
from atlas.features.remarks import ACTIVE_CODES, COMPARED_TOKENS, FLIPPED_CODES, about_flips
from atlas.progress import Progress
from ingest.error_translation import memory_errors
from ingest.forward.shards import Group
from ingest.text.corpus import Corpus
from ingest.text.tokenization import Batch, tokenize

__all__ = ["Flips", "flips", "report_flips"]

#: Tokens of the sample.
SAMPLE = 2048


@dataclass(frozen=True)
class Flips:
    """Codes of an SAE that are active in one of two computations only, such as in one format.

    Parameters
    ----------
    tokens
        Tokens of the sample.
    active
        Codes that are active in at least one of both.
    flipped
        Codes that are active in one of them only.
    """

    tokens: int = 0
    active: int = 0
    flipped: int = 0

    @classmethod
    def between(cls, one: NDArray[np.int64], other: NDArray[np.int64], *, tokens: int) -> "Flips":
        """Count the codes of two computations on the same tokens.

        Parameters
        ----------
        one, other
            Distinct numbers of the active codes of each, int64.
        tokens
            Number of tokens.

        Examples
        --------
        >>> Flips.between(np.array([0]), np.array([0, 1]), tokens=1)
        Flips(tokens=1, active=2, flipped=1)
        """
        return cls(tokens, len(np.union1d(one, other)), len(np.setxor1d(one, other)))

    def __add__(self, other: "Flips") -> "Flips":
        return Flips(
            self.tokens + other.tokens, self.active + other.active, self.flipped + other.flipped
        )

    @property
    def share(self) -> float:
        """Flipped codes as a share of the active ones; 0 if none is active."""
        return self.flipped / max(1, self.active)

    @property
    def entries(self) -> dict[str, str]:
        """The numbers, as ``versions`` of a manifest stores them."""
        return {
            FLIPPED_CODES: str(self.flipped),
            ACTIVE_CODES: str(self.active),
            COMPARED_TOKENS: str(self.tokens),
        }


def flips(group: Group, corpus: Corpus) -> dict[str, Flips]:
    """Compare the codes of some tokens with those of the same model in float32.

    Parameters
    ----------
    group
        The model and its SAEs.
    corpus
        The text; contexts of its first block are used.

    Returns
    -------
    dict
        By name of the SAE; empty if the model runs in float32 or the text has no tokens.

    Raises
    ------
    OutOfSpace
        If a copy of the model in float32 does not fit into memory.
    """
    model = group.model
    batches = [] if model.dtype == "float32" else list(_sample(group, corpus))
    if not batches:
        return {}
    with memory_errors(f"a copy of {model.name} in float32"):
        wide = deepcopy(model.base).float()  # type: ignore[no-untyped-call]
    exact = replace(group, model=replace(model, base=wide))
    tokens, codes = sum(len(batch.rows) for batch in batches), _codes(group, batches)
    return {
        name: Flips.between(codes[name], other, tokens=tokens)
        for name, other in _codes(exact, batches).items()
    }


def report_flips(group: Group, corpus: Corpus, progress: Progress) -> dict[str, Flips]:
    """Report the flipped codes of each SAE, and return them by its name.

    Nothing is returned if the model runs in float32, or if memory does not suffice.
    """
    dtype = group.model.dtype
    try:
        found = flips(group, corpus)
    except OutOfSpace as error:
        progress.report(f"The share of codes that {dtype} changes was not measured. {error}")
        return {}
    for name, each in found.items():
        for sentence in about_flips(name, each.entries | {"format": dtype}):
            progress.report(sentence)
    return found


def _sample(group: Group, corpus: Corpus) -> Iterator[Batch]:
    """Yield contexts of the first block, up to ``SAMPLE`` tokens."""
    text = tokenize(
        corpus.block(0), group.model.tokenizer, settings=group.contexts, batch_tokens=SAMPLE
    )
    number = 0
    for batch in text.batches:
        if number >= SAMPLE:
            return
        number += len(batch.rows)
        yield batch


def _codes(group: Group, batches: list[Batch]) -> dict[str, NDArray[np.int64]]:
    """Return the active codes of each SAE as numbers: token times width plus feature."""
    found: dict[str, list[NDArray[np.int64]]] = {sae.info.name: [] for sae in group.saes}
    first = 0
    for batch in batches:
        ids, mask, keep = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.keep))
        read = group.model.run(ids, mask, hooks=group.hooks)
        for sae in group.saes:
            codes = sae.codes(sae.reads(read, keep, ids))
            rows = first + np.repeat(np.arange(len(codes.indptr) - 1), np.diff(codes.indptr))
            found[sae.info.name].append(rows * sae.info.d_sae + codes.indices)
        first += len(batch.rows)
    return {name: np.concatenate(each) for name, each in found.items()}
