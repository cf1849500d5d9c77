from typing import Any

import numpy as np
import pytest

import remnant
from remnant import population as populations
from remnant import streamed
from remnant.analyses import STORE_ANALYSES
from remnant.finding import Audit
from remnant.population import SchemaError
from remnant.schemes import Dense, Float16, MagnitudePruning
from remnant.store import DamagedError, Store
from remnant.stored_array import pack_text
from remnant.streamed import StreamedLogits, blocks, in_threads
from remnant.trial import Recipe, Subset, Trial
from tests.simulate import population

RECIPE = Recipe("digits", "mlp")
SCHEMES = {"dense": Dense(), "magnitude-pruning(sparsity=0.9)": MagnitudePruning(0.9), "float16": Float16()}
LARGE = ("mismatches", "exemplars", "classes")


def fill(store: Store, *, num_seeds=5, num_subset_trials=0, kind=np.float16, **options) -> list[Trial]:
    """The trials of a simulated population."""
    made = population(
        np.random.default_rng(0),
        schemes=dict.fromkeys(SCHEMES, 0.3),
        num_seeds=num_seeds,
        num_subset_trials=num_subset_trials,
        **options,
    )
    examples = {
        "classes": pack_text(map(str, range(made.sizes["class"]))),
        "test_labels": made["label"].values,
        "train_labels": made["train_label"].values,
        "test_ids": pack_text(f"test-{i}" for i in range(made.sizes["example"])),
        "train_ids": pack_text(f"train-{i}" for i in range(made.sizes["train_example"])),
        "test_group_half": pack_text("ab"[i % 2] for i in range(made.sizes["example"])),
    }
    store.publish_dataset("f00d", {"examples": examples}, {"name": "simulated"})
    footprint = {"bytes": {"float32": 8}, "parameters": 2, "nonzeros": 2, "latency": 1e-6}
    footprint |= {"flops": 4, "effective_flops": 4}
    trials = []
    for row, label in enumerate(made["scheme"].values):
        subset, seed = int(made["subset"][row]), int(made["seed"][row])
        trials.append(Trial(RECIPE, SCHEMES[label], seed, subset=None if subset < 0 else Subset(subset)))
        predictions = {
            "logits": made["logits"].values[row].astype(kind),
            "train_prediction": made["train_prediction"].values[row],
            "train_margin": made["train_margin"].values[row],
            "included": np.packbits(made["included"].values[row]),
        }
        store.publish(trials[-1], {"predictions": predictions}, {"dataset": "f00d", "footprint": footprint})
    return trials


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(tmp_path if request.param == "local" else f"memory://{tmp_path}")


@pytest.fixture
def stay_in_store(monkeypatch):
    """Every population is taken for a large one, and read in blocks of few examples."""
    monkeypatch.setattr(streamed, "IN_MEMORY", 0)
    monkeypatch.setattr(streamed, "_VALUES", 100)


def both(store: Store, monkeypatch):
    loaded = populations.load(store)
    monkeypatch.setattr(streamed, "IN_MEMORY", 0)
    monkeypatch.setattr(streamed, "_VALUES", 100)
    return loaded, populations.load(store)


def same(one: Audit, two: Audit) -> None:
    assert one.not_run == two.not_run
    for a, b in zip(one.findings, two.findings, strict=True):
        assert a.caveats == b.caveats
        for x, y in zip(a.claims, b.claims, strict=True):
            assert (x.quantity, x.subject, x.method, x.n) == (y.quantity, y.subject, y.method, y.n)
            values = [[claim.estimate, claim.low, claim.high] for claim in (x, y)]
            assert [value is None for value in values[0]] == [value is None for value in values[1]]
            np.testing.assert_allclose(*np.array(values, float), rtol=1e-9, atol=1e-12, err_msg=x.quantity)


def test_a_streamed_population_equals_the_loaded_one(store, monkeypatch):
    fill(store, num_subset_trials=3)
    loaded, large = both(store, monkeypatch)
    assert "log_partition" not in loaded
    assert not large["logits"].variable._in_memory
    np.testing.assert_array_equal(large["prediction"], populations.predictions(loaded))
    assert large.drop_vars(["prediction", "log_partition"]).drop_attrs().identical(loaded.drop_attrs())
    assert not large["logits"].variable._in_memory
    for label in SCHEMES:
        one, two = populations.whole(large, label), populations.whole(loaded, label)
        np.testing.assert_array_equal(one["logits"], two["logits"])


def test_any_part_is_that_of_the_array(tmp_path, monkeypatch):
    fill(Store(tmp_path), num_seeds=2, num_examples=60)
    loaded, large = both(Store(tmp_path), monkeypatch)
    one, two = large["logits"], loaded["logits"]
    some: list[Any] = [
        0,
        3,
        slice(None),
        slice(1, 4),
        slice(2, 2),
        slice(None, None, 2),
        slice(5, None, -2),
        [1],
        [5, 0, 0],
        [],
    ]
    for trials in some:
        for examples in (*some, [59, 2], slice(55, 70)):
            for classes in (2, slice(None), [4, 0]):
                place: dict[str, Any] = {"trial": trials, "example": examples, "class": classes}
                found, expected = one.isel(place), two.isel(place)
                np.testing.assert_array_equal(found.values, expected.values)
                assert found.dtype == expected.dtype
    later = one.isel(trial=[4, 1], example=slice(10, 50)).isel(trial=1, example=[3, 3, 39])
    np.testing.assert_array_equal(later, two.values[1, [13, 13, 49]])


def test_large_audits_equal_small_ones(store, monkeypatch):
    fill(store)
    loaded, large = both(store, monkeypatch)
    same(remnant.audit(loaded, LARGE), remnant.audit(large, LARGE))


def test_every_analysis_works_on_streamed_logits(tmp_path, monkeypatch):
    fill(Store(tmp_path), num_subset_trials=12, num_examples=90, num_train=60, num_classes=4)
    loaded, large = both(Store(tmp_path), monkeypatch)
    names = [name for name in STORE_ANALYSES if name not in LARGE]
    same(remnant.audit(loaded, names), remnant.audit(large, names))


def test_few_logits_are_read_at_a_time(tmp_path, stay_in_store, monkeypatch):
    fill(Store(tmp_path), num_examples=400)
    large, sizes, read = populations.load(Store(tmp_path)), [], StreamedLogits._read

    def watched(self, key):
        found = read(self, key)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(StreamedLogits, "_read", watched)
    remnant.audit(large, LARGE, parameters={"mismatches": {"regressed": 10, "gallery": 5}})
    assert sizes
    assert max(sizes) <= 400


def test_damage_is_found_when_a_large_population_is_loaded(tmp_path, stay_in_store):
    store = Store(tmp_path)
    trials = fill(store)
    path = [tmp_path / "trials" / trial.key / "predictions.safetensors" for trial in trials]
    path[0].write_bytes(path[0].read_bytes()[:-1] + b"!")
    path[1].unlink()
    path[2].write_bytes(b"short")
    with pytest.raises(DamagedError, match="its checksum differs|is missing|has 5 bytes"):
        populations.load(store)
    loaded = populations.load(store, damaged="skip")
    assert loaded.sizes["trial"] == len(trials) - 3
    faults = loaded.attrs["damaged"]
    assert "its checksum differs" in faults[trials[0].key]
    assert "is missing" in faults[trials[1].key]
    assert "has 5 bytes" in faults[trials[2].key]


def test_a_file_that_is_none_of_arrays_is_damaged(tmp_path, stay_in_store, monkeypatch):
    store = Store(tmp_path)
    trials = fill(store, num_seeds=1)
    monkeypatch.setattr("remnant.store.fault", lambda *_: "")
    (tmp_path / "trials" / trials[0].key / "predictions.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello")
    with pytest.raises(DamagedError, match="is not a safetensors file"):
        populations.load(store)


def test_diverged_trials_are_found_when_a_large_population_is_loaded(tmp_path, stay_in_store):
    store = Store(tmp_path)
    trial = fill(store, num_seeds=1)[0]
    arrays, manifest = store.read(trial), store.manifest(trial)
    store.discard(trial)
    arrays["logits"] = arrays["logits"].copy()
    arrays["logits"][3, 1], arrays["logits"][5, 0] = np.nan, -np.inf
    record = {name: manifest[name] for name in ("dataset", "footprint")}
    store.publish(trial, {"predictions": arrays}, record)
    with pytest.raises(SchemaError, match=f"finite `logits`, but trial {trial.key!r} has NaN or infinite ones on 2"):
        populations.load(store)


@pytest.mark.parametrize("most", [0, 2**31])
def test_stored_predictions_win_over_rounded_logits(most, tmp_path, monkeypatch):
    """In half precision 1000.05 and 1000.15 are the same."""
    monkeypatch.setattr(streamed, "IN_MEMORY", most)
    store = Store(tmp_path)
    trials = fill(store, num_seeds=1, num_examples=4, num_classes=3)
    arrays, manifest = store.read(trials[0]), store.manifest(trials[0])
    exact = np.array([[1000.05, 1000.15, 0]] * 4, np.float32)
    store.discard(trials[0])
    arrays |= {"logits": exact.astype(np.float16), "prediction": exact.argmax(axis=1).astype(np.int8)}
    record = {name: manifest[name] for name in ("dataset", "footprint")}
    store.publish(trials[0], {"predictions": arrays}, record)
    loaded = populations.load(store)
    row = loaded["trial"].values.tolist().index(trials[0].key)
    assert loaded["logits"].values[row].argmax(axis=1).tolist() == [0] * 4
    assert populations.predictions(loaded)[row].tolist() == [1] * 4
    others = [other for other in range(3) if other != row]
    np.testing.assert_array_equal(
        populations.predictions(loaded)[others], loaded["logits"].values[others].argmax(axis=-1)
    )


def test_blocks_hold_every_example_once():
    for sizes in ((7, 10), (10**6, 1000), (50_000, 1000, 40), (3, 10**8)):
        rows = blocks(*sizes)
        assert [row.start for row in rows[1:]] == [row.stop for row in rows[:-1]]
        assert (rows[0].start, rows[-1].stop) == (0, sizes[0])
        assert len(rows) == 1 or (rows[0].stop - rows[0].start) * np.prod(sizes[1:]) <= 2**24 or rows[0].stop == 1


def test_threads_keep_the_order_and_raise():
    assert in_threads(lambda k: k**2, range(9)) == [k**2 for k in range(9)]
    assert in_threads(str, [1]) == ["1"]
    assert in_threads(str, []) == []
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda k: 1 / (k - 5), range(9))
