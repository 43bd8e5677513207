"""Run the commands of the pages that only read an atlas, and print the exit status of each.

    python docs/run_commands.py demo.atlas [PAGE …]

``A`` and ``B`` in a command are two SAEs of the demo. Status 2 has a message, such as the name of the
study that the atlas does not have. Files are written to a temporary folder.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Commands that read an atlas and finish in seconds.
READERS = ("fire", "list", "plot", "probe-scores", "query", "saes", "show")

#: What marks a command as open: a value that the reader chooses, or another atlas.
OPEN = ("…", "$", "neo4j:", "--atlas", "NAME", "WORD", "SAE/")

NAMES = {"A/561": "tiny-a-l1-s0/16", "A": "tiny-a-l1-s0", "B": "tiny-a-l1-s1"}


def commands(page):
    """Return the commands of the code blocks and of the text of a page, in order."""
    text = page.read_text("utf-8")
    code = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    code = re.sub(r"\\\n\s*", "", code)  # a line that is continued
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r'^(?:\$ )?(atlas [a-z](?:[^\n"]|"[^"]*")*)', code, re.MULTILINE)
    found += re.findall(r"`(atlas [a-z][^`]*)`", re.sub(r"\n\s*", " ", prose))
    for line in found:
        words = shlex.split(line, comments=True)
        if len(words) > 2 and words[1] in READERS and not any(mark in line for mark in OPEN):
            yield [re.sub(r"[^=]+$", lambda m: NAMES.get(m[0], m[0]), word) for word in words]


def run(words):
    """Run a command in this process; return its exit status and the last line of its errors."""
    from atlas.cli.main import main

    sys.argv, errors, status = words, io.StringIO(), 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return status, (errors.getvalue().strip().splitlines() or [""])[-1]


def check(atlas, pages):
    """Run the commands of the pages on an atlas."""
    todo = {tuple(words): page for page in pages for words in commands(page)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "demo.atlas").symlink_to(atlas, target_is_directory=True)
        os.chdir(folder)
        for words, page in todo.items():
            status, error = run(list(words))
            line = " ".join(shlex.join(words).split())
            reason = f" {error}" if status else ""
            sys.stdout.write(f"{status} {page.relative_to(ROOT)}: {line[:100]}{reason}\n")


if __name__ == "__main__":
    named = [Path(page).resolve() for page in sys.argv[2:]]
    every = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    check(Path(sys.argv[1]).resolve(), named or [p for p in every if "generated" not in p.parts])
