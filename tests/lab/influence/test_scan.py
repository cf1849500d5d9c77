"""Scans of packed bits equal the tiles of NumPy, bit for bit, with every backend and any number of threads."""

import contextlib
from functools import partial

import numpy as np
import pytest

from remnant.lab import influence as engine
from remnant.lab.influence import passes, products, tiles
from remnant.stats import influence_tiles as tiled
from remnant.stats.influence import influence
from remnant.stats.packed_bits import pack, stack

EDGES = np.linspace(-5, 5, 41)
THRESHOLDS = np.array([0.15, 0.2, 0.3])


@pytest.fixture(params=[(40, 300, 100, 5), (37, 5003, 77, 30), (64, 4500, 1030, 3)], scope="module")
def case(request):
    num_trials, num_train, num_examples, k = request.param
    rng = np.random.default_rng(num_trials)
    correct = rng.random((num_trials, num_examples)) < rng.random(num_examples)
    included = rng.random((num_trials, num_train)) < 0.7
    included[:, 3], included[:, 11], correct[:, 5] = True, False, True
    labels, train_labels = rng.integers(4, size=num_examples), rng.integers(4, size=num_train)
    return correct, included, labels, train_labels, k


@pytest.fixture(scope="module")
def expected(case):
    """By the tiles of NumPy, and the whole matrix."""
    correct, included, labels, train_labels, k = case
    blocks = list(tiled.tiles(correct, included))
    top = partial(tiled.top_k, num_examples=len(labels))
    reducers = {
        "top": partial(top, k=k),
        "bottom": partial(top, k=2, sign=-1),
        "above": partial(tiled.count_above, thresholds=THRESHOLDS, labels=labels, train_labels=train_labels),
        "z": partial(tiled.histogram_z, edges=EDGES),
    }
    matrix = np.full((correct.shape[1], included.shape[1]), np.nan, np.float32)
    for tile in blocks:
        matrix[np.ix_(tile.examples, tile.train_examples)] = tile.influence
    return tiled.fold(blocks, reducers), matrix


def reducers_of(case):
    correct, included, labels, train_labels, k = case
    shape = (correct.shape[1], included.shape[1])
    return {
        "top": engine.StrongestOnExamples(*shape, k),
        "bottom": engine.StrongestOnExamples(*shape, 2, sign=-1),
        "above": engine.CountAbove(THRESHOLDS, labels, train_labels),
        "z": engine.HistogramZ(EDGES),
        "pairs": engine.PairsAbove(0.15),
        "training": engine.StrongestOfTraining(*shape, 4),
    }


@pytest.mark.parametrize(("threads", "compiled"), [(1, True), (3, True), (3, False)])
@pytest.mark.parametrize("backend", list(engine.BACKENDS))
def test_all_backends_and_threads_give_the_bits_of_numpy(case, expected, backend, threads, compiled):
    if not products.works(backend):
        pytest.skip(f"{backend} does not work on this machine")
    if compiled and passes.compiled() is None:
        pytest.skip("Numba is not installed")
    correct, included, *_ = case
    how = {"backend": backend, "threads": threads, "compiled": compiled}
    found = engine.scan(pack(correct), pack(included), reducers_of(case), **how)
    reference, matrix = expected
    for name in ("top", "bottom"):
        assert np.array_equal(found[name].values, reference[name].values)
        assert np.array_equal(found[name].train_examples, reference[name].train_examples)
    assert np.array_equal(found["above"], reference["above"])
    assert np.array_equal(found["z"], reference["z"])
    row, column = np.nonzero(matrix >= np.float32(0.15 - tiled.TOLERANCE))
    assert np.array_equal(found["pairs"].examples, row)
    assert np.array_equal(found["pairs"].train_examples, column)
    assert np.array_equal(found["pairs"].influence, matrix[row, column])
    defined = ~np.isnan(matrix).all(axis=0)
    order = np.argsort(-matrix[:, defined], axis=0, kind="stable")[:4].T
    assert np.array_equal(found["training"].train_examples[defined], order)
    assert np.array_equal(found["training"].values[defined], np.take_along_axis(matrix[:, defined].T, order, 1))
    assert (found["training"].train_examples[~defined] == -1).all()
    assert np.isneginf(found["training"].values[~defined]).all()


def test_values_are_those_of_the_published_formulas():
    """masked_dot(D, M) - masked_dot(D, 1 - M) of the estimator that Feldman & Zhang published, written as a loop."""
    rng = np.random.default_rng(9)
    correct, included = rng.random((30, 6)) < 0.6, rng.random((30, 9)) < 0.7
    found = engine.scan(pack(correct), pack(included), {"top": engine.StrongestOnExamples(6, 9, 9)})["top"]
    for j in range(6):
        for value, i in zip(found.values[j], found.train_examples[j], strict=True):
            inside = included[:, i]
            assert value == pytest.approx(correct[inside, j].mean() - correct[~inside, j].mean(), abs=3e-7)


def test_bounds_are_never_below_what_they_bound():
    rng = np.random.default_rng(4)
    correct, included = rng.random((25, 60)) < rng.random(60), rng.random((25, 333)) < 0.6
    how = products.backend("float32")
    block, some = tiles.block_of(pack(included), 0, how), tiles.examples_of(pack(correct), 0, how)
    assert block is not None
    tile = tiles.Tile(how.multiply(block.members, some.right, len(some)), block, some)
    exact = tile.part(slice(None)).view(-1, tiles.SEGMENT, 60)
    assert (tile.bound(1) >= exact.amax(dim=1)).all()
    assert (tile.bound(-1) >= (-exact).amax(dim=1)).all()
    full = influence(correct, included).value[:, block.origin[: block.num]].T
    assert np.abs(tile.part(slice(0, block.num)).numpy() - full).max() < 3e-7


def test_shards_of_trials_stacked_are_the_whole(case, expected):
    correct, included, *_ = case
    parts = np.array_split(np.arange(len(correct)), 3)
    right, member = (stack([pack(matrix[part]) for part in parts]) for matrix in (correct, included))
    found = engine.scan(right, member, {"z": engine.HistogramZ(EDGES)})
    assert np.array_equal(found["z"], expected[0]["z"])


def test_training_examples_without_influence_alone_give_nothing():
    correct, included = np.eye(4, dtype=bool), np.ones((4, 6), bool)
    reducers = {"top": engine.StrongestOnExamples(4, 6, 2), "pairs": engine.PairsAbove(0.5)}
    found = engine.scan(pack(correct), pack(included), reducers)
    assert (found["top"].train_examples == -1).all()
    assert len(found["pairs"].influence) == 0


def test_whole_matrix_is_written_and_announced(tmp_path, case, expected):
    correct, included, *_ = case
    shape = (correct.shape[1], included.shape[1])
    writer = engine.WholeMatrix(tmp_path / "matrix.npy", *shape)
    assert writer.size == engine.matrix_bytes(*shape) == 4 * shape[0] * shape[1]
    path = engine.scan(pack(correct), pack(included), {"whole": writer}, threads=2)["whole"]
    assert np.array_equal(np.load(path, mmap_mode="r"), expected[1], equal_nan=True)
    with pytest.raises(FileExistsError, match="Expected a new file"):
        engine.WholeMatrix(path, *shape)


def test_an_interrupted_scan_leaves_no_matrix(tmp_path, case):
    correct, included, *_ = case
    shape = (correct.shape[1], included.shape[1])

    def stop(done, total):
        raise KeyboardInterrupt

    for progress in (stop, None):
        writer = engine.WholeMatrix(tmp_path / "matrix.npy", *shape)
        with contextlib.suppress(KeyboardInterrupt):
            engine.scan(pack(correct), pack(included), {"whole": writer}, progress=progress)
        assert (tmp_path / "matrix.npy").exists() == (progress is None)


def test_a_matrix_without_room_on_the_disk_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match=r"Expected room for a matrix of .* GiB"):
        engine.WholeMatrix(tmp_path / "matrix.npy", 10**7, 10**9)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"to end in \.npy, but got 'matrix\.csv'"):
        engine.WholeMatrix(tmp_path / "matrix.csv", 1, 1)


def test_too_many_pairs_are_refused(monkeypatch):
    from remnant.lab.influence import reducers

    monkeypatch.setattr(reducers, "MOST_PAIRS", 3)
    correct = np.arange(8)[:, None] < np.full(5, 4)
    with pytest.raises(engine.TooManyPairsError, match="Raise the threshold"):
        engine.scan(pack(correct), pack(correct), {"pairs": engine.PairsAbove(0.5)})


def test_options_out_of_range_are_refused():
    bits = pack(np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match=r"Expected `k` in \[1, 4\], but got 5"):
        engine.StrongestOnExamples(3, 4, 5)
    with pytest.raises(ValueError, match=r"Expected `k` in \[1, 3\], but got 0"):
        engine.StrongestOfTraining(3, 4, 0)
    with pytest.raises(ValueError, match=r"Expected `threshold` in \(0, 1\], but got 0"):
        engine.PairsAbove(0)
    with pytest.raises(ValueError, match="Expected `edges` of 1 to 127 bins, but got 200"):
        engine.HistogramZ(np.linspace(-1, 1, 201))
    with pytest.raises(ValueError, match="fewer than 4194303 examples"):
        engine.StrongestOnExamples(3, 2**22, 5)
    with pytest.raises(ValueError, match="backend"):
        engine.scan(bits, bits, {}, backend="cuda")
    with pytest.raises(ValueError, match="one row of outcomes for each of 3 subsets, but got 4"):
        engine.scan(bits, pack(np.ones((3, 2), bool)), {})
    with pytest.raises(ValueError, match="Expected from 2 to"):
        engine.scan(pack(np.ones((1, 2), bool)), pack(np.ones((1, 2), bool)), {})


def test_torch_keeps_its_threads_and_progress_is_told():
    import torch

    before, seen = torch.get_num_threads(), []
    bits = pack(np.random.default_rng(0).random((9, 5000)) < 0.5)
    engine.scan(bits, bits, {}, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert torch.get_num_threads() == before
    total = -(-5000 // tiles.COLUMNS)
    assert seen == [(i, total) for i in range(1, total + 1)]
