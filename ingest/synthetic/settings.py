"""Settings of planted SAEs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas.errors import BadInput
from ingest.sae.info import slug

__all__ = ["KINDS", "PlantedSettings"]

KINDS = ("shared", "context", "private", "token", "position", "bursty", "token_document")
"""Kinds of features; ``ingest.synthetic.Planted`` defines each."""


@dataclass(frozen=True)
class PlantedSettings:
    """Size and composition of planted SAEs.

    Parameters
    ----------
    seed
        Seed of the text and of all SAEs.
    saes
        Names of the SAEs. All have the same number of features of each kind.
    documents
        Number of documents.
    document_length
        Mean number of tokens in a document; each has between 0.5 and 1.5 times this number.
    context_size
        Number of tokens in a context; there is no BOS.
    vocabulary
        Number of words, each a token; the n-th has a frequency proportional to 1/n.
    shared, context, private, token, position, bursty, token_document
        Number of features of each kind in an SAE.
    rate
        Expected share of all tokens on which a feature is active.
    rates
        The rate of kinds with another one.
    spread
        Standard deviation of the logarithm of the rates within a kind, around that mean.
        Counterparts have the same rate. No rate exceeds 0.4.
    miss
        Share of a common pattern (kinds shared and context) that each SAE misses.
    noise
        Standard deviation of the logarithm of an SAE's noise on activations of a common
        pattern.
    reach
        Number of tokens after a trigger on which a context feature may be active.
    burst
        Length of a burst, as a share of its document.

    Raises
    ------
    BadInput
        If a number is out of range, or a kind or name is invalid.
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
        self._check("shared", self.d_sae > 0, "at least one feature of any kind")
        named = len(set(self.saes)) == len(self.saes) and all(n and n == slug(n) for n in self.saes)
        self._check("saes", bool(self.saes) and named, "different names in lower-case letters")

    def _check(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise BadInput(f"{name} is {getattr(self, name)!r}; expected {expected}.")

    @property
    def d_sae(self) -> int:
        """Number of features of an SAE."""
        return sum(self.number(kind) for kind in KINDS)

    def number(self, kind: str) -> int:
        """Return the number of features of a kind in an SAE."""
        return int(getattr(self, kind))

    def rate_of(self, kind: str) -> float:
        """Return the mean rate of a kind."""
        return self.rates.get(kind, self.rate)
