"""A small atlas, written part by part without a model, for stores and checks."""

import pyarrow as pa

from atlas import schema
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part


def filled(name, kind, rows):
    """Return a table of the schema from rows that may omit columns."""
    wanted = schema.arrow_schema(name, kind)
    return pa.Table.from_pylist([{k: r.get(k) for k in wanted.names} for r in rows], schema=wanted)


def sae_tables(sae, features, model="m", corpus="c0ffee"):
    yield "Model", filled("Model", "sae", [{"name": model, "d_model": 4, "layers": 2}])
    yield "Site", filled("Site", "sae", [{"id": f"{model}/hook_embed", "model": model}])
    yield "Corpus", filled("Corpus", "sae", [{"id": corpus, "name": "text", "documents": 3}])
    yield "SAE", filled("SAE", "sae", [{"name": sae, "d_sae": features, "atlas": "u"}])
    ids = [f"{sae}/{i}" for i in range(features)]
    rows = [{"id": id, "sae": sae, "idx": i} for i, id in enumerate(ids)]
    yield "Feature", filled("Feature", "sae", rows)
    yield (
        "OF_MODEL",
        filled("OF_MODEL", "sae", [{"source": f"{model}/hook_embed", "target": model}]),
    )
    yield "READS", filled("READS", "sae", [{"source": sae, "target": f"{model}/hook_embed"}])
    yield "MEASURED_ON", filled("MEASURED_ON", "sae", [{"source": sae, "target": corpus}])
    yield "IN_SAE", filled("IN_SAE", "sae", [{"source": id, "target": sae} for id in ids])


def write_sae(folder, sae, features=3, **tables):
    manifest = Manifest("sae", sae, saes=(sae,), settings={"context_size": 8})
    return write_part(folder.part("sae", sae), manifest, sae_tables(sae, features, **tables))


def write_statistics(folder, part, counts, tokens=10):
    sae = part.manifest.name
    rows = [
        {
            "id": f"{sae}/{i}",
            "active_tokens": n,
            "frequency": n / tokens,
            "dead": n == 0,
        }
        for i, n in enumerate(counts)
    ]
    dead = counts.count(0)
    row = {"name": sae, "tokens": tokens, "l0": sum(counts) / tokens, "dead": dead}
    manifest = Manifest(
        "statistics", sae, saes=(sae,), made_from={part.manifest.key: part.manifest.hash}
    )
    tables = [
        ("Feature", filled("Feature", "statistics", rows)),
        ("SAE", filled("SAE", "statistics", [row])),
    ]
    return write_part(folder.part("statistics", sae), manifest, tables)


def small_atlas(path):
    """Return the folder of an atlas of two SAEs, one of them without statistics."""
    folder = Folder.create(path)
    folder.set_corpus({"id": "c0ffee", "name": "text", "documents": 3})
    write_statistics(folder, write_sae(folder, "one"), [5, 0, 2])
    write_sae(folder, "two", 2)
    return folder


def table_hashes(path):
    """Return rows and hash of each table, by part and table, of an atlas without stale parts.

    Parts of SAEs are excluded, because they contain the uuid of their atlas.
    """
    sound = Folder.open(path).sound()
    assert sound.stale == {}
    return {
        key: {name: (t.rows, t.sha256) for name, t in part.manifest.tables.items()}
        for key, part in sound.parts.items()
        if part.manifest.kind != "sae"
    }
