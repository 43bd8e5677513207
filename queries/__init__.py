"""Named queries on an atlas, one Cypher file each.

>>> import queries
>>> queries.get("tokens_of_feature").fill({"feature": "tiny-a-l1-s0/7", "limit": "5"})
{'feature': 'tiny-a-l1-s0/7', 'limit': 5}

A file is one statement with a header of comments. It can be pasted unchanged into
Neo4j Browser, which then shows its table::

    // title: Tokens of a feature
    // question: On which tokens is this feature active most often?
    // topic: One feature
    // param feature (feature, such as 'tiny-a-l1-s0/7'): the feature, as `sae/index`
    // param limit (int64, default 20): number of rows at most
    // column rank (int64): 0 is the token it is active on most often
    // column token (string): text of the token, including a leading space
    MATCH (f:Feature {id: 'tiny-a-l1-s0/7' /* $feature */})-[r:FIRES_ON]->(t:Token)
    RETURN r.rank AS rank, t.text AS token
    ORDER BY rank
    LIMIT 20 /* $limit */

A parameter occurs in the query once, as a value followed by its name in a comment.
The topic is one of ``TOPICS``, by which ``atlas query`` lists the questions.
Browser runs the query with the value, which a user can edit; ``Query.cypher`` has
``$feature`` instead. Lines of ``:param`` before the query do not work, because Browser 5
treats them as several statements and shows no table.

``such as`` marks a required parameter, ``default`` an optional one. Instead of a type,
``SAE``, ``feature``, ``site``, ``model`` or ``concept`` declares that the text is a name. An unknown
name is then reported, and not mistaken for an answer without rows. Three kinds of header
lines are optional::

    // param by (string, default 'weight', or 'count', 'lift'): no other value is allowed
    // matched: sae_a, sae_b
    // answer: token, share

The second declares that the query needs a match of these two SAEs. The third names columns that answer
the question: a narrow table never omits them, unless they alone are wider.

Rules for every query, so that kuzu and Neo4j return equal answers and no query sees an
incomplete SAE on a server:

- Return scalars and lists of scalars, never nodes. ``ORDER BY`` must be total.
- Features and SAEs have their label. Reach tokens, examples, sites, models and corpora
  through them, except in maps between sites (``MAPS_TO``), which need no SAE.
- Avoid functions that differ between the engines: ``log``, ``substring``, ``list[i]``,
  ``labels``, ``id``, and ``round`` with one argument. Sums differ too: of integers in type,
  of floats in order.
- Write aggregates with ``DISTINCT`` last; the embedded store refuses the other order.
- Avoid clauses that differ: paths of variable length, comprehensions, and ``WITH ..
  ORDER BY`` without ``LIMIT``.
- Round means, ``round(avg(..), 6)``, because the last digits depend on the order of rows.
- ``collect`` of no rows is null in kuzu: write ``coalesce(.., [])``.
- kuzu plans a long chain of MATCH clauses slowly: put a ``WITH`` between them. An
  OPTIONAL MATCH that continues from a node of another one fails: match the node again by its
  key.
"""

from functools import cache
from importlib import resources

from queries.record import TOPICS, BadParameters, Column, Parameter, Query, Value, parse

__all__ = [
    "TOPICS",
    "BadParameters",
    "Column",
    "Parameter",
    "Query",
    "UnknownQuery",
    "Value",
    "every",
    "get",
    "names",
    "search",
]


class UnknownQuery(LookupError):
    """No query has this name.

    Parameters
    ----------
    name
        The unknown name.
    known
        Names of all queries.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"No query is named {name!r}. There are: {', '.join(known)}.")
        self.name = name
        self.known = known


@cache
def every() -> tuple[Query, ...]:
    """Return all queries, sorted by name."""
    files = [f for f in resources.files(__name__).iterdir() if f.name.endswith(".cypher")]
    found = (parse(f.name.removesuffix(".cypher"), f.read_text(encoding="utf-8")) for f in files)
    return tuple(sorted(found, key=lambda q: q.name))


def names() -> list[str]:
    """Return the names of all queries, sorted."""
    return [q.name for q in every()]


def search(words: str = "") -> list[Query]:
    """Return the queries that contain every word, by topic and name.

    Parameters
    ----------
    words
        Words separated by spaces, sought in the name, title, question and topic; if none has
        them all, also in the columns and parameters, with their meanings and examples. Case does not matter. All queries if empty.

    Examples
    --------
    >>> [q.name for q in search("text examples")]
    ['examples_of_feature', 'sampled_examples_of_feature', 'examples_with_text']
    """
    wanted = words.lower().split()

    def text(query: Query, *, columns: bool) -> str:
        about = f"{query.name} {query.title} {query.question} {query.topic}"
        if not columns:
            return about.lower()
        named = [f"{one.name} {one.meaning}" for one in query.columns]
        named += [f"{one.name} {one.meaning} {one.example}" for one in query.parameters]
        return f"{about} {' '.join(named)}".lower()

    for columns in (False, True):
        found = [q for q in every() if all(word in text(q, columns=columns) for word in wanted)]
        if found:
            break
    return sorted(found, key=lambda q: (TOPICS.index(q.topic), q.name))


def get(name: str) -> Query:
    """Return the query of this name.

    Raises
    ------
    UnknownQuery
        If no query has this name.
    """
    for query in every():
        if query.name == name:
            return query
    raise UnknownQuery(name, names())
