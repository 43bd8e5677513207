"""Ingest from folders of SAEs and models that are damaged, mistyped or made to harm."""

import contextlib
import io
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hostile_folders import make, model_damages, sae_damages

from atlas.cli.main import main
from attacks import Try

TITLE = "folders of SAEs and models that are damaged, mistyped or malicious"
CLAIM = "one message, or an ingest; no traceback, no code run, no partial atlas"
TRIES = 120


def tries(folder: Path, *, seed: int, count: int) -> Iterator[Try]:
    """Ingest from ``count`` folders, drawn without repetition."""
    every = [("sae", *d) for d in sae_damages()] + [("model", *d) for d in model_damages()]
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    text = folder / "text.txt"
    text.write_text("Once upon a time there was a little girl.\n" * 5, "utf-8")
    for kind, name, damage in chosen:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            yield one(Path(scratch), text, kind, name, damage)


def one(scratch: Path, text: Path, kind: str, name: str, damage: object) -> Try:
    """Ingest from one damaged pair of folders."""
    sae, model = make(scratch, kind, damage)  # type: ignore[arg-type]
    atlas, out, err = scratch / "a.atlas", io.StringIO(), io.StringIO()
    command = [
        "ingest",
        "--sae",
        str(sae),
        "--model",
        str(model),
        "--text",
        str(text),
        "--atlas",
        str(atlas),
        "-q",
    ]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(command)
        code: object = 0
    except SystemExit as error:
        code = error.code
    except BaseException as error:  # noqa: BLE001  # the attack searches for any escape
        return Try(f"{kind} {name}", False, f"{type(error).__name__}: {str(error)[:120]}")
    ran = [p.name for p in (scratch / "pickle-ran", scratch / "code-ran") if p.exists()]
    message = err.getvalue().strip().splitlines()[-1:] or [""]
    fine = code in (0, 1, 2) and not ran and "Traceback" not in err.getvalue()
    fine &= code == 0 or (bool(message[0]) and not (atlas / "parts").exists())
    return Try(
        f"{kind} {name}",
        fine,
        f"exit {code}; {message[0][:110]}{'; RAN ' + str(ran) if ran else ''}",
    )
