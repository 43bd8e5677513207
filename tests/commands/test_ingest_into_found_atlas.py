"""``atlas ingest`` without ``--atlas`` states which atlas it changes, before any work."""

import pytest
from recording_progress import RecordingProgress
from small_ingest import model, named, run, texts, topk

from ingest.forward import request
from ingest.settings import Settings


@pytest.mark.parametrize(("found", "text"), [(True, None), (True, "a text"), (False, None)])
def test_the_report_names_the_atlas_and_what_it_holds(tmp_path, monkeypatch, found, text):
    path = tmp_path / "demo.atlas"
    run(path, model(), [named(topk(k=4), "top"), named(topk(k=5), "two")], texts(6))
    recorded = RecordingProgress()
    stated = []
    monkeypatch.setattr(request, "ingest", lambda *_, **__: stated.append([*recorded.messages]))
    request.run_command(
        path,
        saes=["gpt2-small/8-res-jb"],
        text=text,
        model=None,
        settings=Settings(),
        match=None,
        probe=(),
        replace=False,
        progress=recorded,
        found=found,
    )
    on = ", on the text of this atlas" if text is None else ""
    expected = (
        f"Adds gpt2-small/8-res-jb to {path}, which holds top, two{on}. "
        "For another atlas, pass its path."
    )
    assert stated == [[expected] if found else []]
