"""Checks of docker-compose.yml that need no Docker engine."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from neo4j_server import PINNED, free_port

from atlas.stores.neo4j.browser.pages import REQUESTED_EDGES
from atlas.stores.neo4j.browser.served_pages import PAGES, PORT

FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES = yaml.safe_load(FILE.read_text("utf-8"))["services"]


@pytest.fixture(scope="module")
def server() -> dict:
    return SERVICES["neo4j"]


@pytest.fixture(scope="module")
def pages() -> dict:
    return SERVICES["pages"]


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


def test_ports_are_bound_to_this_machine(server: dict, pages: dict) -> None:
    ports = [p for service in (server, pages) for p in service["ports"]]
    assert {p.rsplit(":", 1)[1] for p in ports} == {"7474", "7687", "7475"}
    assert all(p.startswith("127.0.0.1:") for p in ports)


def test_browser_runs_the_setting_and_loads_served_pages(server: dict, pages: dict) -> None:
    commands = server["environment"]["NEO4J_browser_post__connect__cmd"].split("; ")
    assert f":{commands[0]}" == REQUESTED_EDGES
    loaded = dict(command.split(" ") for command in commands[1:])
    assert set(loaded) == {"style", "guide"}
    (port,) = (p.split(":")[1] for p in pages["ports"])
    assert pages["ports"][0].endswith(f":{PORT}")
    for address in loaded.values():
        assert address.startswith(f"http://localhost:{port}/")
        assert urlsplit(address).path in PAGES


def test_the_service_of_pages_starts_in_python_without_packages(pages: dict) -> None:
    """The command runs in the mounted folders alone, and answers its own health check."""
    (folder,) = {v.split(":")[1].rpartition("/")[0] for v in pages["volumes"]}
    assert folder == pages["environment"]["PYTHONPATH"]
    assert all(v.endswith(":ro") for v in pages["volumes"])
    mounted = [v.split(":")[0] for v in pages["volumes"]]
    assert all((FILE.parent / m).is_dir() for m in mounted)
    port = free_port()
    python, *words = pages["command"]
    assert python == "python"
    process = subprocess.Popen(
        [sys.executable, "-S", *words],
        env={
            "PYTHONPATH": str(FILE.parent),
            "PAGES_PORT": str(port),
            "NEO4J_HTTP": f"http://127.0.0.1:{free_port()}",
        },
        stderr=subprocess.DEVNULL,
    )
    check = pages["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    try:
        for _ in range(600):
            code = check[3].replace(f":{PORT}/", f":{port}/")
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            if done.returncode == 0:
                break
            assert process.poll() is None
            time.sleep(0.1)
        assert done.returncode == 0
    finally:
        process.kill()
        process.wait()


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
