"""The pages say what the code does: the schema is current, commands and links exist."""

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
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_commands_in_the_readme_exist_with_their_options():
    from atlas.cli.main import command

    commands = command().commands
    for line in re.findall(r"^(?:\w+=\S+ )?(atlas \w+.*)$", (ROOT / "README.md").read_text(), re.M):
        words = re.sub(r"'[^']*'", "TEXT", line.split("  #")[0]).split()
        found = commands[words[1]]
        # A group, such as `atlas plot probes`.
        if words[2:] and words[2] in getattr(found, "commands", {}):
            found = found.commands[words[2]]
        known = {o for p in found.params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= known, line


def test_queries_named_in_the_pages_exist():
    import queries

    text = "".join(p.read_text("utf-8") for p in PAGES)
    for name in re.findall(r"atlas query ([a-z_]+)", text):
        assert name in queries.names()
    for name in re.findall(r'\.ask\("(\w+)"', text):
        assert name in queries.names()


def test_no_machine_or_registry_is_named():
    """Pins are versions only: no addresses, no paths."""
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
def test_what_is_made_from_the_code_is_current(page):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / f"make_{page}.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
