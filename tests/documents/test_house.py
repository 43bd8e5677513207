"""Structure of the packages: imports run one way, start-up is light, errors are messages."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import networkx
import pytest
from small_parts import small_atlas

import atlas.errors as errors
from atlas.errors import AtlasError, UnknownName

ROOT = Path(__file__).parents[2]
ROOMS = ("queries", "atlas", "ingest", "analysis")  # each may import itself and those before it
HEAVY = (
    "torch",
    "transformers",
    "sae_lens",
    "pandas",
    "pyarrow",
    "neo4j",
    "kuzu",
    "datasets",
    "numpy",
)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    found = {
        (path.relative_to(ROOT), name)
        for path in (ROOT / room).rglob("*.py")
        for name in imports(path)
        if name in above
    }
    assert not found


def modules():
    """Return the files of the modules of the four packages by their dotted names."""
    found = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_modules(path, known):
    """Yield the modules that a file imports, including imports for types."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_have_no_cycles():
    known = modules()
    graph = networkx.DiGraph(
        (name, other)
        for name, path in known.items()
        if name not in ROOMS  # packages import their public names lazily
        for other in imported_modules(path, known)
        if other in known and other != name
    )
    assert not [c for c in networkx.strongly_connected_components(graph) if len(c) > 1]


def test_queries_imports_only_the_standard_library():
    names = {n for path in (ROOT / "queries").rglob("*.py") for n in imports(path)}
    assert names <= set(sys.stdlib_module_names) | {"queries"}


def run(*args, **options):
    return subprocess.run(
        [sys.executable, "-c", "from atlas.cli.main import main; main()", *args],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize("words", [["--help"], ["ingest", "--help"], ["query", "--help"]])
def test_help_imports_no_heavy_library(words):
    code = (
        "import sys\n"
        "from atlas.cli.main import command\n"
        f"command().main({words!r}, standalone_mode=False)\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("heavy: []")


def test_list_query_and_show_load_only_the_store(tmp_path):
    path = small_atlas(tmp_path / "s.atlas").path
    named_query = ["query", "most_frequent_features", "--param", "sae=one"]
    show = ["show", "one/0"]
    for words, allowed in ((["list"], set()), (named_query, {"kuzu"}), (show, {"kuzu"})):
        done = run(*words, "--atlas", str(path))
        assert done.returncode == 0, done.stderr
        code = (
            "import sys\n"
            "from atlas.cli.main import command\n"
            f"command().main({[*words, '--atlas', str(path), '--quiet']!r}, standalone_mode=False)\n"
            f"print('heavy:', [m for m in {(*HEAVY, 'pyarrow.dataset', 'scipy')!r} if m in sys.modules])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        heavy = set(ast.literal_eval(done.stdout.rstrip().rpartition("heavy: ")[2]))
        assert heavy - {"pyarrow", "numpy"} == allowed


def test_every_command_has_help_and_an_example():
    from atlas.cli.main import command

    for name, each in command().commands.items():
        assert each.help, name
        assert f"atlas {name}" in each.help, f"{name} has no example"
        assert {"as_json", "quiet"} <= {p.name for p in each.params}, name
        for option in each.params:
            if option.param_type_name == "option":
                assert option.help, f"{name} --{option.name}"


def test_every_module_has_a_docstring():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def positional(function):
    names = [a.arg for a in function.args.posonlyargs + function.args.args]
    return [name for name in names if name not in ("self", "cls")]


def test_public_functions_take_at_most_three_positional_arguments():
    # Compiled functions accept no keywords.
    too_many = [
        f"{path.name}: {node.name}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name != "commands.py"  # click passes options by name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and not any(getattr(d, "id", "") == "compiled" for d in node.decorator_list)
        and len(positional(node)) > 3
    ]
    assert not too_many


def test_the_error_tree_in_the_docstring_is_complete():
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, AtlasError)
    }
    assert set(errors.__all__) == set(classes)
    for name, kind in classes.items():
        assert name in errors.__doc__
        assert kind.__doc__
        assert kind.exit_code == 130 if name == "Interrupted" else kind.exit_code in (1, 2)


def test_unknown_names_report_the_nearest():
    error = UnknownName(
        "SAE", "gemascope-l20", known=["gemmascope-l20", "gpt2"], hint="Look there."
    )
    assert "Nearest: gemmascope-l20." in str(error)
    assert str(error).endswith("Look there.")
    assert "There are none." in str(UnknownName("SAE", "x"))
    assert "There are: a, b." in str(UnknownName("SAE", "xyz", known=["b", "a"]))


def test_an_unknown_command_is_exit_2(tmp_path):
    done = run("qurey", cwd=tmp_path)
    assert done.returncode == 2
    assert "There is no command 'qurey'; the nearest is 'query'." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_a_sentence_or_an_envelope(tmp_path):
    done = run("list", "--atlas", "nowhere.atlas", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("atlas: There is no atlas at nowhere.atlas.")
    assert "Traceback" not in done.stderr

    done = run("list", "--atlas", "nowhere.atlas", "--json", cwd=tmp_path)
    assert done.returncode == 2
    envelope = json.loads(done.stdout)
    assert envelope["ok"] is False
    assert envelope["error"]["type"] == "BadInput"


def test_a_room_that_cannot_be_imported_is_one_line(monkeypatch, capsys):
    from importlib.metadata import EntryPoint

    from atlas import plugins
    from atlas.cli import main

    broken = EntryPoint("loft", "no_such_module:ROOM", "atlas.rooms")
    real = list(plugins.entry_points(group="atlas.rooms"))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [*real, broken])
    group = main.command()
    assert "list" in group.commands
    assert "the room 'loft' cannot be imported" in capsys.readouterr().err


def test_an_ingest_without_matches_and_probes_does_not_import_them() -> None:
    code = (
        "import sys, ingest.forward.run\n"
        "later = ('scipy.stats', 'sklearn', 'ingest.match.study', 'ingest.probe.study')\n"
        "print([m for m in later if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_no_file_has_marks_of_a_merge():
    marks = tuple(sign * 7 for sign in "<>")
    for folder in ("queries", "atlas", "ingest", "analysis", "docs", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".cypher", ".html"):
                lines = path.read_text("utf-8").splitlines()
                assert not [line for line in lines if line.startswith(marks)], path
