"""Run commands in this process, build atlases, and go through the named queries."""

import ast
import contextlib
import importlib
import io
import json
import random
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import BUILDS

ROOT = Path(__file__).resolve().parents[2]
QUERIES = ROOT / "queries"


def project() -> dict[str, Any]:
    """Return the table ``project`` of this checkout's ``pyproject.toml``."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def announce(folder: Path) -> None:
    """Let Python find the entry points of this checkout, whichever checkout is installed."""
    info = folder / f"feature_atlas-{project()['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project()['name']}\nVersion: {project()['version']}\n"
    (info / "METADATA").write_text(head, "utf-8")
    lines = []
    for group, entries in project()["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    sys.path.insert(0, str(folder))


def program() -> Any:
    """Return the function behind the command ``atlas``, as ``pyproject.toml`` names it."""
    module, name = project()["scripts"]["atlas"].split(":")
    return getattr(importlib.import_module(module), name)


def run(words: list[str], atlas: Path, **values: str) -> dict[str, Any]:
    """Run a command in this process; return its status and the JSON that it prints."""
    filled = [words[0]]
    for word in words[1:]:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        filled.append(word)
    out, err, status = io.StringIO(), io.StringIO(), 0
    begun = time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            program()([*filled, "--atlas", str(atlas), "--json", "--quiet"])
    except SystemExit as end:
        status = int(end.code or 0)
    if (took := time.monotonic() - begun) > 5:
        print(f"{took:6.1f} s  {atlas.stem} {' '.join(words[:2])}", file=sys.stderr)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("{")]
    result = json.loads(lines[-1]) if lines else {"printed": out.getvalue(), "err": err.getvalue()}
    return {"status": status, **result}


def write_text(path: Path) -> None:
    """Write some short stories, for the small models to read."""
    draw = random.Random(0)
    who, what = ["Lily", "Tim", "the dog", "a bird", "mom"], ["ball", "tree", "cake", "box", "car"]
    did = ["found", "saw", "wanted", "lost", "liked"]
    how = ["happy", "sad", "big", "little", "careful"]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(150):
            text = "Once upon a time, there was a girl named Lily. "
            for _ in range(draw.randint(4, 12)):
                a, b, c, d = (draw.choice(words) for words in (who, did, how, what))
                text += draw.choice([f"{a} {b} a {c} {d}. ", f'"Why are you {c}?" asked {a}. '])
            file.write(json.dumps({"text": text}) + "\n")


def build(atlas: str, folder: Path) -> dict[str, Any]:
    """Build an atlas and return the outputs of the commands."""
    path, text, printed = folder / f"{atlas}.atlas", folder / "stories.jsonl", {}
    write_text(text)
    for label, words in BUILDS[atlas].items():
        if words:
            printed[label] = run(words, path, text=str(text))
            if printed[label]["status"]:
                sys.exit(f"{atlas}, {label}: {printed[label]}")
        else:
            from planted_atlas import build_planted

            build_planted(path)
    (folder / f"{atlas}.built.json").write_text(json.dumps(printed), "utf-8")
    return printed


def atlas_name(value: str, names: dict[str, str]) -> str:
    """Return the atlas's own name for a name of the examples, also if ``/`` and an index follow it."""
    for old in sorted(names, key=len, reverse=True):
        if value == old or value.startswith(f"{old}/"):
            return names[old] + value[len(old) :]
    return value


def named_queries(names: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each named query with the examples of its required parameters."""
    head = re.compile(r"^// param (\w+) \(.+?, (such as|default) (.+?)(?:, or .+?)?\):", re.M)
    for file in sorted(QUERIES.glob("*.cypher")):
        words = ["query", file.stem, "--timeout", "600"]
        for name, must, text in head.findall(file.read_text("utf-8")):
            value = default = ast.literal_eval(text)
            if isinstance(value, str):
                value = atlas_name(value, names)
            elif isinstance(value, list):
                value = json.dumps(value)
            if must == "such as" or value != default:
                words += ["--param", f"{name}={value}"]
        yield file.stem, words
