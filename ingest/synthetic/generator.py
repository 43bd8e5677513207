"""The generator: one text and the codes of several SAEs on it, with their ground truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas.errors import UnknownName
from atlas.progress import SILENT, Progress
from ingest.codes.store import Block
from ingest.match.aligned_codes import CodeRows, Units
from ingest.synthetic.activation_patterns import ActivationPattern, plant
from ingest.synthetic.settings import KINDS, PlantedSettings
from ingest.synthetic.text import PlantedText, Stretch

if TYPE_CHECKING:
    from atlas.api import Atlas
    from ingest.settings import Settings

__all__ = ["Planted"]

T = TypeVar("T", bound=np.generic)

#: Kinds whose features have a common pattern in all SAEs.
_COMMON = ("shared", "context")

#: Standard deviation of the logarithm of activations.
_HEIGHT = 0.5

#: Streams of random numbers; those of the SAEs follow.
_PLAN, _PATTERNS, _SAES = 0, 1, 2

#: Largest expected share of tokens on which a feature is active.
_MOST = 0.4


class Planted:
    """Texts and SAEs whose features are known; equal settings give equal results.

    The n-th feature of a kind in one SAE is the counterpart of the n-th in every other:

    ==============  =======================================================================
    shared          A common pattern, on any tokens. Each SAE misses a part of it and adds
                    noise.
    context         A common pattern on the tokens that follow certain words in a document.
    private         Any tokens, independently in each SAE: counterparts are independent.
    token           Occurrences of the same words, sampled independently in each SAE: the
                    shared words explain the correlation of counterparts.
    position        The same positions in documents, sampled independently in each SAE.
                    Matching finds these as shared: none of its nulls preserves positions.
    bursty          Bursts in the same documents, at independent positions in each SAE: more
                    often together than independent features (lift > 1), but not synchronous.
    token_document  Occurrences of the same words in the same documents, sampled
                    independently in each SAE: words and documents explain the correlation.
    ==============  =======================================================================

    The features of each SAE are shuffled. All features of a kind have the same expected rate
    (unless ``spread`` is set), and activations are log-normal.

    Parameters
    ----------
    settings
        Size and composition.

    Raises
    ------
    BadInput
        If the text has too few positions for a feature of its rate.
    """

    def __init__(self, settings: PlantedSettings = PlantedSettings()) -> None:  # noqa: B008 - frozen
        self.settings = settings
        rng = np.random.default_rng([settings.seed, _PLAN])
        self.text = PlantedText(settings, rng)
        self._rates = {kind: self._sample_rates(kind, rng) for kind in KINDS}
        self._patterns = {k: self._planted(k, rng) for k in KINDS if settings.number(k)}
        self._kind = np.repeat(KINDS, [settings.number(kind) for kind in KINDS])
        self._feature = {sae: rng.permutation(settings.d_sae) for sae in settings.saes}

    @classmethod
    def make(cls, seed: int = 0, **settings: Any) -> "Planted":
        """Create planted SAEs from fields of ``PlantedSettings``."""
        return cls(PlantedSettings(seed=seed, **settings))

    def blocks(self, sae: str) -> Iterator[Block]:
        """Yield an SAE's codes; each block is generated when it is requested."""
        name = self._checked(sae)
        return (self._block(name, number) for number in range(self.text.blocks))

    def rows(self, sae: str) -> CodeRows:
        """Return an SAE's codes in memory."""
        blocks = list(self.blocks(sae))
        active = [np.diff(block.indptr) for block in blocks]
        return CodeRows(
            np.concatenate([[0], np.cumsum(np.concatenate(active))]).astype(np.int64),
            np.concatenate([block.indices for block in blocks]),
            np.concatenate([block.values for block in blocks]),
            self.settings.d_sae,
        )

    @property
    def units(self) -> Units:
        """The tokens of the text."""
        text = self.text.complete
        _, type = np.unique(text.type, return_inverse=True)
        return Units(text.document, type.astype(np.int32))

    def kinds(self, sae: str) -> NDArray[np.str_]:
        """Return the kind of each feature; (d_sae,)."""
        return self._shuffled(sae, self._kind)

    def rates(self, sae: str) -> NDArray[np.float64]:
        """Return the expected share of tokens on which each feature is active; (d_sae,)."""
        return self._shuffled(sae, np.concatenate(list(self._rates.values())))

    def pairs(self, *kinds: str, saes: tuple[str, str] | None = None) -> NDArray[np.int64]:
        """Return the counterparts of some kinds, (features, 2), with a column for each SAE.

        If ``saes`` is None, the first two are used.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise UnknownName("kind of planted features", kind, known=KINDS)
        chosen = np.isin(self._kind, kinds)
        names = [self._checked(sae) for sae in saes or self.settings.saes[:2]]
        return np.stack([self._feature[sae][chosen] for sae in names], axis=1)

    @property
    def truth(self) -> NDArray[np.int64]:
        """The counterparts with a common pattern in the first two SAEs, (features, 2)."""
        return self.pairs(*_COMMON)

    def write(
        self,
        folder: str | Path,
        *,
        settings: "Settings | None" = None,
        progress: Progress = SILENT,
    ) -> "Atlas":
        """Write an atlas of the SAEs, with their codes and all reductions of codes.

        Parameters
        ----------
        folder
            A new or empty folder.
        settings
            Settings of the reductions, as in an ingest; the defaults if None.
        progress
            Notified of the work.

        Raises
        ------
        BadInput
            If the folder is not empty.
        """
        from ingest.synthetic.write import write_atlas

        return write_atlas(self, Path(folder), settings=settings, progress=progress)

    def _checked(self, sae: str) -> str:
        if sae not in self.settings.saes:
            raise UnknownName("SAE", sae, known=self.settings.saes)
        return sae

    def _shuffled(self, sae: str, values: NDArray[T]) -> NDArray[T]:
        shuffled = np.empty_like(values)
        shuffled[self._feature[self._checked(sae)]] = values
        return shuffled

    def _sample_rates(self, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
        spread, mean = self.settings.spread, self.settings.rate_of(kind)
        off = spread * rng.standard_normal(self.settings.number(kind)) - spread**2 / 2
        return np.minimum(mean * np.exp(off), _MOST)

    def _planted(self, kind: str, rng: np.random.Generator) -> ActivationPattern:
        seen = 1 - self.settings.miss if kind in _COMMON else 1
        return plant(kind, self._rates[kind] / seen, rng, text=self.text, settings=self.settings)

    def _block(self, sae: str, number: int) -> Block:
        stretch, d_sae = self.text.stretch(number), self.settings.d_sae
        entries = list(self._entries(sae, number, stretch))
        token, feature, values = (np.concatenate(column) for column in zip(*entries, strict=True))
        feature = self._feature[sae][feature]
        order = np.argsort(token * d_sae + feature)
        return Block(
            number=number,
            tokens=self.text.tokens(stretch),
            indptr=np.searchsorted(token[order], np.arange(len(stretch) + 1)).astype(np.int64),
            indices=feature[order].astype(np.uint32),
            values=values[order].astype(np.float32),
            d_sae=d_sae,
        )

    def _entries(self, sae: str, number: int, stretch: Stretch) -> Iterator[tuple[Any, Any, Any]]:
        """Yield token, feature (before the shuffle) and activation of the entries of each kind."""
        seed, stream = self.settings.seed, _SAES + self.settings.saes.index(sae)
        common = np.random.default_rng([seed, _PATTERNS, number])
        own = np.random.default_rng([seed, stream, number])
        first = 0
        for kind, pattern in self._patterns.items():
            if kind in _COMMON:
                token, feature = pattern.draw(stretch, common)
                height = _HEIGHT * common.standard_normal(len(token))
                seen = own.random(len(token)) >= self.settings.miss
                token, feature, height = token[seen], feature[seen], height[seen]
                height = height + self.settings.noise * own.standard_normal(len(token))
            else:
                token, feature = pattern.draw(stretch, own)
                height = _HEIGHT * own.standard_normal(len(token))
            yield token, first + feature, np.exp(height)
            first += self.settings.number(kind)
