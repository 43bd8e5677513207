"""Workers on Ray write the same parts as one process, also after crashes and errors."""

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import types
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from marked_model import BLOCKS, MARKED_BLOCK, documents, light_saes, marked
from random_models import random_model, small_tokenizer
from small_ingest import model, topk
from small_parts import table_hashes

from atlas.cli.main import main
from atlas.disk.folder import Folder
from atlas.disk.parts import Manifest, write_part
from atlas.errors import AtlasError, BadActivations, BadInput, Mismatch, Missing
from atlas.studies.runner import run_study
from ingest.forward.checkpoint import Checkpoint
from ingest.forward.run import ingest
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings
from ingest.text.corpus import Corpus

# Found, not imported: Ray reads its environment when it is imported.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")

HERE = Path(__file__).parent
SUPPORT = HERE.with_name("support")


class Recorded:
    """Progress that stores the messages, and the advance of each stage."""

    def __init__(self):
        self.sentences, self.stages = [], {}

    def report(self, sentence):
        self.sentences.append(sentence)

    def stage(self, title, **_):
        self._title = title
        self.stages[title] = 0.0
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, by=1):
        self.stages[self._title] += by


class Stop(Recorded):
    """Progress that interrupts a run after a number of written shards."""

    def __init__(self, path, *, written):
        super().__init__()
        self._path, self._written = path, written

    def advance(self, by=1):
        if " SAE" in self._title and len(shards(self._path, "light1")) >= self._written:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def _environment():
    """Set one Ray token for this module, and the path on which workers import these files."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in (HERE, SUPPORT):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex())
        yield


@pytest.fixture(scope="module")
def cluster():
    """Return the address of a running cluster."""
    running = subprocess.Popen(
        [sys.executable, str(SUPPORT / "ray_cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield running.stdout.readline().strip()
    finally:
        running.communicate()


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Use one thread, as each of two workers on two CPUs does: sums depend on the number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """Return the parts that one process writes of the light SAEs, by whether codes are stored."""
    made = {}
    for keep_codes in (True, False):
        path = tmp_path_factory.mktemp("alone") / "a.atlas"
        work(path, keep_codes=keep_codes)
        made[keep_codes] = table_hashes(path)
    corpus = Corpus.open(Folder.open(path).corpus_file)  # the tests below rely on this
    assert len(corpus) == BLOCKS
    assert any(d.text.startswith("she she") for d in corpus.block(MARKED_BLOCK))
    return made


def work(path, lm=None, *, saes=None, keep_codes=True, progress=None, **settings):
    """Run two SAEs over four blocks, each a shard."""
    return ingest(
        path,
        saes=saes or light_saes(),
        text=documents(),
        model=lm or marked(),
        settings=Settings(shard_blocks=1, keep_codes=keep_codes, **settings),
        match=None,
        progress=progress or Recorded(),
    )


def shards(path, sae):
    """Return the numbers of the finished shards of an unfinished run."""
    (run,) = (path / "runs").glob(f"{sae}-*")
    checkpoint = Checkpoint(run)
    return {number for number in range(BLOCKS) if checkpoint.finished(number)}


@pytest.mark.slow
def test_workers_write_the_same_parts(tmp_path, cluster):
    """With a transformers model and SAEs of sae-lens."""
    saes = [open_sae(topk(seed=seed), name=f"top{seed}") for seed in (0, 1)]
    work(tmp_path / "a.atlas", model(), saes=saes)
    recorded = Recorded()
    work(tmp_path / "b.atlas", model(), saes=saes, ray=cluster, workers=2, progress=recorded)
    assert table_hashes(tmp_path / "b.atlas") == table_hashes(tmp_path / "a.atlas")
    assert Folder.open(tmp_path / "b.atlas").runs() == []
    assert [s for s in recorded.sentences if "died" in s] == []
    assert recorded.stages["small: 2 SAEs"] == BLOCKS


@pytest.mark.slow
def test_workers_finish_a_run_and_a_killed_worker_costs_its_shard(tmp_path, cluster, wanted, capfd):
    """Codes are not stored: shards after the killed one are merged only after it is computed."""
    path = tmp_path / "a.atlas"
    with pytest.raises(KeyboardInterrupt):
        work(path, keep_codes=False, progress=Stop(path, written=1))
    lm, recorded = marked("wait", tmp_path / "pid"), Recorded()
    killed, finished = [], threading.Event()

    def kill():
        while not finished.wait(0.1):
            if (tmp_path / "pid").exists():
                killed.append(int((tmp_path / "pid").read_text()))
                os.kill(killed[0], signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        work(path, lm, keep_codes=False, ray=cluster, progress=recorded)
    finally:
        finished.set()
        killer.join()
    assert len(killed) == 1
    assert [s for s in recorded.sentences if "died" in s] == [
        f"A worker died while computing shard {MARKED_BLOCK}; another takes over."
    ]
    assert table_hashes(path) == wanted[False]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_one_process_finishes_a_run_of_workers(tmp_path, wanted):
    """The workers belong to a Ray that the run starts, and stops at its end."""
    import ray

    path = tmp_path / "a.atlas"
    with pytest.raises(KeyboardInterrupt):
        work(path, workers=2, progress=Stop(path, written=2))
    assert not ray.is_initialized()
    assert len(shards(path, "light1")) >= 2
    recorded = Recorded()
    work(path, progress=recorded)
    assert table_hashes(path) == wanted[True]
    assert any("still to do" in sentence for sentence in recorded.sentences)


@pytest.fixture
def two_threads(_one_thread):
    """Use two threads, as a single worker on two CPUs does: float32 sums depend on the number."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_named(tmp_path, cluster, two_threads):
    path, reference = tmp_path / "a.atlas", tmp_path / "reference.atlas"
    with pytest.raises(AtlasError, match=f"3 workers died .* shard {MARKED_BLOCK}[.] .*stored"):
        work(path, marked("die"), ray=cluster, workers=1)
    assert shards(path, "light0") == set(range(MARKED_BLOCK))
    for each in (path, reference):
        work(each)
    assert table_hashes(path) == table_hashes(reference)


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_with_its_own_type(tmp_path, cluster):
    with pytest.raises(BadActivations, match=f"shard {MARKED_BLOCK};") as ours:
        work(tmp_path / "a.atlas", marked("nan"), ray=cluster, workers=1)
    assert ours.type is BadActivations
    recorded = Recorded()
    with pytest.raises(ZeroDivisionError, match="the model would not") as foreign:
        work(tmp_path / "a.atlas", marked("refuse"), ray=cluster, workers=3, progress=recorded)
    assert foreign.type is ZeroDivisionError
    assert "Ray has 2 CPUs: using 2 workers instead of 3." in recorded.sentences


@pytest.mark.slow
def test_objects_in_memory_are_sent_to_workers_of_a_connected_ray(tmp_path, cluster):
    import ray

    def run(path, **settings):
        ingest(
            path,
            saes=[topk()],
            text=documents(),
            model=random_model("gpt2"),
            tokenizer=small_tokenizer(),
            settings=Settings(shard_blocks=2, **settings),
        )

    run(tmp_path / "a.atlas")
    ray.init(cluster, log_to_driver=False, logging_level=logging.ERROR)
    try:
        run(tmp_path / "b.atlas", workers=1)
        with pytest.raises(BadInput, match=r"already connected to Ray\. .*ray.shutdown"):
            run(tmp_path / "c.atlas", ray=cluster)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert table_hashes(tmp_path / "b.atlas") == table_hashes(tmp_path / "a.atlas")


@pytest.mark.slow
def test_an_object_that_a_worker_cannot_open_is_one_message(tmp_path, cluster, monkeypatch):
    here_only = types.ModuleType("here_only")
    exec("class Thing: pass", here_only.__dict__)
    monkeypatch.setitem(sys.modules, "here_only", here_only)
    lm = marked()
    lm.base.thing = here_only.Thing()
    with pytest.raises(Mismatch, match=r"could not open .*here_only.*the same versions"):
        work(tmp_path / "a.atlas", lm, ray=cluster, workers=1)
    lm.base.thing = threading.Lock()
    with pytest.raises(BadInput, match=r"cannot be sent to workers \(.*lock"):
        work(tmp_path / "a.atlas", lm, ray=cluster)


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("127.0.0.1:1", Missing, "No Ray cluster was reached at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", Missing, "No Ray cluster was reached at 127.0.0.1:1"),
        ("no-such-host.invalid:6379", Missing, "No Ray cluster .*no-such-host.invalid"),
        ("somewhere", BadInput, "'somewhere' is not a valid address of a Ray cluster"),
    ],
)
def test_a_wrong_address_is_one_message(tmp_path, capfd, address, kind, message):
    with pytest.raises(kind, match=message):
        work(tmp_path / "a.atlas", ray=address)
    assert capfd.readouterr() == ("", "")


def test_a_command_without_the_extra_reports_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    text = tmp_path / "a.txt"
    text.write_text("Once upon a time there was a cat.\n\nShe was happy.")
    words = [
        "ingest",
        "--sae",
        "tiny-a-l1-s0",
        "--text",
        str(text),
        "-a",
        str(tmp_path / "a.atlas"),
    ]
    with pytest.raises(SystemExit) as done:
        main([*words, "--workers", "2", "-q"])
    assert done.value.code == 1
    assert "pip install 'feature-atlas[ray]'" in capsys.readouterr().err


def test_a_negative_number_of_workers_is_refused(tmp_path):
    with pytest.raises(BadInput, match="workers is -1"):
        work(tmp_path / "a.atlas", workers=-1)


def test_ray_is_imported_only_for_workers():
    code = "import sys, ingest.forward.workers, ingest.forward.shard_runner; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_tasks_of_a_study_run_on_a_cluster(tmp_path, cluster):
    from counting_study import CountSettings, CountStudy

    folder = Folder.create(tmp_path / "x.atlas")
    for name in ("a", "b"):
        for kind in ("sae", "tokens"):
            manifest = Manifest(kind=kind, name=name, saes=(name,))
            write_part(folder.part(kind, name), manifest, [("x", pa.table({"n": [1]}))])
    study = CountStudy(CountSettings(2))
    with pytest.raises(Missing, match=r"No Ray cluster was reached at 127\.0\.0\.1:1"):
        run_study(study, folder.path, "all", ray="127.0.0.1:1")
    with pytest.raises(BadInput, match="not a valid address"):
        run_study(study, folder.path, "all", ray="nowhere")
    assert run_study(study, folder.path, "all", ray=cluster).rows == [
        {"sae": "a", "letters": 2},
        {"sae": "b", "letters": 2},
    ]
