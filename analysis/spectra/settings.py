"""Settings of the study of spectra."""

from dataclasses import dataclass

from atlas.errors import BadInput
from atlas.studies.settings import check_settings, documented, setting

__all__ = ["SpectrumSettings"]


@documented
@dataclass(frozen=True)
class SpectrumSettings:
    """Settings of ``measure_spectra``."""

    draws: int = setting(
        99, "Draws from each null; the lowest two-sided p is 2 / (1 + draws).", least=20, paper=999
    )
    fit_from: float = setting(
        0.05, "First rank of the fitted slope, as a share of the rank.", least=0, below=1
    )
    fit_to: float = setting(
        0.5, "Last rank of the fitted slope, as a share of the rank.", above=0, most=1
    )
    seed: int = setting(0, "Seed of the draws.", least=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.fit_from >= self.fit_to:
            raise BadInput(
                f"fit_from is {self.fit_from:g} and fit_to is {self.fit_to:g}; expected fit_from below fit_to."
            )

    @property
    def fit(self) -> tuple[float, float]:
        """The range of the fit, as shares of the rank."""
        return self.fit_from, self.fit_to
