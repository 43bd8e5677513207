"""The steps of CONTRIBUTING, run on a copy, add a study: a folder, a test file, a page and a line.

The new study is a renamed copy of `analysis/positions`, as CONTRIBUTING advises.
"""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["queries", "atlas", "ingest", "analysis", "benchmarks", "docs", "examples", "tests"]
NAMES = {
    "activation_by_position": "activation_by_shade",
    "PositionSettings": "ShadeSettings",
    "PositionStudy": "ShadeStudy",
    "analysis.positions": "analysis.shades",
    "atlas positions": "atlas shades",
    '"positions"': '"shades"',
    "positions = study_command": "shades = study_command",
    "commands:positions": "commands:shades",
    "# Positions": "# Shades",
}
WRITTEN = {
    "analysis/commands.py",
    "analysis/shades/__init__.py",
    "analysis/shades/commands.py",
    "analysis/shades/plots.py",
    "analysis/shades/settings.py",
    "analysis/shades/study.py",
    "docs/shades.md",
    "tests/test_shades.py",
}
GENERATED = {"CONTRIBUTING.md", "analysis/__init__.py", "docs/format.md", "docs/guides.md"}


def renamed(text):
    for old, new in NAMES.items():
        text = text.replace(old, new)
    return text


def files(root):
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def python(root, *words):
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Copy the repository, and add a study to the copy."""
    root = tmp_path_factory.mktemp("house")
    ignored = shutil.ignore_patterns("__pycache__", "generated", ".*_cache", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, root)

    (root / "analysis" / "shades").mkdir()
    for old in (root / "analysis" / "positions").glob("*.py"):
        (root / "analysis" / "shades" / old.name).write_text(renamed(old.read_text("utf-8")))
    (own_test,) = (root / "tests").rglob("test_positions.py")
    for old, new in ((own_test, "test_shades.py"), (root / "docs" / "positions.md", "shades.md")):
        (old.parent / new).write_text(renamed(old.read_text("utf-8")), "utf-8")
    room = root / "analysis" / "commands.py"
    lines = room.read_text("utf-8").splitlines(keepends=True)
    (at,) = (i for i, line in enumerate(lines) if "commands:positions" in line)
    lines.insert(at + 1, renamed(lines[at]))
    room.write_text("".join(lines), "utf-8")

    for script in sorted((root / "docs").glob("make_*.py")):
        if "--check" in script.read_text("utf-8"):
            python(root, str(script))
    return root


@pytest.mark.slow
def test_a_study_adds_only_the_documented_files(repository):
    changed = {
        name
        for name in files(repository)
        if not (ROOT / name).exists()
        or not filecmp.cmp(repository / name, ROOT / name, shallow=False)
    }
    moved = {name for name in changed if name.endswith("test_shades.py")}
    assert len(moved) == 1
    assert changed - moved == (WRITTEN | GENERATED) - {"tests/test_shades.py"}


@pytest.mark.slow
def test_the_study_has_a_command_a_plot_and_python_names(repository):
    code = (
        "import analysis\n"
        "from atlas.cli.main import command\n"
        "from atlas.plugins import find_plotter, study_commands\n"
        "assert analysis.__file__.startswith('{root}')\n"
        "assert 'activation_by_shade' in dir(analysis)\n"
        "assert analysis.ShadeSettings(draws=3).draws == 3\n"
        "assert analysis.activation_by_shade.__module__ == 'analysis.shades.study'\n"
        "assert find_plotter('shades').__module__ == 'analysis.shades.plots'\n"
        "print(study_commands()['shades'].example)\n"
        "print(command().commands['shades'].get_short_help_str(80))\n"
    )
    found = python(repository, "-c", code.replace("{root}", str(repository))).splitlines()
    assert found[0] == "atlas shades A"
    assert found[1].startswith("Compare activations")
    assert "| `atlas shades` | [Shades](shades.md) |" in (repository / "docs/guides.md").read_text()
    assert "`analysis/shades/study.py`" in (repository / "docs/format.md").read_text()


@pytest.mark.deep
def test_the_tests_of_the_structure_pass_with_the_study(repository):
    chosen = (
        "not test_add_a_study and (shades or test_docs or test_analysis_names or test_house or "
        "test_study_command or a_case or has_a_plot or has_an_example or has_a_command)"
    )
    python(repository, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-k", chosen, "tests")
