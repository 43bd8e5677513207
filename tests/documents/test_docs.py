"""Pages agree with the code: generated pages are current, and commands, queries and links exist."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
    if "generated" not in page.parts  # written by `make docs`
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_exist(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


GUIDES = [page for page in PAGES if "\n<!-- guide: " in page.read_text("utf-8")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda p: p.stem)
def test_a_guide_has_at_most_600_words(page):
    assert page.parent.name == "docs"
    words = len(page.read_text("utf-8").split())
    assert words <= 600, f"{words} words by `wc -w`; move definitions to docs/methods"


def commands_of(page):
    """Yield the words of each command in the code blocks and the text of a page."""
    text = page.read_text("utf-8")
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    joined = re.sub(r"\\\n\s*", "", blocks)  # join continued lines
    joined = re.sub(r"'[^'\n]*'|\"[^\"]*\"", "TEXT", joined)
    lines = re.findall(r"^(?:\$ )?(?:\w+=\S+ )*(atlas [a-z].*)$", joined, re.M)
    lines += re.findall(r"`(?:\w+=\S+ )*(atlas [a-z][^`]*)`", re.sub(r"\n\s*", " ", prose))
    for line in lines:
        yield re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", line).split(" #")[0].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_the_pages_exist_with_their_options(page):
    import click

    import queries
    from atlas.cli.main import command

    for _, *words in commands_of(page):
        found = command()
        while words and isinstance(found, click.Group) and words[0] in found.commands:
            found = found.commands[words.pop(0)]
        assert not isinstance(found, click.Group) or not words or words[0] == "--help", words
        known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
        if found.name == "query" and words and words[0] in queries.names():
            known |= {f"--{p.name.replace('_', '-')}" for p in queries.get(words[0]).parameters}
        assert used <= known | {"--help"}, (found.name, used - known)


def test_queries_named_in_the_pages_exist():
    import queries

    text = "".join(p.read_text("utf-8") for p in PAGES)
    for name in re.findall(r"atlas query ([a-z_]+)", text):
        assert name in queries.names()
    for name in re.findall(r'\.ask\("(\w+)"', text):
        assert name in queries.names()


def test_constraints_name_no_machine_or_registry():
    """Pins are versions, without addresses or paths."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line


def test_the_demo_table_equals_the_measurements():
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    facts = json.loads((ROOT / "ingest" / "demo" / "facts.json").read_text("utf-8"))
    for model in facts["models"].values():
        for text in model["held_out"].values():
            assert f"| {text['loss']:.3f} | {text['bigram']:.3f} | {text['unigram']:.3f} |" in page
            assert text["loss"] < text["bigram"] < text["unigram"]
    for name, sae in facts["saes"].items():
        (line,) = [x for x in page.splitlines() if x.startswith(f"| {name} |")]
        shown = [f"{sae[column]:.3f}" for column in ("ce_spliced", "recovered_mean", "kl_spliced")]
        cells = [f"{sae['fvu']:.3f}", f"{sae['l0']:.1f}", f"{sae['dead_share']:.2%}", *shown]
        assert line.endswith(f"| {' | '.join(cells)} |")
        assert sae["dead_share"] < 0.15
    sites = {(sae["model"], sae["site"]): sae for sae in facts["saes"].values()}
    for (model, site), sae in sites.items():
        losses = " | ".join(f"{sae[column]:.3f}" for column in ("ce_model", "ce_zero", "ce_mean"))
        assert f"| {model} | {site} | {losses} |" in page


@pytest.mark.parametrize("page", ["schema", "house", "names", "format", "guides"])
def test_generated_pages_are_current(page):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / f"make_{page}.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def doc_script(name, monkeypatch):
    """Return a script of docs/ as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module(name)


def test_a_name_of_two_studies_is_refused_with_both_modules(tmp_path, monkeypatch):
    script = doc_script("make_names", monkeypatch)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "analysis").mkdir()
    for module in ("one", "two"):
        text = f"def measure_{module}():\n    run_study()\n"
        (tmp_path / "analysis" / f"{module}.py").write_text(text)
    assert script.names() == {"measure_one": "analysis.one", "measure_two": "analysis.two"}
    (tmp_path / "analysis" / "three.py").write_text("def measure_one():\n    run_study()\n")
    with pytest.raises(
        SystemExit, match=r"analysis\.one and analysis\.three both define measure_one"
    ):
        script.names()


def test_a_block_is_written_between_its_marks(tmp_path, monkeypatch):
    script = doc_script("marked_block", monkeypatch)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_page.py"])
    page = tmp_path / "page.md"
    page.write_text("A\n[\nold\n]\nB\n")
    script.write_block(page, "new", begin="[", end="]")
    assert page.read_text() == "A\n[\nnew\n]\nB\n"
    script.write_block(page, "rest", begin="[")
    assert page.read_text() == "A\n[\nrest\n"
    with pytest.raises(SystemExit, match=r"page\.md has no line '\]'"):
        script.write_block(page, "new", begin="[", end="]")
    monkeypatch.setattr(sys, "argv", ["make_page.py", "--check"])
    script.write_block(page, "rest", begin="[")
    with pytest.raises(SystemExit, match=r"page\.md differs from the code"):
        script.write_block(page, "other", begin="[")
    assert page.read_text() == "A\n[\nrest\n"
