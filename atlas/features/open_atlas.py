"""The part of ``atlas.Atlas`` that cards and SAE objects need, which that class imports."""

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.disk.folder import Folder
    from atlas.stores import Store

__all__ = ["OpenAtlas"]


class OpenAtlas(Protocol):
    """An open atlas; see the methods of the same names of ``atlas.Atlas``."""

    @property
    def saes(self) -> list[str]:
        """Sorted names of the SAEs."""

    @property
    def folder(self) -> "Folder | None":
        """The folder; None on a server."""

    @property
    def url(self) -> str:
        """The path of the folder, or the address of the server."""

    @property
    def store(self) -> "Store":
        """The graph store."""

    def table(self, name: str, *, sae: str | None = None) -> "pa.Table":
        """Return a table."""

    def features(self, sae: str) -> "pa.Table":
        """Return the features of an SAE."""

    def graph(
        self, sae: str, *, kind: Literal["igraph", "networkx"] = "igraph", min_count: int = 1
    ) -> Any:
        """Return the co-activation graph of an SAE."""

    def ask(self, name: str, *, timeout: float = 60, **params: Any) -> "pa.Table":
        """Run a named query."""

    def check_matched(self, one: str, other: str) -> None:
        """Check that two SAEs were matched."""
