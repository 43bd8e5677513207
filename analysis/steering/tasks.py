"""Tasks of steering: prompts with targets, and contrasting prompts, in JSON lines.

Each line is an object with a ``kind``::

    {"kind": "about", "text": "After a sad event, continue with the feeling happy.", "made_for": "stories"}
    {"kind": "test", "prompt": "Sue fell. She was very", "targets": [" happy"]}
    {"kind": "positive", "prompt": "Tim won. He was very"}
    {"kind": "negative", "prompt": "Tim fell. He was very"}

``test`` prompts are scored. ``positive`` and ``negative`` prompts give the difference of means, and
the features if none is named. ``made_for``, which may be absent, names the models that the task was
made for. No prompt can be of two kinds: a steering vector that was made from
the prompts that are scored would only show that it fits them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import BadInput, UnknownName
from ingest.text.user_files import how_to_convert

__all__ = ["SteeringTask", "TestPrompt", "read_task", "task_names"]

_FOLDER = Path(__file__).parent / "tasks"

#: Most bytes of a file, most prompts of a kind, and most characters of a prompt.
_MOST_BYTES, _MOST_PROMPTS, _MOST_CHARACTERS = 2**20, 2_000, 4_000

#: Most characters of the name of models.
_MOST_NAME = 100

#: Fewest test prompts, so that both halves have two, and fewest prompts of either contrast.
_FEWEST_TESTS, _FEWEST_CONTRASTS = 4, 2


@dataclass(frozen=True)
class TestPrompt:
    """A prompt with the continuations that count as success."""

    __test__ = False  # for pytest

    prompt: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class SteeringTask:
    """A task of steering.

    Parameters
    ----------
    name
        Its name: that of a task of the package, or the name of its file.
    about
        What the steered model should do.
    tests
        Prompts that are scored.
    positive, negative
        Contrasting prompts, used for the difference of means only.
    made_for
        Models that it was made for; "" if it is not stated.
    """

    name: str
    about: str
    tests: tuple[TestPrompt, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    made_for: str = ""

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of its prompts and targets."""
        content = [
            [[t.prompt, list(t.targets)] for t in self.tests],
            list(self.positive),
            list(self.negative),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def task_names() -> list[str]:
    """Return the names of the tasks of the package.

    Examples
    --------
    >>> "feelings" in task_names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.jsonl"))


def read_task(name_or_path: str | Path) -> SteeringTask:
    """Read a task of the package, or a file of a task.

    Raises
    ------
    UnknownName
        If it is neither a task of the package nor a file.
    BadInput
        If the file is not valid; the message names the line.

    Examples
    --------
    >>> read_task("feelings").tests[0].targets
    (' happy',)
    """
    text = str(name_or_path)
    path = _FOLDER / f"{text}.jsonl" if text in task_names() else Path(text)
    if not path.is_file():
        raise UnknownName(
            "task",
            text,
            known=task_names(),
            hint="Or pass the path of a file of JSON lines; docs/steering.md describes it.",
        )
    found: dict[str, list[Any]] = {"about": [], "test": [], "positive": [], "negative": []}
    for number, line in _lines(path):
        kind, value = _parsed(line, where=f"Line {number} of {path}")
        found[kind].append(value)
        if len(found[kind]) > _MOST_PROMPTS:
            raise BadInput(f"{path} has more than {_MOST_PROMPTS:,} lines of kind {kind!r}.")
    about, made_for = found["about"][0] if found["about"] else (path.stem, "")
    task = SteeringTask(
        path.stem,
        about,
        tuple(found["test"]),
        tuple(found["positive"]),
        tuple(found["negative"]),
        made_for,
    )
    _check(task, path)
    return task


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise BadInput(f"{path} has more than {_MOST_BYTES:,} bytes; a task is smaller.")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"The task {path} is not UTF-8. {how_to_convert(content)}") from error
    except OSError as error:
        raise BadInput(
            f"The task {path} cannot be read ({error.strerror}): check that you may read it."
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _parsed(line: str, *, where: str) -> tuple[str, Any]:
    """Return the kind of a line, and its prompt or text."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{where} is not JSON ({error}); expected one object in each line."
        ) from error
    if not isinstance(value, Mapping):
        raise BadInput(
            f"{where} holds a value of type {type(value).__name__}; expected an object with the kind about, test, "
            "positive or negative."
        )
    kind = value.get("kind")
    if kind not in ("about", "test", "positive", "negative"):
        raise BadInput(
            f"{where} has the kind {kind!r}; expected an object with the kind about, test, positive or negative."
        )
    key = "text" if kind == "about" else "prompt"
    text = value.get(key)
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_CHARACTERS:
        raise BadInput(f"{where} needs {key!r}: a text of 1 to {_MOST_CHARACTERS:,} characters.")
    if kind == "about":
        return kind, (text, _made_for(value, where=where))
    if kind != "test":
        return kind, text
    targets = value.get("targets")
    if (
        not isinstance(targets, list)
        or not 0 < len(targets) <= 100
        or not all(isinstance(t, str) and 0 < len(t) <= 100 for t in targets)
    ):
        raise BadInput(
            f"{where} needs 'targets': a list of 1 to 100 continuations, such as [\" he\"], each of 1 to 100 "
            "characters."
        )
    return kind, TestPrompt(text, tuple(dict.fromkeys(targets)))


def _made_for(value: Mapping[str, Any], *, where: str) -> str:
    """Return the models that a line names; "" if it names none."""
    found = value.get("made_for", "")
    if not isinstance(found, str) or len(found) > _MOST_NAME:
        raise BadInput(
            f"{where} has 'made_for' of type {type(found).__name__}; expected the name of the models that the task was "
            f"made for, of at most {_MOST_NAME} characters."
        )
    return found


def _check(task: SteeringTask, path: Path) -> None:
    if len(task.tests) < _FEWEST_TESTS:
        raise BadInput(
            f"{path} has {len(task.tests)} test prompts; expected {_FEWEST_TESTS} or more, since one half chooses the "
            "strength."
        )
    for kind, prompts in (("positive", task.positive), ("negative", task.negative)):
        if len(prompts) < _FEWEST_CONTRASTS:
            raise BadInput(
                f"{path} has {len(prompts)} {kind} prompts; expected {_FEWEST_CONTRASTS} or more for a difference of "
                "means."
            )
    groups = [[t.prompt for t in task.tests], list(task.positive), list(task.negative)]
    every = [prompt for group in groups for prompt in dict.fromkeys(group)]
    repeated = next((p for p, number in Counter(every).items() if number > 1), None)
    if repeated is not None:
        raise BadInput(
            f"{path} has the prompt {repeated!r} in two kinds of lines. A steering vector must not be made from "
            "prompts that are scored."
        )
    if len(set(groups[0])) < len(groups[0]):
        raise BadInput(f"{path} has a test prompt twice; expected different test prompts.")
