"""The content of files and answers, without what varies from run to run."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DROPPED = {"created", "versions", "hash", "sha256", "seconds"}
COLUMNS = {"atlas", "_atlas", "_atlases", "_generation", "_fingerprint"}  # not in a table's digest
PATTERNS = [  # of texts, in this order
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\bgraph-[0-9a-f]{16}\b"), "graph-<hash>"),
    (re.compile(r"(?<![\w/.:])/(?:[\w.+@-]+/)+([\w.+@-]+)"), r"<path>/\1"),
    (re.compile(r"(runs from) <path>/[\w.+@-]+"), r"\1 <path>"),  # the checkout, in doctor
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "<version>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*(Z|[+-]\d\d:\d\d)?"), "<date>"),
    (re.compile(r"\b\d[\d.,]* ?(GB|GiB|MiB|MB|TB) (free|of)\b"), r"<size> \1 \2"),
    (re.compile(r"\b\d[\d.]* (s|seconds|minutes)\b"), r"<time> \1"),
]


def normalised(value: Any) -> Any:
    """Return a JSON value without what varies from run to run."""
    if isinstance(value, dict):
        # Only the names of ancestors: their hashes cover paths and the bytes of Parquet.
        value = {k: sorted(v) if k == "made_from" else v for k, v in value.items()}
        return {k: normalised(v) for k, v in value.items() if k not in DROPPED}
    if isinstance(value, list | tuple):
        return [normalised(v) for v in value]
    if isinstance(value, str):
        for pattern, by in PATTERNS:
            value = pattern.sub(by, value)
    return value


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def short(value: Any, most: int = 20_000) -> Any:
    """Return a JSON value, or its digest and first characters where it is long."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(text) <= most:
        return value
    return {"characters": len(text), "sha256": digest(text.encode()), "begins": text[:2000]}


def of_table(table: pa.Table) -> dict[str, Any]:
    """Return the rows, the schema and the digest of a table, one batch of rows in stored order."""
    schema = {f.name: str(f.type) for f in table.schema}
    table = table.replace_schema_metadata(None)
    table = table.drop_columns([c for c in schema if c.split(":")[0] in COLUMNS])
    if table.num_rows <= 1000:  # larger tables have no sources
        table = pa.Table.from_pylist(normalised(table.to_pylist()), schema=table.schema)
    table = table.unify_dictionaries().combine_chunks()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches():
            # `take` copies the rows: a batch read from a file may hold buffers that its rows do not need.
            writer.write_batch(batch.take(pa.array(range(batch.num_rows))))
    return {"rows": table.num_rows, "schema": schema, "sha256": digest(sink.getvalue())}


def of_file(path: Path) -> Any:
    """Return the content of a file: a table, tensors, or the digest of a text."""
    if path.suffix == ".parquet":
        return of_table(pq.read_table(path))
    if path.suffix == ".arrow":
        return of_table(pa.ipc.open_file(path).read_all())
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        tensors = sorted(load_file(path).items())
        return {k: [str(t.dtype), list(t.shape), digest(t.tobytes())] for k, t in tensors}
    if path.suffix == ".json":
        return normalised(json.loads(path.read_text("utf-8")))
    text: str = normalised(path.read_text("utf-8"))
    return {"characters": len(text), "sha256": digest(text.encode())}


def of_folder(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the content of each file of a folder, by name."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield str(path.relative_to(folder)), of_file(path)


def of_atlas(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the content of each file of an atlas that has results."""
    yield "atlas.json", of_file(path / "atlas.json")
    yield "corpus", of_file(path / "corpus.parquet")
    for name in ("parts", "codes", "saes"):
        if (path / name).exists():
            yield from ((f"{name} {file}", value) for file, value in of_folder(path / name))
