"""The settings of a match, frozen, and recorded in its part."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from atlas.errors import BadInput

__all__ = ["Alignment", "MatchSettings"]

Alignment: TypeAlias = Literal["auto", "tokens", "words"]


@dataclass(frozen=True)
class MatchSettings:
    """How two SAEs are matched.

    Parameters
    ----------
    best
        Partners that each feature keeps, in each direction.
    min_joint
        Tokens on which both must be active for a pair to be a candidate: one shared token
        alone gives a correlation of 1.
    draws
        Draws of each null; 0 for none.
    seed
        Seed of the draws.
    align
        ``"tokens"``, ``"words"``, or ``"auto"``: tokens where the tokenizer is the same.
    wordless
        Whether features whose five commonest tokens hold one without letter or digit are
        candidates.
    min_shared
        Texts that must be among the five commonest tokens of both.
    min_pearson
        Correlation that a kept match has at least.
    """

    best: int = 3
    min_joint: int = 10
    draws: int = 20
    seed: int = 0
    align: Alignment = "auto"
    wordless: bool = True
    min_shared: int = 0
    min_pearson: float = 0.0

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> "MatchSettings":
        """Return settings that were noted, perhaps by another version: what it did not know is default."""
        return cls(**{f.name: said[f.name] for f in fields(cls) if f.name in said})

    def __post_init__(self) -> None:
        for name, least in (
            ("best", 1),
            ("min_joint", 1),
            ("draws", 0),
            ("seed", 0),
            ("min_shared", 0),
        ):
            if getattr(self, name) < least:
                raise BadInput(
                    f"{name}={getattr(self, name)} was asked for; {least} or more is possible."
                )
        if not 0 <= self.min_pearson <= 1:
            raise BadInput(f"min_pearson={self.min_pearson} was asked for; 0 to 1 is possible.")
        if self.min_shared > 5:
            raise BadInput(
                f"min_shared={self.min_shared} was asked for; 5 tokens a feature are compared."
            )
