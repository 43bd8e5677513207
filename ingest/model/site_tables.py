"""The tables Site and OF_MODEL of a part: the sites of a model that the part uses."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from atlas.schema import arrow_schema

if TYPE_CHECKING:
    from ingest.model.language_model import Site

__all__ = ["site_tables"]


def site_tables(model: str, sites: "Iterable[Site]") -> list[tuple[str, pa.Table]]:
    """Return the tables Site and OF_MODEL, with one row per site.

    Parameters
    ----------
    model
        The name of the model.
    sites
        Its sites.
    """
    rows = [
        {
            "id": f"{model}/{s.hook}",
            "model": model,
            "hook": s.hook,
            "layer": s.layer,
            "width": s.width,
        }
        for s in sites
    ]
    of_model = [{"source": row["id"], "target": model} for row in rows]
    return [
        ("Site", pa.Table.from_pylist(rows, schema=arrow_schema("Site"))),
        ("OF_MODEL", pa.Table.from_pylist(of_model, schema=arrow_schema("OF_MODEL"))),
    ]
