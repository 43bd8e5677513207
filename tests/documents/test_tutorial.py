"""The cells of the tutorial run on a small demo, and its text has the numbers of its outputs."""

import re
import sys
from pathlib import Path

import pytest
from small_demo import make_small_demo

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))


def stored():
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(DOCS / "tutorial.ipynb", as_version=4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the Jupyter libraries
def test_every_cell_runs(tmp_path):
    pytest.importorskip("nbclient")
    from make_tutorial import run

    make_small_demo(tmp_path / "demo.atlas")
    book = run(tmp_path)
    kinds = [set(o["data"]) for c in book.cells for o in c.get("outputs", ()) if "data" in o]
    assert sum("text/html" in kind for kind in kinds) == 7
    assert sum("image/png" in kind for kind in kinds) == 1


def test_the_stored_outputs_are_complete_and_show_no_path():
    for cell in stored().cells:
        if cell.cell_type == "code":
            assert cell.outputs, cell.source
            assert not [
                o
                for o in cell.outputs
                if o.output_type in ("error", "stream") and o.get("name") == "stderr"
            ]
            assert not re.search(r"/(?:home|root|tmp|work|Users)/", str(cell.outputs))


def numbers_of_frames(cell):
    """Return the numbers in the data frames that a cell shows."""
    pages = [o["data"].get("text/html", "") for o in cell.get("outputs", ()) if "data" in o]
    values = re.findall(r"<td>([^<]*)</td>", "".join(p for p in pages if 'class="dataframe"' in p))
    return [float(value) for value in values if re.fullmatch(r"-?\d*\.?\d+(?:e-?\d+)?", value)]


def test_each_number_of_the_text_is_in_a_table_above_it():
    found, checked = [], []
    for cell in stored().cells:
        if cell.cell_type == "code":
            found += numbers_of_frames(cell)
            continue
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", cell.source)
        for number in re.findall(r"(?<![\w.])(?:\d+|\d*\.\d+)(?![\w])", prose):
            places = len(number.partition(".")[2])
            assert any(f"{value:.{places}f}".lstrip("0") == number for value in found), number
            checked.append(number)
    assert len(checked) >= 10


def test_the_stored_card_has_the_notes_of_the_current_card():
    """If this fails after a change of the card, run docs/make_tutorial.py."""
    template = (DOCS.parent / "atlas" / "features" / "templates" / "card.html").read_text("utf-8")
    note = re.search(r"Underlined: [^<{]+", template)[0]
    pages = [
        o["data"].get("text/html", "")
        for c in stored().cells
        for o in c.get("outputs", ())
        if "data" in o
    ]
    assert sum(note in page for page in pages) == 1
    assert template.count("<summary>") == 1
    assert sum("<summary>" in page for page in pages) == 1
