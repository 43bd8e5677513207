"""Completion by the shell: every parameter that names something, and the protocol of the shells."""

import os
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete

import queries
from atlas.cli.completion import COMPLETIONS, path_steps
from atlas.cli.main import command, main
from atlas.disk.folder import Folder
from atlas.disk.parts import Part

A, B = "tiny-a-l0-s0", "tiny-a-l1-s0"

#: Parameters of free text, by name: what they name is in no atlas and in no list.
FREE = {
    "ray": "address of a Ray cluster",
    "device": "device of PyTorch",
    "carrier": "sentence",
    "prompt": "sentence",
    "field": "field of a data set",
    "split": "split of a data set",
    "revision": "revision of a data set or a model",
    "name": "name of a new study",
    "params": "NAME=VALUE; each parameter of a query also has an option, which is completed",
    "cypher": "text in Cypher",
    "url": "address of a server",
    "store": "address of a server",
    "address": "address of a server",
    "username": "name of a user",
    "password": "secret",
    "database": "database of a server, which completion does not ask",
}


def parameters(of=None, at=()):
    of = of or command()
    for parameter in of.params:
        yield " ".join(at), parameter
    for name, each in of.commands.items() if isinstance(of, click.Group) else ():
        yield from parameters(each, (*at, name))


def test_every_parameter_of_text_is_completed_or_listed_with_a_reason():
    free = set()
    for name, parameter in parameters():
        if not isinstance(parameter.type, click.types.StringParamType):
            continue  # a number, a switch, a path or a choice, which click completes
        if parameter._custom_shell_complete is None:
            is_sentence = (name, parameter.name) == ("fire", "text")
            assert is_sentence or parameter.name in FREE, (name, parameter.name)
            free.add(parameter.name)
    assert free == {*FREE, "text"}


def test_every_kind_of_name_of_a_query_is_completed():
    named = {p.names for query in queries.every() for p in query.parameters if p.names}
    assert named == {"SAE", "feature", "site", "model", "concept"}
    assert named <= set(COMPLETIONS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Write an atlas of two SAEs with probes of one."""
    path = tmp_path_factory.mktemp("demo") / "d.atlas"
    text = path.with_name("t.txt")
    text.write_text("He saw the big dog. She saw the big dog.\n\nThe dog saw him and her. " * 20)
    for words in (
        ["ingest", "--sae", A, "--sae", B, "--text", str(text), "--no-match"],
        ["probe", B, "--draws", "3", "--controls", "1", "--min-positives", "2"],
    ):
        with pytest.raises(SystemExit) as done:
            main([*words, "--atlas", str(path), "--quiet"])
        assert done.value.code == 0
    return path


@pytest.fixture
def completed(demo, monkeypatch):
    """Complete the last word of a line in the folder of the atlas, without ``--atlas``."""
    monkeypatch.chdir(demo.parent)
    monkeypatch.delenv("ATLAS", raising=False)
    shell = ShellComplete(command(), {}, "atlas", "_ATLAS_COMPLETE")

    def completed(line):
        *words, incomplete = line.split(" ")
        return [item.value for item in shell.get_completions(words, incomplete)]

    return completed


@pytest.mark.parametrize(
    "line",
    [
        "logits ",
        "match-graphs ",
        f"match-graphs {A} ",
        "compare-graphs ",
        "splitting ",
        f"splitting {A} {B} --baseline ",
        "effects --on ",
        f"changes {A}/1 --on ",
        "truth --truth ",
        "transcoder --like ",
        "ingest --floor-of ",
        "steer --sae ",
        "export folder --sae ",
        "plot communities ",
        "query dead_features --sae ",
    ],
)
def test_saes_are_completed(completed, line):
    assert completed(line) == [A, B]
    assert completed(f"{line}tiny-a-l1") == [B]
    assert completed(f"{line}tiny-z") == []


@pytest.mark.parametrize(
    "line", ["changes ", f"changes {A}/1 ", "steer --feature ", "show ", "logits "]
)
def test_features_are_completed(completed, line):
    assert completed(f"{line}{B}/51") == [f"{B}/51", f"{B}/510", f"{B}/511"]
    assert completed(f"{line}{B}/512") == []


def test_the_features_of_the_only_sae_are_completed_without_a_space_after_its_slash(completed):
    assert completed("steer --feature tiny") == [f"{A}/", f"{B}/"]
    assert completed("steer --feature tiny-a-l1")[:2] == [f"{B}/0", f"{B}/1"]


def test_sites_runs_models_pairs_and_atlases_are_completed(completed):
    assert completed("probe-scores --site ") == ["hook_embed"]
    assert set(completed("probe --from ")) == {
        "hook_embed",
        "blocks.0.hook_resid_post",
        "blocks.1.hook_resid_post",
    }
    runs = [f"{split}/active/l2=0.001/min_positives=2" for split in ("document", "type")]
    assert completed("probe-scores --run ") == runs
    assert completed("plot probes --run type") == runs[1:]
    assert completed("transcoder ") == ["tiny-a"]
    assert completed("report geometry --floor ") == ["tiny-a"]
    assert completed("match-graphs A B --chosen-on ") == [f"{A}+{B}", f"{B}+{A}"]
    assert completed("query saes_at_site --site tiny-a/hook") == ["tiny-a/hook_embed"]
    assert completed("push URL --as ") == [f"{A}=", f"{B}="]
    assert completed("list ") == ["d.atlas"]
    assert completed("graph-stats --atlas ") == ["d.atlas"]
    assert completed("show --atlas nowhere tiny") == []


def test_equal_tables_and_the_manifests_are_read_once(completed, monkeypatch):
    read, listed = [], []
    table, sound = Part.table, Folder.sound
    monkeypatch.setattr(Part, "table", lambda *args: read.append(args) or table(*args))
    monkeypatch.setattr(Folder, "sound", lambda *args: listed.append(args) or sound(*args))
    assert len(completed("probe --from ")) == 3
    digests = [(name, part.manifest.tables[name].sha256) for part, name in read]
    assert {name for name, _ in digests} == {"Site", "Model"}
    assert len(digests) == len(set(digests))
    assert len(listed) == 1


def test_names_of_the_program_are_completed(completed):
    assert completed("concepts g") == ["gender"]
    assert completed("subspaces --words k") == ["kinds"]
    assert completed("steer --task fe") == ["feelings"]
    assert completed("mcp --only dead_f") == ["dead_features"]
    assert completed("ingest --sae gemmascope-l2")[:2] == ["gemmascope-l2", "gemmascope-l20"]
    assert completed("ingest --sae mine=tiny-b") == ["mine=tiny-b-l1-s0"]
    assert completed("ingest --sae gpt2-small-res-jb/blocks.11") == [
        "gpt2-small-res-jb/blocks.11.hook_resid_pre",
        "gpt2-small-res-jb/blocks.11.hook_resid_post",
    ]
    assert completed("ingest --sae gpt2-small-res-jb:blocks.10") == [
        "gpt2-small-res-jb:blocks.10.hook_resid_pre"
    ]
    assert "gpt2-small/8-res-jb" in completed("ingest --sae gpt2-small/8")
    assert "gpt2-small-res-jb" in completed("saes gpt2-small-res")


def test_steps_of_names_are_those_between_slashes():
    names = ["a/b/c", "a/b/d", "a/e", "f"]
    assert path_steps(names, "") == ["a/", "f"]
    assert path_steps(names, "a/") == ["a/b/", "a/e"]
    assert path_steps(names, "a/b") == ["a/b/c", "a/b/d"]
    assert path_steps(names, "z") == []
    assert path_steps([], "") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["logits", "tiny-a-l1"], B),
        (["changes", f"{B}/509"], f"{B}/509"),
        (["effects", A, "--on", "tiny-a-l1"], B),
        (["ingest", "--sae", "gemmascope-l25"], "gemmascope-l25"),
    ],
)
def test_bash_gets_names_without_an_import_of_torch(demo, words, expected):
    """The protocol of click: the words of the line in COMP_WORDS, one completion a line."""
    line = {"COMP_WORDS": " ".join(["atlas", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "atlas.cli.main"],
        env={**os.environ, "ATLAS": str(demo), "_ATLAS_COMPLETE": "bash_complete", **line},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[0] == f"plain,{expected}"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "atlas.cli.completion" in imported
    assert not imported & {"torch", "transformers", "sae_lens", "pandas", "scipy"}
