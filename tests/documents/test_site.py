"""The documentation site builds without a warning, and its pages load only local files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="the extra [docs] is not installed")
    out = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*sphinx, "-d", str(out / "read"), str(ROOT / "docs"), str(out / "pages")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "pages"


def loaded_from_the_web(text):
    """Return the tags that load an external file; the order of attributes does not matter."""
    tags = re.findall(r"<(?:script|img|iframe|source)\b[^>]*>", text)
    web = r"""\b{}=["']?(?:https?:)?//"""
    found = [tag for tag in tags if re.search(web.format("src(?:set)?"), tag)]
    for tag in re.findall(r"<link\b[^>]*>", text):
        rel = re.search(r"""\brel=["']?([\w -]+)""", tag)
        kinds = set(rel[1].split()) if rel else set()
        if kinds & {"stylesheet", "preload", "icon", "modulepreload"}:
            found += [tag] if re.search(web.format("href"), tag) else []
    return found


@pytest.mark.parametrize(
    ("tag", "external"),
    [
        ('<link href="https://x/a.css" rel="stylesheet" />', True),
        ('<link rel="preload" as="font" href="//x/a.woff2">', True),
        ('<link rel="stylesheet" href="_static/a.css">', False),
        ('<link rel="canonical" href="https://x/">', False),
        ('<script src="https://x/a.js"></script>', True),
        ('<script src="_static/a.js"></script>', False),
        ('<a href="https://x/">x</a>', False),
    ],
)
def test_external_files_are_found_in_any_order_of_attributes(tag, external):
    assert bool(loaded_from_the_web(tag)) == external


@pytest.mark.slow
def test_the_site_works_offline(site):
    """Links may be external; scripts, styles, fonts and pictures may not."""
    for page in site.rglob("*.html"):
        assert not loaded_from_the_web(page.read_text("utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8")
        ), style


@pytest.mark.slow
def test_every_command_and_query_has_an_entry(site):
    import queries
    from atlas.cli.main import command

    commands = (site / "generated" / "commands.html").read_text("utf-8")
    for name in command().commands:
        assert f"atlas {name}</" in commands or f"atlas {name}<a" in commands, name
    listed = (site / "generated" / "queries.html").read_text("utf-8")
    for name in queries.names():
        assert f">{name}<" in listed, name


@pytest.mark.slow
def test_every_name_of_the_packages_has_an_entry(site):
    import analysis
    import ingest

    text = (site / "generated" / "python.html").read_text("utf-8")
    for name in [*analysis.__all__, *ingest.__all__]:
        assert f">{name}<" in text, name
