"""Questions about an atlas, one folder each: graphs, comparisons, transcoders, residuals.

>>> from analysis import map_sites, residual_study             # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.positions.study import activation_by_position as activation_by_position
    from analysis.residual.settings import ResidualSettings as ResidualSettings
    from analysis.residual.study import residual_study as residual_study
    from analysis.transcoder.settings import TranscoderSettings as TranscoderSettings
    from analysis.transcoder.study import map_sites as map_sites

__all__ = [
    "ResidualSettings",
    "TranscoderSettings",
    "activation_by_position",
    "map_sites",
    "residual_study",
]

_MODULES = {
    "ResidualSettings": "analysis.residual.settings",
    "TranscoderSettings": "analysis.transcoder.settings",
    "activation_by_position": "analysis.positions.study",
    "map_sites": "analysis.transcoder.study",
    "residual_study": "analysis.residual.study",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
