"""Tools for the list of SAEs, cards of an SAE and of a feature, the schema, and Cypher."""

from collections.abc import Mapping
from typing import Any

from atlas import schema
from atlas.assistant.answer_size import MAX_ROWS, Budget, fitted_rows, plain
from atlas.assistant.query_tools import Open, rows_schema
from atlas.assistant.tool import MAX_TEXT, Tool, object_schema
from atlas.features.card import FeatureCard, feature_card
from atlas.features.sae_view import SaeView
from atlas.safe_text import passage
from atlas.stores import Limits

__all__ = ["card_tools", "cypher_tool"]

MAX_CYPHER = 10_000
"""Largest number of characters of a query in Cypher."""
_MEMORY = 1 << 30

_LISTED = (
    "name",
    "model",
    "hook",
    "architecture",
    "role",
    "floor_of",
    "d_sae",
    "tokens",
    "l0",
    "fvu",
    "dead_share",
)
_OF_A_NUMBER = ("name", "value", "controls", "share_below")
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_OPEN_OBJECT = {"type": "object"}


def card_tools(open_atlas: Open, *, timeout: float) -> list[Tool]:
    """Return the tools that describe SAEs, features, and the schema of the graph.

    Parameters
    ----------
    open_atlas
        Opens the atlas.
    timeout
        Time limit of the queries of a card, in seconds.
    """
    return [
        _list_saes(open_atlas),
        _show_sae(open_atlas, timeout),
        _show_feature(open_atlas, timeout),
        _schema(),
    ]


def _meanings(table: str) -> dict[str, str]:
    """Return the meaning of each property of a table."""
    return {p.name: p.meaning for p in schema.table(table).properties}


def _list_saes(open_atlas: Open) -> Tool:
    meanings = {name: meaning for name, meaning in _meanings("SAE").items() if name in _LISTED}

    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        with open_atlas() as atlas:
            rows = atlas.table("SAE").select(list(meanings)).sort_by("name").to_pylist()
        return {**fitted_rows(rows), "columns": meanings}

    return Tool(
        name="list_saes",
        title="SAEs of the atlas",
        description="Which SAEs does the atlas have? Call this first. A row whose role is not "
        f"'trained' is a floor: a comparison without training. Columns: {', '.join(meanings)}.",
        input=object_schema({}),
        output=rows_schema(),
        call=call,
    )


def _show_sae(open_atlas: Open, timeout: float) -> Tool:
    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        with open_atlas() as atlas:
            view = SaeView(atlas, arguments["sae"])
            properties = view.properties
            compared = atlas.store.query(
                "MATCH (s:SAE {name: $sae})-[:COMPARED_WITH]-(o:SAE) RETURN o.name AS name "
                "ORDER BY name",
                {"sae": view.name},
                timeout=timeout,
            )["name"].to_pylist()
        meanings = _meanings("SAE")
        budget = Budget()
        return {
            "sae": view.name,
            "properties": plain(properties, budget),
            "meanings": {name: meanings[name] for name in properties},
            "matched_with": plain(compared, budget),
            "note": budget.note,
        }

    return Tool(
        name="show_sae",
        title="Card of an SAE",
        description="What does the atlas store about an SAE: its site, training, and numbers on the "
        "text, each with its meaning, and the SAEs it was matched with. Properties that "
        "are null are missing.",
        input=object_schema(
            {"sae": {**_TEXT, "description": "Name of an SAE; list_saes lists them."}},
            required=["sae"],
        ),
        output=object_schema(
            {
                "sae": {"type": "string"},
                "properties": _OPEN_OBJECT,
                "meanings": {**_OPEN_OBJECT, "description": "meaning of each property"},
                "matched_with": {"type": "array", "items": {"type": "string"}},
                "note": {"type": ["string", "null"]},
            },
            required=["sae", "properties", "meanings", "matched_with", "note"],
        ),
        call=call,
    )


def _show_feature(open_atlas: Open, timeout: float) -> Tool:
    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        with open_atlas() as atlas:
            limit = arguments.get("limit", 5)
            card = feature_card(atlas, arguments["feature"], limit=limit, timeout=timeout)
        return _card(card)

    return Tool(
        name="show_feature",
        title="Card of a feature",
        description="What does the atlas store about a feature: a verdict, numbers with their "
        "controls, passages with the sampled token in [[ ]] (others may be more active), tokens, matches, neighbours, probes, "
        "promoted tokens and effects. Start here to interpret a feature.",
        input=object_schema(
            {
                "feature": {
                    **_TEXT,
                    "description": "A feature, as sae/index.",
                    "examples": ["tiny-a-l1-s0/7"],
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 50,
                    "default": 5,
                    "description": "Largest number of rows of each table, and of top passages.",
                },
            },
            required=["feature"],
        ),
        output=object_schema(
            {
                "feature": {"type": "string"},
                "verdict": {"type": "array", "items": {"type": "string"}},
                "properties": _OPEN_OBJECT,
                "meanings": {**_OPEN_OBJECT, "description": "meaning of each property"},
                "sae": {**_OPEN_OBJECT, "description": "its SAE: model, site, role, numbers"},
                "numbers": {
                    "type": "array",
                    "items": _OPEN_OBJECT,
                    "description": "value of each number; controls: the same number under each "
                    "control; share_below: share of the live features of the SAE with a smaller value",
                },
                "examples": {"type": "array", "items": _OPEN_OBJECT},
                "tables": {
                    "type": "array",
                    "items": _OPEN_OBJECT,
                    "description": "rows of each table; query: the named query that returns all its rows",
                },
                "no_rows": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "tables that are stored for the SAE, without a row of this feature",
                },
                "not_computed": {
                    **_OPEN_OBJECT,
                    "description": "tables that are not stored for the SAE, and the command that "
                    "computes them",
                },
                "neuronpedia": {"type": ["string", "null"]},
                "note": {"type": ["string", "null"]},
            },
            required=[
                "feature",
                "verdict",
                "sae",
                "properties",
                "numbers",
                "examples",
                "tables",
                "no_rows",
                "not_computed",
                "note",
            ],
        ),
        call=call,
    )


def _card(card: FeatureCard) -> dict[str, Any]:
    meanings = _meanings("Feature")
    budget = Budget()
    first = {
        "feature": card.id,
        "verdict": plain(list(card.verdict), budget),
        "sae": plain({name: card.about[name] for name in _LISTED if name in card.about}, budget),
        "properties": plain(card.properties, budget),
        "meanings": {name: meanings[name] for name in card.properties if name in meanings},
        "numbers": [
            plain({name: one.to_dict()[name] for name in _OF_A_NUMBER}, budget)
            for one in card.numbers
        ],
        "no_rows": plain(list(card.none), budget),
        "not_computed": plain(card.empty, budget),
        "neuronpedia": plain(card.neuronpedia, budget),
    }
    passages = [
        {"kind": one.kind, "activation": one.activation, "text": passage(one.tokens, one.peak)}
        for one in card.examples
    ]
    shown = fitted_rows(passages, total=card.example_count, budget=budget)
    notes = _Missing()
    notes.add("Passages", len(passages), shown)
    tables = []
    for table in card.tables:
        fitted = fitted_rows(table.rows, total=table.row_count, budget=budget)
        notes.add(table.title, len(table.rows), fitted)
        tables.append(
            {
                "title": table.title,
                "query": table.query,
                "how_to_read": table.note,
                "rows": fitted["rows"],
                "row_count": table.row_count,
            }
        )
    return {**first, "examples": shown["rows"], "tables": tables, "note": notes.sentence(budget)}


class _Missing:
    """Which rows of a card are missing: above the limit of the call, or of an answer."""

    def __init__(self) -> None:
        self._limited: list[str] = []
        self._notes: list[str] = []

    def add(self, title: str, passed: int, fitted: Mapping[str, Any]) -> None:
        """Add a part of ``passed`` rows, of which ``fitted`` are in the answer."""
        here = len(fitted["rows"])
        if here < passed:
            self._notes.append(f"{title}: {fitted['note']}")
        elif here < fitted["row_count"]:
            self._limited.append(f"{title} ({here} of {fitted['row_count']:,})")

    def sentence(self, budget: Budget) -> str | None:
        """Return the note of the card; None if nothing is missing."""
        notes = [*self._notes, *filter(None, [budget.note])]
        if self._limited:
            notes.insert(
                0,
                f"Only the first rows, because of `limit`: {', '.join(self._limited)}. "
                "The `query` of a table returns more, and examples_of_feature returns more passages.",
            )
        return " ".join(notes) or None


def _schema() -> Tool:
    names = [spec.name for spec in schema.TABLES]

    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        if "table" not in arguments:
            rows = [
                {"table": s.name, "pattern": _pattern(s), "meaning": s.meaning}
                for s in schema.TABLES
            ]
        else:
            spec = schema.table(arguments["table"])
            rows = [
                {"table": spec.name, "property": p.name, "type": p.type, "meaning": p.meaning}
                for p in spec.properties
            ]
        return {**fitted_rows(rows), "columns": {}}

    return Tool(
        name="describe_schema",
        title="Schema of the graph",
        description="Which nodes, edges and properties can Cypher use? Without a table, lists all "
        "tables; with one, its properties and their meanings.",
        input=object_schema({"table": {"type": "string", "enum": names}}),
        output=rows_schema(),
        call=call,
    )


def _pattern(spec: schema.Node | schema.Edge) -> str:
    if isinstance(spec, schema.Node):
        return f"(:{spec.label})"
    return f"(:{spec.source})-[:{spec.type}]->(:{spec.target})"


def cypher_tool(open_atlas: Open, *, timeout: float) -> Tool:
    """Return the tool that runs an assistant's own read-only Cypher.

    Parameters
    ----------
    open_atlas
        Opens the atlas.
    timeout
        Time limit in seconds.
    """

    def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
        limits = Limits(timeout=timeout, memory=_MEMORY, rows=MAX_ROWS)
        with open_atlas() as atlas:
            answer = atlas.query(arguments["cypher"], arguments.get("params", {}), limits=limits)
        return {**fitted_rows(answer.to_pylist()), "columns": {}}

    value = {"type": ["string", "number", "boolean", "null", "array"]}
    return Tool(
        name="run_cypher",
        title="Read-only Cypher",
        description="Runs one read-only Cypher query on the graph of the atlas. Use it only if no other "
        f"tool answers the question; describe_schema lists what there is. At most {MAX_ROWS} "
        f"rows: end with ORDER BY and LIMIT. Time limit: {timeout:g} seconds.",
        input=object_schema(
            {
                "cypher": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_CYPHER,
                    "description": "The query, such as MATCH (f:Feature) WHERE f.dead RETURN f.sae AS sae, "
                    "count(f) AS dead ORDER BY sae",
                },
                "params": {
                    "type": "object",
                    "description": "A value for every $name in the query.",
                    "additionalProperties": value,
                    "maxProperties": 50,
                },
            },
            required=["cypher"],
        ),
        output=rows_schema(),
        call=call,
    )
