"""The examples in the docstrings of public functions, run on a small demo."""

import doctest
from importlib import import_module

import pytest
from small_demo import make_small_demo

import analysis
import atlas
import ingest
from atlas.features.sae_view import SaeView

#: Examples that are not run: they train SAEs, write a synthetic model, or need a download.
NOT_RUN = {"compare_with_truth", "residual_study", "save_synthetic", "train_saes"}

#: Examples of more than about two seconds.
LONG = {
    "ablate_concepts",
    "compare_graphs",
    "compare_states",
    "find_counterparts",
    "map_features",
    "measure_topology",
}

OBJECTS = {
    **{f"analysis.{name}": getattr(analysis, name) for name in analysis.__all__},
    **{f"ingest.{name}": getattr(ingest, name) for name in ingest.__all__},
    "atlas.Atlas": atlas.Atlas,
    "SaeView": SaeView,
}
WITH_EXAMPLES = sorted(
    name for name, found in OBJECTS.items() if ">>> " in (getattr(found, "__doc__", None) or "")
)
STUDIES = {
    name
    for name in analysis.__all__
    if getattr(analysis, name).__module__.endswith((".study", "_study", ".intervene", ".texts"))
    and not isinstance(getattr(analysis, name), type)
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    make_small_demo(folder / "demo.atlas")
    return folder


def run(name, folder, monkeypatch):
    found = OBJECTS[name]
    monkeypatch.chdir(folder)
    names = vars(import_module(found.__module__)).copy()
    tests = doctest.DocTestFinder(recurse=True, exclude_empty=True).find(found, name, globs=names)
    output = []
    for test in tests:
        result = doctest.DocTestRunner().run(test, out=output.append)
        assert not result.failed, "".join(output)
    return tests


def test_every_study_has_an_example_that_runs():
    for name in STUDIES:
        text = OBJECTS[f"analysis.{name}"].__doc__
        assert ">>> " in text, name
        assert name in NOT_RUN or "+SKIP" not in text, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [n for n in WITH_EXAMPLES if n.rpartition(".")[2] not in LONG | NOT_RUN]
)
def test_an_example_runs(name, demo, monkeypatch):
    assert run(name, demo, monkeypatch)


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in WITH_EXAMPLES if n.rpartition(".")[2] in LONG])
def test_a_long_example_runs(name, demo, monkeypatch):
    assert run(name, demo, monkeypatch)
