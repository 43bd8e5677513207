"""docs/gpu.md lists the studies that open a model or an SAE, and the test of each on the pretend GPU."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretend_device import pretend_gpu
from small_ingest import model, texts, topk

import analysis
import ingest
from analysis.graph_matching.subject import decoder_scores
from atlas.disk.folder import Folder
from atlas.studies.study import Study
from ingest.match import cosines
from ingest.sae.autoencoder import open_sae
from ingest.sae.record import reopen_sae

TESTS = Path(__file__).parent
PAGE = (TESTS.parents[1] / "docs/gpu.md").read_text("utf-8")

#: Names that open a model or an SAE, or compute with torch.
OPENS = r"\btorch\b|\breopen_\w+|\bopen_(sae|model)\b|\bdecoder(s|_rows)\(|\bAutoencoder\b"


def studies() -> dict[str, type[Study]]:
    """Return the studies of all packages by their command."""
    for package in (analysis, ingest):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(".study"):
                importlib.import_module(module.name)
    found, waiting = {}, [Study]
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            if each.__module__.startswith(("analysis.", "ingest.")) and hasattr(each, "kind"):
                found[each.command or each.kind] = each
    return found


def rows(first: str) -> list[tuple[str, str, str]]:
    """Return the rows of the table whose header begins with a word."""
    table = PAGE.split(f"\n| {first} | on the pretend device", 1)[1].split("\n\n", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [(what, result, tests) for what, result, tests in cells]


STUDIES = studies()
LISTED = {name: row for row in rows("study") for name in re.findall("`(.*?)`", row[0])}


def test_listed_studies_exist_and_are_listed_once() -> None:
    assert STUDIES.keys() >= LISTED.keys()
    names = [name for row in rows("study") for name in re.findall("`(.*?)`", row[0])]
    assert len(names) == len(set(names)) > 20


@pytest.mark.parametrize("row", [*rows("part"), *rows("study")], ids=lambda row: row[0])
def test_the_tests_exist(row: tuple[str, str, str]) -> None:
    named = re.findall("`([^`]+)::([^`]+)`", row[2])
    assert named or row[2] == "–"
    for file, test in named:
        assert f"\ndef {test}(" in (TESTS / file).read_text("utf-8")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_in_its_test_or_needs_none(name: str) -> None:
    _, reason, tests = LISTED.get(name, ("", "not listed: reads stored tables only", "–"))
    module = importlib.import_module(STUDIES[name].__module__)
    files = re.findall("`([^`]+)::", tests)
    if files:
        runs = [
            function
            for function, value in vars(module).items()
            if inspect.isfunction(value)
            and f"{STUDIES[name].__name__}(" in inspect.getsource(value)
        ]
        text = "".join((TESTS / file).read_text("utf-8") for file in files)
        assert any(re.search(rf"\b{function}\b[(,]", text) for function in runs), runs
        return
    folder = Path(str(module.__file__)).parent
    used = {
        one[0]
        for path in folder.glob("*.py")
        for one in re.finditer(OPENS, path.read_text("utf-8"))
    }
    if "tables" in reason:
        assert not used
    elif reason == "opens SAEs on the processor":  # see the test of decoders below
        assert used == {"decoders("}
    else:
        pytest.fail(f"The row of `{name}` has no test, and its reason is not known: {reason}")


def test_decoders_of_graph_matching_are_read_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.atlas"
    saes = []
    for seed in (0, 1):
        topk(seed=seed).save_model(tmp_path / f"sae-{seed}")
        saes.append(str(tmp_path / f"sae-{seed}"))
    ingest.ingest(path, saes=saes, text=texts(4), model=model(), match=None).close()
    devices = []

    def reopened(*args: Any, **named: Any) -> Any:
        sae = reopen_sae(*args, **named)
        devices.append(sae.device.type)
        return sae

    monkeypatch.setattr(cosines, "reopen_sae", reopened)
    with pretend_gpu():
        found = decoder_scores(Folder.open(path), "sae-0", "sae-1", features=np.arange(3))
    assert devices == ["cpu", "cpu"]
    a, b = (topk(seed=seed).W_dec.detach().double().numpy() for seed in (0, 1))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    assert found is not None
    np.testing.assert_allclose(found, a[:3] @ b.T, atol=1e-5)


def test_saes_are_opened_on_the_processor_unless_a_device_is_named() -> None:
    with pretend_gpu():
        assert open_sae(topk()).device.type == "cpu"
