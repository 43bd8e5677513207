"""Join sound parts into the node and edge tables of the schema.

The kind that owns a table writes its rows; other kinds add columns, joined by
key. Nodes that several SAEs share (their model, the corpus, tokens) occur once.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atlas import schema
from atlas.arrow_arrays import int64_array, repeated_text
from atlas.disk.folder import DESCRIBED, Folder, Sound
from atlas.disk.parts import Part, stored_digests
from atlas.errors import BrokenPart
from atlas.schema import EDGES, TABLES, Edge, Node
from atlas.stores import Graph
from atlas.stores.partition import in_order

if TYPE_CHECKING:
    import pyarrow as pa


__all__ = [
    "assemble",
    "assemble_lazily",
    "assemble_table",
    "fingerprints",
    "graph_fingerprint",
    "rows_of",
    "table_sources",
]


def fingerprints(sound: Sound) -> dict[str, str]:
    """Return, for each SAE, a hash of all its sound parts that fill tables of the graph.

    It changes when the schema gives a stored column a new meaning, so that values of the old
    meaning are removed from a store.
    """
    touching: dict[str, list[str]] = {name: [] for name in sound.saes}
    for key, part in sorted(sound.parts.items()):
        if _fills_graph(part):
            for name in part.manifest.saes:
                touching.setdefault(name, []).append(_content(key, part, TABLES))
    return {
        name: hashlib.sha256("\n".join(keys).encode()).hexdigest()
        for name, keys in touching.items()
    }


def _fills_graph(part: Part) -> bool:
    """Return whether a part has a table of the schema; codes and some studies have none."""
    return any(not name[0].islower() for name in part.manifest.tables)


def _content(key: str, part: Part, tables: Sequence[Node | Edge]) -> str:
    """Return a line that identifies what a part adds to some tables of the graph."""
    outdated = [
        f"{spec.name}.{name}"
        for spec in tables
        if spec.name in part.manifest.tables
        for name in sorted(_outdated(spec, part))
    ]
    return " ".join([key, part.manifest.hash, *outdated])


def _outdated(spec: Node | Edge, part: Part) -> set[str]:
    """Return the columns that a part fills and whose current meaning is newer than the part."""
    filled = schema.arrow_schema(spec.name, part.manifest.kind).names
    return {p.name for p in spec.properties if p.since > part.manifest.version} & set(filled)


def graph_fingerprint(sound: Sound) -> str:
    """Return one hash, 16 hex digits, of everything that a view of the atlas is built from.

    The hash also covers parts that touch no SAE, because they add shared nodes and edges.
    """
    lines = [f"{name} {hash}" for name, hash in sorted(fingerprints(sound).items())]
    lines += [_content(k, p, TABLES) for k, p in sorted(sound.parts.items()) if not p.manifest.saes]
    core = "\n".join(lines)
    tables = "\n".join(str(schema.arrow_schema(t.name)) for t in TABLES)
    return hashlib.sha256(f"{core}\n{tables}".encode()).hexdigest()[:16]


def assemble(folder: Folder, sound: Sound | None = None) -> Graph:
    """Join the sound parts of an atlas into the graph's tables.

    Parameters
    ----------
    folder
        The atlas.
    sound
        Its sound parts, if already read.

    Raises
    ------
    BrokenPart
        If a file of a sound part has changed, two parts disagree about a shared
        node, or an edge ends at a missing node.
    """
    sound = sound or folder.sound()
    tables = {spec.name: assemble_table(spec.name, sound) for spec in TABLES}
    for edge in EDGES:
        _check_ends(edge, tables)
    manifests = [part.manifest for part in sound.parts.values()]
    models = {name: stored_digests(manifests, name) for name in tables["Model"]["name"].to_pylist()}
    return Graph(folder.uuid, folder.name, tables, fingerprints(sound), models)


def assemble_lazily(folder: Folder, sound: Sound) -> Graph:
    """Return the graph of an atlas, each of whose tables is joined when it is first read.

    Parameters
    ----------
    folder
        The atlas.
    sound
        Its sound parts.

    Raises
    ------
    BrokenPart
        When a table is read, as ``assemble`` does.
    """
    tables = _Tables(sound)
    manifests = [part.manifest for part in sound.parts.values()]
    models = {name: stored_digests(manifests, name) for name in tables["Model"]["name"].to_pylist()}
    return Graph(
        folder.uuid, folder.path.name, tables, fingerprints(sound), models, table_sources(sound)
    )


def table_sources(sound: Sound) -> dict[str, str]:
    """Return, for each table, a hash of its columns and of all parts that it is joined from."""
    found = {}
    for spec in TABLES:
        kinds = {spec.owner, *spec.also, *schema.owners(spec)}
        lines = [str(schema.arrow_schema(spec.name))]
        for key, part in sorted(sound.parts.items()):
            named = part.manifest.kind in kinds and spec.name in part.manifest.tables
            describes = spec.name == "Model" and DESCRIBED in part.manifest.tables
            if named or describes:
                lines.append(_content(key, part, [spec]))
        found[spec.name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return found


class _Tables(Mapping[str, "pa.Table"]):
    """All tables of a graph, joined when they are first read."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound
        self._read: dict[str, pa.Table] = {}

    def __getitem__(self, name: str) -> "pa.Table":
        spec = schema.table(name)
        if name not in self._read:
            self._read[name] = assemble_table(name, self._sound)
            if isinstance(spec, Edge):
                _check_ends(spec, self)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return (spec.name for spec in TABLES)

    def __len__(self) -> int:
        return len(TABLES)


def assemble_table(name: str, sound: Sound) -> "pa.Table":
    """Join one table from the sound parts that fill it, without reading other parts."""
    return _table(schema.table(name), sound)


def rows_of(name: str, sae: str | None, data: "pa.Table") -> "pa.Table":
    """Return the rows of a table, sorted by key: all rows, or those of one SAE.

    The rows of an SAE are the nodes whose key begins with its name, and the edges that
    leave them. Tables of shared nodes are returned complete.
    """
    spec = schema.table(name)
    return in_order(spec, data if sae is None else _of_sae(spec, data, sae))


def _of_sae(spec: Node | Edge, data: "pa.Table", sae: str) -> "pa.Table":
    import pyarrow.compute as pc

    source = schema.node(spec.source) if isinstance(spec, Edge) else spec
    if source.shared:
        return data if isinstance(spec, Node) else data.slice(0, 0)
    key = data[spec.keys[0]]  # for an edge: the key of its source
    is_sae = pc.is_in(key, value_set=repeated_text(sae, 1))  # `equal` would import pandas
    return data.filter(pc.or_(is_sae, pc.starts_with(key, f"{sae}/")))


def _table(spec: Node | Edge, sound: Sound) -> "pa.Table":
    import pyarrow as pa

    rows = [t for kind in (spec.owner, *spec.also) for t in _tables_of(sound, spec, kind)]
    # An empty table is not joined, and not made by `empty_table`: both would import pandas.
    if not rows and spec.name != "Model":  # a Model may be described by parts without SAEs
        return pa.Table.from_batches([], schema.arrow_schema(spec.name))
    none = pa.Table.from_batches([], schema.arrow_schema(spec.name, spec.owner))
    base = _unique(spec, pa.concat_tables([none, *rows]))
    if spec.name == "Model":
        base = _with_described(base, sound)
    for kind in sorted(schema.owners(spec) - {spec.owner}):
        base = _joined(spec, base, _tables_of(sound, spec, kind), kind=kind)
    return base.select(schema.arrow_schema(spec.name).names).cast(schema.arrow_schema(spec.name))


def _tables_of(sound: Sound, spec: Node | Edge, kind: str) -> "list[pa.Table]":
    """Return one table from each part of a kind.

    A column is null if the part is older than the column or its current meaning. Parts of which the
    largest is used come first, by their number of SAEs.
    """
    import pyarrow as pa

    tables = []
    parts = sound.of(kind)
    if any(edge.largest_part for edge in EDGES if edge.owner == kind):
        parts.sort(key=lambda part: -len(part.manifest.saes))
    pairs: set[tuple[str, str]] = set()
    for part in parts:
        if spec.name in part.manifest.tables:
            data = part.table(spec.name)
            if isinstance(spec, Edge) and spec.largest_part:
                data = _of_new_pairs(data, part, pairs)
            data = data.drop_columns(sorted(_outdated(spec, part) & set(data.column_names)))
            for field in schema.arrow_schema(spec.name, kind):
                if field.name not in data.column_names:
                    data = data.append_column(field.name, pa.nulls(data.num_rows, field.type))
            tables.append(data.select(schema.arrow_schema(spec.name, kind).names))
    return tables


def _of_new_pairs(data: "pa.Table", part: Part, pairs: set[tuple[str, str]]) -> "pa.Table":
    """Return the edges of pairs of SAEs that no larger part compares, and add these pairs.

    The first SAE of a part is the source of its edges; the others are their targets.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    source, *targets = part.manifest.saes
    new = [target for target in targets if (source, target) not in pairs]
    pairs.update((source, target) for target in new)
    owner = pc.replace_substring_regex(data["target"], r"/[^/]*$", "")
    return data.filter(pc.is_in(owner, value_set=pa.array(new, pa.string())))


def _with_described(models: "pa.Table", sound: Sound) -> "pa.Table":
    """Add the models that no SAE reads, as described by the parts about them.

    If several parts describe the same model, the first description is used.
    """
    import pyarrow as pa

    seen = set(models["name"].to_pylist())
    for _, part in sorted(sound.parts.items()):
        if not part.manifest.saes and DESCRIBED in part.manifest.tables:
            row = part.table(DESCRIBED).select(models.column_names).cast(models.schema)
            if row["name"][0].as_py() not in seen:
                seen.add(row["name"][0].as_py())
                models = pa.concat_tables([models, row])
    return models


def _unique(spec: Node | Edge, data: "pa.Table") -> "pa.Table":
    """Return one row per key, the first; raise BrokenPart if others differ."""
    codes = _key_codes(spec, data)
    _, first, back = np.unique(codes, return_index=True, return_inverse=True)
    if len(first) == data.num_rows:
        return data
    if not data.equals(data.take(int64_array(first[back]))):
        raise BrokenPart(
            f"Two SAEs of this atlas describe a {spec.name} of the same name differently. Ingest one of them "
            "again with `replace=True`, so that both use the same model and tokenizer."
        )
    return data.take(int64_array(np.sort(first)))


def _key_codes(spec: Node | Edge, data: "pa.Table") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return a number for each row, equal for rows of equal keys."""
    codes = np.zeros(data.num_rows, dtype=np.int64)
    for key in spec.keys:
        column = data[key].combine_chunks().dictionary_encode("encode")
        # Unlike `to_numpy`, this does not import pandas.
        codes = codes * (len(column.dictionary) + 1) + np.from_dlpack(column.indices)
    return codes


def _joined(
    spec: Node | Edge, base: "pa.Table", added: "list[pa.Table]", *, kind: str
) -> "pa.Table":
    """Add the columns that a kind fills; rows without a value get nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = schema.arrow_schema(spec.name, kind)
    names = [n for n in wanted.names if n not in spec.keys]
    if added:
        more = pa.concat_tables(added)
        at = pc.index_in(_key(spec, base), value_set=_key(spec, more).combine_chunks())
        columns = [more[n].take(at) for n in names]
    else:
        columns = [pa.nulls(base.num_rows, wanted.field(n).type) for n in names]
    for n, column in zip(names, columns, strict=True):
        base = base.append_column(n, column)
    return base


def _key(spec: Node | Edge, data: "pa.Table") -> "pa.ChunkedArray":
    """Return one text for each row, equal for rows of equal keys; keys have no null character."""
    import pyarrow.compute as pc

    columns = [data[key] for key in spec.keys]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\0")


def _check_ends(edge: Edge, tables: "Mapping[str, pa.Table]") -> None:
    import pyarrow.compute as pc

    for end, label in (("source", edge.source), ("target", edge.target)):
        keys = tables[label][schema.node(label).key].combine_chunks()
        known = pc.is_in(tables[edge.type][end], value_set=keys)
        if not pc.all(known, min_count=0).as_py():
            raise BrokenPart(
                f"An edge {edge.type} ends at a {label} that is in no sound part; run `atlas doctor` to find "
                "the missing part."
            )
