"""What reads text, activations or codes: texts, models and SAEs go in, parts come out.

>>> from ingest import ingest                                  # doctest: +SKIP
>>> atlas = ingest("notes.atlas", saes=[sae], model=model, tokenizer=tokenizer,
...                text=["one document", "another"])
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.match.pairing import match_saes as match_saes
    from ingest.match.settings import MatchSettings as MatchSettings
    from ingest.own_text import Text as Text
    from ingest.planted import Planted as Planted
    from ingest.planted import PlantedSettings as PlantedSettings
    from ingest.probe.estimator import LogisticProbes as LogisticProbes
    from ingest.probe.estimator import RidgeProbes as RidgeProbes
    from ingest.probe.probing import probe_saes as probe_saes
    from ingest.probe.settings import ProbeSettings as ProbeSettings
    from ingest.random_weights import save_random_weights as save_random_weights
    from ingest.residual.settings import ResidualSettings as ResidualSettings
    from ingest.residual.study import residual_study as residual_study
    from ingest.run import ingest as ingest
    from ingest.settings import Settings as Settings
    from ingest.transcoder.mapping import map_sites as map_sites
    from ingest.transcoder.settings import TranscoderSettings as TranscoderSettings

__all__ = [
    "LogisticProbes",
    "MatchSettings",
    "Planted",
    "PlantedSettings",
    "ProbeSettings",
    "ResidualSettings",
    "RidgeProbes",
    "Settings",
    "Text",
    "TranscoderSettings",
    "ingest",
    "map_sites",
    "match_saes",
    "probe_saes",
    "residual_study",
    "save_random_weights",
]

_PLACES = {
    "LogisticProbes": "ingest.probe.estimator",
    "MatchSettings": "ingest.match.settings",
    "Planted": "ingest.planted",
    "PlantedSettings": "ingest.planted",
    "ProbeSettings": "ingest.probe.settings",
    "ResidualSettings": "ingest.residual.settings",
    "RidgeProbes": "ingest.probe.estimator",
    "Settings": "ingest.settings",
    "Text": "ingest.own_text",
    "TranscoderSettings": "ingest.transcoder.settings",
    "ingest": "ingest.run",
    "map_sites": "ingest.transcoder.mapping",
    "match_saes": "ingest.match.pairing",
    "probe_saes": "ingest.probe.probing",
    "residual_study": "ingest.residual.study",
    "save_random_weights": "ingest.random_weights",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
