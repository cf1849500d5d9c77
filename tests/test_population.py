import numpy as np
import pytest

from remnant import population as populations
from remnant.population import SchemaError, check, paired
from remnant.schemes import Dense, Float16, WeightOnly
from remnant.store import DamagedError, MissingError, Store
from remnant.stored_array import pack_text
from remnant.trial import Recipe, Subset, Trial
from tests.simulate import population

RECIPE = Recipe("digits", "mlp")


@pytest.fixture
def made():
    return population(np.random.default_rng(0), num_seeds=3, num_subset_trials=4)


def fill(store: Store, trials, *, fingerprint="f00d", num=4) -> None:
    rng = np.random.default_rng(1)
    examples = {
        "classes": pack_text(["cat", "dog"]),
        "test_labels": np.arange(num) % 2,
        "train_labels": np.arange(9) % 2,
        "test_ids": pack_text([f"test-{i}" for i in range(num)]),
        "train_ids": pack_text([f"train-{i}" for i in range(9)]),
        "test_group_light": pack_text(["day", "night"] * (num // 2)),
    }
    pictures = {"pictures": np.arange(num * 4, dtype=np.uint8).reshape(num, 2, 2, 1)}
    store.publish_dataset(fingerprint, {"examples": examples, "test": pictures}, {"name": "pets"})
    for trial in trials:
        included = np.arange(9) != (-1 if trial.subset is None else 4)
        predictions = {
            "logits": rng.normal(size=(num, 2)).astype(np.float32),
            "train_prediction": rng.integers(2, size=9).astype(np.uint8),
            "train_margin": rng.normal(size=9).astype(np.float16),
            "included": np.packbits(included),
        }
        bytes_ = {"float32": 8, "int8": 2} | ({"own": 3} if trial.scheme == WeightOnly() else {})
        footprint = {"bytes": bytes_, "flops": 4, "effective_flops": 4}
        footprint |= {"parameters": 2, "nonzeros": 2, "latency": 1e-6}
        store.publish(trial, {"predictions": predictions}, {"dataset": fingerprint, "footprint": footprint})


def test_a_population_is_loaded_from_a_store(tmp_path):
    store = Store(tmp_path)
    trials = [Trial(RECIPE, s, k) for s in (Dense(), Float16()) for k in range(2)]
    trials += [Trial(RECIPE, seed=0, subset=Subset(0))]
    fill(store, trials)
    loaded = populations.load(store)
    assert dict(loaded.sizes) == {"trial": 5, "example": 4, "class": 2, "train_example": 9, "encoding": 2}
    assert loaded["scheme"].values.tolist() == ["dense", "dense", "float16", "float16", "dense"]
    assert loaded["subset"].values.tolist() == [-1, -1, -1, -1, 0]
    assert loaded["included"][:4].values.all()
    assert not loaded["included"][4].values.all()
    assert loaded["group_light"].values.tolist() == ["day", "night"] * 2
    assert np.array_equal(loaded["train_correct"], loaded["train_prediction"] == loaded["train_label"])
    assert loaded.attrs["dataset"] == "pets"
    stored = store.read(Trial(RECIPE, Float16(), 1))["logits"]
    assert np.array_equal(loaded["logits"].sel(trial=Trial(RECIPE, Float16(), 1).key), stored)


def test_an_encoding_that_is_stated_for_some_trials_only_is_not_known_of_the_others(tmp_path):
    trials = [Trial(RECIPE), Trial(RECIPE, WeightOnly())]
    fill(Store(tmp_path), trials)
    sizes = populations.load(tmp_path)["bytes"].sel(encoding="own").values
    assert np.isnan(sizes[0])
    assert sizes[1] == 3


def test_loading_does_not_depend_on_the_order_of_writing(tmp_path):
    trials = [Trial(RECIPE, seed=k) for k in range(3)]
    fill(Store(tmp_path / "a"), trials)
    fill(Store(tmp_path / "b"), trials[:1])
    for trial in (trials[2], trials[1]):
        source = Store(tmp_path / "a")
        record = {k: v for k, v in source.manifest(trial).items() if k not in ("files", "format", "trial")}
        Store(tmp_path / "b").publish(trial, {"predictions": source.read(trial)}, record)
    a, b = populations.load(Store(tmp_path / "a")), populations.load(Store(tmp_path / "b"))
    assert a.drop_attrs().identical(b.drop_attrs())


def test_damage_is_an_error_or_left_out_when_asked(tmp_path):
    store = Store(tmp_path)
    trials = [Trial(RECIPE, seed=k) for k in range(3)]
    fill(store, trials)
    (tmp_path / "trials" / trials[1].key / "predictions.safetensors").write_bytes(b"")
    (tmp_path / "trials" / trials[2].key / "trial.json").write_text("{")
    with pytest.raises(DamagedError, match=f"trial {trials[2].key}|trial {trials[1].key}"):
        populations.load(store)
    loaded = populations.load(store, damaged="skip")
    assert loaded["trial"].values.tolist() == [trials[0].key]
    assert set(loaded.attrs["damaged"]) == {trials[1].key, trials[2].key}
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        populations.load(store, damaged="ignore")


def test_an_empty_store_says_what_to_do(tmp_path):
    with pytest.raises(MissingError, match="holds no finished trial. Run a study first"):
        populations.load(Store(tmp_path))


def test_several_recipes_or_data_sets_are_refused(tmp_path):
    store = Store(tmp_path)
    fill(store, [Trial(RECIPE)])
    fill(store, [Trial(RECIPE, seed=1)], fingerprint="beef")
    with pytest.raises(SchemaError, match="2 different contents"):
        populations.load(store)
    fill(store, [Trial(Recipe("digits", "cnn"))])
    with pytest.raises(SchemaError, match="Expected trials of one recipe, but got 2"):
        populations.load(store)
    assert populations.load(store, [Trial(RECIPE)]).sizes["trial"] == 1


def test_subsets_of_different_shares_are_not_pooled(tmp_path):
    """Models that saw more are right more often: every training example would seem to have influence."""
    store = Store(tmp_path)
    trials = [Trial(RECIPE, seed=k, subset=Subset(k, fraction=share)) for k, share in enumerate((0.5, 0.7))]
    fill(store, trials)
    with pytest.raises(SchemaError, match=r"one share of the training set, .*: 1 of 0\.5, 1 of 0\.7\. Keep each"):
        populations.load(store)
    assert populations.load(store, trials[:1]).sizes["trial"] == 1


def test_pictures_are_found_by_id(tmp_path):
    store = Store(tmp_path)
    fill(store, [Trial(RECIPE)])
    find = populations.thumbnails(store, populations.load(store))
    found = find("test", ["test-2", "nobody"])
    assert list(found) == ["test-2"]
    assert found["test-2"].ravel().tolist() == [8, 9, 10, 11]
    assert find("train", ["train-0"]) == {}


def test_whole_and_subset_trials_are_selected_in_order_of_their_seeds(made):
    mixed = made.isel(trial=np.random.default_rng(0).permutation(made.sizes["trial"]))
    assert populations.whole(mixed, "dense")["seed"].values.tolist() == [0, 1, 2]
    assert populations.subsets(mixed)["subset"].values.tolist() == [0, 1, 2, 3]
    assert populations.schemes(mixed)[0] == "dense"


def test_predictions_take_the_first_of_equal_logits(made):
    made["logits"][:] = 0
    assert (populations.predictions(made) == 0).all()


def test_equal_populations_pair(made):
    a, b = populations.whole(made, "dense"), populations.whole(made, "magnitude-pruning(sparsity=0.9)")
    assert paired(a, b) == (a, b)


def test_unpaired_populations_are_refused_with_what_differs(made):
    dense = populations.whole(made, "dense")
    with pytest.raises(SchemaError, match=r"same seeds on both sides, but \[0\] \(1\) are in the first only"):
        paired(dense, dense.isel(trial=[1, 2]))
    with pytest.raises(SchemaError, match="same examples on both sides, but .*'test-00199'"):
        paired(dense, dense.isel(example=slice(199)))
    with pytest.raises(SchemaError, match="examples in the same order"):
        paired(dense, dense.isel(example=slice(None, None, -1)))
    with pytest.raises(SchemaError, match="same labels on both sides, but 200"):
        paired(dense, dense.assign(label=dense["label"] + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.assign(label=p["label"].where(p["example"] != "test-00003", 9).astype(int)),
            "value 9 at 'test-00003",
        ),
        (lambda p: p.assign(label=p["label"] - 1), r"Expected `label` in \[0, 5\), but 40 lie outside \(value -1"),
        (lambda p: p.assign(train_label=p["train_label"] + 4), "Expected `train_label`"),
        (
            lambda p: p.assign(logits=p["logits"].where(p["seed"] != 1)),
            "finite `logits`, but trial 'dense/1/-1' has NaN",
        ),
        (lambda p: p.assign(logits=p["logits"] * np.inf), "Did its training diverge"),
        (lambda p: p.isel({"class": [0]}).assign(label=p["label"] * 0), "at least 2 classes, but got 1"),
        (lambda p: p.isel(example=[0, 1, 1]), r"unique `example` ids.*'test-00001'"),
        (lambda p: p.isel(trial=[0, 0]), "unique `trial` ids"),
        (
            lambda p: p.assign(logits=p["logits"].transpose("example", "trial", "class")),
            "Expected `logits` to have dim",
        ),
        (lambda p: p.assign(included=p["included"].astype(float)), "dtype of kind 'b', but got float64"),
        (lambda p: p.drop_vars("seed"), "coordinate `seed`"),
        (lambda p: p.drop_vars("example"), "Expected `example` to have ids"),
    ],
)
def test_a_broken_schema_names_the_variable(made, change, message):
    with pytest.raises(SchemaError, match=message):
        check(change(made))
