"""The examples in the docstrings of all modules, run on a small demo."""

import doctest
import shutil
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
from small_demo import make_small_demo
from small_synthetic import make_small_synthetic_atlas

import analysis
import ingest
from atlas.plugins import study_commands

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for room in ("queries", "atlas", "ingest", "analysis")
    for path in (ROOT / room).rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)
FUNCTIONS = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (analysis, ingest)
    for name in package.__all__
    if not isinstance(getattr(package, name), type)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    make_small_demo(folder / "demo.atlas")
    shutil.copy(str(files("ingest.demo") / "text.jsonl"), folder / "stories.jsonl")
    make_small_synthetic_atlas(folder)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    output = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(name)):
        result = doctest.DocTestRunner().run(test, out=output.append)
        assert not result.failed, "".join(output)


def test_every_study_has_an_example_that_runs():
    packages = tuple(
        "ingest.match." if kind == "match" else f"{command.package}."
        for kind, command in study_commands().items()
    )
    studies = {
        name: found
        for name, found in FUNCTIONS.items()
        if found.__module__.startswith(packages) and found.__module__.endswith("study")
    }
    assert len(studies) >= len(packages)
    for name, found in studies.items():
        assert ">>> " in found.__doc__, name
        assert "+SKIP" not in found.__doc__, name


def test_examples_of_public_functions_are_in_their_modules():
    for name, found in FUNCTIONS.items():
        if ">>> " in found.__doc__:
            assert found.__module__ in MODULES, name
