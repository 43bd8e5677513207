"""Write co-activation graphs as GraphML or GEXF, for Gephi, Cytoscape, igraph and networkx."""

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
                _make_writable(graph)
                with placed(folder / f"{name}.{form}") as temporary:
                    _write(graph, temporary, form=form)
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


def _write(graph: "networkx.Graph[int]", path: Path, *, form: GraphForm) -> None:
    import networkx

    if form == "graphml":
        networkx.write_graphml(graph, path, named_key_ids=True)
    else:
        networkx.write_gexf(graph, path)
