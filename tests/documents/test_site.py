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


@pytest.mark.slow
def test_the_site_works_offline(site):
    """Links may be external; scripts, styles, fonts and pictures may not."""
    loaded = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]+\"")
    styles = re.compile(
        r"<link\b[^>]*\brel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"(?:https?:)?//"
    )
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not loaded.search(text), page
        assert not styles.search(text), page
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
