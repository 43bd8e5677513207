"""Open and query a feature atlas, stored in a folder or on a server.

>>> from atlas import Atlas
>>> atlas = Atlas("demo.atlas")           # or "neo4j://localhost"
>>> sae = atlas["tiny-a-l1-s0"]           # an SAE: features, codes, matches
>>> card = atlas["tiny-a-l1-s0/7"]        # the card of a feature
>>> len(atlas.frame("Feature", sae="tiny-a-l1-s0"))
512
>>> atlas.ask("feature_card", feature="tiny-a-l1-s0/7").num_rows
1
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas.api import Atlas as Atlas

    __version__: str

__all__ = ["Atlas", "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("feature-atlas")
    if name == "Atlas":
        from atlas.api import Atlas

        return Atlas
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
