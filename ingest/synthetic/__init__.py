"""Planted SAEs: synthetic texts and codes with known ground truth, to test measures without a model.

>>> from ingest.synthetic import Planted, PlantedSettings
>>> planted = Planted(PlantedSettings(seed=1, shared=8, private=12))
>>> planted.rows("a").d_sae == planted.settings.d_sae
True
>>> len(planted.pairs("shared"))  # pairs (feature of a, feature of b) with the same pattern
8
"""

from ingest.synthetic.generator import Planted
from ingest.synthetic.settings import KINDS, PlantedSettings

__all__ = ["KINDS", "Planted", "PlantedSettings"]
