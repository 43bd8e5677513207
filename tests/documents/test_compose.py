"""Checks of docker-compose.yml that need no Docker engine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from neo4j_server import PINNED

from atlas.stores.neo4j.browser.pages import REQUESTED_EDGES

FILE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture(scope="module")
def server() -> dict:
    return yaml.safe_load(FILE.read_text("utf-8"))["services"]["neo4j"]


def test_the_image_has_the_tested_minor_version(server: dict) -> None:
    """Images are released before the jars that tests start, so the patch version may be higher."""
    image = re.fullmatch(r"neo4j:5\.26\.(\d+)-community", server["image"])
    tested = re.fullmatch(r"5\.26\.(\d+)", PINNED)
    assert int(image[1]) >= int(tested[1])


def test_the_password_comes_from_the_environment_and_is_required(server: dict) -> None:
    assert re.fullmatch(
        r"neo4j/\$\{NEO4J_PASSWORD:\?.*NEO4J_PASSWORD.*\}", server["environment"]["NEO4J_AUTH"]
    )
    # The image reads any other NEO4J_… as a setting, and does not start with an unknown one.
    assert not {"NEO4J_PASSWORD", "NEO4J_USERNAME", "NEO4J_URI"} & set(server["environment"])


def test_ports_are_bound_to_this_machine(server: dict) -> None:
    assert {p.rsplit(":", 1)[1] for p in server["ports"]} == {"7474", "7687"}
    assert all(p.startswith("127.0.0.1:") for p in server["ports"])


def test_browser_draws_only_the_edges_of_a_query(server: dict) -> None:
    """The command is that of the page of links, which takes a colon."""
    assert f":{server['environment']['NEO4J_browser_post__connect__cmd']}" == REQUESTED_EDGES


def test_memory_health_and_volumes_are_configured(server: dict) -> None:
    settings = server["environment"]
    for name in ("heap_initial__size", "heap_max__size", "pagecache_size"):
        assert re.fullmatch(r"\$\{\w+:-\d+[gm]\}", settings[f"NEO4J_server_memory_{name}"])
    assert server["healthcheck"]["test"][0] == "CMD"
    volumes = yaml.safe_load(FILE.read_text("utf-8"))["volumes"]
    assert {v.split(":")[0] for v in server["volumes"]} == set(volumes)
    assert any(v.endswith(":/data") for v in server["volumes"])


@pytest.mark.parametrize("password", ["long-enough", None])
def test_docker_compose_reads_the_file(password: str | None, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [compose, "-f", str(FILE), "config"],
        env=env | ({"NEO4J_PASSWORD": password} if password else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (password is not None), done.stderr
    assert password is not None or "set NEO4J_PASSWORD to a password" in done.stderr
