"""Stores on a remote file system: in memory, and on a server that speaks S3."""

import logging
import multiprocessing
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import fsspec
import numpy as np
import pytest

import remnant
from remnant import execute, population, remote_files
from remnant.schemes import Float16
from remnant.store import DamagedError, Store, StoreError
from remnant.trial import Recipe, Subset, Trial

RECIPE = Recipe("digits", "mlp", epochs=1)
TRIAL = Trial(RECIPE)
FILES = {"predictions": {"logits": np.arange(6, dtype=np.float32)}, "weights": {"w": np.ones(3, np.float32)}}


@pytest.fixture(scope="module")
def server():
    """Address of a server that speaks S3, and the log of its requests."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra 's3')")
    moto = pytest.importorskip("moto.server", reason="moto is not installed (extra 'dev')")
    requests: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            requests.append(record.getMessage())

    log, note = logging.getLogger("werkzeug"), Note()
    log.addHandler(note)
    log.setLevel(logging.INFO)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port()), requests
    running.stop()
    log.removeHandler(note)


@pytest.fixture
def bucket(server, monkeypatch, request):
    """A new folder in a bucket, as a URL."""
    import s3fs

    settings = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "ENDPOINT_URL": server[0]}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdirs("bucket", exist_ok=True)
    yield f"s3://bucket/{request.node.name}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request, tmp_path):
    return request.getfixturevalue("bucket") if request.param == "s3" else f"memory://{tmp_path}"


def files_of(url: str) -> list[str]:
    files, path = fsspec.url_to_fs(url, use_listings_cache=False)
    return sorted(found.removeprefix(path) for found in files.find(path))


def counted(requests: list[str]) -> Counter:
    """How many requests of a kind the server had."""
    kinds = Counter()
    for line in requests:
        verb, target = re.sub(r"\x1b\[\d+m", "", line).split('"')[1].split()[:2]
        kinds["list" if "list-type" in target else verb.lower()] += 1
    return kinds


def test_what_is_published_is_read_back_by_another_store(url):
    Store(url).publish(TRIAL, FILES, {"accuracy": 0.5})
    other = Store(url + "/")
    assert TRIAL in other
    assert other.trials() == [TRIAL]
    assert other.manifest(TRIAL)["accuracy"] == 0.5
    assert np.array_equal(other.read(TRIAL)["logits"], FILES["predictions"]["logits"])


def test_a_second_writer_changes_nothing(url):
    Store(url).publish(TRIAL, FILES, {"writer": 1})
    before = files_of(url)
    Store(url).publish(TRIAL, FILES, {"writer": 2})
    assert files_of(url) == before
    assert Store(url).manifest(TRIAL)["writer"] == 1


def test_a_writer_that_comes_between_wins_and_the_other_removes_its_files(url, monkeypatch):
    slow = Store(url)
    pipe = slow._fs.pipe

    def overtaken(contents) -> None:
        monkeypatch.setattr(slow._fs, "pipe", pipe)
        pipe(contents)
        Store(url).publish(TRIAL, FILES, {"writer": "fast"})

    monkeypatch.setattr(slow._fs, "pipe", overtaken)
    slow.publish(TRIAL, FILES, {"writer": "slow"})
    assert Store(url).manifest(TRIAL)["writer"] == "fast"
    assert len(files_of(url)) == 3
    assert Store(url).read(TRIAL, "weights")["w"].sum() == 3


def test_a_writer_whose_answer_was_lost_keeps_what_it_wrote(url, monkeypatch):
    store = Store(url)
    pipe_file = store._fs.pipe_file

    def lost(path, data, mode="overwrite") -> None:
        pipe_file(path, data)
        if mode == "create":
            raise TimeoutError("no answer")

    monkeypatch.setattr(store._fs, "pipe_file", lost)
    store.publish(TRIAL, FILES, {"writer": 1})
    assert np.array_equal(Store(url).read(TRIAL)["logits"], FILES["predictions"]["logits"])


def test_an_interrupted_upload_leaves_no_visible_trial(url, monkeypatch):
    store = Store(url)

    def cut(contents) -> None:
        pipe(dict([*contents.items()][:1]))
        raise ConnectionResetError("the line broke")

    pipe = store._fs.pipe
    monkeypatch.setattr(store._fs, "pipe", cut)
    with pytest.raises(StoreError, match="Cannot write .the line broke.*was not stored.*Check the address"):
        store.publish(TRIAL, FILES, {})
    monkeypatch.setattr(store._fs, "pipe", pipe)
    assert files_of(url) == []
    assert Store(url).missing([TRIAL]) == [TRIAL]
    assert Store(url).trials() == []
    store.publish(TRIAL, FILES, {})
    assert Store(url).trials() == [TRIAL]
    assert np.array_equal(Store(url).read(TRIAL)["logits"], FILES["predictions"]["logits"])
    assert store.sweep() == 0


def test_a_server_that_cannot_create_conditionally_is_written_all_the_same(url, monkeypatch):
    store = Store(url)
    pipe_file = store._fs.pipe_file

    def old(path, data, mode="overwrite") -> None:
        if mode == "create":
            raise NotImplementedError("NotImplemented")
        pipe_file(path, data)

    monkeypatch.setattr(store._fs, "pipe_file", old)
    store.publish(TRIAL, FILES, {"writer": 1})
    assert Store(url).manifest(TRIAL)["writer"] == 1
    store.publish(TRIAL, FILES, {"writer": 2})
    assert Store(url).manifest(TRIAL)["writer"] == 1


def test_sweep_removes_old_files_of_ours_without_a_manifest_and_nothing_else(url, monkeypatch):
    store = Store(url)
    store.publish(TRIAL, FILES, {})
    files, path = store._fs, store._path
    half = "predictions-0123456789ab.safetensors"
    files.pipe_file(f"{path}/trials/dead/{half}", b"half")
    files.pipe_file(f"{path}/trials/theirs/{half}", b"half")
    files.pipe_file(f"{path}/trials/theirs/notes.txt", b"not ours")
    files.pipe_file(f"{path}/probes/dead/{half}", b"half")
    before = files_of(url)
    assert store.sweep() == 0, "younger than a day: maybe somebody is uploading"
    assert files_of(url) == before

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz or UTC) + timedelta(days=1, minutes=1)

    monkeypatch.setattr(remote_files, "datetime", Later)
    assert store.sweep() == 2
    assert files_of(url) == [name for name in before if "/dead/" not in name]
    assert TRIAL in store
    assert store.sweep() == 0


def test_a_discarded_trial_is_gone_and_made_again(url):
    store, reader, opener = Store(url), Store(url), Store(url)
    store.publish(TRIAL, FILES, {"writer": 1})
    assert reader.manifest(TRIAL)["writer"] == opener.manifest(TRIAL)["writer"] == 1
    store.discard(TRIAL)
    assert Store(url).missing([TRIAL]) == [TRIAL]
    assert files_of(url) == []
    store.publish(TRIAL, FILES, {"writer": 2})
    assert store.manifest(TRIAL)["writer"] == 2
    assert opener.open(TRIAL)["logits"].whole().sum() == 15, "a reader that has the old manifest looks again"
    assert reader.read(TRIAL)["logits"].sum() == 15


def test_a_damaged_file_is_a_named_error(url):
    store = Store(url)
    store.publish(TRIAL, FILES, {})
    name = next(name for name in files_of(url) if "predictions" in name)
    store._fs.pipe_file(store._path + name, b"x")
    with pytest.raises(DamagedError, match="has 1 bytes where"):
        Store(url).read(TRIAL)


@pytest.mark.slow
def test_one_listing_and_one_request_for_each_manifest_find_all_trials(bucket, server):
    store = Store(bucket)
    trials = [Trial(RECIPE, seed=seed) for seed in range(20)]
    for trial in trials:
        store.publish(trial, FILES, {})
    requests = server[1]
    requests.clear()
    found = Store(bucket)
    assert found.missing([*trials, Trial(RECIPE, seed=20)]) == [Trial(RECIPE, seed=20)]
    assert counted(requests) == {"list": 1}
    requests.clear()
    assert found.trials() == trials
    assert counted(requests) == {"list": 1, "get": 20}
    requests.clear()
    for trial in trials:
        found.read(trial)
        found.manifest(trial)
    assert counted(requests) == {"get": 20}


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_a_named_error(bucket):
    with pytest.raises(StoreError, match="Cannot write .*bucket.*Check the address, your credentials"):
        Store("s3://no-such-bucket/x").publish(TRIAL, FILES, {})


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_a_named_error(bucket, monkeypatch):
    store = Store(bucket)

    def refuse(*_, **__):
        raise RuntimeError("Could not connect to the endpoint URL")

    monkeypatch.setattr(store._fs, "find", refuse)
    with pytest.raises(OSError, match="Cannot list .*Could not connect.*credentials and the network"):
        store.trials()


def test_a_protocol_whose_package_is_absent_says_so(monkeypatch):
    def absent(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.url_to_fs", absent)
    with pytest.raises(ValueError, match=r"Install s3fs.*pip install 'remnant\[s3\]'"):
        Store("s3://bucket/x")


def fill(url: str, seeds: list[int], start) -> None:
    start.wait()
    trials = [Trial(RECIPE, seed=seed, subset=Subset(seed)) for seed in seeds]
    execute.run(trials, Store(url), engine="serial")


@pytest.mark.slow
def test_two_clusters_fill_one_store_and_the_audit_reads_nothing_twice(bucket, server, tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [context.Process(target=fill, args=(bucket, seeds, start)) for seeds in ([*range(10)], [*range(9, -1, -1)])]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    local = Store(tmp_path / "store")
    trials = [Trial(RECIPE, seed=seed, subset=Subset(seed)) for seed in range(10)]
    execute.run([*trials, Trial(RECIPE, Float16())], local, engine="serial")
    execute.run([Trial(RECIPE, Float16())], Store(bucket), engine="serial")
    assert set(local.trials()) == set(Store(bucket).trials())
    for trial in local.trials():
        for file in ("predictions", "weights"):
            ours, theirs = local.read(trial, file), Store(bucket).read(trial, file)
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert len(files_of(bucket)) == 3 * 12 + 4, "nothing of the slower writers is left"
    requests = server[1]
    requests.clear()
    people = population.load(Store(bucket))
    population.thumbnails(Store(bucket), people)("test", people["example"].values[:3].tolist())
    population.thumbnails(Store(bucket), people)("test", people["example"].values[:3].tolist())
    data = [line.split('"')[1] for line in requests if ".safetensors" in line]
    assert len(data) == len(set(data)) == 12 + 2


def test_a_model_of_a_remote_store_is_compressed(url, tmp_path):
    execute.run([TRIAL], Store(url), engine="serial")
    done = remnant.compress(url, "one-shot-pruning(sparsity=0.5)")
    assert done.trial in Store(url)
    assert done.trial.parent == TRIAL
    local = tmp_path / "local"
    execute.run([TRIAL], Store(local), engine="serial")
    expected = remnant.compress(str(local), "one-shot-pruning(sparsity=0.5)")
    np.testing.assert_array_equal(Store(url).read(done.trial)["logits"], Store(local).read(expected.trial)["logits"])
