"""Named questions to an atlas, one Cypher file each.

>>> import queries
>>> queries.get("tokens_of_feature").fill({"feature": "tiny-a-l1-s0/7", "limit": "5"})
{'feature': 'tiny-a-l1-s0/7', 'limit': 5}

A file is one statement with a header of comments, and can be pasted as it is into
Neo4j Browser, which then shows its table::

    // title: Tokens of a feature
    // question: On which tokens is this feature active most often?
    // param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
    // param limit (int64, default 20): number of rows at most
    // column rank (int64): 0 is the token it is active on most often
    // column token (string): text of the token, its leading space kept
    MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:FIRES_ON]->(t:Token)
    RETURN r.rank AS rank, t.text AS token
    ORDER BY rank
    LIMIT 20 /* $limit */

A parameter stands in the query once, as a value followed by its name in a comment:
Browser runs the value, which a person edits in place; ``Query.cypher`` has ``$feature``
instead. (Lines of ``:param`` before the query do not serve: Browser 5 takes them with
``;`` as several statements, and shows no table for any of them.) ``such as`` says that
a parameter must be given, ``default`` that it may be. In place of a type, ``SAE``,
``feature``, ``site`` or ``model`` says that the text is the name of one: an answer without
rows is then told from a name that nothing bears. Two lines of the header that not every
query has::

    // param by (string, default 'weight', or 'count', 'lift'): no other value is taken
    // matched: sae_a, sae_b

The second says that nothing is known of these two SAEs unless they were matched.

Rules for every query, so that kuzu and Neo4j answer the same and nobody sees half of
an SAE on a server:

- Scalars and lists of them are returned, never nodes. ``ORDER BY`` is total.
- Features and SAEs carry their label; tokens, examples, sites, models and corpora are
  reached through them. But for maps between sites (``MAPS_TO``), which need no SAE.
- What the two do differently stays out: ``log``, ``substring``, ``list[i]``, ``labels``,
  ``id``, ``round`` with one argument, sums (of integers: another type; of floats: another
  order), ``min`` or ``max`` beside ``count(DISTINCT ..)``, paths of variable length,
  comprehensions, ``WITH .. ORDER BY`` without ``LIMIT``.
- A mean is rounded, ``round(avg(..), 6)``: its last digits depend on the order of the rows.
- ``collect`` of nothing is null in kuzu: write ``coalesce(.., [])``.
- After an OPTIONAL MATCH a bare bool in ``CASE WHEN`` may take the wrong rows in kuzu: write
  ``= true``. It plans a long chain of MATCH clauses slowly: put a ``WITH`` between them. An
  OPTIONAL MATCH that goes on from a node of another fails: look the node up again by its key.
"""

from functools import cache
from importlib import resources

from queries.record import BadParameters, Column, Parameter, Query, Value, parse

__all__ = [
    "BadParameters",
    "Column",
    "Parameter",
    "Query",
    "UnknownQuery",
    "Value",
    "every",
    "get",
    "names",
]


class UnknownQuery(LookupError):
    """There is no query of this name.

    Parameters
    ----------
    name
        The name that was given.
    known
        The names there are.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"No query is named {name!r}. There are: {', '.join(known)}.")
        self.name = name
        self.known = known


@cache
def every() -> tuple[Query, ...]:
    """Return all queries, in the order of their names."""
    files = [f for f in resources.files(__name__).iterdir() if f.name.endswith(".cypher")]
    found = (parse(f.name.removesuffix(".cypher"), f.read_text(encoding="utf-8")) for f in files)
    return tuple(sorted(found, key=lambda q: q.name))


def names() -> list[str]:
    """Return the names of all queries, sorted."""
    return [q.name for q in every()]


def get(name: str) -> Query:
    """Return the query of this name.

    Raises
    ------
    UnknownQuery
        If there is none.
    """
    for query in every():
        if query.name == name:
            return query
    raise UnknownQuery(name, names())
