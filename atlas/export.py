"""Write the tables of the graph as Parquet, as CSV, or for Neo4j's importer."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import queries
from atlas.assemble import assemble
from atlas.disk.atomic_files import atomic_file, disk_errors
from atlas.disk.folder import Folder
from atlas.errors import BadInput
from atlas.graphs import networkx_of
from atlas.progress import SILENT, Progress
from atlas.safe_text import csv_text
from atlas.schema import TABLES, Edge, Node

if TYPE_CHECKING:
    import networkx
    import pyarrow as pa

__all__ = [
    "FORMS",
    "GraphForm",
    "export_for_browser",
    "export_for_import",
    "export_graphs",
    "export_tables",
]


def export_tables(
    where: str, folder: Path, *, form: str = "parquet", progress: Progress = SILENT
) -> dict[str, int]:
    """Write every table of an atlas into a folder.

    Parameters
    ----------
    where
        The atlas: a path or the URL of a server.
    folder
        Output folder, created if missing.
    form
        ``"parquet"`` or ``"csv"``.
    progress
        Reports every table.

    Returns
    -------
    dict
        The number of rows of each table, by name.
    """
    from atlas.api import Atlas

    _check_folder(folder, "tables")
    written: dict[str, int] = {}
    with Atlas.open(where, progress=progress) as atlas, disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)

        with progress.stage("Writing tables", total=len(TABLES), unit="tables") as stage:
            for spec in TABLES:
                data = atlas.table(spec.name)
                with atomic_file(folder / f"{spec.name}.{form}") as temporary:
                    _write(data, temporary, form=form)
                written[spec.name] = data.num_rows
                stage.advance()
    return written


def export_for_import(path: Path, folder: Path, *, progress: Progress = SILENT) -> dict[str, int]:
    """Write an atlas for ``neo4j-admin database import``: Parquet files and ``import.sh``.

    The imported database equals the result of a push, with two exceptions: constraints
    and indexes, which the next push creates, and empty texts, which become null.

    Parameters
    ----------
    path
        The folder of the atlas.
    folder
        Output folder, created if missing.
    progress
        Reports every table.

    Returns
    -------
    dict
        The number of rows of each table that has any, by name.
    """
    from atlas.stores.neo4j.admin_import import empty_texts, import_files, import_script

    _check_folder(folder, "tables")
    atlas = Folder.open(path)
    sound, graph = atlas.read(lambda sound: (sound, assemble(atlas, sound)))
    for key, reason in sound.stale.items():
        progress.report(f"Excluded {key}, which is stale: {reason}.")
    if empty := empty_texts(graph):
        progress.report(f"Neo4j's importer drops empty texts: {empty:,} become null.")
    names: list[tuple[Node | Edge, str]] = []
    written: dict[str, int] = {}
    with disk_errors(folder), progress.stage("Writing tables", unit="tables") as stage:
        folder.mkdir(parents=True, exist_ok=True)
        for file in import_files(graph):
            with atomic_file(folder / file.name) as temporary:
                _write(file.rows, temporary, form="parquet")
            names.append((file.of, file.name))
            written[file.of.name] = file.rows.num_rows
            stage.advance()
        with atomic_file(folder / "import.sh") as temporary:
            temporary.write_text(import_script(names), "utf-8")
    return written


def export_for_browser(
    path: Path, folder: Path, *, address: str = "http://localhost:7474"
) -> dict[str, int]:
    """Write what Neo4j Browser needs for an atlas: links, saved queries, and the style sheet.

    ``index.html`` has a link for each setting, picture and named query, with names of this
    atlas. A link opens its text in the editor of Browser. The drawer "Saved Cypher" of the newer
    Browser imports the same pictures and queries from ``saved-cypher.csv``.

    Parameters
    ----------
    path
        The folder of the atlas.
    folder
        Output folder, created if missing.
    address
        Address of the server's web page, such as ``http://localhost:7474``.

    Returns
    -------
    dict
        The number of links in the page and of queries in the CSV file, by their names.

    Raises
    ------
    BadInput
        If ``address`` is not the address of a web page, or ``folder`` is a file.
    """
    from atlas.stores.neo4j.browser.pages import (
        example_names,
        links_page,
        pictures,
        saved_cypher,
        style_sheet,
    )

    if not re.fullmatch(r"https?://[\w.:\[\]-]+/?", address, re.ASCII):
        raise BadInput(
            f"The address of Neo4j Browser is {address!r}; expected one such as http://localhost:7474."
        )
    _check_folder(folder, "tables")
    atlas = Folder.open(path)
    graph = atlas.read(lambda sound: assemble(atlas, sound))
    names = example_names(graph)
    files = {
        "index.html": links_page(address, atlas=graph.name, names=names),
        "saved-cypher.csv": saved_cypher(atlas=graph.name, names=names),
        "atlas.grass": style_sheet(),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with atomic_file(folder / name) as temporary:
                temporary.write_text(text, "utf-8")
    saved = len(pictures()) + len(queries.every())
    return {"index.html": 2 + saved, "saved-cypher.csv": saved}  # two links set Browser up


def _check_folder(folder: Path, content: str) -> None:
    if folder.is_dir():
        return
    if folder.is_symlink():
        raise BadInput(f"{folder} is a link to no folder; name a folder for the {content}.")
    if folder.exists():
        raise BadInput(f"{folder} is a file; name a folder for the {content}.")


def _write(data: "pa.Table", path: Path, *, form: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    if form == "parquet":
        pyarrow.parquet.write_table(data, path, compression="zstd")
    else:
        pyarrow.csv.write_csv(_flat(data), path)


def _flat(data: "pa.Table") -> "pa.Table":
    """Convert lists to JSON for CSV, and mark text that looks like a formula."""
    import pyarrow as pa

    for i, field in enumerate(data.schema):
        if pa.types.is_list(field.type):
            texts = [
                None if v is None else json.dumps(v, ensure_ascii=False)
                for v in data.column(i).to_pylist()
            ]
            data = data.set_column(i, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_string(field.type):
            cells = [None if v is None else csv_text(v) for v in data.column(i).to_pylist()]
            data = data.set_column(i, field.name, pa.array(cells, pa.string()))
    return data


GraphForm: TypeAlias = Literal["graphml", "gexf"]

FORMS: tuple[GraphForm, ...] = ("graphml", "gexf")

#: XML allows no control characters except tabs and line ends, and converts carriage returns. They
#: become their Unicode pictures (␀, ␁, …); code points that are no characters become �.
_PICTURES = {
    **{c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"},
    **dict.fromkeys([*range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD),
}


def export_graphs(
    where: str,
    folder: Path,
    *,
    form: GraphForm = "graphml",
    saes: Sequence[str] = (),
    min_count: int = 1,
    progress: Progress = SILENT,
) -> dict[str, dict[str, int]]:
    """Write the co-activation graph of each SAE into a folder, as ``<sae>.graphml`` or ``.gexf``.

    Each feature is a node, whose ``label`` is the feature's ``id``. Nodes and edges have all
    other properties of Feature and CO_ACTIVATES that are not null. networkx holds the
    complete graph in memory, a few kilobytes per edge.

    Parameters
    ----------
    where
        The atlas: a path or the URL of a server.
    folder
        Output folder, created if missing.
    form
        ``"graphml"`` or ``"gexf"``.
    saes
        Names of SAEs; all if empty.
    min_count
        Include only edges with at least this ``count``.
    progress
        Reports every graph.

    Returns
    -------
    dict
        The numbers of ``nodes`` and ``edges`` of each graph, by SAE.

    Raises
    ------
    UnknownName
        If the atlas has no SAE of a name.
    BadInput
        If ``folder`` is a file.
    """
    from atlas.api import Atlas

    _check_folder(folder, "graphs")
    written = {}
    with Atlas.open(where, progress=progress) as atlas:
        names = list(dict.fromkeys(saes)) or atlas.saes
        graphs = ((name, networkx_of(atlas, name, min_count=min_count)) for name in names)
        with (
            disk_errors(folder),
            progress.stage("Writing graphs", total=len(names), unit="graphs") as stage,
        ):
            for name, graph in graphs:
                folder.mkdir(parents=True, exist_ok=True)
                _make_writable(graph)
                with atomic_file(folder / f"{name}.{form}") as temporary:
                    _write_graph(graph, temporary, form=form)
                written[name] = {"nodes": len(graph), "edges": graph.number_of_edges()}
                stage.advance()
    return written


def _make_writable(graph: "networkx.Graph[int]") -> None:
    """Convert properties in place to values that both formats can hold.

    ``id`` becomes ``label``, because both formats use ``id`` for the node itself.
    """
    for _, attributes in graph.nodes(data=True):
        attributes["label"] = attributes.pop("id")
    for view in (graph.nodes, graph.edges):
        for *_, attributes in view(data=True):
            for name, value in list(attributes.items()):
                if value is None:
                    del attributes[name]
                elif isinstance(value, str):
                    attributes[name] = value.translate(_PICTURES)


def _write_graph(graph: "networkx.Graph[int]", path: Path, *, form: GraphForm) -> None:
    import networkx

    if form == "graphml":
        networkx.write_graphml(graph, path, named_key_ids=True)
    else:
        networkx.write_gexf(graph, path)
