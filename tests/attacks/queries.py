"""Queries that try to write, load, call or run twice, past the guard of the stores.

Each accepted query runs on an embedded store. A query survives if the guard or the
engine refuses it, or if it runs and neither the graph nor the folder nor the answer
shows a trace of harm.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from store_graphs import make_graph

from atlas.errors import AtlasError
from atlas.stores.kuzu.store import KuzuStore
from attacks import Try

TITLE = "queries that hide writes, loads, calls and second statements"
CLAIM = "nothing is written, loaded, called or run twice"
TRIES = 3000

HARM = (
    "COPY (MATCH (n:SAE) RETURN n.name) TO '{out}'",
    "EXPORT DATABASE '{out}'",
    "LOAD EXTENSION '{out}'",
    "LOAD FROM '{secret}' RETURN *",
    "LOAD CSV FROM 'file://{secret}' AS l RETURN l",
    "INSTALL httpfs",
    "CALL threads=1",
    "CALL dbms.listConfig() YIELD name RETURN name",
    "CALL db.clearQueryCaches()",
    "CREATE (:SAE {{name: 'x'}})",
    "MATCH (n:SAE) SET n.name = 'x'",
    "MATCH (n) DETACH DELETE n",
    "CALL read_csv_serial('{secret}') RETURN *",
    "RETURN copy_json('{out}') AS c",
    "ATTACH '{out}' AS o (dbtype kuzu)",
    "CALL {{ CREATE (:SAE {{name: 'x'}}) }} RETURN 1 AS y",
    "DROP TABLE SAE",
    "RETURN apoc.load.json('{secret}') AS j",
)
HIDE = (
    "{harm}",
    "RETURN 1 AS x; {harm}",
    "RETURN '\\u0027' AS q; {harm} //'",
    "RETURN 1 AS x // \r{harm}",
    "RETURN 1 AS x // \n; {harm}",
    "RETURN 1 AS x // \u2028{harm}",
    "RETURN 1 AS x // \x85{harm}",
    "RETURN 1 AS x\x0c{harm}",
    "RETURN 1 AS x /***/ ; {harm} /* */",
    "RETURN 1 AS x /* */ ; {harm}",
    "RETURN 1 AS x /* \\*/ ; {harm} /**/",
    "MATCH (s:SAE) WITH s {harm}",
    "RETURN '\\\\' AS q; {harm} //'",
    "RETURN '\\' AS q; {harm} //'",
    'RETURN "\\" AS q; {harm} //"',
    "RETURN '\\x27; {harm} //' AS q",
    "RETURN 'a''; {harm} //'",
    "RETURN 1 AS `a``; {harm} //`",
    "RETURN 1 AS `a`` b`; {harm}",
    "/* '*/ {harm} /*'*/",
    "// '\n{harm} //'",
    "UNWIND [1] AS x {harm}",
    "RETURN 1 AS x UNION {harm}",
    'RETURN "{harm}" AS q',
    "// {harm}\nRETURN 1 AS x",
    "OPTIONAL {harm}",
    "EXPLAIN {harm}",
    "CYPHER 25 {harm}",
)
CHARACTERS = "\\'\"`;/*\r\n \t$(){}u0\u0130\u017f"


def drawn(rng: random.Random, out: Path, secret: Path) -> str:
    """Return one query, with some of its characters changed."""
    harm = rng.choice(HARM).format(out=out, secret=secret)
    text = rng.choice(HIDE).replace("{harm}", harm)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(CHARACTERS) + text[at + rng.randint(0, 1) :]
    if rng.random() < 0.3:
        text = "".join(rng.choice((c.lower(), c.upper())) for c in text)
    return text


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Send queries to an embedded store; compare graph and folder after each that ran."""
    secret = folder / "secret.csv"
    secret.write_text("hidden-4711\n", "utf-8")
    store = KuzuStore.open(folder / "graph.kuzu", graph=make_graph)
    tables = {n: store.table(n) for n in ("SAE", "Feature")}
    rng = random.Random(seed)
    with contextlib.chdir(folder):
        for number in range(count):
            text = drawn(rng, folder / "out", secret)
            try:
                answer = store.query(text, {})
            except AtlasError:
                yield Try(f"query {number}", True, "refused")
                continue
            except Exception as error:  # noqa: BLE001  # the attack searches for any other escape
                yield Try(
                    f"query {number}", False, f"{text!r}: {type(error).__name__}: {error}"[:300]
                )
                continue
            read = "hidden-4711" in repr(answer.to_pylist())
            files = [n for n in os.listdir(folder) if not n.startswith(("graph.kuzu", "secret"))]
            same = store.is_sound(complete=True) and all(
                store.table(n).equals(t) for n, t in tables.items()
            )
            fine = same and not read and not files
            yield Try(
                f"query {number}", fine, "ran" if fine else f"{text!r}: {files} {read} {same}"[:300]
            )
    store.close()
