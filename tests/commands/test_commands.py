"""The command line: results on stdout, messages on stderr, exit status 0, 1 or 2."""

import io
import json
import subprocess
import sys

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command_results import result

from atlas.cli.main import main
from atlas.schema import EDGES, NODES

STORIES = (
    "Once upon a time there was a little girl named Lily. She loved to play in the park.",
    "Tom saw a big red ball. He wanted to play with it, but it was not his ball.",
    "The cat was very sad. A bird came and said, “Do not be sad, let us play together!”",
) * 3


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Write a text and its atlas by the command line; return their folder."""
    folder = tmp_path_factory.mktemp("here")
    lines = (json.dumps({"text": f"{s} ({i})"}) for i, s in enumerate(STORIES))
    (folder / "stories.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("ATLAS", raising=False)
        with pytest.raises(SystemExit) as done:
            main(
                [
                    "ingest",
                    "--sae",
                    "tiny-a-l1-s0",
                    "--text",
                    "stories.jsonl",
                    "-a",
                    "s.atlas",
                    "-q",
                ]
            )
    assert done.value.code == 0
    return folder


@pytest.fixture
def atlas(here, monkeypatch, capsys):
    """Run a command in the folder of the atlas; return exit status, stdout and stderr."""
    monkeypatch.chdir(here)
    for name in ("ATLAS", "NEO4J_URI", "NEO4J_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        out = capsys.readouterr()
        assert "Traceback" not in out.out + out.err
        return done.value.code, out.out, out.err

    return run


def test_ingest_remarks_on_few_tokens(here, atlas):
    status, out, _ = atlas(
        "ingest",
        "--sae",
        "tiny-a-l1-s0",
        "--text",
        "stories.jsonl",
        "-a",
        "s.atlas",
        "-q",
        "--json",
    )
    assert status == 0
    (remark,) = json.loads(out)["result"]["remarks"]
    assert remark.endswith(" may look dead (probability above 5%).")


def test_list_shows_the_saes(atlas):
    code, out, _ = atlas("list")
    assert code == 0
    assert "tiny-a-l1-s0" in out
    (row,) = result(atlas("list", "--json"))
    assert (row["sae"], row["model"], row["d_sae"]) == ("tiny-a-l1-s0", "tiny-a", 512)
    assert row["dead"] == round(row["dead_share"] * 512)


def test_query_lists_the_questions(atlas):
    names = [q["name"] for q in result(atlas("query", "--json"))]
    assert "feature_card" in names


def test_a_named_query_returns_rows(atlas):
    rows = result(atlas("query", "feature_card", "--param", "feature=tiny-a-l1-s0/5", "--json"))
    assert [r["feature"] for r in rows] == ["tiny-a-l1-s0/5"]


def test_cypher_of_the_user_returns_rows(atlas):
    words = ["query", "--cypher", "MATCH (f:Feature) WHERE f.idx < $n RETURN count(f) AS n"]
    assert result(atlas(*words, "--param", "n=5", "--json")) == [{"n": 5}]
    code, out, err = atlas(*words, "--param", "n=5")
    assert (code, out.split()) == (0, ["n", "5"])
    assert "1 row" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["query", "feature_crad"], "Nearest: feature_card"),
        (["query", "feature_card", "--param", "x"], "expected NAME=VALUE"),
        (["query", "feature_card", "-p", "feature=tiny-a-l1-s0/9999"], "to tiny-a-l1-s0/511"),
        (["query", "feature_card", "-p", "feature=tiny-a-l1-s0"], "to tiny-a-l1-s0/511"),
        (["query", "dead_features", "-p", "sae=tiny-a-l1-s9"], "Nearest: tiny-a-l1-s0"),
        (["query", "saes_at_site", "-p", "site=tiny-a/blocks.7"], "tiny-a/blocks.1"),
        (["query", "feature_card", "--param", "x=1"], "feature"),
        (["query", "feature_card", "--cypher", "RETURN 1"], "only one of them"),
        (["query", "--cypher", "MATCH (f:Feature RETURN f"], ""),
        (["query", "--cypher", "CREATE (:Feature {id: 'x'})"], ""),
        (["query", "--cypher", "MATCH (f:Feature {id: $id}) RETURN f.idx"], "id"),
        (["list", "--atlas", "nowhere.atlas"], "no atlas at nowhere.atlas"),
        (["ingest", "--sae", "tiny-a-l1-s9"], "tiny-a-l1-s1"),
        (["ingest"], "No SAE was named"),
        (["ingest", "--sae", "tiny-a-l1-s1", "--text", "nothing.jsonl"], "nothing.jsonl"),
        (["ingest", "--sae", "tiny-a-l1-s1", "--tokens", "10"], "already has its corpus"),
        (["ingest", "--sae", "tiny-a-l1-s1", "--tokens", "0"], "0"),
        (["ingest", "--sae", "tiny-a-l1-s1", "--model", "tiny-b"], "80"),
        (["ingest", "--resume"], "nothing to resume"),
        (["ingest", "--resume", "--sae", "x"], "omit either --sae or --resume"),
        (["rm", "tiny-a-l1-s9", "--yes"], "Nearest: tiny-a-l1-s0"),
        (["push", "demo.atlas"], "Missing argument 'URL'"),
        (["push", "stories.jsonl"], "not the URL of a server"),
        (["export"], "FOLDER"),
        (["export", "stories.jsonl"], "is a file"),
    ],
)
def test_an_invalid_request_is_exit_2_and_one_message(atlas, words, sentence):
    code, out, err = atlas(*words)
    assert (code, out) == (2, "")
    assert sentence in err
    envelope = json.loads(atlas(*words, "--json")[1])
    assert envelope["ok"] is False
    assert sentence in envelope["error"]["message"] or sentence == "FOLDER"


def test_another_corpus_is_refused(atlas, here):
    (here / "other.txt").write_text("Another text.")
    code, _, err = atlas("ingest", "--sae", "tiny-a-l1-s1", "--text", "other.txt")
    assert code == 2
    assert "An atlas has one corpus" in err


def test_an_unreachable_server_is_exit_1(atlas):
    code, _, err = atlas("push", "bolt://127.0.0.1:9")
    assert code == 1
    assert "127.0.0.1:9" in err


def test_export_writes_all_tables(atlas, tmp_path):
    written = result(atlas("export", str(tmp_path / "parquet"), "--json"))
    assert set(written) == {t.name for t in (*NODES, *EDGES)}
    assert pq.read_table(tmp_path / "parquet" / "Feature.parquet").num_rows == 512
    atlas("export", str(tmp_path / "csv"), "--format", "csv")
    for name, rows in written.items():
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(tmp_path / "csv" / f"{name}.csv", parse_options=options)
        assert table.num_rows == rows
    example = table_of(tmp_path / "csv" / "Example.csv")[0]
    assert "".join(json.loads(example["tokens"])) == example["text"]


def table_of(path):
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, parse_options=options).to_pylist()


def test_doctor_reports_a_sound_atlas(atlas):
    code, out, _ = atlas("doctor")
    assert code == 0
    assert "all checksums match" in out
    about = {c["about"] for c in result(atlas("doctor", "--json"))}
    assert {"Python", "libraries", "device", "demo"} <= about


def test_doctor_reports_a_changed_byte(atlas, here):
    path = here / "s.atlas" / "parts" / "examples" / "tiny-a-l1-s0" / "Example.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    try:
        code, out, _ = atlas("doctor")
        assert code == 1
        assert (
            "examples/tiny-a-l1-s0 is broken: its table Example has changed since it was written"
            in out
        )
        code, _, err = atlas("export", "anywhere")
        assert code == 1
        assert "--replace" in err
    finally:
        path.write_bytes(content)


def test_several_atlases_must_be_named(atlas, here):
    (here / "t.atlas").mkdir()
    (here / "t.atlas" / "atlas.json").write_text("{}")
    try:
        code, _, err = atlas("list")
        assert code == 2
        assert "several atlases here (s.atlas, t.atlas)" in err
    finally:
        (here / "t.atlas" / "atlas.json").unlink()


def test_rm_removes_an_sae_and_the_parts_computed_from_it(atlas, monkeypatch):
    assert atlas("ingest", "--sae", "tiny-a-l0-s0", "-q")[0] == 0
    assert len(result(atlas("list", "--json"))) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no answer to the question
    code, _, err = atlas("rm", "tiny-a-l0-s0")
    assert code == 1
    assert "Nothing was removed." in err
    removed = result(atlas("rm", "tiny-a-l0-s0", "--yes", "--json"))["removed"]
    assert set(removed) == {
        f"{k}/tiny-a-l0-s0"
        for k in ("sae", "statistics", "fidelity", "tokens", "examples", "coactivation", "codes")
    }
    assert [r["sae"] for r in result(atlas("list", "--json"))] == ["tiny-a-l1-s0"]


def test_list_accepts_the_path_as_an_argument(atlas):
    code, named, _ = atlas("list", "s.atlas", "--json")
    assert code == 0
    assert named == atlas("list", "--atlas", "s.atlas", "--json")[1]
    code, _, err = atlas("list", "s.atlas", "--atlas", "other.atlas")
    assert code == 2
    assert "Two atlases are named" in err


@pytest.mark.parametrize("module", ["atlas", "atlas.cli.main"])
def test_modules_run_as_the_command(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "saes", "--cached", "--unknown"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("atlas: --unknown is no option of `atlas saes`.")


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["list", "nothere.atlas"], 2)])
def test_a_process_with_torch_ends_without_destroying_its_objects(words, status, tmp_path):
    code = (
        "import atexit, sys, types\n"
        "from atlas.cli.main import main\n"
        # Stands for the real one, which takes a second to import and another to destroy.
        "sys.modules['torch'] = torch = types.ModuleType('torch')\n"
        "class Destroyed:\n"
        "    def __del__(self): print('destroyed')\n"
        "torch.object = Destroyed()\n"
        "atexit.register(print, 'exit function')\n"
        f"sys.argv = ['atlas', *{words!r}]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == status
    assert done.stdout.endswith("exit function\n")
    assert bool(done.stderr) == bool(status)
