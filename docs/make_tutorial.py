"""Write docs/tutorial.ipynb: run its cells on a demo atlas, and store their outputs.

    python docs/make_tutorial.py demo.atlas

The cells are those of the stored notebook. To change the tutorial, edit the notebook in Jupyter
or as text, and run this.
"""

import sys
from pathlib import Path

__all__ = ["run"]

NOTEBOOK = Path(__file__).resolve().parent / "tutorial.ipynb"


def run(folder, notebook=NOTEBOOK):
    """Return the notebook after its cells were run in a folder that holds ``demo.atlas``.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises an exception.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(notebook, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return book


if __name__ == "__main__":
    import nbformat

    atlas = Path(sys.argv[1]).resolve()
    book = run(atlas.parent)
    for cell in book.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)
    book.metadata = {"language_info": {"name": "python"}, "kernelspec": book.metadata["kernelspec"]}
    nbformat.write(book, NOTEBOOK)
