"""Compiled passes keep what sorting keeps, and the engine works without them."""

import sys

import numpy as np
import pytest

from remnant.lab import influence as engine
from remnant.lab.influence import passes, products, tiles
from remnant.stats.packed_bits import pack

RNG = np.random.default_rng(3)
CORRECT, INCLUDED = RNG.random((30, 70)) < RNG.random(70), RNG.random((30, 1100)) < 0.6


@pytest.fixture
def fresh():
    """No passes compiled before or after."""
    passes.compiled.cache_clear()
    yield
    passes.compiled.cache_clear()


def tile_of(compiled):
    backend = products.backend("float32")
    block, some = tiles.block_of(pack(INCLUDED), 0, backend), tiles.examples_of(pack(CORRECT), 0, backend)
    assert block is not None
    return tiles.Tile(backend.multiply(block.members, some.right, len(some)), block, some, compiled)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_offered_keys_leave_the_smallest_of_each_row(k):
    pytest.importorskip("numba")
    compiled = passes.compiled()
    assert compiled is not None
    kept = np.full((5, k), 2**63, np.uint64)
    row = RNG.integers(5, size=200).astype(np.int32)
    keys = np.unique(RNG.integers(2**62, size=400))[:200].astype(np.uint64)
    RNG.shuffle(keys)
    compiled.offer(kept, row, keys)
    for one in range(5):
        assert np.array_equal(kept[one, ::-1], np.sort(keys[row == one])[:k])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("with_numba", [False, True])
def test_bars_of_examples_and_of_training_examples_are_reached_by_what_reaches_them(sign, with_numba):
    if with_numba:
        pytest.importorskip("numba")
    compiled = passes.compiled() if with_numba else None
    exact = sign * tile_of(compiled).part(slice(None)).numpy()
    for bar in (np.quantile(exact, 0.97, axis=0), np.quantile(exact, 0.9, axis=1)[:, None]):
        bar = bar.astype(np.float32)
        place, example, value = tile_of(compiled).reaching(bar, sign)
        order = np.lexsort((example, place))
        expected = np.nonzero(exact >= bar)
        assert np.array_equal((place[order], example[order]), expected)
        assert np.array_equal(value[order], exact[expected])


def test_what_earlier_passes_tell_of_the_largest_influence_spares_a_pass():
    tile = tile_of(passes.compiled())
    most = float(tile.part(slice(None)).max())
    bar = np.full(len(tile.examples), np.float32(most))
    assert len(tile.reaching(bar - np.float32(0.1))[2]) > len(tile.reaching(bar)[2]) > 0
    assert tile.most_known[1] == np.float32(most)
    tile.counts.fill_(np.nan)  # is not looked at any more
    assert len(tile.reaching(bar + np.float32(0.01))[2]) == 0
    assert -1 not in tile.most_known


@pytest.mark.parametrize("with_numba", [False, True])
def test_an_influence_below_the_bar_of_its_example_is_found_by_the_next_pass(with_numba):
    tile = tile_of(passes.compiled() if with_numba else None)
    influences = tile.part(slice(None)).numpy()
    most, of = influences.max(), influences.max(axis=0).argmax()
    bar = np.full(len(tile.examples), most, np.float32)
    bar[of] = 2
    others = bar.copy()
    others[bar < 2] = -2
    assert (tile.reaching(others)[1] != of).all()
    assert of in tile.reaching(np.full(len(tile.examples), most, np.float32))[1]


def test_packed_bits_by_example_are_filled_up_with_zeros():
    packed = pack(INCLUDED)
    found = tiles._by_example(packed, 1024, 2048)
    assert found.shape == (1100 - 1024, 64)
    assert np.array_equal(found[:, :30], INCLUDED[:, 1024:].T)
    assert not found[:, 30:].any()


def test_without_numba_the_engine_works(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert passes.compiled() is None
    found = engine.scan(pack(CORRECT), pack(INCLUDED), {"top": engine.StrongestOnExamples(70, 1100, 3)})["top"]
    assert (found.train_examples >= 0).all()


def test_without_a_folder_that_can_be_written_machine_code_is_not_kept(fresh, monkeypatch):
    numba = pytest.importorskip("numba")
    real, asked = numba.njit, []

    def njit(*, nogil, cache=False):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return real(nogil=nogil)

    monkeypatch.setattr(numba, "njit", njit)
    assert passes.compiled() is not None
    assert asked == [True, False] * 3


@pytest.mark.parametrize("pairs", [1, 10**9])
def test_few_pairs_do_not_wait_for_numba(pairs, monkeypatch):
    asked, scanning = [], sys.modules["remnant.lab.influence.scan"]
    monkeypatch.setattr(scanning, "WORTH_COMPILING", pairs)
    monkeypatch.setattr(scanning, "compiled_passes", lambda: asked.append(True))
    bits = pack(np.random.default_rng(0).random((8, 40)) < 0.5)
    engine.scan(bits, bits, {})
    assert asked == [True] * (pairs == 1)
