"""Write the public names of studies into analysis/__init__.py; with --check, only compare.

Public are the settings of studies, which are the classes with ``@documented``, and the functions
that call ``run_study``.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from marked_block import write_block

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "analysis" / "__init__.py"
BEGIN, END = "# Studies: made by `make docs`.", "# End of studies."
WIDTH = 100


def public(path: Path) -> Iterator[str]:
    """Yield the public names that a module defines."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            if any(getattr(d, "id", "") == "documented" for d in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
            if any(getattr(function, "id", "") == "run_study" for function in calls):
                yield node.name


def names() -> dict[str, str]:
    """Return the module of each public name of a study, in the order of modules."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "analysis").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in public(path):
            if name in found:
                sys.exit(f"{found[name]} and {module} both define {name}; rename one of them.")
            found[name] = module
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def block() -> str:
    """Return the imports for type checkers, and the modules from which names are loaded."""
    found = names()
    lines = ["if TYPE_CHECKING:"]
    for name, module in found.items():
        line = f"    from {module} import {name} as {name}"
        if len(line) > WIDTH:
            line = f"    from {module} import (\n        {name} as {name},\n    )"
        lines.append(line)
    lines += ["", "__all__ = [", *(f'    "{name}",' for name in sorted(found)), "]"]
    lines += ["", "_MODULES = {"]
    lines += [f'    "{name}": "{module}",' for name, module in sorted(found.items())]
    return "\n".join([*lines, "}"])


if __name__ == "__main__":
    write_block(PAGE, block(), begin=BEGIN, end=END)
