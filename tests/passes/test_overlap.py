"""Work on threads while the model runs: parts are the same as without, and errors lose no shard."""

import threading
import time

import pytest
import torch
from small_ingest import model, texts, topk

from atlas.disk.folder import Folder
from atlas.errors import OutOfSpace
from ingest.forward import overlap, shard_runner, shards
from ingest.forward.overlap import has_idle_core, in_order, prefetched
from ingest.forward.run import ingest
from ingest.reduce.protocol import Plan
from ingest.reduce.runner import FirstPass
from ingest.sae.autoencoder import open_sae
from ingest.settings import Settings


def hashes(path):
    """Return the SHA-256 of every table whose content does not have the id of the atlas."""
    parts = Folder.open(path).sound().parts
    return {
        (key, name): table.sha256
        for key, part in parts.items()
        for name, table in part.manifest.tables.items()
        if part.manifest.kind != "sae"
    }


def run(path, monkeypatch, *, idle, **settings):
    monkeypatch.setattr(shard_runner, "has_idle_core", lambda *_: idle)
    ingest(
        path,
        saes=[open_sae(topk(seed=seed), name=f"top{seed}") for seed in (0, 1)],
        text=texts(450, seed=5, words=(50, 120)),
        model=model(),
        settings=Settings(shard_blocks=1, **settings),
        match=None,
    )
    return hashes(path)


@pytest.mark.parametrize("keep_codes", [True, False])
def test_the_parts_are_equal_byte_by_byte(tmp_path, monkeypatch, keep_codes):
    used = []
    monkeypatch.setattr(FirstPass, "fits", _recorded(FirstPass.fits, used))
    after = run(tmp_path / "after.atlas", monkeypatch, idle=False, keep_codes=keep_codes)
    assert used == []
    during = run(tmp_path / "during.atlas", monkeypatch, idle=True, keep_codes=keep_codes)
    assert len(during) > 8
    assert during == after
    assert used == ([True, True] if keep_codes else [])


def _recorded(function, calls):
    def call(*args, **named):
        calls.append(function(*args, **named))
        return calls[-1]

    return call


def test_the_first_block_of_a_shard_is_prepared_during_the_shard_before(tmp_path, monkeypatch):
    prepared, real_cut, real_encode = threading.Event(), shards.tokenize, shards.encode_batch
    blocks, waited = [], []

    def tokenize(documents, *args, **named):
        blocks.append(documents[0].number)
        if len(blocks) == 2:  # shards have one block
            prepared.set()
        return real_cut(documents, *args, **named)

    def encode(*args, shard, **named):
        if shard == 0 and not waited:
            waited.append(prepared.wait(60))
        return real_encode(*args, shard=shard, **named)

    monkeypatch.setattr(shards, "tokenize", tokenize)
    monkeypatch.setattr(shards, "encode_batch", encode)
    run(tmp_path / "a.atlas", monkeypatch, idle=False)
    assert waited == [True]
    assert len(blocks) > 2
    assert blocks == sorted(blocks)


def test_a_first_pass_of_other_plans_is_computed_again(tmp_path, monkeypatch):
    after = run(tmp_path / "after.atlas", monkeypatch, idle=False)
    real, planned, used = shard_runner.plan_all, [], []

    def plan_all(*args, **named):
        plans = real(*args, **named)
        planned.append(plans)
        if len(planned) <= 2:  # the forecasts of both SAEs; a pass then counts half of the features
            plans["tokens"] = Plan(passes=2, bytes=plans["tokens"].bytes)
        return plans

    monkeypatch.setattr(shard_runner, "plan_all", plan_all)
    monkeypatch.setattr(FirstPass, "fits", _recorded(FirstPass.fits, used))
    assert run(tmp_path / "during.atlas", monkeypatch, idle=True) == after
    assert used == [False, False]


def test_first_passes_share_the_memory(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(FirstPass, "fits", _recorded(FirstPass.fits, used))
    monkeypatch.setattr(FirstPass, "bytes", Settings().memory)
    run(tmp_path / "during.atlas", monkeypatch, idle=True)
    assert used == [True]


@pytest.mark.parametrize("keep_codes", [True, False])
def test_after_an_interruption_finished_shards_are_reduced_first(tmp_path, monkeypatch, keep_codes):
    expected = run(tmp_path / "once.atlas", monkeypatch, idle=False, keep_codes=keep_codes)
    real, runs = shard_runner.compute_shard, []

    def interrupted(*args, shard, **named):
        if shard == 2 and not runs:
            runs.append(shard)
            raise KeyboardInterrupt
        return real(*args, shard=shard, **named)

    monkeypatch.setattr(shard_runner, "compute_shard", interrupted)
    path = tmp_path / "twice.atlas"
    with pytest.raises(KeyboardInterrupt):
        run(path, monkeypatch, idle=True, keep_codes=keep_codes)
    computed = []
    monkeypatch.setattr(
        shard_runner,
        "compute_shard",
        lambda *args, shard, **named: computed.append(shard) or real(*args, shard=shard, **named),
    )
    assert run(path, monkeypatch, idle=True, keep_codes=keep_codes) == expected
    assert computed[0] == 2  # what was computed before the interruption was stored


def test_an_error_while_a_shard_is_stored_is_raised_and_finished_shards_remain(
    tmp_path, monkeypatch
):
    expected = run(tmp_path / "once.atlas", monkeypatch, idle=False)
    real = shard_runner.write_shard

    def full(path, *args, **named):
        if path.stem == "shard-00001":
            raise OutOfSpace("The disk is full.")
        real(path, *args, **named)

    path = tmp_path / "twice.atlas"
    monkeypatch.setattr(shard_runner, "write_shard", full)
    with pytest.raises(OutOfSpace, match="The disk is full"):
        run(path, monkeypatch, idle=True)
    stored = [file.stem for file in path.glob("runs/*/codes/*.arrow")]
    assert stored.count("shard-00000") == 2  # of both SAEs
    assert "shard-00001" not in stored
    monkeypatch.setattr(shard_runner, "write_shard", real)
    assert run(path, monkeypatch, idle=True) == expected


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("on_thread", [True, False])
def test_work_runs_in_the_order_of_its_submission(on_thread):
    done = []
    with in_order(on_thread=on_thread) as work:
        for i in range(20):
            work.submit(lambda i=i: done.append((i, threading.get_ident())))
    assert [i for i, _ in done] == list(range(20))
    assert {thread == threading.get_ident() for _, thread in done} == {not on_thread}


def test_few_pieces_wait():
    started, proceed = threading.Semaphore(0), threading.Event()

    def wait():
        started.release()
        assert proceed.wait(60)

    with in_order(on_thread=True) as work:
        for _ in range(1 + overlap.WAITING):
            work.submit(wait)
        started.acquire()
        more = threading.Thread(target=lambda: work.submit(wait))
        more.start()
        assert len(work._running) == 1 + overlap.WAITING
        proceed.set()
        more.join()


@pytest.mark.parametrize("on_thread", [True, False])
def test_after_an_error_no_work_runs(on_thread):
    done = []

    def fail():
        raise OutOfSpace("full")

    def some():
        with in_order(on_thread=on_thread) as work:
            work.submit(fail)
            while True:
                work.submit(lambda: done.append(1))

    with pytest.raises(OutOfSpace, match="full"):
        some()
    assert done == []


def test_submitted_work_is_finished_if_the_caller_fails():
    done, proceed = [], threading.Event()

    def long():
        assert proceed.wait(60)
        while not work.stopping:
            time.sleep(0.001)
        done.append("stopped")

    def some():
        nonlocal work
        with in_order(on_thread=True) as work:
            work.submit(long)
            work.submit(lambda: done.append("stored"))
            threading.Timer(0.1, proceed.set).start()
            raise KeyboardInterrupt

    work = None
    with pytest.raises(KeyboardInterrupt):
        some()
    assert done == ["stopped", "stored"]


def test_items_are_computed_one_ahead_and_errors_are_raised_at_their_item():
    computed = []

    def items():
        for i in range(3):
            computed.append((i, threading.get_ident()))
            yield i
        raise ValueError("the fourth")

    found = prefetched(items())
    assert next(found) == 0
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(found)
    assert [i for i, _ in computed] == [0, 1, 2]
    assert threading.get_ident() not in {thread for _, thread in computed}
    assert list(prefetched([])) == []


def test_a_core_is_idle_with_a_gpu_or_fewer_threads_than_cores(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    for threads, idle in ((1, True), (3, True), (4, False), (8, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        assert has_idle_core(cpu, Settings()) is idle
        assert has_idle_core(torch.device("cuda"), Settings())
        assert has_idle_core(cpu, Settings(workers=2))


def test_work_that_must_be_stored_runs_after_an_error():
    done, first = [], threading.Event()

    def failing():
        first.wait()
        raise OutOfSpace("memory")

    def pieces():
        with in_order(on_thread=True) as work:
            work.submit(failing)
            work.submit(lambda: done.append("stored"), always=True)
            first.set()
            work.submit(lambda: done.append("reduced"))
            work.submit(lambda: done.append("also stored"), always=True)

    with pytest.raises(OutOfSpace, match="memory"):
        pieces()
    assert [each for each in done if "stored" in each][:1] == ["stored"]
    assert "reduced" not in done


def test_a_computed_shard_is_stored_although_a_reduction_failed(tmp_path, monkeypatch):
    begun, real = threading.Event(), shard_runner.compute_shard

    def reduce_later(*args, **named):
        begun.wait(60)
        raise OutOfSpace("no memory for the reduction")

    def compute(*args, shard, **named):
        found = real(*args, shard=shard, **named)
        if shard == 1:
            begun.set()
        return found

    monkeypatch.setattr(shard_runner, "_add", reduce_later)
    monkeypatch.setattr(shard_runner, "compute_shard", compute)
    with pytest.raises(OutOfSpace, match="no memory"):
        run(tmp_path / "a.atlas", monkeypatch, idle=True)
    stored = {path.name for path in (tmp_path / "a.atlas").glob("runs/*/codes/*")}
    assert len(stored) >= 2, stored


def test_an_error_of_finished_work_is_a_note_of_the_error_of_the_caller():
    begun = threading.Event()

    def failing():
        begun.wait()
        raise OutOfSpace("the disk is full")

    def pieces():
        with in_order(on_thread=True) as work:
            work.submit(failing)
            begun.set()
            raise ValueError("caller")

    with pytest.raises(ValueError, match="caller") as raised:
        pieces()
    assert raised.value.__notes__ == ["Work on finished shards failed too: the disk is full"]
