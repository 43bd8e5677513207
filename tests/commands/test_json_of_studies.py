"""``--json`` of every study has its verdict, its provenance, and all that its tables print."""

import json
import math
import re
import sys

import numpy as np
import pytest
from study_arguments import ARGUMENTS, MAY_NEED_INPUTS

from atlas.cli.main import command, main
from atlas.cli.output.tables import print_table
from atlas.cli.output.text import emit
from atlas.plugins import study_commands
from atlas.safe_text import shown

STUDIES = sorted({str(each.name) for each in study_commands().values()})
CASES = [(name, ARGUMENTS.get(name, [])) for name in STUDIES] + [
    ("steer", ["tiny-a-l1-s0/7", "--task", "feelings", "--random", "2"]),
    ("logits", ["tiny-a-l1-s0/7"]),
]
#: Studies without a table on the small demo: no concept has enough matched pairs.
NO_TABLE = ("subspaces",)
FEATURE = re.compile(r"tiny-a-[\w-]+/\d+")


def values(content):
    """Return all numbers and texts of JSON."""
    numbers, texts = [], []
    stack = [content]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, str):
            texts.append(one)
        elif isinstance(one, int | float):
            numbers.append(float(one))
    return np.sort(np.array([*numbers, 0.0, 1.0])), " ".join(texts)


def is_among(number, numbers):
    """Return whether a number of a table is among those of JSON, which has all its digits."""
    at = np.searchsorted(numbers, number)
    near = numbers[max(0, at - 1) : at + 1]
    return bool(np.any(np.abs(near - number) <= 0.006 * abs(number)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from tests.support.small_demo import make_small_demo

    path = tmp_path_factory.mktemp("json") / "a.atlas"
    make_small_demo(path)
    return path


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    from tests.support.small_synthetic import make_small_synthetic_atlas

    return make_small_synthetic_atlas(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def printed(monkeypatch):
    """Record the rows of all tables."""
    rows = []

    def record(listed, **options):
        columns = options.get("columns")
        rows.extend({n: r.get(n) for n in columns} if columns else dict(r) for r in listed)
        print_table(listed, **options)

    command()  # imports the modules of all commands
    for name, module in list(sys.modules.items()):
        if name != __name__ and vars(module).get("print_table") is print_table:
            monkeypatch.setattr(module, "print_table", record)
    return rows


@pytest.mark.deep
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[" ".join((n, *a)) for n, a in CASES])
def test_json_has_the_verdict_the_provenance_and_the_tables(
    request, name, arguments, printed, tmp_path, capsys
):
    if name == "residual":  # it creates its atlas
        path = tmp_path / "residual.atlas"
    else:
        path = request.getfixturevalue("synthetic" if name == "truth" else "demo")
    capsys.readouterr()
    outputs = []
    for more in (["--rows"], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([name, *arguments, "-q", "--atlas", str(path), *more])
        found = capsys.readouterr()
        if name in MAY_NEED_INPUTS and ended.value.code:
            pytest.skip(found.err[-200:] + found.out[-200:])
        assert ended.value.code == 0, found.err[-500:]
        outputs.append(found.out)
    text, content = outputs[0], json.loads(outputs[1])
    assert [key for key in content if key != "ok"] == ["verdict", "result", "provenance"]
    assert all(shown(sentence) in text for sentence in content["verdict"][:1])
    provenance = content["provenance"]
    assert provenance["command"].startswith(f"atlas {name} ")
    assert provenance["atlas"]["uuid"]
    for one in provenance["results"]:
        assert one["settings"] is not None
        assert "seed" in one
        assert one["version"]
    numbers, texts = values(content["result"])
    cells = [(key, value) for row in printed for key, value in row.items()]
    assert cells or name in NO_TABLE or "--prompt" in arguments  # which prints texts
    missing = [
        (key, value)
        for key, value in cells
        if isinstance(value, int | float) and math.isfinite(value) and not is_among(value, numbers)
    ]
    assert missing == []
    features = {
        one for _, value in cells if isinstance(value, str) for one in FEATURE.findall(value)
    }
    assert [one for one in features if one not in texts] == []


def test_verdict_sentences_are_in_json_as_printed(capsys):
    emit([], as_json=True, show=lambda: None, verdict=["A sentence."])
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "verdict": ["A sentence."],
        "result": [],
    }
