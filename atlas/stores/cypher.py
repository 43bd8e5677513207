"""Check Cypher queries before an engine runs them; both engines use the same check.

In read-only mode the engines refuse to write, but each allows other side effects:
kuzu exports databases, loads extensions and reads any file; Neo4j lists its
configuration and fetches any URL. The check therefore uses lists of allowed clauses,
procedures and functions.

A query could bypass the check if an engine split it into tokens differently. The check
therefore accepts only text that both engines split in the same way. It refuses Unicode
escapes, which only Neo4j decodes before it splits the text. It also refuses line ends
other than ``\\n`` and ``\\r\\n``, a ``*`` inside a comment, and characters outside ASCII
that are not in a string, comment or quoted name.

Each store adds a second check: kuzu prepares the query, which allows only one statement,
and Neo4j explains it, which lists its operators.
"""

import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from atlas.errors import QueryFailed
from atlas.stores import Param

__all__ = ["PROCEDURES", "WRITES", "Token", "checked", "tokens_of"]

WRITES = "The query writes, but queries are read-only; use `atlas ingest` or `atlas rm` to change an atlas."
"""The message for a query that writes."""

MAX_DEPTH = 60
"""Limit of nested brackets and CASEs, and of signs in a row; thousands of them crash an engine."""
MAX_TOKENS = 5_000
"""Limit of words, signs and values, because engines also recurse over long chains of operators."""
MAX_BRACES = 10
"""Limit of nested subqueries; planning time in Neo4j, which has no limit, doubles with each level."""
MAX_XOR = 10
"""Limit of XORs; Neo4j expands them to ANDs and ORs, whose number doubles with each XOR."""

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\n]+)
    | (?P<comment>//[^\n]*|/\*[^*]*\*/)
    | (?P<string>'(?:\\[\\'"bfnrt]|[^'\\])*'|"(?:\\[\\'"bfnrt]|[^"\\])*")
    | (?P<quoted>`(?:``|[^`])*`)
    | (?P<parameter>\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+)(?!\w))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w$])
    | (?P<sign>(?!/\*)[-+*/%^=<>!.,:;|(){}\[\]&])
    """,
    re.VERBOSE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READING = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"})
_WRITING = frozenset(
    {
        "CREATE",
        "MERGE",
        "SET",
        "DELETE",
        "DETACH",
        "REMOVE",
        "DROP",
        "COPY",
        "ALTER",
        "FOREACH",
        "INSERT",
    }
)
# Words that begin a command or change the effect of a clause; reading the graph needs none.
_OUTSIDE = _words(
    "ADD ATTACH BEGIN CHECKPOINT COMMENT COMMIT CONCURRENT DENY DETACH EXPORT EXTENSION GRANT IMPORT INSTALL "
    "LOAD MACRO PERIODIC RENAME REVOKE ROLLBACK SHOW TERMINATE TRANSACTION TRANSACTIONS UNINSTALL UPDATE USE"
)
# Keywords that may precede a parenthesis; any other word before one is a function.
_BEFORE_PARENTHESIS = _words(
    "ACYCLIC AND AS ASC BY CALL CASE CONTAINS DESC DISTINCT ELSE IN IS LIMIT MATCH NOT ON OR PATH PATHS RETURN "
    "SHORTEST SKIP THEN TRAIL UNION UNWIND WHEN WHERE WITH XOR YIELD"
)
PROCEDURES = _words(
    "show_tables table_info show_connection db_version "
    "db.labels db.relationshiptypes db.propertykeys db.schema.nodetypeproperties db.schema.reltypeproperties "
    "db.schema.visualization db.index.fulltext.querynodes db.index.fulltext.queryrelationships "
    "db.index.vector.querynodes db.index.vector.queryrelationships"
)
"""Procedures that a query may call, in lower case; they only read the graph or its schema."""
_FUNCTIONS = _words(
    # functions of either engine
    "abs acos all allshortestpaths any asin atan atan2 avg btrim cast cbrt ceil ceiling char_length "
    "character_length coalesce collect concat concat_ws constant_or_null cos cosh cot coth count count_if "
    "cost degrees e elementid element_at end_node endnode ends_with epoch_ms even exists exp factorial floor "
    "gamma greatest hash haversin head id ifnull initcap isempty isnan is_acyclic is_trail keys label labels "
    "last lcase least left length levenshtein lgamma ln log log10 log2 lower lpad ltrim map map_extract "
    "map_keys map_values max md5 min negate nodes none normalize nullif offset percentilecont percentiledisc "
    "pi point pow prefix properties radians rand range reduce regexp_extract regexp_extract_all "
    "regexp_full_match regexp_matches regexp_replace regexp_split_to_array relationships rels repeat replace "
    "reverse right round rpad rtrim sha256 shortestpath sign sin single sinh size split split_part sqrt "
    "start_node starts_with startnode stdev stdevp string_split string_to_array str_split struct_extract "
    "struct_pack substr substring suffix sum tail tan tanh toboolean tobooleanlist tobooleanornull tofloat "
    "tofloatlist tofloatornull tointeger tointegerlist tointegerornull tolower tostring tostringlist "
    "tostringornull toupper trim type typeof ucase upper valuetype "
    "list_any_value list_append list_cat list_concat list_contains list_creation list_distinct list_element "
    "list_extract list_filter list_has list_has_all list_indexof list_position list_prepend list_product "
    "list_reduce list_reverse list_reverse_sort list_slice list_sort list_sum list_to_string list_transform "
    "list_unique array_append array_cat array_concat array_contains array_cosine_similarity "
    "array_cross_product array_distance array_dot_product array_extract array_has array_indexof "
    "array_inner_product array_position array_prepend array_slice array_squared_distance array_value "
    "to_bool to_double to_float to_int8 to_int16 to_int32 to_int64 to_string string "
    "date datetime duration interval localdatetime localtime time timestamp current_date current_timestamp "
    "date_part date_trunc datepart datetrunc dayname monthname century last_day make_date to_date to_timestamp "
    "date.truncate datetime.truncate duration.between duration.indays duration.inmonths duration.inseconds "
    "point.distance point.withinbbox vector.similarity.cosine vector.similarity.euclidean"
)
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Token:
    """One word, sign, value or quoted name of a query.

    Parameters
    ----------
    kind
        ``string``, ``quoted``, ``parameter``, ``word``, ``number`` or ``sign``.
    text
        Its text.
    start
        Position of its first character in the query, whose line ends are ``\\n``.
    """

    kind: str
    text: str
    start: int = 0

    @property
    def name(self) -> str | None:
        """The name that it writes, without backticks; None if it is no name."""
        if self.kind == "quoted":
            return self.text[1:-1].replace("``", "`")
        return self.text if self.kind == "word" else None

    @property
    def word(self) -> str:
        """The word in capitals; empty for other tokens."""
        return self.text.upper() if self.kind == "word" else ""


def checked(cypher: str, params: Mapping[str, Param]) -> dict[str, Param]:
    """Check a query and its parameters, and return the parameters for an engine.

    Parameters
    ----------
    cypher
        The query.
    params
        A value for every ``$name`` in the query. NumPy integers are converted.

    Raises
    ------
    QueryFailed
        If the query is empty, has several statements, does not only read the graph, or is
        nested too deeply; or if parameters are missing, unknown or of another type.
    """
    tokens = _statement(list(tokens_of(cypher)))
    _check_size(tokens)
    _check_clauses(tokens)
    _check_calls(tokens)
    wanted = {t.text[1:] for t in tokens if t.kind == "parameter"}
    if missing := sorted(wanted - set(params)):
        raise QueryFailed(f"The query needs a value for {_list(missing)}; set it with `params`.")
    if extra := sorted(set(params) - wanted):
        expected = f"its parameters are {_list(sorted(wanted))}" if wanted else "it has none"
        raise QueryFailed(f"The query has no parameter {_list(extra)}; {expected}.")
    return {name: _value(name, value) for name, value in params.items()}


def tokens_of(cypher: str) -> Iterator[Token]:
    """Split a query into tokens, without spaces and comments.

    Raises
    ------
    QueryFailed
        If the engines might split it differently.
    """
    text = cypher.replace("\r\n", "\n")
    if re.search(r"\\[uU]", text):
        raise QueryFailed(
            "The query contains a Unicode escape (\\u), which engines read differently; write the character "
            "itself, or pass the text as a parameter."
        )
    if odd := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise QueryFailed(
            f"The query contains the control character U+{ord(odd[0]):04X}, which engines read differently; "
            "remove it, or pass the text as a parameter."
        )
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryFailed(_unreadable(text, at))
        at = found.end()
        if found.lastgroup not in ("space", "comment"):
            yield Token(str(found.lastgroup), found[0], found.start())


def _unreadable(text: str, at: int) -> str:
    """Return the message for text that is not a token."""
    rest, character = text[at : at + 2], text[at]
    if rest == "/*":
        return "A comment of the query has no end or contains another `*`; begin comment lines with // instead."
    if character in "'\"`":
        return (
            f"The text that begins with {text[at : at + 20]!r} is not closed, or contains a backslash that is "
            "not one of \\\\ \\' \\\" \\b \\f \\n \\r \\t; close it, or pass it as a parameter."
        )
    if character.isdigit() or character == "$":
        return (
            f"The query contains {text[at : at + 20]!r}, which engines split differently; put a space after "
            "the number, or use a parameter name of letters, digits and _ that begins with a letter."
        )
    return (
        f"The query failed: {character!r} (U+{ord(character):04X}) is not part of Cypher; outside strings "
        "and `quoted names`, use plain ASCII."
    )


def _statement(tokens: Sequence[Token]) -> list[Token]:
    """Return the only statement of the text."""
    statements: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == ";":
            statements.append([])
        else:
            statements[-1].append(token)
    full = [s for s in statements if s]
    if not full:
        raise QueryFailed(
            "The query is empty; write one, such as `MATCH (s:SAE) RETURN s.name AS sae`."
        )
    if len(full) > 1:
        raise QueryFailed(f"The text has {len(full)} statements; run one query at a time.")
    return full[0]


def _check_size(tokens: Sequence[Token]) -> None:
    """Refuse queries whose nesting or length may crash an engine."""
    depth = row = deepest = braces = 0
    for token in tokens:
        if token.text in ("(", "[", "{") or token.word == "CASE":
            depth += 1
        elif token.text in (")", "]", "}") or token.word == "END":
            depth -= 1
        row = row + 1 if token.text in ("-", "+", "!") or token.word == "NOT" else 0
        deepest = max(deepest, depth, row)
        braces += (token.text == "{") - (token.text == "}")
        if braces > MAX_BRACES:
            raise QueryFailed(
                f"The query nests more than {MAX_BRACES} subqueries or maps, the limit; reduce the nesting."
            )
    if deepest > MAX_DEPTH:
        raise QueryFailed(
            f"The query is nested {deepest} levels deep; at most {MAX_DEPTH} are allowed. Reduce the nesting."
        )
    if (xors := sum(t.word == "XOR" for t in tokens)) > MAX_XOR:
        raise QueryFailed(
            f"The query has {xors} XOR; at most {MAX_XOR} are allowed. Compare with = or <> instead."
        )
    if len(tokens) > MAX_TOKENS:
        raise QueryFailed(
            f"The query has {len(tokens):,} words and signs; at most {MAX_TOKENS:,} are allowed. Pass long "
            "lists as parameters."
        )


def _check_clauses(tokens: Sequence[Token]) -> None:
    """Refuse a statement with any clause that does more than read the graph."""
    first = tokens[0]
    if first.word in _WRITING:
        raise QueryFailed(WRITES)
    if first.word not in _READING:
        raise QueryFailed(
            f"The query begins with {first.text[:20]!r}; expected one of {', '.join(sorted(_READING))}."
        )
    for before, token in pairwise(tokens):
        if before.text in (".", ":"):  # a property, a label, or an edge type
            continue
        if token.word in _WRITING:
            raise QueryFailed(WRITES)
        if token.word in _OUTSIDE:
            raise QueryFailed(
                f"The query contains the word {token.text}, which has effects outside the graph; remove it, or "
                f"put it in backticks (`{token.text}`) if it is a name."
            )


def _check_calls(tokens: Sequence[Token]) -> None:
    """Refuse procedures and functions that are not allowed."""
    for at, token in enumerate(tokens):
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        before = tokens[at - 1].text if at else ""
        if token.word == "CALL" and before not in (".", ":"):
            if after not in ("{", "("):
                _check_procedure(tokens[at + 1 :])
        elif after == "(" and token.kind in ("word", "quoted"):
            _check_function(tokens, at)


def _check_procedure(tokens: Sequence[Token]) -> None:
    name, at = "", 0
    while at < len(tokens) and tokens[at].kind in ("word", "quoted"):
        name += tokens[at].text
        if at + 1 == len(tokens) or tokens[at + 1].text != ".":
            break
        name, at = name + ".", at + 2
    if name.lower() not in PROCEDURES:
        raise QueryFailed(
            f"The query calls {name or 'a procedure without a name'}; queries may call only "
            f"{', '.join(sorted(PROCEDURES))}."
        )


def _check_function(tokens: Sequence[Token], at: int) -> None:
    parts = [tokens[at].text]
    while at > 1 and tokens[at - 1].text == "." and tokens[at - 2].kind in ("word", "quoted"):
        at -= 2
        parts.insert(0, tokens[at].text)
    if len(parts) == 1 and (tokens[at].word in _BEFORE_PARENTHESIS):
        return
    if at and tokens[at - 1].word == "CALL":  # a procedure, checked as one
        return
    name = ".".join(parts)
    if name.lower() not in _FUNCTIONS:
        raise QueryFailed(
            f"The query uses the function {name}, which is not allowed; use the engine's built-in functions "
            "that compute a value from values."
        )


def _value(name: str, value: Param) -> Param:
    if isinstance(value, list):
        values = [_single(name, v) for v in value]
        kinds = {_kind(v) for v in values if v is not None}
        if len(kinds) > 1:
            raise QueryFailed(
                f"The parameter ${name} is a list of {' and '.join(sorted(kinds))}; pass a list of one type."
            )
        return values  # type: ignore[return-value]
    return _single(name, value)


def _single(name: str, value: object) -> str | int | float | bool | None:
    if isinstance(value, str) and not _is_unicode(value):
        raise QueryFailed(
            f"The parameter ${name} is {value[:40]!r}, which is not valid Unicode; pass it in UTF-8."
        )
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        if int(value) in _INT64:
            return int(value)
        raise QueryFailed(f"The parameter ${name} is {value}; expected a 64-bit integer.")
    if isinstance(value, numbers.Real) and not math.isnan(float(value)):
        return float(value)
    raise QueryFailed(
        f"The parameter ${name} is {value!r}; expected a text, a number, true, false, null, or a list of "
        "texts or numbers."
    )


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded in UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true and false"
    return "texts" if isinstance(value, str) else "numbers"


def _list(names: list[str]) -> str:
    return ", ".join(f"${n}" for n in names)
