"""Studies whose part is optional: results are stored where possible, and returned everywhere."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pytest
from filelock import FileLock
from recording_progress import RecordingProgress
from served_atlas import Served
from small_parts import small_atlas

from atlas.api import Atlas
from atlas.errors import Locked, RequestError
from atlas.studies.results import Result
from atlas.studies.runner import run_study
from atlas.studies.study import Found, Study, Task


@dataclass(frozen=True)
class CountSettings:
    times: int = 1


@dataclass(frozen=True)
class CountStudy(Study):
    """Count the features of each SAE."""

    kind: ClassVar[str] = "count"
    version: ClassVar[int] = 1
    optional_part: ClassVar[bool] = True

    settings: CountSettings = CountSettings()

    def tasks(self, at, saes):
        return [
            Task(name, (name,), self.settings, made_from=(f"sae/{name}",))
            for name in saes or at.atlas.saes
        ]

    def run(self, task, at):
        features = at.atlas.features(task.name).num_rows * task.settings.times
        (at.scratch / "file").touch()
        return Found([("counts", pa.table({"features": [features]}))])

    def result(self, part):
        return Result(self.kind, part.manifest.name, part.table("counts").to_pylist()[0])


class StrictStudy(CountStudy):
    """The same study, with a part that must be stored."""

    optional_part = False


@pytest.fixture
def folder(tmp_path):
    return small_atlas(tmp_path / "a.atlas")


def features(results):
    return [one["features"] for one in results]


def test_results_are_stored_where_possible(folder):
    assert features(run_study(CountStudy(), folder.path, "all")) == [3, 2]
    recorded = RecordingProgress()
    assert features(run_study(CountStudy(), folder.path, "all", progress=recorded)) == [3, 2]
    assert len(folder.sound().of("count")) == 2
    assert all("the same settings" in sentence for sentence in recorded.messages)
    assert features(run_study(CountStudy(), Atlas.open(folder.path), ["two"])) == [2]


def test_results_of_a_locked_folder_are_returned(folder):
    run_study(CountStudy(), folder.path, ["one"])
    recorded = RecordingProgress()
    with folder.writing():
        assert features(run_study(CountStudy(), folder.path, "all", progress=recorded)) == [3, 2]
        other = CountStudy(CountSettings(times=2))
        assert features(run_study(other, folder.path, ["one"])) == [6]
        with pytest.raises(Locked):
            run_study(StrictStudy(), folder.path, "all")
    assert [part.manifest.name for part in folder.sound().of("count")] == ["one"]
    assert recorded.messages[1:] == [
        f"Another process is writing {folder.path}, so the results are not stored."
    ]


def test_results_of_a_read_only_folder_are_returned(folder, monkeypatch):
    def refused(lock, *args, **kwargs):
        raise PermissionError(13, "Permission denied", lock.lock_file)

    monkeypatch.setattr(FileLock, "acquire", refused)
    recorded = RecordingProgress()
    assert features(run_study(CountStudy(), folder.path, "all", progress=recorded)) == [3, 2]
    assert recorded.messages == [
        f"No file can be written in {folder.path}, so the results are not stored."
    ]
    with pytest.raises(PermissionError):
        run_study(StrictStudy(), folder.path, "all")
    assert not folder.sound().of("count")


def test_results_of_a_server_are_returned(folder, monkeypatch):
    recorded = RecordingProgress()
    result = run_study(CountStudy(), Served(folder), ["two"], progress=recorded)
    assert features(result) == [2]
    assert recorded.messages == ["neo4j://somewhere is a server, so the results are not stored."]
    with pytest.raises(RequestError, match="select the folder of the atlas"):
        run_study(StrictStudy(), Served(folder), "all")
    monkeypatch.setattr(Atlas, "open", lambda url, **_: Served(folder))
    assert features(run_study(CountStudy(), "neo4j://somewhere", "all")) == [3, 2]
