"""Co-activation graphs as files that Gephi, Cytoscape, igraph and networkx read: GraphML and GEXF."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from atlas.atomic_files import enough_room, placed
from atlas.errors import BadInput
from atlas.graphs import networkx_of
from atlas.progress import SILENT, Progress

if TYPE_CHECKING:
    import networkx

__all__ = ["FORMS", "GraphForm", "export_graphs"]

GraphForm: TypeAlias = Literal["graphml", "gexf"]

FORMS: tuple[GraphForm, ...] = ("graphml", "gexf")

#: XML knows no control characters but tabs and ends of lines, and reads a carriage return back as
#: another; these become their Unicode pictures (␀, ␁, …), and what is no character becomes �.
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

    A node stands for every feature, its ``label`` is the feature's ``id``; nodes and edges
    bear all other properties of Feature and CO_ACTIVATES, and lack those that are null. The
    library that writes holds a whole graph in memory, some kilobytes for each edge.

    Parameters
    ----------
    where
        The atlas: a path or the URL of a server.
    folder
        Where to; made if it is not there.
    form
        ``"graphml"`` or ``"gexf"``.
    saes
        Names of SAEs; all if none is given.
    min_count
        Only edges of features that were together among the most active of so many tokens.
    progress
        Told of every graph.

    Returns
    -------
    dict
        The numbers of ``nodes`` and ``edges`` of each graph, by SAE.

    Raises
    ------
    UnknownName
        If there is no SAE of a name.
    BadInput
        If ``folder`` is a file.
    """
    from atlas.api import Atlas

    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the graphs.")
    written = {}
    with Atlas.open(where, progress=progress) as atlas:
        names = list(dict.fromkeys(saes)) or atlas.saes
        graphs = ((name, networkx_of(atlas, name, min_count=min_count)) for name in names)
        with (
            enough_room(folder),
            progress.stage("Writing graphs", total=len(names), unit="graphs") as stage,
        ):
            for name, graph in graphs:
                folder.mkdir(parents=True, exist_ok=True)
                _plain(graph)
                with placed(folder / f"{name}.{form}") as beside:
                    _write(graph, beside, form=form)
                written[name] = {"nodes": len(graph), "edges": graph.number_of_edges()}
                stage.advance()
    return written


def _plain(graph: "networkx.Graph[int]") -> None:
    """Make of each property what both formats can hold; ``id`` means another thing in them."""
    for _, said in graph.nodes(data=True):
        said["label"] = said.pop("id")
    for of in (graph.nodes, graph.edges):
        for *_, said in of(data=True):
            for name, value in list(said.items()):
                if value is None:
                    del said[name]
                elif isinstance(value, str):
                    said[name] = value.translate(_PICTURES)


def _write(graph: "networkx.Graph[int]", path: Path, *, form: GraphForm) -> None:
    import networkx

    if form == "graphml":
        networkx.write_graphml(graph, path, named_key_ids=True)
    else:
        networkx.write_gexf(graph, path)
