"""Ctrl-C is one message and exit status 130, also while modules are imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from small_parts import small_atlas

from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part
from atlas.errors import Interrupted

SUPPORT = Path(__file__).parents[1] / "support"

#: Runs the command, and sends itself SIGINT when a module is imported.
CHILD = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
MODULE = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
from atlas.cli.entry import main
main()
"""


def interrupted(module, *words):
    """Run the command, interrupted when it imports a module."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, module, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130, done
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("interrupted") / "a.atlas"
    small_atlas(path)
    return path


@pytest.mark.parametrize(
    "module",
    [
        "click",  # by the module of the command
        "atlas.plugins",
        "analysis.commands",  # by its entry point
        "ingest.commands",
        "atlas.disk.folder",  # by the command
        "pyarrow",
    ],
)
def test_ctrl_c_while_a_module_is_imported_is_one_message(folder, module):
    done = interrupted(module, "list", "-a", str(folder))
    assert done.stdout == ""
    assert done.stderr.strip() == f"atlas: {Interrupted()}"


@pytest.mark.parametrize("module", ["click", "pyarrow"])
def test_ctrl_c_with_json_is_one_line_of_json(folder, module):
    done = interrupted(module, "list", "--json", "-a", str(folder))
    assert json.loads(done.stdout) == {
        "ok": False,
        "error": {"type": "Interrupted", "message": str(Interrupted())},
    }
    assert done.stderr.strip() == ""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_ctrl_c_ends_the_workers_of_a_study_and_their_scratch_files(tmp_path):
    """The terminal sends Ctrl-C to the workers too; only the parent reports it."""
    path = tmp_path / "a.atlas"
    small_atlas(path)
    folder = Folder.open(path)
    for name in ("b", "c"):
        for kind in ("sae", "tokens"):
            manifest = Manifest(kind=kind, name=name, saes=(name,))
            write_part(folder.part(kind, name), manifest, [("x", pa.table({"n": [1]}))])
    running = subprocess.Popen(
        [sys.executable, str(SUPPORT / "interrupted_study.py"), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, errors = running.communicate()  # until the workers have closed their ends
    assert running.returncode == 130, errors
    assert out == ""
    assert errors.strip() == f"atlas: {Interrupted()}"
    assert [p.name for p in folder.cache.rglob("*") if "study-" in p.name] == []
    assert [p.name for p in path.rglob("unfinished")] == []
