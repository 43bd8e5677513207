"""Run every command on an atlas whose model, SAEs, tokens and documents have hostile names."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest
from hostile_texts import Scripts
from random_models import random_model, small_tokenizer
from small_ingest import texts, topk

from atlas.cli.main import command, main
from atlas.disk.folder import Folder
from atlas.plugins import study_commands
from atlas.schema import TABLES
from atlas.studies.study import Study
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae

TOKENS = [
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=alert(1)>",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "a\u202eb",
    "line\nbreak\r",
    "[red]x[/red]",
    "=cmd|'/c calc'!A1",
    "@SUM(A1)",
]
NAME = "=<img src=x onerror=alert(1)>\x1b[2J\u202e[red]{}"
"""Name of a model or an SAE; without a slash, since both are names of folders."""
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
ONE, OTHER = NAME.format("one"), NAME.format("other")
FEW = ["--draws", "3"]


def requests(study):
    """Return requests of the command of a study: on SAEs of the atlas, and on an unknown one."""
    words = ["A"] if study.example.endswith(f" {study.name}") else study.example.split()[2:]
    saes = [ONE, OTHER][: len(words)]
    few = FEW if any("--draws" in option.opts for option in study.params) else []
    return [[study.name, *saes, *few], [study.name, *saes[:-1], NAME]]


CASES = {study.name: requests(study) for study in study_commands().values()} | {
    "ingest": [["ingest", "--text", "{text}", "--sae", "{hostile}"]],
    "match": [["match", ONE, OTHER, *FEW, "--min-joint", "1", "--replace"], ["match", NAME]],
    "probe": [["probe", ONE, *FEW, "--controls", "1", "--min-positives", "1"], ["probe", NAME]],
    "probe-scores": [
        ["probe-scores"],
        ["probe-scores", ONE, "--by", "layer"],
        ["probe-scores", NAME],
    ],
    "plot probes": [["plot", "probes", "--out", "{out}.html"], ["plot", "probes", NAME]],
    "plot graphs": [["plot", "graphs", "--out", "{out}.html"], ["plot", "graphs", NAME]],
    "communities": [
        ["communities", *FEW, "--runs", "2", "--splits", "1", "--replace"],
        ["communities", NAME],
    ],
    "plot communities": [
        ["plot", "communities", ONE, "--out", "{out}.html"],
        ["plot", "communities", ONE, "--features", "--out", "{out}.svg"],
    ],
    "compare-graphs": [
        ["compare-graphs", ONE, OTHER, *FEW, "--out", "{out}.html"],
        ["compare-graphs", ONE, NAME],
    ],
    "match-graphs": [
        ["match-graphs", ONE, OTHER, "--draws", "20", "--repeats", "1"],
        ["match-graphs", NAME, ONE],
    ],
    "transcoder": [
        [
            "transcoder",
            "--to",
            "blocks.0.hook_resid_post",
            *FEW,
            "--folds",
            "3",
            "--penalty",
            "0.01",
        ],
        ["transcoder", NAME],
    ],
    "residual": [
        [
            "residual",
            "--model",
            "./" + NAME,
            "--text",
            "{text}",
            "--from",
            "hook_embed",
            "--to",
            NAME,
        ]
    ],
    "report geometry": [
        ["report", "geometry", "--out", "{out}.html"],
        ["report", "geometry", NAME],
    ],
    "describe": [["describe", ONE, "--min-active", "1"], ["describe", NAME]],
    "truth": [["truth", ONE, "--truth", OTHER, *FEW], ["truth", NAME, "--truth", NAME]],
    "fire": [
        ["fire", TOKENS[0], "--sae", ONE, "--model", "{model}"],
        ["fire", TOKENS[1], "--sae", NAME],
    ],
    "show": [["show", f"{ONE}/0", "--html", "{out}.html"], ["show", NAME]],
    "effects": [["effects", ONE, "--on", OTHER], ["effects", NAME]],
    "logits": [["logits", ONE], ["logits", ONE + "/1"], ["logits", NAME]],
    "steer": [
        ["steer", "--feature", ONE + "/1", "--prompt", NAME],
        ["steer", "--sae", ONE, "--task", "feelings"],
        ["steer", "--feature", NAME, "--task", NAME],
        ["steer", ONE + "/1", "--prompt", NAME],
        ["steer", "--feature", NAME + "/1", "--task", "feelings"],
        ["steer", "--sae", ONE, "--task", "{file}"],
        ["steer", "--list-tasks"],
    ],
    "changes": [["changes", ONE + "/1"], ["changes", NAME], ["changes", ONE + "/1", "--on", NAME]],
    "spectra": [["spectra", ONE, "--draws", "20"], ["spectra", NAME]],
    "concepts": [
        ["concepts", "gender", ONE, "--ablate", "--random-sets", "3", "--direction-sets", "2"],
        ["concepts", NAME],
        ["concepts", "gender", NAME],
        ["concepts", "gender", ONE, "--ablate", "--others", NAME],
    ],
    "list": [["list"]],
    "saes": [["saes", "gpt2", "pre"], ["saes", NAME]],
    "query": [
        ["query", "--cypher", "MATCH (t:Token) RETURN t.text AS text ORDER BY text"],
        ["query", "--cypher", "MATCH (m:Model) RETURN m"],
        ["query", "--cypher", "MATCH (e:Example) RETURN e.tokens AS tokens, e.sae AS sae LIMIT 9"],
        ["query", NAME],
        ["query", "--cypher", NAME],
    ],
    "push": [["push", "bolt://" + NAME], ["push", NAME]],
    "export": [
        ["export", "{out}", "--format", "csv"],
        ["export", "{out}2", "--for", "neo4j-admin"],
        ["export", "{out}3", "--format", "graphml"],
        ["export", "{out}4", "--for", "neo4j-browser"],
        ["export", "{out}5", "--for", "neo4j-browser", "--address", NAME],
        ["export", NAME, "--sae", NAME],
    ],
    "mcp": [["mcp", "--only", NAME]],
    "rm": [["rm", NAME, "--yes"]],
    "doctor": [["doctor"]],
    "demo": [["demo", "--atlas", "{file}"]],
    "random-weights": [
        ["random-weights", "{model}", "--out", "{out}"],
        ["random-weights", "./" + NAME],
    ],
    "synthetic": [
        ["synthetic", "{out}" + NAME, "--features", "64", "--width", "8"],
        ["synthetic", "{file}"],
    ],
    "train": [
        [
            "train",
            "--model",
            "{plain}",
            "--text",
            "{text}",
            "--site",
            "blocks.0.hook_resid_post",
            "--width",
            "24",
            "--k",
            "2",
            "--steps",
            "2",
            "--batch",
            "64",
            "--buffer",
            "64",
            "--out",
            "{out}" + NAME,
        ],
        [
            "train",
            "--model",
            "{plain}",
            "--text",
            "{text}",
            "--site",
            NAME,
            "--width",
            "24",
            "--out",
            "{out}",
        ],
        [
            "train",
            "--model",
            "{model}",
            "--text",
            "{text}",
            "--site",
            "blocks.0.hook_resid_post",
            "--width",
            "24",
            "--out",
            "{out}",
        ],
    ],
}
"""Requests of each command; those of studies need an entry only if they need other options. Requests
that name NAME are about something that does not exist."""
FAILING = {
    "residual",
    "push",
    "mcp",
    "rm",
    "demo",
    "ingest",
    "truth",
    "floors",
    "logits",
    "feature-map",
    "directions",
    "splitting",
    "spectra",
    "topology",
    "effects",
    "fire",
    "subspaces",
    "steer",
    "changes",
    "concepts",
}
"""Commands of which every request fails: the others would train, or need a server, a
synthetic model, a floor, or weights in files; those of the SAEs here are in memory."""


def commands(of=None, at=()):
    of = of or command()
    if not isinstance(of, click.Group):
        return [" ".join(at)]
    return [name for each, sub in of.commands.items() for name in commands(sub, (*at, each))]


def test_every_registered_command_has_a_case():
    assert sorted(CASES) == sorted(commands())


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Write the hostile atlas; return the paths that requests name."""
    folder = tmp_path_factory.mktemp("hostile")
    model = folder / NAME.format("model")
    tokenizer = small_tokenizer(vocabulary=80)
    assert tokenizer.add_tokens(TOKENS) == len(TOKENS)
    plain = folder / "plain"
    for path in (model, plain):
        random_model("llama").save_pretrained(path)
        tokenizer.save_pretrained(path)
    documents = [f"{d} {TOKENS[i % 9]} {TOKENS[i % 4]} end" for i, d in enumerate(texts(60))]
    (folder / "file").touch()
    (folder / NAME.format("text.txt")).write_text("\n\n".join(documents))
    with pytest.MonkeyPatch.context() as patched:
        # Names as in a folder that another program wrote.
        patched.setattr("ingest.sae.info.slug", lambda text: text)
        saes = [open_sae(topk(seed=i), name=name) for i, name in enumerate((ONE, OTHER))]
    ingest(folder / "a.atlas", saes=saes, text=documents, model=str(model), match=None)
    return {
        "folder": folder,
        "atlas": str(folder / "a.atlas"),
        "model": str(model),
        "plain": str(plain),
        "file": str(folder / "file"),
        "text": str(folder / NAME.format("text.txt")),
        "hostile": NAME,
    }


@pytest.fixture(scope="module")
def run(paths):
    """Run a request on the hostile atlas."""

    def run(words, out, *more):
        words = [word.replace("{out}", str(out)) for word in words]
        for name, value in paths.items():
            words = [word.replace(f"{{{name}}}", str(value)) for word in words]
        path = (
            ["--atlas", paths["atlas"]]
            if words[0] not in ("demo", "random-weights", "push", "saes", "synthetic", "train")
            else []
        )
        if words[0] == "push":
            path = ["-a", paths["atlas"]]
        with pytest.raises(SystemExit) as done:
            main([*words, *path, *more])
        return done.value.code

    for needed in ("match", "communities", "probe", "transcoder"):  # inputs of other commands
        assert run(CASES[needed][0], "", "--quiet") == 0
    return run


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("name", CASES)
def test_hostile_names_have_no_effect(name, as_json, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, words in enumerate(CASES[name]):
        capsys.readouterr()
        code = run(words, tmp_path / f"out{number}", *(["--json"] if as_json else []))
        out, err = capsys.readouterr()
        assert code == (0 if number == 0 and name not in FAILING else code), err + out
        assert code in (0, 1, 2)
        assert "Traceback" not in out + err
        assert ACTING.findall(out + err) == []
        if as_json:
            json.loads(out)
    for path in tmp_path.rglob("*"):
        check(path)


def test_the_tables_of_stored_parts_are_documented(run, paths):
    """Runs last, so that the atlas has parts of all studies that ran."""
    packages = ("ingest.", "analysis.")
    studies = {
        s.kind: s
        for s in subclasses(Study)
        if hasattr(s, "kind") and s.__module__.startswith(packages)
    }
    of_schema = {table.name for table in TABLES}
    stored = [p.manifest for p in Folder.open(Path(paths["atlas"])).sound().parts.values()]
    assert {one.kind for one in stored} & set(studies) >= {"match", "graph", "probe"}
    for one in stored:
        if one.kind in studies:
            names = [name for name in one.tables if name not in of_schema]
            known = studies[one.kind].tables
            assert [n for n in names if not any(fnmatch(n, k) for k in known)] == [], one.kind


def subclasses(of):
    return {each for one in of.__subclasses__() for each in (one, *subclasses(one))}


def check(path):
    if path.suffix == ".html":
        found = Scripts()
        found.feed(path.read_text("utf-8"))
        assert found.handlers == []
        assert not any("window.hacked" in s and "</script" in s for s in found.scripts)
        assert not any(s.strip().startswith("window.hacked") for s in found.scripts)
    elif path.suffix in (".svg", ".graphml"):
        elements = list(ET.fromstring(path.read_bytes()).iter())
        assert not [e for e in elements if e.tag.endswith("}script")]
        assert not [a for e in elements for a in e.attrib if a.startswith("on")]
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert [
            c for c in cells if re.match(r"[=@\t\r]|[+-](?!\d|\.|inf|$)", c) and len(c) > 1
        ] == []
