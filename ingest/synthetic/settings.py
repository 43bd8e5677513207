"""The settings of planted SAEs, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.errors import BadInput
from ingest.sae.info import slug

__all__ = ["KINDS", "PlantedSettings"]

KINDS = ("shared", "context", "private", "token", "position", "bursty", "token_document")
"""Kinds of features; ``ingest.synthetic.Planted`` says what each is."""


@dataclass(frozen=True)
class PlantedSettings:
    """What is planted.

    Parameters
    ----------
    seed
        Seed of everything.
    saes
        Names of the SAEs. All have as many features of each kind.
    documents
        Number of documents.
    document_length
        Mean tokens of a document; each has between half and one and a half times as many.
    context_size
        Tokens of a context; there is no BOS.
    vocabulary
        Words of the vocabulary, one a token; the n-th has a frequency in proportion to 1/n.
    shared, context, private, token, position, bursty, token_document
        Features of each kind an SAE.
    rate
        Share of all tokens on which a feature is active, expected.
    rates
        The same for kinds of another rate.
    spread
        Standard deviation of the logarithm of features' rates within a kind, around that
        mean; counterparts have the same rate. No rate exceeds 0.4.
    miss
        Share of a common course (of kinds shared and context) that each SAE misses.
    noise
        Standard deviation of the logarithm of an activation where SAEs see the same.
    reach
        Tokens after a trigger on which a context feature may be active.
    burst
        Share of its document that a burst takes.

    Raises
    ------
    BadInput
        If a number is out of range, or a kind or name is not possible.
    """

    seed: int = 0
    saes: tuple[str, ...] = ("a", "b")
    documents: int = 50
    document_length: int = 60
    context_size: int = 64
    vocabulary: int = 200
    shared: int = 8
    context: int = 2
    private: int = 6
    token: int = 2
    position: int = 1
    bursty: int = 1
    token_document: int = 0
    rate: float = 0.05
    rates: Mapping[str, float] = field(default_factory=dict)
    spread: float = 0.0
    miss: float = 0.1
    noise: float = 0.2
    reach: int = 8
    burst: float = 0.3

    def __post_init__(self) -> None:
        least = {"seed": 0, "documents": 1, "document_length": 1, "context_size": 1}
        least |= {"vocabulary": 1, "reach": 1, "spread": 0, "noise": 0}
        for name, low in {**least, **dict.fromkeys(KINDS, 0)}.items():
            self._check(name, getattr(self, name) >= low, f"{low} or more")
        self._check("miss", 0 <= self.miss <= 0.5, "0 to 0.5")
        self._check("rates", self.rates.keys() <= {*KINDS}, f"a rate for any of {', '.join(KINDS)}")
        self._check("burst", 0 < self.burst <= 1, "above 0 and up to 1")
        rates = [self.rate, *self.rates.values()]
        self._check("rate", all(0 < r <= 0.25 for r in rates), "above 0 and up to 0.25")
        self._check("shared", self.d_sae > 0, "one feature or more, of whichever kind,")
        named = len(set(self.saes)) == len(self.saes) and all(n and n == slug(n) for n in self.saes)
        self._check("saes", bool(self.saes) and named, "different names in lower-case letters")

    def _check(self, name: str, fine: bool, possible: str) -> None:
        if not fine:
            raise BadInput(f"{name}={getattr(self, name)!r} was asked for; {possible} is possible.")

    @property
    def d_sae(self) -> int:
        """Features of an SAE."""
        return sum(self.number(kind) for kind in KINDS)

    def number(self, kind: str) -> int:
        """Return how many features of a kind an SAE has."""
        return int(getattr(self, kind))

    def rate_of(self, kind: str) -> float:
        """Return the mean rate of a kind."""
        return self.rates.get(kind, self.rate)
