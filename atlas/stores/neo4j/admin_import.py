"""Convert a graph to files for ``neo4j-admin database import``, equivalent to a push.

The importer reads Parquet files whose columns are named ``name:type``. The files include
the bookkeeping of a push (see ``staged_swap`` and ``shared_nodes``), so that the store can
read an imported database, and a push of the same atlas changes nothing. Constraints and
indexes cannot be imported; the first push creates them.
"""

import shlex
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlas import schema
from atlas.schema import Edge, Node, Type
from atlas.stores import Graph
from atlas.stores.neo4j.shared_nodes import parameters
from atlas.stores.partition import is_shared, sae_column, tables

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ImportFile", "empty_texts", "import_files", "import_script"]

TYPES: dict[Type, str] = {
    "string": "string",
    "int64": "long",
    "double": "double",
    "bool": "boolean",
    "string[]": "string[]",
    "double[]": "double[]",
}


@dataclass(frozen=True)
class ImportFile:
    """One file for the importer.

    Parameters
    ----------
    of
        The node or edge table.
    rows
        Rows of the table, with the column names of the importer.
    """

    of: Node | Edge
    rows: "pa.Table"

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.of.name}.parquet"


def import_files(graph: Graph) -> Iterator[ImportFile]:
    """Yield a file for each node and edge table that has rows.

    Parameters
    ----------
    graph
        The graph. Each SAE becomes a separate generation.
    """
    generations = {name: uuid.uuid4().hex for name in sorted(graph.fingerprints)}
    for spec in tables():
        if graph.tables[spec.name].num_rows:
            yield ImportFile(spec, _form(spec, graph, generations))


def empty_texts(graph: Graph) -> int:
    """Return the number of empty texts, which the importer converts to null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [c for t in graph.tables.values() for c in t.columns if pa.types.is_string(c.type)]
    return sum(int(pc.sum(pc.equal(c, ""), min_count=0).as_py()) for c in columns)


def import_script(files: Sequence[tuple[Node | Edge, str]]) -> str:
    """Return the shell script that imports the files in its own folder.

    Paths begin with ``./``, because Neo4j 2026 needs the parent of each path.

    Parameters
    ----------
    files
        The table and the name of each file.
    """
    options = [
        f"--{'nodes' if isinstance(spec, Node) else 'relationships'}={spec.name}=./{name}"
        for spec, name in files
    ]
    lines = [
        'exec "${NEO4J_ADMIN:-neo4j-admin}" database import full "$@"',
        "--input-type=parquet",
        "--id-type=string",
        *map(shlex.quote, options),
    ]
    return _SCRIPT + " \\\n    ".join(lines) + "\n"


_SCRIPT = """\
#!/bin/sh
# Imports the files in the folder of this script into a Neo4j database. Tested with Neo4j
# 5.26.31 and 2026.09.0; versions before 5.26 may not read lists from Parquet.
#
#   sh import.sh neo4j
#
# `neo4j` is the name of the database. First stop the server, and run this script as the
# user of the server. If the database exists, even empty, add
# --overwrite-destination=true, which deletes its contents. Other options of
# `neo4j-admin database import full` are passed on too. To use another neo4j-admin,
# set NEO4J_ADMIN.
#
# Then start the server, and run `atlas push` with its URL. The push creates what cannot
# be imported: constraints and indexes, and what the text search and Neo4j Browser use.
set -eu
[ $# -gt 0 ] || { echo "Expected the name of the database: sh $0 neo4j" >&2; exit 2; }
cd "$(dirname "$0")"
"""


def _form(spec: Node | Edge, graph: Graph, generations: dict[str, str]) -> "pa.Table":
    data = graph.tables[spec.name].select(schema.arrow_schema(spec.name).names)
    data = data.rename_columns(_names(spec))
    for name, values in _bookkeeping(spec, graph, generations).items():
        data = data.append_column(name, values)
    return data


def _names(spec: Node | Edge) -> list[str]:
    """Return the column names of the importer, in the order of the schema."""
    if isinstance(spec, Edge):
        ends = [f":START_ID({spec.source})", f":END_ID({spec.target})"]
        return ends + [f"{p.name}:{TYPES[p.type]}" for p in spec.properties]
    return [
        f"{p.name}:ID({spec.label})" if p.name == spec.key else f"{p.name}:{TYPES[p.type]}"
        for p in spec.properties
    ]


def _bookkeeping(
    spec: Node | Edge, graph: Graph, generations: dict[str, str]
) -> "dict[str, pa.Array]":
    """Return the internal columns that a push would write."""
    import pyarrow as pa

    data = graph.tables[spec.name]
    column = None if isinstance(spec, Edge) else sae_column(spec)
    if column is None:
        shared = is_shared(spec) if isinstance(spec, Edge) else True
        texts = pa.list_(pa.string())
        found = {"_atlases:string[]": pa.array([[graph.atlas]] * data.num_rows, texts)}
        if spec.name == "Model":
            chains = [parameters(graph).get(name, []) for name in data["name"].to_pylist()]
            found["_parameters:string[]"] = pa.array(chains, texts)
        return found if shared else {}
    names = data[column].to_pylist()
    found = {"_generation:string": pa.array([generations[n] for n in names])}
    if spec.name == "SAE":
        found["_atlas:string"] = pa.array([graph.atlas] * len(names))
        found["_fingerprint:string"] = pa.array([graph.fingerprints[n] for n in names])
    return found
