"""A study that counts features, for tests of how studies run."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from atlas.errors import BadInput
from atlas.studies.results import Result
from atlas.studies.settings import check_settings, setting
from atlas.studies.study import Found, Study, Task, check_saes, usable_saes


@dataclass(frozen=True)
class CountSettings:
    factor: int = setting(1, "Factor of the count.", least=1)

    def __post_init__(self):
        check_settings(self)


@dataclass(frozen=True)
class CountStudy(Study):
    """Counts the letters of an SAE's name, times a factor."""

    kind: ClassVar[str] = "count"
    version: ClassVar[int] = 2
    settings: CountSettings = CountSettings()
    fail: bool = False

    def tasks(self, at, saes):
        names = (
            usable_saes(at.sound, ("tokens",), what="A count", progress=at.progress)
            if saes is None
            else check_saes(at.sound, saes)
        )
        return [
            Task(n, (n,), self.settings, made_from=(f"sae/{n}", f"tokens/{n}"), group=n[0])
            for n in names
        ]

    def run(self, task, at):
        if self.fail:
            raise BadInput("It fails as requested.")
        assert at.scratch.is_dir()
        letters = len(task.name) * task.settings.factor
        return Found([("letters", pa.table({"letters": [letters]}))], sources={"by": "hand"})

    def result(self, part):
        (row,) = part.table("letters").to_pylist()
        summary = {"sae": part.manifest.name, **row}
        return Result(
            self.kind,
            part.manifest.name,
            summary,
            verdict=[f"{row['letters']} letters."],
            tables=(part.manifest.tables, part.table),
        )
