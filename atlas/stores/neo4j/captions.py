"""Captions of nodes for browsers of Neo4j that load no style sheet.

Such a browser writes on a node the first property whose name is or ends with "name". SAEs,
models, texts and concepts have one. After a push, features, communities, tokens and sites
have ``_name`` too. No query of this program reads it.
"""

from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.derived_properties import derive_properties, set_in_batches

__all__ = ["CAPTIONS", "write_captions"]

CAPTIONS = {
    "Feature": "toString(n.idx) + coalesce(' ' + trim(n.top_token), '')",
    "Community": "reduce(all = toString(n.number), t IN coalesce(n.tokens, [])[..3] | all + ' ' + trim(t))",
    "Token": "n.text",
    "Site": "n.hook",
}
"""Label -> Cypher of the caption of a node ``n``."""


def write_captions(bolt: Bolt, atlas: str) -> None:
    """Write the captions that are missing on the nodes of an atlas.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    atlas
        Uuid of the atlas.
    """
    for label in ("Token", "Site"):
        missing = f"MATCH (n:{label}) WHERE n._name IS NULL AND $atlas IN n._atlases"
        set_in_batches(bolt, missing, _caption(label), parameters={"atlas": atlas})
    derive_properties(
        bolt,
        atlas,
        flag="_named",
        assignments=(
            ("MATCH (n:Feature {sae: $sae})", _caption("Feature")),
            ("MATCH (n:Community {_generation: $generation})", _caption("Community")),
        ),
    )


def _caption(label: str) -> str:
    return f"n._name = {CAPTIONS[label]}"
