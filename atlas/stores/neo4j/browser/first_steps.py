"""Where an atlas on a server is seen: the address of Neo4j Browser, and a query to run first."""

from urllib.parse import urlsplit

from atlas.stores import Graph
from atlas.stores.neo4j.browser.pages import PLAIN_NAME

__all__ = ["browser_address", "first_query"]

#: Servers of Neo4j Aura, whose Browser is in its console, and the console.
_AURA = ".databases.neo4j.io"
_CONSOLE = "https://console.neo4j.io"

#: Default ports of a server's web page, without and with encryption.
_HTTP, _HTTPS = 7474, 7473


def browser_address(url: str) -> str:
    """Return the address of Neo4j Browser for a server, at the default port of its web page.

    Parameters
    ----------
    url
        URL of the server, such as ``neo4j://localhost``.

    Returns
    -------
    str
        An address without login. The console, for a server of Neo4j Aura.

    Examples
    --------
    >>> browser_address("bolt://localhost:7687"), browser_address("neo4j+s://x.databases.neo4j.io")
    ('http://localhost:7474', 'https://console.neo4j.io')
    """
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    if host.endswith(_AURA):
        return _CONSOLE
    is_encrypted = parts.scheme.endswith(("+s", "+ssc"))
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}:{_HTTPS}" if is_encrypted else f"http://{host}:{_HTTP}"


def first_query(graph: Graph) -> str:
    """Return a query that draws something of an atlas: neighbours of a feature, or else its SAEs.

    Parameters
    ----------
    graph
        The graph on the server.
    """
    edges = graph.tables["CO_ACTIVATES"]
    if edges.num_rows:
        # The first features are no better than others; one in the middle has edges too.
        feature = edges["source"][edges.num_rows // 2].as_py()
        if PLAIN_NAME.fullmatch(feature):
            return f"MATCH p = (:Feature {{id: '{feature}'}})-[:CO_ACTIVATES]-() RETURN p LIMIT 20"
    return "MATCH p = (:SAE)-[:READS]->(:Site) RETURN p LIMIT 20"
