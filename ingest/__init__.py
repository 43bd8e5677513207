"""Package ingest: compute the parts of an atlas from texts, models and SAEs.

>>> from ingest import Settings, ingest
>>> few = Settings(tokens=500)
>>> atlas = ingest("notes.atlas", saes=["tiny-a-l1-s0"], text="stories.jsonl", settings=few)
>>> atlas.saes
['tiny-a-l1-s0']

SAEs, the model and the documents can also be in memory: see ``ingest``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.demo.build import make_demo as make_demo
    from ingest.forward.run import ingest as ingest
    from ingest.match.settings import MatchSettings as MatchSettings
    from ingest.match.study import match_saes as match_saes
    from ingest.model.random_weights import save_random_weights as save_random_weights
    from ingest.probe.settings import ProbeSettings as ProbeSettings
    from ingest.probe.solver.estimator import LogisticProbes as LogisticProbes
    from ingest.probe.solver.estimator import RidgeProbes as RidgeProbes
    from ingest.probe.study import probe_saes as probe_saes
    from ingest.settings import Settings as Settings
    from ingest.synthetic import Planted as Planted
    from ingest.synthetic import PlantedSettings as PlantedSettings
    from ingest.synthetic.known_features import save_synthetic as save_synthetic
    from ingest.synthetic.known_settings import SyntheticSettings as SyntheticSettings
    from ingest.text.atlas_corpus import Text as Text
    from ingest.train.run import train_saes as train_saes
    from ingest.train.settings import TrainSettings as TrainSettings

__all__ = [
    "LogisticProbes",
    "MatchSettings",
    "Planted",
    "PlantedSettings",
    "ProbeSettings",
    "RidgeProbes",
    "Settings",
    "SyntheticSettings",
    "Text",
    "TrainSettings",
    "ingest",
    "make_demo",
    "match_saes",
    "probe_saes",
    "save_random_weights",
    "save_synthetic",
    "train_saes",
]

_MODULES = {
    "LogisticProbes": "ingest.probe.solver.estimator",
    "MatchSettings": "ingest.match.settings",
    "Planted": "ingest.synthetic",
    "PlantedSettings": "ingest.synthetic",
    "ProbeSettings": "ingest.probe.settings",
    "RidgeProbes": "ingest.probe.solver.estimator",
    "Settings": "ingest.settings",
    "SyntheticSettings": "ingest.synthetic.known_settings",
    "Text": "ingest.text.atlas_corpus",
    "TrainSettings": "ingest.train.settings",
    "ingest": "ingest.forward.run",
    "make_demo": "ingest.demo.build",
    "match_saes": "ingest.match.study",
    "probe_saes": "ingest.probe.study",
    "save_random_weights": "ingest.model.random_weights",
    "save_synthetic": "ingest.synthetic.known_features",
    "train_saes": "ingest.train.run",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
