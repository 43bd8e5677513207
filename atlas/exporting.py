"""The graph's tables as files: Parquet, or CSV with lists as JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.disk import enough_room, placed
from atlas.errors import BadInput
from atlas.progress import SILENT, Progress
from atlas.schema import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["export_tables"]


def export_tables(
    where: str, folder: Path, *, form: str = "parquet", progress: Progress = SILENT
) -> dict[str, int]:
    """Write every table of an atlas into a folder.

    Parameters
    ----------
    where
        The atlas: a path or the URL of a server.
    folder
        Where to; made if it is not there.
    form
        ``"parquet"`` or ``"csv"``.
    progress
        Told of every table.

    Returns
    -------
    dict
        The number of rows of each table, by name.
    """
    from atlas.api import Atlas

    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the tables.")
    written: dict[str, int] = {}
    with Atlas.open(where, progress=progress) as atlas, enough_room(folder):
        folder.mkdir(parents=True, exist_ok=True)

        with progress.stage("Writing tables", total=len(TABLES), unit="tables") as stage:
            for of in TABLES:
                data = atlas.table(of.name)
                with placed(folder / f"{of.name}.{form}") as beside:
                    _write(data, beside, form=form)
                written[of.name] = data.num_rows
                stage.advance()
    return written


def _write(data: "pa.Table", path: Path, *, form: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    if form == "parquet":
        pyarrow.parquet.write_table(data, path, compression="zstd")
    else:
        pyarrow.csv.write_csv(_flat(data), path)


def _flat(data: "pa.Table") -> "pa.Table":
    """Write lists as JSON, which CSV can hold."""
    import pyarrow as pa

    for i, field in enumerate(data.schema):
        if pa.types.is_list(field.type):
            texts = [
                None if v is None else json.dumps(v, ensure_ascii=False)
                for v in data.column(i).to_pylist()
            ]
            data = data.set_column(i, field.name, pa.array(texts, pa.string()))
    return data
