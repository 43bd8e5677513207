"""Which Cypher a store runs: one guard for both engines, applied before an engine sees the text.

The engines refuse to write in their reading mode, but each lets other things
through: kuzu exports databases, loads extensions and reads any file; Neo4j lists
its configuration and fetches any URL. The guard therefore works with lists of what
is allowed: clauses, procedures and functions.

Two programs that split a text into words differently can be played off against
each other, so the guard accepts only text that both engines read alike. It refuses
what they read differently: Unicode escapes (Neo4j decodes them before it splits
the text, kuzu does not), line ends other than ``\\n`` and ``\\r\\n``, a ``*`` inside a
comment, characters outside ASCII that are in no string, comment or quoted name.
Each store has a second gate of its own: kuzu prepares the query, which admits one
statement, and Neo4j explains it, which names its operators.
"""

import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from atlas.errors import QueryFailed
from atlas.stores import Param

__all__ = ["PROCEDURES", "WRITES", "checked"]

WRITES = "The query writes, and an atlas is only read by queries; `atlas ingest` and `atlas rm` change it."
"""The message for a query that writes."""

MAX_DEPTH = 60
"""Nested brackets and CASEs, and signs in a row: some thousands of them end an engine's process."""
MAX_TOKENS = 5_000
"""Words, signs and values of a query: engines recurse over long chains of operators as well."""
MAX_BRACES = 10
"""Nested subqueries: Neo4j plans each twice as long as the one around it, and no time limit ends that."""
MAX_XOR = 10
"""XORs of a query: Neo4j writes them out as ANDs and ORs, which doubles with each."""

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
    {"CREATE", "MERGE", "SET", "DELETE", "DETACH", "REMOVE", "DROP", "COPY", "ALTER", "FOREACH", "INSERT"}
)  # fmt: skip
# Words that begin a command or change what a clause may do; none is needed to read the graph.
_OUTSIDE = _words(
    "ADD ATTACH BEGIN CHECKPOINT COMMENT COMMIT CONCURRENT DENY DETACH EXPORT EXTENSION GRANT IMPORT INSTALL "
    "LOAD MACRO PERIODIC RENAME REVOKE ROLLBACK SHOW TERMINATE TRANSACTION TRANSACTIONS UNINSTALL UPDATE USE"
)
# Words of the language that may stand before a parenthesis; any other word there is a function.
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
"""Procedures that a query may call, in lower case: they read the graph or its schema."""
_FUNCTIONS = _words(
    # of both engines, or of one of them
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
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        """The word in capitals; empty for anything else."""
        return self.text.upper() if self.kind == "word" else ""


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
        graph, is nested too deeply, or if parameters are missing, unknown to it
        or of another type.
    """
    tokens = _statement(list(_tokens(cypher)))
    _check_size(tokens)
    _check_clauses(tokens)
    _check_calls(tokens)
    wanted = {t.text[1:] for t in tokens if t.kind == "parameter"}
    if missing := sorted(wanted - set(params)):
        raise QueryFailed(
            f"The query needs a value for {_list(missing)}; give it with `--param name=value`."
        )
    if extra := sorted(set(params) - wanted):
        takes = f"it takes {_list(sorted(wanted))}" if wanted else "it takes none"
        raise QueryFailed(f"The query has no parameter {_list(extra)}; {takes}.")
    return {name: _value(name, value) for name, value in params.items()}


def _tokens(cypher: str) -> Iterator[_Token]:
    """Split a query into what counts: no spaces and no comments.

    Raises
    ------
    QueryFailed
        If the engines might split it in another way.
    """
    text = cypher.replace("\r\n", "\n")
    if re.search(r"\\[uU]", text):
        raise QueryFailed(
            "The query holds a Unicode escape (\\u), which engines read differently; write the character "
            "itself, or pass the text as a parameter."
        )
    if odd := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise QueryFailed(
            f"The query holds the control character U+{ord(odd[0]):04X}, which may end a line in one engine "
            "and not in another; remove it, or pass the text as a parameter."
        )
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryFailed(_unreadable(text, at))
        at = found.end()
        if found.lastgroup not in ("space", "comment"):
            yield _Token(str(found.lastgroup), found[0])


def _unreadable(text: str, at: int) -> str:
    """Describe the text that is no token."""
    rest, character = text[at : at + 2], text[at]
    if rest == "/*":
        return "A comment of the query has no end or holds another `*`; write it with // on lines of its own."
    if character in "'\"`":
        return (
            f"The text that begins with {text[at : at + 20]!r} is not closed, or holds a backslash that is "
            "not one of \\\\ \\' \\\" \\b \\f \\n \\r \\t; close it, or pass it as a parameter."
        )
    if character.isdigit() or character == "$":
        return (
            f"The query holds {text[at : at + 20]!r}, which engines split differently; put a space after the "
            "number, or name the parameter with letters, digits and _, a letter first."
        )
    return (
        f"The query failed: {character!r} (U+{ord(character):04X}) is no sign of the language; outside of "
        "strings and `quoted names` a query is plain ASCII."
    )


def _statement(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the one statement that the text holds."""
    statements: list[list[_Token]] = [[]]
    for token in tokens:
        if token.text == ";":
            statements.append([])
        else:
            statements[-1].append(token)
    full = [s for s in statements if s]
    if not full:
        raise QueryFailed(
            "The query is empty; give one, such as `MATCH (s:SAE) RETURN s.name AS sae`."
        )
    if len(full) > 1:
        raise QueryFailed(f"The text holds {len(full)} statements; give one query at a time.")
    return full[0]


def _check_size(tokens: Sequence[_Token]) -> None:
    """Refuse what is nested so deeply, or is so long, that an engine may not survive it."""
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
                f"The query nests more than {MAX_BRACES} subqueries or maps, and {MAX_BRACES} are allowed; "
                "write it flatter."
            )
    if deepest > MAX_DEPTH:
        raise QueryFailed(
            f"The query is nested {deepest} levels deep, and {MAX_DEPTH} are allowed; write it flatter."
        )
    if (xors := sum(t.word == "XOR" for t in tokens)) > MAX_XOR:
        raise QueryFailed(
            f"The query has {xors} XOR, and {MAX_XOR} are allowed; compare with = or <> instead."
        )
    if len(tokens) > MAX_TOKENS:
        raise QueryFailed(
            f"The query has {len(tokens):,} words and signs, and {MAX_TOKENS:,} are allowed; pass long lists "
            "as parameters."
        )


def _check_clauses(tokens: Sequence[_Token]) -> None:
    """Refuse a statement with any clause that does more than read the graph."""
    first = tokens[0]
    if first.word in _WRITING:
        raise QueryFailed(WRITES)
    if first.word not in _READING:
        raise QueryFailed(
            f"The query begins with {first.text[:20]!r}; a reading query begins with "
            f"{', '.join(sorted(_READING))}."
        )
    for before, token in pairwise(tokens):
        if before.text in (".", ":"):  # a property, a label, or an edge type
            continue
        if token.word in _WRITING:
            raise QueryFailed(WRITES)
        if token.word in _OUTSIDE:
            raise QueryFailed(
                f"The query holds the word {token.text}, which reaches outside the graph; remove it, or put it "
                f"in backticks (`{token.text}`) if it is a name."
            )


def _check_calls(tokens: Sequence[_Token]) -> None:
    """Refuse procedures and functions that are not in the lists."""
    for at, token in enumerate(tokens):
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        before = tokens[at - 1].text if at else ""
        if token.word == "CALL" and before not in (".", ":"):
            if after not in ("{", "("):
                _check_procedure(tokens[at + 1 :])
        elif after == "(" and token.kind in ("word", "quoted"):
            _check_function(tokens, at)


def _check_procedure(tokens: Sequence[_Token]) -> None:
    name, at = "", 0
    while at < len(tokens) and tokens[at].kind in ("word", "quoted"):
        name += tokens[at].text
        if at + 1 == len(tokens) or tokens[at + 1].text != ".":
            break
        name, at = name + ".", at + 2
    if name.lower() not in PROCEDURES:
        raise QueryFailed(
            f"The query calls {name or 'something without a name'}, and queries may call only "
            f"{', '.join(sorted(PROCEDURES))}."
        )


def _check_function(tokens: Sequence[_Token], at: int) -> None:
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
            f"The query uses the function {name}, which is none of those that queries may use; they are the "
            "engines' own functions that compute a value from values."
        )


def _value(name: str, value: Param) -> Param:
    if isinstance(value, list):
        values = [_single(name, v) for v in value]
        kinds = {_kind(v) for v in values if v is not None}
        if len(kinds) > 1:
            raise QueryFailed(
                f"The parameter ${name} is a list of {' and '.join(sorted(kinds))}; give a list of one type."
            )
        return values  # type: ignore[return-value]
    return _single(name, value)


def _single(name: str, value: object) -> str | int | float | bool | None:
    if isinstance(value, str) and not _is_unicode(value):
        raise QueryFailed(
            f"The parameter ${name} is {value[:40]!r}, which is no Unicode text; give it in UTF-8."
        )
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


def _is_unicode(text: str) -> bool:
    """Return whether a text has a form in UTF-8: half of a surrogate pair has none."""
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
