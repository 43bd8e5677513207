"""What a reading query may be, and whether its parameters fit: one check for all engines.

The engines refuse writing themselves, but each lets other things through in its
reading mode: kuzu exports and attaches databases and reads any file, Neo4j
terminates transactions and reads any URL; kuzu takes a missing parameter for
null and Neo4j ignores one too many. What is refused here is refused by name,
before an engine sees it.
"""

import math
import numbers
import re
from collections.abc import Mapping

from atlas.errors import QueryFailed
from atlas.stores import Param

__all__ = ["WRITES", "checked"]

WRITES = "The query writes, and an atlas is only read by queries; `atlas ingest` and `atlas rm` change it."
"""What is said to a query that writes."""

# What may hold a `$`, a `;` or a word that is not the query's own: comments, strings, quoted names.
_ASIDE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:``|[^`])*`""", re.DOTALL
)
_READING = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"})
_WRITING = frozenset(
    {"CREATE", "MERGE", "SET", "DELETE", "DETACH", "REMOVE", "DROP", "COPY", "ALTER"}
)
_OUTSIDE = re.compile(
    r"\bLOAD\s+(?:CSV|FROM|WITH)\b"  # reads files of the machine that runs the query
    r"|\bCALL\s+dbms\s*\."  # changes the server
    r"|\bCALL\s+\w+\s*=",  # changes the connection (kuzu)
    re.IGNORECASE,
)
_INT64 = range(-(2**63), 2**63)


def checked(cypher: str, params: Mapping[str, Param]) -> dict[str, Param]:
    """Return the parameters as an engine takes them, once query and parameters are fit to run.

    Parameters
    ----------
    cypher
        The query.
    params
        A value for every ``$name`` in it. NumPy's integers are taken as integers.

    Raises
    ------
    QueryFailed
        If it is empty, holds several statements, does anything but read the
        graph, or if parameters are missing, unknown to it or of another type.
    """
    bare = _bare(cypher)
    _check_reads(bare)
    wanted = set(re.findall(r"\$(\w+)", bare))
    if missing := sorted(wanted - set(params)):
        raise QueryFailed(
            f"The query needs a value for {_list(missing)}; give it with `--param name=value`."
        )
    if extra := sorted(set(params) - wanted):
        takes = f"it takes {_list(sorted(wanted))}" if wanted else "it takes none"
        raise QueryFailed(f"The query has no parameter {_list(extra)}; {takes}.")
    return {name: _value(name, value) for name, value in params.items()}


def _bare(cypher: str) -> str:
    """Return a query without comments and what its strings say; quoted names become plain ones."""
    # Neo4j reads these escapes everywhere, so a word could hide behind them.
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), cypher)

    def aside(found: re.Match[str]) -> str:
        text = found[0]
        if text[0] == "`":
            return re.sub(r"\W", "_", text[1:-1])
        return "''" if text[0] in "'\"" else " "

    return _ASIDE.sub(aside, plain)


def _check_reads(bare: str) -> None:
    statements = [s for s in bare.split(";") if s.strip()]
    if not statements:
        raise QueryFailed(
            "The query is empty; give one, such as `MATCH (s:SAE) RETURN s.name AS sae`."
        )
    if len(statements) > 1:
        raise QueryFailed(f"The text holds {len(statements)} statements; give one query at a time.")
    first = re.match(r"\W*(\w*)", bare)
    word = first[1].upper() if first else ""
    if word in _WRITING:
        raise QueryFailed(WRITES)
    if word not in _READING:
        raise QueryFailed(
            f"The query begins with {word or bare.strip()[:20]!r}; a reading query begins with "
            f"{', '.join(sorted(_READING))}."
        )
    if found := _OUTSIDE.search(bare):
        said = " ".join(found[0].split())
        raise QueryFailed(
            f"The query says `{said}`, which reaches outside the graph; leave it out."
        )


def _value(name: str, value: Param) -> Param:
    if isinstance(value, list):
        return [_single(name, v) for v in value]  # type: ignore[return-value]
    return _single(name, value)


def _single(name: str, value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        if int(value) in _INT64:
            return int(value)
        raise QueryFailed(f"The parameter ${name} is {value}, which is no 64-bit integer.")
    if isinstance(value, numbers.Real) and not math.isnan(float(value)):
        return float(value)
    raise QueryFailed(
        f"The parameter ${name} is {value!r}; a parameter is a text, a number, true, false, null or a "
        "list of texts or numbers."
    )


def _list(names: list[str]) -> str:
    return ", ".join(f"${n}" for n in names)
