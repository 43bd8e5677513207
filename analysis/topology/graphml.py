"""The Mapper graph of a result as a GraphML file."""

from pathlib import Path

import networkx as nx

from atlas.disk.atomic_files import atomic_file
from atlas.errors import BadInput
from atlas.studies.results import Result

__all__ = ["write_mapper_graph"]


def write_mapper_graph(result: Result, path: str | Path) -> Path:
    """Write the shown Mapper graph of a result.

    Nodes have ``size`` (number of features), ``x`` and ``y`` (mean of the lens) and
    ``features`` (their indices, separated by spaces); edges have ``shared`` (common features).

    Parameters
    ----------
    result
        A result of ``analysis.topology.study.measure_topology``.
    path
        The file.

    Raises
    ------
    BadInput
        If the directory does not exist, or the result has no Mapper graph.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise BadInput(
            f"Cannot write {path.name}: the directory {path.parent} does not exist. Create it first."
        )
    nodes = result.table("mapper_nodes").to_pylist()
    if not nodes:
        raise BadInput(
            f"{result['sae']} has no Mapper graph with a node, so there is nothing to write."
        )
    graph: nx.Graph[int] = nx.Graph(sae=result["sae"])
    for row in nodes:
        features = " ".join(map(str, row["features"]))
        graph.add_node(row["node"], size=row["size"], x=row["x"], y=row["y"], features=features)
    for row in result.table("mapper_edges").to_pylist():
        graph.add_edge(row["source"], row["target"], shared=row["shared"])
    with atomic_file(path) as temporary:
        nx.write_graphml(graph, temporary)
    return path
