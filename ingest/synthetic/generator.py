"""The generator: one text and several SAEs' codes on it, block by block, with their truth."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atlas.errors import UnknownName
from atlas.progress import SILENT, Progress
from ingest.codes.store import Block
from ingest.match.aligned_codes import Rows, Units
from ingest.synthetic.activation_patterns import ActivationPattern, plant
from ingest.synthetic.settings import KINDS, PlantedSettings
from ingest.synthetic.text import PlantedText, Stretch

if TYPE_CHECKING:
    from atlas.api import Atlas
    from ingest.settings import Settings

__all__ = ["Planted"]

T = TypeVar("T", bound=np.generic)

#: Kinds whose features of all SAEs see one course.
_COMMON = ("shared", "context")

#: Standard deviation of the logarithm of activations.
_HEIGHT = 0.5

#: Streams of random numbers; those of the SAEs follow.
_PLAN, _COURSES, _SAES = 0, 1, 2

#: No feature is active on a larger share of tokens, in expectation.
_MOST = 0.4


class Planted:
    """Texts and SAEs whose features are known; equal for equal settings.

    The n-th feature of a kind in one SAE is the counterpart of the n-th in every other:

    ==============  =======================================================================
    shared          One course, on any tokens. Each SAE misses some of it and adds noise.
    context         One course as well, on the tokens that follow certain words in a
                    document.
    private         Any tokens, in each SAE by itself: counterparts have nothing in common.
    token           Occurrences of the same words, on each by a draw of either SAE's own:
                    more alike than chance, and no more than the shared words explain.
    position        The same places of documents, on each by a draw of either SAE's own.
                    Matching takes these for shared: none of its nulls holds the place fixed.
    bursty          Bursts in the same documents, which begin anywhere, in each SAE by
                    itself: together more often than chance (lift > 1), and yet
                    unsynchronised.
    token_document  Occurrences of the same words in the same documents, on each by a draw
                    of either SAE's own: no more alike than words and documents explain.
    ==============  =======================================================================

    Features of each SAE are shuffled. Every feature of a kind has the same expected rate
    (unless ``spread`` is set), and activations are log-normal.

    Parameters
    ----------
    settings
        What is planted.

    Raises
    ------
    BadInput
        If the text has too few places for a feature of the rate asked for.
    """

    def __init__(self, settings: PlantedSettings = PlantedSettings()) -> None:  # noqa: B008 - frozen
        self.settings = settings
        rng = np.random.default_rng([settings.seed, _PLAN])
        self.text = PlantedText(settings, rng)
        self._rates = {kind: self._drawn_rates(kind, rng) for kind in KINDS}
        self._courses = {k: self._planted(k, rng) for k in KINDS if settings.number(k)}
        self._kind = np.repeat(KINDS, [settings.number(kind) for kind in KINDS])
        self._feature = {sae: rng.permutation(settings.d_sae) for sae in settings.saes}

    @classmethod
    def make(cls, seed: int = 0, **settings: Any) -> "Planted":
        """Plant with these of the settings in ``PlantedSettings``."""
        return cls(PlantedSettings(seed=seed, **settings))

    def blocks(self, sae: str) -> Iterator[Block]:
        """Yield an SAE's codes; each block is drawn when it is asked for."""
        name = self._checked(sae)
        return (self._block(name, number) for number in range(self.text.blocks))

    def rows(self, sae: str) -> Rows:
        """Return an SAE's codes in memory."""
        blocks = list(self.blocks(sae))
        active = [np.diff(block.indptr) for block in blocks]
        return Rows(
            np.concatenate([[0], np.cumsum(np.concatenate(active))]).astype(np.int64),
            np.concatenate([block.indices for block in blocks]),
            np.concatenate([block.values for block in blocks]),
            self.settings.d_sae,
        )

    @property
    def units(self) -> Units:
        """The tokens."""
        whole = self.text.whole
        _, type = np.unique(whole.type, return_inverse=True)
        return Units(whole.document, type.astype(np.int32))

    def kinds(self, sae: str) -> NDArray[np.str_]:
        """Return the kind of each feature; (d_sae,)."""
        return self._shuffled(sae, self._kind)

    def rates(self, sae: str) -> NDArray[np.float64]:
        """Return the share of tokens on which each feature is active, expected; (d_sae,)."""
        return self._shuffled(sae, np.concatenate(list(self._rates.values())))

    def pairs(self, *kinds: str, saes: tuple[str, str] | None = None) -> NDArray[np.int64]:
        """Return the counterparts of some kinds, (features, 2): one column an SAE.

        ``saes`` are the first two, if None.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise UnknownName("kind of planted features", kind, known=KINDS)
        chosen = np.isin(self._kind, kinds)
        of = [self._checked(sae) for sae in saes or self.settings.saes[:2]]
        return np.stack([self._feature[sae][chosen] for sae in of], axis=1)

    @property
    def truth(self) -> NDArray[np.int64]:
        """The counterparts in the first two SAEs that see the same, (features, 2)."""
        return self.pairs(*_COMMON)

    def write(
        self,
        folder: str | Path,
        *,
        settings: "Settings | None" = None,
        progress: Progress = SILENT,
    ) -> "Atlas":
        """Write an atlas of the SAEs, their codes kept, with all that is reduced from codes.

        Parameters
        ----------
        folder
            Where; a new folder.
        settings
            How codes are reduced, as in an ingest; the defaults if None.
        progress
            Told how far the work is.

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
        found = np.empty_like(values)
        found[self._feature[self._checked(sae)]] = values
        return found

    def _drawn_rates(self, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
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
        """Yield token, feature (not shuffled yet) and activation of the entries of each kind."""
        seed, stream = self.settings.seed, _SAES + self.settings.saes.index(sae)
        common = np.random.default_rng([seed, _COURSES, number])
        own = np.random.default_rng([seed, stream, number])
        first = 0
        for kind, course in self._courses.items():
            if kind in _COMMON:
                token, feature = course.draw(stretch, common)
                height = _HEIGHT * common.standard_normal(len(token))
                seen = own.random(len(token)) >= self.settings.miss
                token, feature, height = token[seen], feature[seen], height[seen]
                height = height + self.settings.noise * own.standard_normal(len(token))
            else:
                token, feature = course.draw(stretch, own)
                height = _HEIGHT * own.standard_normal(len(token))
            yield token, first + feature, np.exp(height)
            first += self.settings.number(kind)
