"""What an attack runs on a small disk, in a fork that ``ForkServer`` starts.

Words: action, atlas, and the folder of an export. The last line printed is JSON: the result
of a finished action, or the message of its error.
"""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
from slow_ingest import Announce
from small_ingest import model, texts, topk

from atlas.api import Atlas
from atlas.disk.folder import Folder
from atlas.errors import AtlasError
from atlas.export import export_for_import, export_graphs, export_tables
from atlas.schema import TABLES
from ingest import MatchSettings, Settings, ingest, match_saes
from ingest.sae.autoencoder import open_sae

__all__ = ["ACTIONS", "main"]


def take_in(atlas, _, keep=True):
    """Ingest two SAEs."""
    ingest(
        atlas,
        saes=[open_sae(topk(seed=seed), name=f"top{seed}") for seed in (0, 1)],
        text=texts(120, seed=5, words=(50, 120)),
        model=model(),
        settings=Settings(shard_blocks=1, keep_codes=keep),
        match=None,
        progress=Announce(),
    )
    return parts(atlas)


def take_in_and_drop(atlas, into):
    """Ingest two SAEs without storing their codes."""
    return take_in(atlas, into, keep=False)


def match(atlas, _):
    """Match the two SAEs."""
    match_saes(atlas, "all", settings=MatchSettings(draws=3))
    return parts(atlas)


def view(atlas, _):
    """Build the embedded view, and read each of its tables."""
    with Atlas.open(atlas) as opened:
        return {t.name: digest(opened.store.table(t.name)) for t in TABLES}


def export(atlas, into):
    """Write tables in two formats, and graphs."""
    for form in ("parquet", "csv"):
        export_tables(str(atlas), into / form, form=form)
    export_graphs(str(atlas), into / "graphml")
    return files(into)


def import_files(atlas, into):
    """Write the files for the importer of Neo4j, the only files of a push."""
    export_for_import(atlas, into)
    found = files(into)
    for file in into.glob("*.parquet"):
        rows = pq.read_table(file)
        own = [n for n in rows.column_names if "_generation" not in n]  # a new one in each export
        found[file.name] = digest(rows.select(own))
    return found


ACTIONS = {
    "ingest": take_in,
    "ingest without codes": take_in_and_drop,
    "match": match,
    "view": view,
    "export": export,
    "import files": import_files,
}


def parts(atlas):
    """Return the checksums of the tables of numbers; those of ``sae`` contain the uuid."""
    return {
        key: {name: t.sha256 for name, t in part.manifest.tables.items()}
        for key, part in Folder.open(atlas).sound().parts.items()
        if part.manifest.kind != "sae"
    } | {"runs": [r.name for r in Folder.open(atlas).runs()]}


def files(folder):
    """Return the checksum of each file."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def digest(table):
    """Return a checksum of the rows of a table."""
    return hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()


def main(words):
    """Run one action; any error but an ``AtlasError`` ends the fork with a traceback."""
    action, atlas, into = words
    try:
        outcome = {"result": ACTIONS[action](Path(atlas), Path(into))}
    except AtlasError as error:
        outcome = {"message": str(error)}
    print(json.dumps(outcome), flush=True)
