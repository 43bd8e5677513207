"""The card of a feature: its numbers with their controls, examples, and related features."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import queries
from atlas.amounts import counted
from atlas.arrow_arrays import int64_array
from atlas.cli.output.drawn_text import drawn_text
from atlas.errors import BadInput, QueryFailed, RequestError, UnknownName
from atlas.features.numbers import FeatureNumber, feature_numbers
from atlas.features.remarks import about_few_tokens, about_flips, about_fvu, stored_flips
from atlas.features.sections import SECTIONS, Score, Section
from atlas.plugins import import_function
from atlas.safe_text import shown

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.features.open_atlas import OpenAtlas

__all__ = ["CardTable", "Example", "FeatureCard", "feature_card"]


# Above the number of rows of any section.
_ALL = 100_000

# Share of a feature's active tokens from which its most frequent token dominates.
_DOMINANT = 0.25

# Active tokens below which a card has a remark: one of them changes a share by more than 5%.
_FEW = 20

# Properties of the node that the heading of a card shows already, or that only plots use.
_HIDDEN = frozenset({"id", "sae", "idx", "neuronpedia", "dead", "map_x", "map_y"})


@dataclass(frozen=True)
class CardTable:
    """One table of a card.

    Parameters
    ----------
    title
        What the rows are.
    rows
        Values by column, with the most important columns first.
    note
        How to read the columns; empty if their names suffice.
    total
        Number of rows that the atlas has, if ``rows`` is only their beginning.
    label
        The title in one or two words.
    scores
        Scores of a row, each with its controls.
    query
        Name of the query that returns all rows; empty if there is none.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""
    total: int | None = None
    label: str = ""
    scores: Sequence[Score] = ()
    query: str = ""

    @property
    def row_count(self) -> int:
        """Number of rows that the atlas has, of which ``rows`` may be the beginning."""
        return len(self.rows) if self.total is None else self.total

    def shown_rows(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows for a screen: without columns that are null in all rows.

        Names of probe runs are cut as long as they stay distinct.

        Examples
        --------
        >>> runs = ("document/active/l2=0.001", "type/active/l2=0.001")
        >>> [row["run"] for row in CardTable("Probes", [{"run": run} for run in runs]).shown_rows()]
        ['document', 'type']
        """
        filled = [name for name in next(iter(self.rows), {}) if self._has(name)]
        rows = [{name: row[name] for name in filled} for row in self.rows]
        names = {row["run"] for row in rows if "run" in row}
        for parts in range(1, max((name.count("/") for name in names), default=0) + 1):
            short = {name: "/".join(name.split("/")[:parts]) for name in names}
            if len(set(short.values())) == len(names):
                return [{**row, "run": short[row["run"]]} for row in rows]
        return rows

    def _has(self, column: str) -> bool:
        return any(row[column] is not None for row in self.rows)


@dataclass(frozen=True)
class Example:
    """A passage in which the feature is active.

    Parameters
    ----------
    kind
        ``"top"``, or ``"fifth 1"`` (lowest) to ``"fifth 5"`` of the activation range.
    tokens
        Texts of the tokens.
    activations
        Activation of the feature on each token.
    peak
        Index of the sampled token, with which the example was selected. Others may be more active.
    """

    kind: str
    tokens: Sequence[str]
    activations: Sequence[float]
    peak: int

    @property
    def activation(self) -> float:
        """The activation on the sampled token."""
        return self.activations[self.peak]


@dataclass(frozen=True)
class FeatureCard:
    """The card of a feature.

    Parameters
    ----------
    id
        The feature, as ``sae/index``.
    verdict
        Sentences computed from the numbers.
    properties
        Properties of the feature that are not null, in the order of the schema.
    histogram
        Rows with ``lower``, ``upper`` and ``count`` of activations in [lower, upper); empty on
        a server, which does not store it.
    examples
        The top examples, then samples from the highest to the lowest fifth of the range.
    tables
        Tables with rows.
    empty
        Titles of the tables that are not stored for its SAE, with the command that computes
        them. On a server: of which no feature of the SAE has a row.
    none
        Titles of the tables that are stored for its SAE, but have no row of this feature.
    about
        Properties of its SAE that are not null.
    numbers
        Its numbers, each with its controls and its rank among the features of the SAE.
    neuronpedia
        Address of its page at Neuronpedia, if any.
    example_count
        Number of examples that the atlas has, if ``examples`` has fewer.
    from_server
        Whether the atlas is on a server.
    origin
        Where its numbers are from, as far as known: ``corpus``, ``corpus_id``, ``model``, ``atlas``
        (its uuid); and, of the SAE's part in a folder, ``version`` of feature-atlas and ``date``.
    """

    id: str
    verdict: Sequence[str]
    properties: Mapping[str, Any]
    histogram: Sequence[Mapping[str, Any]]
    examples: Sequence[Example]
    tables: Sequence[CardTable]
    empty: Mapping[str, str]
    none: Sequence[str]
    about: Mapping[str, Any]
    numbers: Sequence[FeatureNumber]
    neuronpedia: str | None = None
    example_count: int | None = None
    from_server: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin_line(self) -> str:
        """State the text, the model, the atlas, the version and the date in one line.

        Examples
        --------
        >>> from atlas import Atlas
        >>> Atlas("demo.atlas")["tiny-a-l1-s0/7"].origin_line.startswith("Corpus demo (")
        True
        """
        of = self.origin
        parts = [f"{name} {of[name]}" for name in ("corpus", "model", "atlas") if name in of]
        if "corpus" in of:
            parts[0] += f" ({of['corpus_id']})"
        parts += [f"feature-atlas {of['version']}"] if "version" in of else []
        parts += [f"measured {of['date']}"] if "date" in of else []
        line = ", ".join(parts)
        return line[:1].upper() + line[1:]

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values, for JSON."""
        return {
            "feature": self.id,
            "verdict": list(self.verdict),
            "properties": dict(self.properties),
            "sae": dict(self.about),
            "numbers": [one.to_dict() for one in self.numbers],
            "histogram": list(self.histogram),
            "examples": [
                {
                    "kind": one.kind,
                    "activation": one.activation,
                    "tokens": list(one.tokens),
                    "activations": list(one.activations),
                    "peak": one.peak,
                }
                for one in self.examples
            ],
            "example_count": self.example_count,
            "tables": {table.title: list(table.rows) for table in self.tables},
            "row_counts": {table.title: table.row_count for table in self.tables},
            "empty": dict(self.empty),
            "none": list(self.none),
            "neuronpedia": self.neuronpedia,
            "origin": dict(self.origin),
        }

    def to_html(self) -> str:
        """Return the card as one self-contained HTML page without scripts."""
        from atlas.features.page import card_page

        return card_page(self)

    def _repr_html_(self) -> str:
        from atlas.features.page import card_section

        return card_section(self)

    def __str__(self) -> str:
        return drawn_text(lambda: import_function("atlas.features.card_screen:print_card")(self))

    def __repr__(self) -> str:
        return shown(f"<feature {self.id}: {self._in_short()}>")

    def _in_short(self) -> str:
        share, token = self.properties.get("frequency"), self.properties.get("top_token")
        if share is None:
            return "without statistics"
        if not share:
            return "dead"
        most = "" if token is None else f", most often on {token!r}"
        return f"active on {share:.3%} of tokens{most}"


@dataclass(frozen=True)
class _Timed:
    """An open atlas whose queries have a time limit together."""

    atlas: "OpenAtlas"
    timeout: float
    end: float

    @classmethod
    def of(cls, atlas: "OpenAtlas", timeout: float) -> "_Timed":
        _ = atlas.store  # builds the embedded view if it is not current, which has no limit
        return cls(atlas, timeout, time.monotonic() + timeout)

    def ask(self, name: str, **params: Any) -> "pa.Table":
        return self.atlas.ask(name, timeout=self._remaining(), **params)

    def query(self, cypher: str, params: Mapping[str, Any]) -> "pa.Table":
        return self.atlas.store.query(cypher, params, timeout=self._remaining())

    def _remaining(self) -> float:
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise QueryFailed(
                f"The card took longer than its limit of {self.timeout:g} seconds and was stopped; increase the "
                "limit."
            )
        return seconds


def feature_card(
    atlas: "OpenAtlas", id: str, *, limit: int | None = 10, timeout: float = 60
) -> FeatureCard:
    """Return the card of a feature.

    Parameters
    ----------
    atlas
        An open atlas, in a folder or on a server.
    id
        The feature, as ``sae/index``.
    limit
        Largest number of rows of each table, and of top examples; all if None.
    timeout
        Time limit of all its queries together, in seconds.

    Raises
    ------
    UnknownName
        If the atlas has no such SAE or feature.
    QueryFailed
        If the queries take longer than the limit.

    Examples
    --------
    >>> from atlas import Atlas
    >>> feature_card(Atlas("demo.atlas"), "tiny-a-l1-s0/7").id
    'tiny-a-l1-s0/7'
    """
    timed = _Timed.of(atlas, timeout)
    timed.ask("feature_card", feature=id)  # raises for an unknown name
    properties = _properties(timed, id)
    found = {section: _rows(timed, id, section) for section in SECTIONS}
    sae = id.rpartition("/")[0]
    about = next(row for row in atlas.table("SAE").to_pylist() if row["name"] == sae)
    missing = [one for one, rows in found.items() if one.kind and not rows]
    computed = _computed(timed, sae, missing)
    top, sampled = _examples(timed, id)
    return FeatureCard(
        id=id,
        verdict=_verdict(id, properties, {one.title: rows for one, rows in found.items()})
        + _about_few_active(properties["active_tokens"])
        + (about_few_tokens(about["tokens"]) if properties["dead"] else [])
        + about_fvu(sae, about["fvu"])
        + about_flips(sae, stored_flips(atlas.folder, sae))
        + _about_floor(about),
        properties={k: v for k, v in properties.items() if v is not None and k not in _HIDDEN},
        histogram=_histogram(atlas, id),
        examples=top[:limit] + sampled,
        tables=[
            CardTable(
                section.title,
                rows[:limit],
                section.note,
                len(rows),
                section.label,
                section.scores,
                section.query,
            )
            for section, rows in found.items()
            if rows
        ],
        empty={
            one.title: _command(one, sae, atlas.url, alone=atlas.table("SAE").num_rows == 1)
            for one in missing
            if one.command and one not in computed
        },
        none=[one.title for one in missing if one in computed],
        about={name: value for name, value in about.items() if value is not None},
        numbers=feature_numbers(atlas, sae, properties),
        neuronpedia=properties.get("neuronpedia"),
        example_count=len(top) + len(sampled),
        from_server=atlas.folder is None,
        origin=_origin(timed, about),
    )


def _origin(timed: _Timed, sae: Mapping[str, Any]) -> dict[str, str]:
    """Return the text, model, atlas, version and date behind the numbers of an SAE."""
    found = {name: str(sae[name]) for name in ("model", "atlas") if sae.get(name)}
    corpora = timed.query(
        "MATCH (:SAE {name: $sae})-[:MEASURED_ON]->(c:Corpus) RETURN c.name AS name, c.id AS id ORDER BY id",
        {"sae": sae["name"]},
    ).to_pylist()
    if corpora:
        found |= {"corpus": str(corpora[0]["name"]), "corpus_id": str(corpora[0]["id"])}
    folder = timed.atlas.folder
    part = None if folder is None else folder.sound().parts.get(f"sae/{sae['name']}")
    if part is not None:
        version, created = part.manifest.versions.get("feature-atlas"), part.manifest.created
        found |= {"version": str(version)} if version else {}
        found |= {"date": created[:10]} if created else {}
    return found


def _command(section: Section, sae: str, url: str, *, alone: bool) -> str:
    """Return the command that computes a section, for an atlas with one SAE alone or with more."""
    from atlas.cli.selected_atlas import option_of

    selected = option_of(url)
    command = section.command.format(sae=sae) + selected
    if alone and "OTHER_SAE" in command:
        return f"needs a second SAE: atlas ingest --sae OTHER_SAE{selected}, then {command}"
    return command


def _properties(atlas: _Timed, id: str) -> dict[str, Any]:
    from atlas import schema

    names = [p.name for p in schema.table("Feature").properties]
    returned = ", ".join(f"f.{name} AS {name}" for name in names)
    found = atlas.query(f"MATCH (f:Feature {{id: $id}}) RETURN {returned}", {"id": id})
    row: dict[str, Any] = found.to_pylist()[0]
    return row


def _rows(atlas: _Timed, id: str, section: Section) -> list[dict[str, Any]]:
    """Return all rows of a section, so that the verdict does not depend on how many are shown."""
    limited = any(p.name == "limit" for p in queries.get(section.query).parameters)
    try:
        found = atlas.ask(
            section.query, feature=id, **({"limit": _ALL} if limited else {})
        ).to_pylist()
    except BadInput:  # the SAE was never matched
        return []
    if section.largest:
        found.sort(key=lambda row: row[section.largest], reverse=True)  # stable
    return [{column: row[column] for column in section.columns} for row in found]


def _about_floor(sae: Mapping[str, Any]) -> list[str]:
    if sae["role"] in (None, "trained"):
        return []
    of = f" of {sae['floor_of']}" if sae["floor_of"] else ""
    return [f"{sae['name']} is a floor{of} ({sae['role']}): it was not trained completely."]


def _computed(timed: _Timed, sae: str, sections: Sequence[Section]) -> list[Section]:
    """Return those sections whose study ran for the features of an SAE.

    A server does not list parts: there, a study ran if any feature of the SAE has a row of it.
    """
    folder = timed.atlas.folder
    if folder is not None:
        parts = [part.manifest for part in folder.sound().parts.values()]
        return [
            one
            for one in sections
            if any(one.is_stored(sae, part.kind, part.saes) for part in parts)
        ]
    return [
        one
        for one in sections
        if timed.query(
            f"MATCH (s:SAE {{name: $sae}}) MATCH {one.in_graph} RETURN s.name AS name LIMIT 1",
            {"sae": sae},
        ).num_rows
    ]


def _histogram(atlas: "OpenAtlas", id: str) -> list[dict[str, Any]]:
    import numpy as np

    sae, _, idx = id.partition("/")
    try:
        found = atlas.table("histogram", sae=sae)
    except (RequestError, UnknownName):  # a server, or an SAE without statistics
        return []
    of_feature = np.flatnonzero(np.from_dlpack(found["idx"].combine_chunks()) == int(idx))
    rows = found.take(int64_array(of_feature)).sort_by("lower").to_pylist()
    return [{name: row[name] for name in ("lower", "upper", "count")} for row in rows]


def _examples(atlas: _Timed, id: str) -> tuple[list[Example], list[Example]]:
    """Return the top examples, and samples from the highest to the lowest fifth of the range."""
    top = atlas.ask("examples_of_feature", feature=id, limit=_ALL).to_pylist()
    sampled = atlas.ask("sampled_examples_of_feature", feature=id, limit=_ALL).to_pylist()
    sampled.sort(key=lambda row: (row["kind"], row["activation"]), reverse=True)
    return (
        [Example("top", row["tokens"], row["activations"], row["peak"]) for row in top],
        [Example(row["kind"], row["tokens"], row["activations"], row["peak"]) for row in sampled],
    )


def _verdict(
    id: str, properties: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    if properties["dead"]:
        return [f"{id} is dead: it is active on none of the tokens counted."]
    sentences = []
    if properties["frequency"] is not None:
        sentences.append(
            f"{id} is active on {properties['frequency']:.3%} of tokens "
            f"({properties['active_tokens']:,})."
        )
    if tokens := tables.get("Tokens"):
        first = tokens[0]
        sentences.append(_about_token(first))
    if matches := tables.get("Matches in other SAEs"):
        best = max(matches, key=lambda row: row["pearson"])
        sentences += [_about_match(best), *_about_counterpart(best, matches)]
    return sentences


def _about_token(token: Mapping[str, Any]) -> str:
    """State whether one token dominates, so that a rare one is not read as the meaning."""
    rate = f"active on {_percent(token['rate'])} of the occurrences of that token"
    share = (
        f"{token['token']!r}, with {_percent(token['share'])} of its active tokens "
        f"({_percent(token['expected_share'])} of all tokens)"
    )
    if token["share"] >= _DOMINANT:
        return f"Its most frequent token is {share}; the feature is {rate}."
    return (
        f"No token dominates: the most frequent is {share}, and the feature is {rate}. Its examples "
        "show what it is active on."
    )


def _percent(share: float) -> str:
    """Return a share in percent, with two digits if it is below 10%, so that none becomes 0%."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _about_few_active(number: int | None) -> list[str]:
    """Return a remark on a feature that is active on so few tokens that its numbers are uncertain."""
    if not number or number >= _FEW:
        return []
    return [
        f"{counted(number, 'active token')}: too few to rely on its numbers, tokens and matches."
    ]


def _about_match(match: Mapping[str, Any]) -> str:
    sentence = f"Its best match is {match['match']} (Pearson {match['pearson']:.2f})"
    if match["q"] is None:
        return f"{sentence}, not tested against a null."
    if match["q"] > 0.05:
        return f"{sentence}, no better than under the null of shifted documents."
    token = [match[name] for name in ("token_q", "token_document_q") if match[name] is not None]
    if len(token) < 2:
        return f"{sentence}, better than under the null of shifted documents."
    by_token = match["token_document_null_pearson"]
    size = (
        ""
        if by_token is None
        else f" (mean best of either feature under the null within documents: {by_token:.2f})"
    )
    if max(token) > 0.05:
        return f"{sentence}, not significantly more than shared tokens alone could give{size}."
    return f"{sentence}, significantly more than shared tokens alone give{size}."


def _about_counterpart(
    best: Mapping[str, Any], matches: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """State the one-to-one counterpart in the SAE of the best match, if it is another feature."""
    if best["one_to_one"]:
        return
    sae, _, _ = best["match"].rpartition("/")
    for row in matches:
        if row["one_to_one"] and row["match"].rpartition("/")[0] == sae:
            null = row["token_document_null_pearson"]
            control = "" if null is None else f"; under the null within documents, {null:.2f}"
            yield (
                f"Its one-to-one counterpart in {sae} is {row['match']} "
                f"(Pearson {row['pearson']:.2f}{control})."
            )
            return
    yield f"It has no one-to-one counterpart in {sae}."
