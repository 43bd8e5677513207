"""The comparison with other tools measures processes and names missing tools."""

import sys

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import MISSING, PEERS, summary, timed


def test_a_process_is_measured_with_its_exit_code_and_last_line():
    code = "import sys; x = bytearray(200 * 2**20); print('first'); print('last'); sys.exit(5)"
    used, exit_code, last = timed([sys.executable, "-c", code])
    assert (exit_code, last) == (5, "last")
    assert used["wall"] > 0
    assert used["GiB"] > 0.19


def test_medians_are_compared_with_the_ingest():
    def run(wall):
        return {"wall": wall, "cpu": 2 * wall, "GiB": 1.0}

    rows = summary({"atlas": [run(4.0), run(2.0), run(3.0)], "plain": [run(6.0)], "delphi": []})
    assert [row["tool"] for row in rows] == ["atlas", "plain"]
    assert rows[0]["runs"] == 3
    assert rows[0]["wall"] == 3.0
    assert rows[1]["wall / atlas"] == rows[1]["cpu / atlas"] == 2.0


def test_a_missing_library_is_named(tmp_path):
    np.save(tmp_path / "tokens.npy", np.zeros((2, 4), dtype=np.int64))
    (tmp_path / "delphi.py").write_text("raise ImportError('No module named faiss')")
    words = ["delphi", "model", "sae", str(tmp_path / "tokens.npy"), "0", str(tmp_path)]
    start = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['x', *{words!r}]; "
    )
    start += f"runpy.run_path({str(PEERS)!r}, run_name='__main__')"
    _, code, last = timed([sys.executable, "-c", start])
    assert (code, last) == (MISSING, "No module named faiss")


def test_a_missing_tool_is_skipped_and_named(monkeypatch, capsys):
    monkeypatch.setattr(peers, "prepare", lambda *_: {})
    monkeypatch.setattr(peers, "command", lambda tool, *_: [tool])
    used = {"wall": 1.0, "cpu": 1.0, "GiB": 1.0}
    monkeypatch.setattr(
        peers,
        "timed",
        lambda words: (
            (used, MISSING, "No module named delphi") if words == ["delphi"] else (used, 0, "")
        ),
    )
    words = ["peers", "--model", "m", "--text", "t", "--tools", "atlas", "delphi", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", words)
    peers.main()
    printed = capsys.readouterr().out
    assert "delphi is skipped: No module named delphi." in printed
    assert printed.count("delphi is skipped") == 1


@pytest.mark.parametrize("tool", ["plain", "delphi", "dashboard"])
def test_each_peer_gets_the_model_the_sae_and_the_tokens(tool):
    import argparse

    args = argparse.Namespace(model="m", python="/peers/python")
    paths = {"sae": "s", "tokens.npy": "t"}
    words = peers.command(tool, args, paths, PEERS.parent)
    assert words[0] == (sys.executable if tool == "plain" else "/peers/python")
    assert words[2:6] == [tool, "m", "s", "t"]
