"""Translate the messages of the engines about a wrong query to the words of its author."""

import difflib
import re
from collections.abc import Sequence

from atlas import schema
from atlas.errors import QueryFailed
from atlas.stores.cypher import Token, tokens_of
from atlas.stores.cypher_names import names_in, nearest

__all__ = ["explained"]

_KEYWORDS = [
    "AND",
    "AS",
    "ASC",
    "BY",
    "CALL",
    "CASE",
    "CONTAINS",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "ENDS",
    "EXISTS",
    "IN",
    "IS",
    "LIMIT",
    "MATCH",
    "NOT",
    "NULL",
    "OPTIONAL",
    "OR",
    "ORDER",
    "RETURN",
    "SKIP",
    "STARTS",
    "THEN",
    "UNION",
    "UNWIND",
    "WHEN",
    "WHERE",
    "WITH",
    "XOR",
]
# Types of kuzu in the words of a user.
_TYPES = {
    "STRING": "a text",
    "BOOL": "true or false",
    "NODE": "a node",
    "REL": "an edge",
    "DOUBLE": "a number",
    "LIST": "a list",
}
_POSITION = re.compile(
    r"\(line: (?P<line>\d+), offset: (?P<offset>\d+)\)"  # kuzu: characters before it in the line
    r"|\(line (?P<row>\d+), column (?P<column>\d+) \(offset: \d+\)\)"  # Neo4j: from 1
)
_UNDEFINED = re.compile(r"Variable `?(\w+)`? (?:is not in scope|not defined)")
_PROPERTY = re.compile(r"Cannot find property (\w+) for")
_CAST = re.compile(r'Could not convert "(.*?)" to (\w+)', re.DOTALL)
_FUNCTION = re.compile(r"[Ff]unction (\w+) does not exist")
_ARGUMENTS = re.compile(
    r"Function (\w+) did not receive correct arguments:\s*Actual:\s*\((.*?)\)\n", re.DOTALL
)


def explained(message: str, cypher: str, *, prefix: int = 0) -> str:
    """Return the message for a query that an engine refused.

    A syntax error is shown with its line and a mark at its position.

    Parameters
    ----------
    message
        The complete message of the engine.
    cypher
        The query.
    prefix
        Number of characters that the store put before the query.
    """
    first = (message.splitlines() or ["no reason reported"])[0]
    short = first.split(" expecting {")[0].partition("exception: ")[2] or first
    reason = _POSITION.sub("", short).strip().rstrip(".")
    if found := _UNDEFINED.search(message):
        names = names_in(cypher)
        known = sorted({n for n in names.owners if not n.startswith("#")} | names.renamed)
        if found[1] in names.renamed:
            return (
                f"The query failed: {found[1]} is not defined where it is used; define it by WITH in an "
                "earlier clause."
            )
        defined = f"it defines {', '.join(known)}" if known else "it defines none"
        return f"The query failed: it uses the variable {found[1]}, which it does not define; {defined}."
    if found := _PROPERTY.search(message):
        known = sorted({p.name for table in schema.TABLES for p in table.properties})
        return (
            f"The query failed: nothing has the property {found[1]!r}. {nearest(found[1], known)}"
        )
    if found := _CAST.search(message):
        wanted = "a whole number" if "INT" in found[2] else _TYPES.get(found[2], "a number")
        return (
            f"The query failed: the text {found[1][:60]!r} is used as {wanted}. Compare texts with texts, "
            "or convert the value."
        )
    if found := _FUNCTION.search(message):
        type_ = " The type of an edge r is label(r) here." if found[1] == "TYPE" else ""
        return f"The query failed: there is no function {found[1].lower()}.{type_}"
    if found := _ARGUMENTS.search(message):
        name = "IN" if found[1] == "LIST_CONTAINS" else found[1].lower()
        passed = " and ".join(_type(each) for each in found[2].split(","))
        return f"The query failed: {name} cannot take {passed}."
    if any(fault in message for fault in ("unordered_map", "Assertion", "UNREACHABLE")):
        return "The query failed: the engine cannot run it. Simplify it, such as by one label for each variable."
    if limit := re.search(r"Upper bound of rel\s+exceeds maximum: (\d+)", message):
        return (
            f"The query failed: a path may have at most {limit[1]} edges; lower the bound after *."
        )
    if "same name" in message and "column" in message:
        return "The query failed: two columns of the answer have the same name; rename one with AS."
    if position := _POSITION.search(message):
        is_syntax = "Parser" in message or "Invalid input" in message
        return _marked(cypher, position, reason="" if is_syntax else reason, prefix=prefix)
    return f"The query failed: {reason}."


def _marked(cypher: str, found: "re.Match[str]", *, reason: str, prefix: int) -> str:
    """Return the message for an error at a position: the line of the query with a mark below it."""
    lines = cypher.replace("\r\n", "\n").split("\n")
    row = int(found["line"] or found["row"]) - 1
    at = int(found["offset"]) if found["offset"] else int(found["column"]) - 1
    if row == 0:
        at -= prefix
    row = min(row, len(lines) - 1)
    line = lines[row]
    at = max(0, min(at, len(line)))
    at += len(line[at:]) - len(line[at:].lstrip())
    word = (re.match(r"\w+|\S", line[at:]) or [""])[0]
    what = reason or f"syntax error{f' near {word!r}' if word else ': it ends too early'}"
    hint = "" if reason else _hint(cypher, word)
    start = max(0, at - 50)
    part = line[start : start + 76].rstrip()
    mark = " " * (at - start) + "^"
    return f"The query failed at line {row + 1}, column {at + 1}: {what}.{hint}\n  {part}\n  {mark}"


def _hint(cypher: str, word: str) -> str:
    """Return what may be wrong at a syntax error, as a sentence that begins with a space."""
    try:
        tokens = list(tokens_of(cypher))
    except QueryFailed:
        return ""
    if open_ := _unclosed(tokens):
        return f" The {open_.text} at character {open_.start + 1} is not closed."
    if "==" in cypher.replace(" ", ""):
        return " Write = to compare."
    near = difflib.get_close_matches(word.upper(), _KEYWORDS, n=1, cutoff=0.7)
    if near and near[0] != word.upper():
        return f" Nearest: {near[0]}."
    if all(token.word != "RETURN" for token in tokens):
        return " A query ends with RETURN and its columns."
    return ""


def _unclosed(tokens: Sequence[Token]) -> Token | None:
    """Return the first bracket that is not closed by its partner."""
    closes = {")": "(", "]": "[", "}": "{"}
    stack: list[Token] = []
    for token in tokens:
        if token.text in closes.values():
            stack.append(token)
        elif token.text in closes:
            if not stack or stack[-1].text != closes[token.text]:
                return stack[-1] if stack else None
            stack.pop()
        elif token.word in ("RETURN", "WHERE", "MATCH") and stack and stack[-1].text != "{":
            return stack[-1]
    return stack[-1] if stack else None


def _type(name: str) -> str:
    name = name.strip()
    if name.endswith("[]"):
        return "a list"
    return "a whole number" if "INT" in name else _TYPES.get(name, name.lower() or "nothing")
