"""What a study of logits reads: an SAE with its model, the directions of its live features, and its text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.logits.ablation import Ablated, ablate
from analysis.logits.settings import LogitSettings
from analysis.statistics.live_directions import LiveDirections, live_directions
from atlas.progress import SILENT, Progress
from atlas.studies.study import TaskContext
from ingest.codes.active_tokens import ActiveTokens, sample_active_tokens
from ingest.codes.store import read_shard, stored_shards
from ingest.model.language_model import LanguageModel
from ingest.model.unembedding import stream_rows, unembedding
from ingest.sae.autoencoder import Autoencoder
from ingest.sae.complete_model import SaeWithModel, open_with_model

__all__ = ["WHAT", "DirectLogits", "Subject", "open_subject"]

#: The study in messages.
WHAT = "A study of logits"


@dataclass(frozen=True, eq=False)
class Subject:
    """An SAE with its model and its text.

    Parameters
    ----------
    opened
        The SAE, its model and its text.
    live
        The directions of its live features.
    at
        The atlas.
    """

    opened: SaeWithModel
    live: LiveDirections
    at: TaskContext

    @property
    def name(self) -> str:
        """Name of the SAE."""
        return self.opened.record.name

    @property
    def hook(self) -> str:
        """The site that the SAE reads."""
        return self.opened.sae.info.hook

    @property
    def model(self) -> LanguageModel:
        """The model, without its head."""
        return self.opened.model

    def ablated(self, tokens: ActiveTokens, *, progress: Progress = SILENT) -> Ablated:
        """Ablate features on some tokens."""
        one = self.opened
        return ablate(one.complete, one.sae, tokens, text=one.text, progress=progress)

    def sample(self, settings: LogitSettings) -> ActiveTokens:
        """Return the tokens on which a sample of the live features is ablated."""
        rng = np.random.default_rng(settings.seed)
        number = min(settings.features, len(self.live.features))
        return self.tokens_of(rng.choice(self.live.features, number, replace=False), settings)

    def tokens_of(self, features: NDArray[np.int64], settings: LogitSettings) -> ActiveTokens:
        """Return the tokens on which some features are ablated."""
        shards = (
            stored_shards(self.at.folder, self.at.sound, self.name, what=WHAT)
            if len(features)
            else []
        )
        blocks = chain.from_iterable(map(read_shard, shards))
        return sample_active_tokens(blocks, features, most=settings.positions, seed=settings.seed)


class DirectLogits:
    """The direct logits of the live features of an SAE, over the tokens of the tokenizer."""

    def __init__(self, subject: Subject) -> None:
        found = unembedding(subject.opened.complete)
        self.softcap = found.softcap
        self.features = subject.live.features
        # Rows of the matrix behind those of the tokenizer stand for no token.
        self._matrix = replace(found, matrix=found.matrix[: subject.model.vocabulary])
        self._rows = stream_rows(subject.model, subject.hook, subject.live.decoder)

    def of(self, features: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the direct logits of some live features, (features, vocabulary)."""
        return self._matrix.direct_logits(self._rows[np.searchsorted(self.features, features)])


def open_subject(
    at: TaskContext,
    name: str,
    *,
    opened: Sequence[Autoencoder] = (),
    model: Any = None,
    tokenizer: Any = None,
    device: str = "auto",
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
    return Subject(found, live_directions(at.sound, name, opened=opened), at)
