"""Run the commands of the pages that only read an atlas, and compare what they print with the pages.

    python docs/run_commands.py demo.atlas [PAGE …]

The exit status of each command is printed. ``A`` and ``B`` in a command are two SAEs of the demo. Status 2
has a message, such as the name of the study that the atlas does not have. Files are written to a temporary
folder. For a command after ``$ ``, each line of the page that the command does not print follows its status;
in a page, ``…`` represents what is omitted.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]

#: Commands that read an atlas and finish in seconds.
READERS = ("fire", "list", "plot", "probe-scores", "query", "saes", "show")

#: What marks a command as open: a value that the reader chooses, or another atlas.
OPEN = ("…", "$", "neo4j:", "--atlas", "NAME", "WORD", "SAE/")

#: Columns of the terminals whose output a page may show.
WIDTHS = ("80", "200")

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


def outputs(page):
    """Return the lines that a page prints below each command after ``$ ``, by the words of the command."""
    found = {}
    for block in re.findall(
        r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r'(?:[^\n"\']|"[^"]*"|\'[^\']*\')*', part)[0]
            found[tuple(shlex.split(command))] = part[len(command) :].strip().splitlines()
    return found


def missing(lines, output):
    """Return the lines of a page that are not in an output: their pieces between ``…``, in order.

    If the first line ends in ``…``, the last columns of all lines are omitted.
    """
    rows, absent = [" ".join(row.split()) for row in output.splitlines()], []
    omitted = ".*" if lines and lines[0].endswith("…") else ""
    for line in lines:
        pieces = [re.escape(" ".join(piece.split())) for piece in line.split("…")]
        if not any(re.fullmatch(".*".join(pieces) + omitted, row) for row in rows):
            absent.append(line)
    return absent


def run(words):
    """Run a command in this process; return its exit status, its output, and the last line of its errors."""
    from atlas.cli.main import main

    sys.argv, printed, errors, status = words, io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            main(words[1:])  # without arguments, it would end this process
        except SystemExit as end:
            status = end.code or 0
    output = re.sub(r"\x1b\[[\d;]*m", "", printed.getvalue())
    return status, output, (errors.getvalue().strip().splitlines() or [""])[-1]


def check(atlas, pages):
    """Run the commands of the pages on an atlas; those whose output is shown, also as on terminals."""
    todo = [(page, words) for page in pages for words in dict.fromkeys(map(tuple, commands(page)))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "demo.atlas").symlink_to(atlas, target_is_directory=True)
        os.chdir(folder)
        for page, words in todo:
            shown = outputs(page).get(words, [])
            status, output, error = run(list(words))
            for width in WIDTHS if shown else ():
                with mock.patch.dict(os.environ, TTY_COMPATIBLE="1", NO_COLOR="1", COLUMNS=width):
                    output += run(list(words))[1]
            line = " ".join(shlex.join(words).split())
            reason = f" {error}" if status else ""
            sys.stdout.write(f"{status} {page.relative_to(ROOT)}: {line[:100]}{reason}\n")
            for absent in missing(shown, output):
                sys.stdout.write(f"  not printed: {absent}\n")


if __name__ == "__main__":
    named = [Path(page).resolve() for page in sys.argv[2:]]
    every = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    check(Path(sys.argv[1]).resolve(), named or [p for p in every if "generated" not in p.parts])
