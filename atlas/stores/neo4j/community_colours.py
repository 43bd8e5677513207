"""Labels that give communities a colour in Neo4j Browser.

A style sheet of Neo4j Browser has one rule per label, and none for the value of a property.
After a push, each community and its features therefore have the label ``CommunityColour0``
to ``CommunityColour11``: the number of the community modulo 12. The twelve largest
communities of an SAE differ in colour. No query of this program reads these labels.
"""

from atlas.stores.neo4j.connection import Bolt
from atlas.stores.neo4j.derived_properties import set_in_batches

__all__ = ["COLOURS", "colour_communities", "colour_label"]

COLOURS = 12
"""Number of colours."""


def colour_label(number: int) -> str:
    """Return the label of the colour of a community.

    Parameters
    ----------
    number
        Number of the community in its SAE; 0 is the largest.

    Examples
    --------
    >>> colour_label(0), colour_label(14)
    ('CommunityColour0', 'CommunityColour2')
    """
    return f"CommunityColour{number % COLOURS}"


def colour_communities(bolt: Bolt, atlas: str) -> None:
    """Add the labels that the communities of an atlas, and their features, do not have yet.

    A community never changes on a server, because a changed SAE is written as a new generation.

    Parameters
    ----------
    bolt
        The connection, whose lock is held.
    atlas
        Uuid of the atlas.
    """
    coloured = "|".join(map(colour_label, range(COLOURS)))
    for (sae,) in bolt.ask(
        "MATCH (s:SAE) WHERE s._atlas = $atlas MATCH (c:Community {_generation: s._generation}) "
        f"WHERE NOT c:{coloured} RETURN DISTINCT s.name",
        {"atlas": atlas},
    ).rows:
        # The communities are last, so that the next push continues after an interruption.
        for table, number in (("Feature", "community"), ("Community", "number")):
            for colour in range(COLOURS):
                set_in_batches(
                    bolt,
                    f"MATCH (n:{table} {{sae: $sae}}) WHERE n.{number} % {COLOURS} = $colour",
                    f"n:{colour_label(colour)}",
                    parameters={"sae": sae, "colour": colour},
                )
