"""Synthetic data with known ground truth: planted SAEs, and models with known features.

>>> from ingest.synthetic import Planted, PlantedSettings
>>> planted = Planted(PlantedSettings(seed=1, shared=8, private=12))
>>> planted.rows("a").d_sae == planted.settings.d_sae
True
>>> len(planted.pairs("shared"))  # pairs (feature of a, feature of b) with the same pattern
8
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.synthetic.generator import Planted as Planted
    from ingest.synthetic.settings import KINDS as KINDS
    from ingest.synthetic.settings import PlantedSettings as PlantedSettings

__all__ = ["KINDS", "Planted", "PlantedSettings"]

_MODULES = {
    "KINDS": "ingest.synthetic.settings",
    "Planted": "ingest.synthetic.generator",
    "PlantedSettings": "ingest.synthetic.settings",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
