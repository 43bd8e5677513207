"""Questions about an atlas, one function each, and the measures of plain graphs and arrays.

>>> import analysis
>>> settings = analysis.PositionSettings(draws=20)
>>> (result,) = analysis.activation_by_position("demo.atlas", ["tiny-a-l1-s0"], settings=settings)
>>> result.verdict, result.to_pandas("positions"), result.plot()    # doctest: +ELLIPSIS
((...

A study reads an atlas, stores its result there, and returns results with a verdict, tables and
a plot. The measures below a study take graphs of igraph or networkx, or NumPy arrays:

>>> import networkx
>>> analysis.describe_graph(networkx.path_graph(4)).edges
3
>>> analysis.find_communities(networkx.path_graph(4)).labels.tolist()
[0, 0, 1, 1]
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

# Studies: made by `make docs`.
if TYPE_CHECKING:
    from analysis.communities.settings import CommunitySettings as CommunitySettings
    from analysis.communities.study import graph_features as graph_features
    from analysis.concepts.causal.settings import AblationSettings as AblationSettings
    from analysis.concepts.causal.study import ablate_concepts as ablate_concepts
    from analysis.concepts.settings import ConceptSettings as ConceptSettings
    from analysis.concepts.study import study_concepts as study_concepts
    from analysis.concepts.subspaces.settings import SubspaceSettings as SubspaceSettings
    from analysis.concepts.subspaces.study import compare_concepts as compare_concepts
    from analysis.effects.settings import EffectSettings as EffectSettings
    from analysis.effects.study import measure_effects as measure_effects
    from analysis.feature_map.settings import MapSettings as MapSettings
    from analysis.feature_map.study import map_features as map_features
    from analysis.floors.settings import FloorSettings as FloorSettings
    from analysis.floors.study import compare_with_floors as compare_with_floors
    from analysis.graph.settings import GraphStatisticsSettings as GraphStatisticsSettings
    from analysis.graph.study import graph_statistics as graph_statistics
    from analysis.graph_comparison.settings import ComparisonSettings as ComparisonSettings
    from analysis.graph_comparison.study import compare_graphs as compare_graphs
    from analysis.graph_matching.settings import GraphMatchingSettings as GraphMatchingSettings
    from analysis.graph_matching.study import find_counterparts as find_counterparts
    from analysis.ground_truth.settings import GroundTruthSettings as GroundTruthSettings
    from analysis.ground_truth.study import compare_with_truth as compare_with_truth
    from analysis.interpretability.settings import (
        InterpretabilitySettings as InterpretabilitySettings,
    )
    from analysis.interpretability.study import measure_interpretability as measure_interpretability
    from analysis.logits.settings import LogitSettings as LogitSettings
    from analysis.logits.study import measure_logits as measure_logits
    from analysis.near_direction.settings import DirectionSettings as DirectionSettings
    from analysis.near_direction.study import nearest_directions as nearest_directions
    from analysis.positions.settings import PositionSettings as PositionSettings
    from analysis.positions.study import activation_by_position as activation_by_position
    from analysis.residual.settings import ResidualSettings as ResidualSettings
    from analysis.residual.study import residual_study as residual_study
    from analysis.similarity.settings import SimilaritySettings as SimilaritySettings
    from analysis.similarity.study import compare_spaces as compare_spaces
    from analysis.spectra.settings import SpectrumSettings as SpectrumSettings
    from analysis.spectra.study import measure_spectra as measure_spectra
    from analysis.splitting.settings import SplittingSettings as SplittingSettings
    from analysis.splitting.study import find_splits as find_splits
    from analysis.state_change.settings import StateSettings as StateSettings
    from analysis.state_change.study import compare_states as compare_states
    from analysis.steering.settings import SteeringSettings as SteeringSettings
    from analysis.steering.study import steer_task as steer_task
    from analysis.topology.settings import TopologySettings as TopologySettings
    from analysis.topology.study import measure_topology as measure_topology
    from analysis.transcoder.settings import TranscoderSettings as TranscoderSettings
    from analysis.transcoder.study import map_sites as map_sites

__all__ = [
    "AblationSettings",
    "CommunitySettings",
    "ComparisonSettings",
    "ConceptSettings",
    "DirectionSettings",
    "EffectSettings",
    "FloorSettings",
    "GraphMatchingSettings",
    "GraphStatisticsSettings",
    "GroundTruthSettings",
    "InterpretabilitySettings",
    "LogitSettings",
    "MapSettings",
    "PositionSettings",
    "ResidualSettings",
    "SimilaritySettings",
    "SpectrumSettings",
    "SplittingSettings",
    "StateSettings",
    "SteeringSettings",
    "SubspaceSettings",
    "TopologySettings",
    "TranscoderSettings",
    "ablate_concepts",
    "activation_by_position",
    "compare_concepts",
    "compare_graphs",
    "compare_spaces",
    "compare_states",
    "compare_with_floors",
    "compare_with_truth",
    "find_counterparts",
    "find_splits",
    "graph_features",
    "graph_statistics",
    "map_features",
    "map_sites",
    "measure_effects",
    "measure_interpretability",
    "measure_logits",
    "measure_spectra",
    "measure_topology",
    "nearest_directions",
    "residual_study",
    "steer_task",
    "study_concepts",
]

_MODULES = {
    "AblationSettings": "analysis.concepts.causal.settings",
    "CommunitySettings": "analysis.communities.settings",
    "ComparisonSettings": "analysis.graph_comparison.settings",
    "ConceptSettings": "analysis.concepts.settings",
    "DirectionSettings": "analysis.near_direction.settings",
    "EffectSettings": "analysis.effects.settings",
    "FloorSettings": "analysis.floors.settings",
    "GraphMatchingSettings": "analysis.graph_matching.settings",
    "GraphStatisticsSettings": "analysis.graph.settings",
    "GroundTruthSettings": "analysis.ground_truth.settings",
    "InterpretabilitySettings": "analysis.interpretability.settings",
    "LogitSettings": "analysis.logits.settings",
    "MapSettings": "analysis.feature_map.settings",
    "PositionSettings": "analysis.positions.settings",
    "ResidualSettings": "analysis.residual.settings",
    "SimilaritySettings": "analysis.similarity.settings",
    "SpectrumSettings": "analysis.spectra.settings",
    "SplittingSettings": "analysis.splitting.settings",
    "StateSettings": "analysis.state_change.settings",
    "SteeringSettings": "analysis.steering.settings",
    "SubspaceSettings": "analysis.concepts.subspaces.settings",
    "TopologySettings": "analysis.topology.settings",
    "TranscoderSettings": "analysis.transcoder.settings",
    "ablate_concepts": "analysis.concepts.causal.study",
    "activation_by_position": "analysis.positions.study",
    "compare_concepts": "analysis.concepts.subspaces.study",
    "compare_graphs": "analysis.graph_comparison.study",
    "compare_spaces": "analysis.similarity.study",
    "compare_states": "analysis.state_change.study",
    "compare_with_floors": "analysis.floors.study",
    "compare_with_truth": "analysis.ground_truth.study",
    "find_counterparts": "analysis.graph_matching.study",
    "find_splits": "analysis.splitting.study",
    "graph_features": "analysis.communities.study",
    "graph_statistics": "analysis.graph.study",
    "map_features": "analysis.feature_map.study",
    "map_sites": "analysis.transcoder.study",
    "measure_effects": "analysis.effects.study",
    "measure_interpretability": "analysis.interpretability.study",
    "measure_logits": "analysis.logits.study",
    "measure_spectra": "analysis.spectra.study",
    "measure_topology": "analysis.topology.study",
    "nearest_directions": "analysis.near_direction.study",
    "residual_study": "analysis.residual.study",
    "steer_task": "analysis.steering.study",
    "study_concepts": "analysis.concepts.study",
}
# End of studies.

if TYPE_CHECKING:
    from analysis.communities.detection import agreement as partition_agreement
    from analysis.communities.leiden import partition as find_communities
    from analysis.concepts.words.files import read_words as read_words
    from analysis.concepts.worth.rank import rank_saes as rank_saes
    from analysis.concepts.worth.roles import compare_roles as compare_roles
    from analysis.effects.counterparts import (
        compare_counterpart_effects as compare_counterpart_effects,
    )
    from analysis.effects.intervene import intervene as intervene
    from analysis.feature_map.embedding import StateMap as StateMap
    from analysis.graph.dip_test import dip_test as dip_test
    from analysis.graph.graph_statistics import describe as describe_graph
    from analysis.graph.node_statistics import node_statistics as node_statistics
    from analysis.logits.one_feature import measure_feature_logits as measure_feature_logits
    from analysis.similarity.measures import cca as cca
    from analysis.similarity.measures import cka as cka
    from analysis.similarity.measures import procrustes as procrustes
    from analysis.similarity.measures import rsa as rsa
    from analysis.similarity.measures import svcca as svcca
    from analysis.spectra.spectrum import spectrum_distance as spectrum_distance
    from analysis.spectra.spectrum import spectrum_of as spectrum_of
    from analysis.steering.texts import steer_text as steer_text
    from ingest.fire.text_features import FireSettings as FireSettings
    from ingest.fire.text_features import TextFeatures as TextFeatures
    from ingest.fire.text_features import fire as fire
    from ingest.match.settings import MatchSettings as MatchSettings
    from ingest.match.study import match_saes as match_saes
    from ingest.probe.settings import ProbeSettings as ProbeSettings
    from ingest.probe.study import probe_saes as probe_saes

__all__ += [
    "FireSettings",
    "MatchSettings",
    "ProbeSettings",
    "StateMap",
    "TextFeatures",
    "cca",
    "cka",
    "compare_counterpart_effects",
    "compare_roles",
    "describe_graph",
    "dip_test",
    "find_communities",
    "fire",
    "intervene",
    "match_saes",
    "measure_feature_logits",
    "node_statistics",
    "partition_agreement",
    "probe_saes",
    "procrustes",
    "rank_saes",
    "read_words",
    "rsa",
    "spectrum_distance",
    "spectrum_of",
    "steer_text",
    "svcca",
]

_MODULES |= {
    # Studies of the package ingest, which computes matches and probes also during an ingest.
    "MatchSettings": "ingest.match.settings",
    "ProbeSettings": "ingest.probe.settings",
    "match_saes": "ingest.match.study",
    "probe_saes": "ingest.probe.study",
    # Of atlases and features.
    "FireSettings": "ingest.fire.text_features",
    "TextFeatures": "ingest.fire.text_features",
    "fire": "ingest.fire.text_features",
    "StateMap": "analysis.feature_map.embedding",
    "compare_counterpart_effects": "analysis.effects.counterparts",
    "intervene": "analysis.effects.intervene",
    "measure_feature_logits": "analysis.logits.one_feature",
    "rank_saes": "analysis.concepts.worth.rank",
    "compare_roles": "analysis.concepts.worth.roles",
    "read_words": "analysis.concepts.words.files",
    "steer_text": "analysis.steering.texts",
    # Of plain graphs and arrays, which need no atlas.
    "cca": "analysis.similarity.measures",
    "cka": "analysis.similarity.measures",
    "describe_graph": "analysis.graph.graph_statistics:describe",
    "dip_test": "analysis.graph.dip_test",
    "find_communities": "analysis.communities.leiden:partition",
    "node_statistics": "analysis.graph.node_statistics",
    "partition_agreement": "analysis.communities.detection:agreement",
    "procrustes": "analysis.similarity.measures",
    "rsa": "analysis.similarity.measures",
    "spectrum_distance": "analysis.spectra.spectrum",
    "spectrum_of": "analysis.spectra.spectrum",
    "svcca": "analysis.similarity.measures",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        # With its name and object, Python suggests the nearest name.
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    module, _, attribute = _MODULES[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
