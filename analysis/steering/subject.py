"""What is steered: an SAE of an atlas with its complete model, its text and numbers of its features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import BadInput, Mismatch, UnknownName
from atlas.studies.study import TaskContext
from ingest.model.language_model import LanguageModel
from ingest.model.next_token import NextTokenModel
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.complete_model import open_with_model
from ingest.text.context_text import ContextText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.text.tokenization import Batch

__all__ = ["Subject", "feature_of", "open_subject"]

Floats = NDArray[np.float64]

#: Most logits of a batch of text, so that they take 64 MiB.
_LOGITS = 2**24

#: Most tokens of a batch, in the requested tokens of neutral text: a batch is read completely.
_BATCH = 4


@dataclass(frozen=True, eq=False)
class Subject:
    """An SAE with its model and text.

    Parameters
    ----------
    sae
        The SAE.
    model, complete
        Its model, without and with its head.
    text
        The text of the atlas, in the contexts of the SAE.
    frequency, maximum
        float64, (features,). Share of tokens on which each feature is active, and its maximum
        activation; 0 for features that are never active.
    """

    sae: Autoencoder
    model: LanguageModel
    complete: NextTokenModel
    text: ContextText
    frequency: Floats
    maximum: Floats

    @property
    def name(self) -> str:
        """Name of the SAE."""
        return self.sae.info.name

    @property
    def hook(self) -> str:
        """The site that the SAE reads."""
        return self.sae.info.hook

    def check_live(self, features: Sequence[int]) -> None:
        """Check that features exist and are active on some token.

        Raises
        ------
        BadInput
            If the SAE has no such feature, or it is never active.
        """
        for feature in features:
            if not 0 <= feature < len(self.maximum):
                raise BadInput(
                    f"{self.name} has features 0 to {len(self.maximum) - 1}, and {feature} was passed."
                )
            if not self.maximum[feature] > 0:
                raise BadInput(
                    f"{self.name}/{feature} is never active in the text of the atlas, so its strength has no unit. "
                    "Choose a live feature; `atlas query strongest_features` lists some."
                )

    def rows(self, features: Sequence[int]) -> torch.Tensor:
        """Return the decoder vectors of features, float32 of shape (features, d_in).

        Raises
        ------
        Mismatch
            If they differ between tokens.
        """
        found = self.sae.rows(torch.tensor(list(features)))
        if found is None:
            raise Mismatch(
                f"{self.name} normalises each vector, so its decoder vectors have no fixed norm. Steer an SAE "
                "without that normalisation."
            )
        return found

    def similar(self, feature: int, *, number: int, seed: int) -> list[int]:
        """Return random live features whose frequency is similar to that of one feature.

        They are drawn from the ``2 · number`` other live features whose frequency is nearest, by
        ratio. The draw depends on the feature, the number and the seed only: it is the same
        whichever other features are steered. Fewer live features give fewer.
        """
        return self._candidates(feature, [feature], number=2 * number, seed=seed)[:number]

    def similar_sets(
        self, features: Sequence[int], *, number: int, seed: int
    ) -> list[tuple[int, ...]]:
        """Return sets of random live features, each member similar in frequency to one feature.

        Member i of each set is drawn as ``similar`` does for feature i. No steered feature is a
        member, no set has a feature twice, and no feature is member i of two sets. Fewer live
        features give fewer sets.
        """
        pool = 2 * number + len(features)
        orders = [self._candidates(f, features, number=pool, seed=seed) for f in features]
        sets: list[tuple[int, ...]] = []
        for _ in range(number):
            members: list[int] = []
            for order in orders:
                free = next((one for one in order if one not in members), None)
                if free is None:
                    return sets
                members.append(free)
            for order, used in zip(orders, members, strict=True):
                order.remove(used)
            sets.append(tuple(members))
        return sets

    def _candidates(
        self, feature: int, excluded: Sequence[int], *, number: int, seed: int
    ) -> list[int]:
        """Return the live features nearest in frequency, in an order that the seed and the feature give."""
        live = np.setdiff1d(np.flatnonzero(self.maximum > 0), np.asarray(excluded))
        ratio = np.abs(np.log(self.frequency[live]) - np.log(self.frequency[feature]))
        near = live[np.argsort(ratio, kind="stable")][:number]
        # The order is of all features, so that an excluded one does not change that of the others.
        rank = np.random.default_rng([seed, feature]).permutation(len(self.maximum))
        found: list[int] = near[np.argsort(rank[near], kind="stable")].tolist()
        return found

    def neutral(self, tokens: int, *, seed: int) -> "Iterator[Batch]":
        """Yield batches of the text of the atlas in a random order, until they hold some tokens."""
        for batch, _ in self.sampled(tokens, seed=seed):
            yield batch

    def sampled(self, tokens: int, *, seed: int) -> "Iterator[tuple[Batch, NDArray[np.int64]]]":
        """Yield batches as ``neutral`` does, each with the document of each of its counted tokens."""
        rng = np.random.default_rng(seed)
        total = 0
        for number in rng.permutation(len(self.text.corpus)).tolist():
            block = self.text.block(number)
            for index in rng.permutation(len(block.batches)).tolist():
                if total >= tokens:
                    return
                batch = block.batches[index]
                total += len(batch.rows)
                yield batch, block.tokens.document[batch.rows]


def open_subject(
    at: TaskContext,
    name: str,
    *,
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
    neutral_tokens: int | None = None,
) -> Subject:
    """Open an SAE of an atlas with its complete model.

    Parameters
    ----------
    at
        The atlas.
    name
        Name of the SAE.
    opened
        SAEs that were in memory at ingest.
    model, tokenizer, device
        See ``ingest.sae.complete_model.open_with_model``.
    neutral_tokens
        Tokens of neutral text that will be read, so that batches are not much larger.
    """
    found = open_with_model(
        at.folder,
        at.sound,
        name,
        opened=opened,
        model=model,
        tokenizer=tokenizer,
        device=device,
    )
    most = max(1, _LOGITS // found.model.vocabulary)
    if neutral_tokens is not None:
        most = min(most, _BATCH * neutral_tokens)
    text = replace(found.text, batch_tokens=min(found.text.batch_tokens, most))
    counts = at.sound.parts[f"statistics/{name}"].table("Feature")
    frequency, maximum = (
        np.nan_to_num(counts[column].to_numpy()) for column in ("frequency", "max_activation")
    )
    return Subject(found.sae, found.model, found.complete, text, frequency, maximum)


def feature_of(name: str, saes: Sequence[str]) -> tuple[str, int]:
    """Return the SAE and the index of a feature that is named ``sae/index``.

    Raises
    ------
    BadInput
        If the name has another form.
    UnknownName
        If the atlas has no such SAE.

    Examples
    --------
    >>> feature_of("a/7", ["a"])
    ('a', 7)
    """
    sae, _, index = name.rpartition("/")
    if not sae or not index.isascii() or not index.isdigit() or len(index) > 9:
        raise BadInput(f"The feature is {name!r}; expected SAE/INDEX, such as tiny-a-l1-s0/7.")
    if sae not in saes:
        raise UnknownName("SAE", sae, known=saes, hint="`atlas list` shows them.")
    return sae, int(index)
