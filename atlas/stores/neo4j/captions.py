"""Captions of nodes for browsers of Neo4j that load no style sheet.

Such a browser writes on a node the first property whose name is or ends with "name". SAEs,
models, texts and concepts have one. After a push, features, communities, tokens and sites
have ``_name`` too. No query of this program reads it.
"""

from atlas.stores.neo4j.connection import Bolt

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
    mine = {"atlas": atlas}
    for label in ("Token", "Site"):
        missing = f"MATCH (n:{label}) WHERE n._name IS NULL AND $atlas IN n._atlases"
        _write(bolt, label, missing, mine)
    new = "MATCH (s:SAE) WHERE s._atlas = $atlas AND s._named IS NULL RETURN s.name, s._generation"
    for sae, generation in bolt.ask(new, mine).rows:
        own = {"sae": sae, "generation": generation}
        _write(bolt, "Feature", "MATCH (n:Feature {sae: $sae})", own)
        _write(bolt, "Community", "MATCH (n:Community {_generation: $generation})", own)
        # The flag is last, so that the next push continues after an interruption.
        bolt.write("MATCH (s:SAE {name: $sae}) SET s._named = true", own)


def _write(bolt: Bolt, label: str, match: str, params: dict[str, str]) -> None:
    bolt.write(
        f"{match} CALL (n) {{ SET n._name = {CAPTIONS[label]} }} IN TRANSACTIONS OF 10000 ROWS",
        params,
    )
