"""Record the outputs of the program, and compare two records.

Use it around a change that must not alter any result::

    python tests/record write OLD.json --atlases DIR
    python tests/record write NEW.json --atlases DIR2
    python tests/record write REUSED.json --reuse DIR
    python tests/record compare OLD.json NEW.json

``write`` builds the atlases that the folder does not have. ``--reuse`` builds nothing: this code
opens atlases of older code. ``--skip-demo`` excludes the demo atlas, and
``--only`` selects atlases by name. ``compare`` prints each difference by name, and exits with 1
if there is one. Outputs of the commands that build are not compared where atlases were reused.

A record is one sorted JSON file. Its entries are:

- every part: its manifest, and each table with its rows, schema and a SHA-256 of its content;
- the text of the atlas, its codes, and the SAEs that were trained in it;
- the JSON of each command in ``commands.py``, and the files it writes;
- the answer of each named query; the text of the generated schema.

The SHA-256 of a table covers its rows in stored order as one Arrow IPC stream, and not the bytes
of the Parquet file. These vary from run to run, and are normalised or dropped:

- the UUID of an atlas, random for each new one, and the columns that repeat it;
- the name of an embedded view, and the columns ``_generation`` and ``_fingerprint`` of exports,
  which follow from the hashes of parts;
- hashes of parts, and checksums of files: they cover paths, and the bytes of Parquet;
- absolute paths, of which only the last name is recorded; dates, durations, versions of libraries;
- free disk space and the state of the machine, which ``doctor`` reports together with the atlas.

The order of rows is not normalised, and no number is rounded.
"""

import argparse
import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", NO_COLOR="1", COLUMNS="200")
os.environ.pop("ATLAS", None)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from commands import ALL, COMMANDS, NAMES, ONE, TWO
from contents import normalised, of_atlas, of_folder, short
from running import ROOT, announce, build, named_queries, run

SCHEMA = ROOT / "docs" / "make_schema.py"


def write(record: Path, folder: Path, atlases: list[str], *, reuse: bool) -> None:
    """Record the outputs of some atlases."""
    found: dict[str, Any] = {"reused": reuse}
    page: str = runpy.run_path(str(SCHEMA))["page"]()
    found |= {f"schema, section {s.splitlines()[0]}": s for s in page.split("\n## ")}
    folder.mkdir(parents=True, exist_ok=True)
    for atlas in atlases:
        path, built = folder / f"{atlas}.atlas", folder / f"{atlas}.built.json"
        if built.exists():
            printed = json.loads(built.read_text("utf-8"))
        elif reuse:
            sys.exit(f"{folder} has no complete atlas {atlas!r}.")
        else:
            shutil.rmtree(path, ignore_errors=True)  # an unfinished build
            printed = build(atlas, folder)
        if not reuse:
            shutil.rmtree(path / "cache", ignore_errors=True)  # views must be built by this code
            found |= {f"{atlas}: build {k}": short(normalised(v)) for k, v in printed.items()}
        found |= {f"{atlas}: {name}": value for name, value in of_atlas(path)}
        names = NAMES[atlas]
        for label, words in named_queries(names):
            found[f"{atlas}: query {label}"] = short(normalised(run(words, path)), 3000)
        for label, (of, words) in COMMANDS.items():
            if atlas not in of:
                continue
            with tempfile.TemporaryDirectory() as out:
                pair = {"a": names.get(ONE, ONE), "b": names.get(TWO, TWO)}
                printed = run(words, path, out=out, **pair)
                found[f"{atlas}: {label}"] = short(normalised(printed))
                for name, value in of_folder(Path(out)):
                    found[f"{atlas}: {label}, file {name}"] = value
    text = json.dumps(found, sort_keys=True, indent=1, ensure_ascii=False)
    record.write_text(text + "\n", "utf-8")
    print(f"{len(found)} entries in {record.name}")


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield a line for each difference between two values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old | new):
            yield from differences(old.get(key), new.get(key), f"{where} {key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (x, y) in enumerate(zip(old, new, strict=True)):
            yield from differences(x, y, f"{where} [{i}]")
    elif old != new or type(old) is not type(new):
        yield f"{where}: {str(old)[:200]} -> {str(new)[:200]}"


def compare(old: Path, new: Path) -> int:
    """Print each difference of two records; return 1 if there is one."""
    a, b = (json.loads(path.read_text("utf-8")) for path in (old, new))
    either = a.pop("reused") | b.pop("reused")
    keys = sorted(k for k in a | b if not (either and ": build " in k))
    different = [k for k in keys if a.get(k) != b.get(k)]
    for key in different:
        if key not in a or key not in b:
            print(f"{key}: only in {(old if key in a else new).name}")
        for line in list(differences(a[key], b[key]))[:5] if key in a and key in b else []:
            print(f"{key}:{line}")
    print(f"{len(different)} of {len(keys)} entries differ.")
    if either:
        print("Outputs of commands that build are not compared: atlases were reused.")
    return 1 if different else 0


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description="Record what the program outputs; compare two records."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    writing = commands.add_parser("write")
    writing.add_argument("record", type=Path)
    folder = writing.add_mutually_exclusive_group()
    folder.add_argument("--atlases", type=Path, help="Folder; missing atlases are built.")
    folder.add_argument("--reuse", type=Path, help="Folder; nothing is built.")
    writing.add_argument("--skip-demo", action="store_true")
    writing.add_argument("--only", nargs="+", choices=ALL, default=list(ALL))
    comparing = commands.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return compare(arguments.old, arguments.new)
    atlases = [a for a in arguments.only if not (arguments.skip_demo and a == "demo")]
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as entries:
        announce(Path(entries))
        at = arguments.reuse or arguments.atlases or Path(scratch)
        write(arguments.record, at.resolve(), atlases, reuse=arguments.reuse is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
