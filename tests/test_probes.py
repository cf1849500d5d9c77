"""Probes as values, at work and in a population, with a probe of the tests' own."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import remnant
from remnant import execute, probes
from remnant.analyses import audit
from remnant.lab import probing
from remnant.population import SchemaError, probed, whole
from remnant.probes import Probe
from remnant.registry import UnknownNameError
from remnant.store import Store


@dataclass(frozen=True)
class Norms(Probe):
    """Norms of the logits, to several orders."""

    kind: ClassVar[str] = "norms"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"norm": ("example", "order"), "reference": ("example",)}
    joins: ClassVar[str | None] = "order"

    examples: int | None = 40
    orders: tuple[int, ...] = (1, 2)

    def coords(self) -> dict[str, list[Any]]:
        return {"order": list(self.orders)}

    def parts(self) -> tuple[Probe, ...]:
        return tuple(replace(self, orders=(order,)) for order in self.orders)


def prepare(probe: Norms, dataset: Any, rows: np.ndarray) -> float:
    return float(probe.orders[0])


def measure(probe: Norms, subject: probing.Subject, prepared: float) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        logits = subject.model(subject.inputs(subject.rows))
        found = {"norm": logits.norm(p=prepared, dim=1).numpy()[:, None].astype(np.float32)}
        if subject.reference is not None:
            return found | {"reference": subject.reference(subject.inputs(subject.rows)).argmax(1).numpy()}
    return found


@pytest.fixture(autouse=True)
def offered(monkeypatch):
    monkeypatch.setitem(probes.PROBES, "norms", "tests.test_probes:Norms")
    monkeypatch.setattr(probing, "_implementation", lambda kind: __import__("tests.test_probes", fromlist=["measure"]))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    made = Store(tmp_path_factory.mktemp("probes") / "store")
    recipe = remnant.Recipe("digits", "mlp-16", epochs=1)
    trials = remnant.grid(recipe, [remnant.MagnitudePruning(0.5), remnant.StaticInt8()], seeds=range(2))
    remnant.run(trials + remnant.plan.subsets(recipe, 2), made, engine="serial")
    return made


def test_rows_of_a_smaller_draw_are_among_those_of_a_larger_one():
    small, large = Norms(examples=10).rows(500), Norms(examples=100).rows(500)
    assert len(small) == 10
    assert set(small) < set(large)
    assert (np.diff(large) > 0).all()
    assert np.array_equal(Norms(examples=None).rows(7), np.arange(7))
    assert len(Norms(examples=100).rows(30)) == 30


def test_keys_tell_settings_apart_and_survive_plain_data():
    probe = Norms(orders=(1, 3))
    assert probes.from_dict(probes.to_dict(probe)) == probe
    assert probes.from_dict("norms") == Norms()
    assert len({probe.key, Norms().key, replace(probe, examples=41).key}) == 3
    assert Norms(examples=40).key == Norms().key
    assert probes.varying(probe) == {"orders"}


def test_random_streams_depend_on_the_name_alone():
    assert Norms().rng("a").random() == Norms(examples=3).rng("a").random()
    assert Norms().rng("a").random() != Norms().rng("b").random()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "norm"}, "Did you mean 'norms'"),
        ({"orders": [1]}, "to have a `kind`"),
        ({"kind": "norms", "examples": 0}, "`examples` >= 1, but got 0"),
        ({"kind": "norms", "order": 1}, "'order'"),
    ],
)
def test_wrong_probes_are_told(data, message):
    with pytest.raises(ValueError, match=message):
        probes.from_dict(data)


def test_measurements_are_made_once_and_read_as_a_population(store):
    trials = store.trials()
    assert execute.probe(trials, [Norms()], store, engine="serial") == 2 * 6
    assert execute.probe(trials, [Norms(orders=(2, 3))], store, engine="serial") == 6
    population = remnant.load(store)
    found = probed(population, "norms")
    assert found["norm"].dims == ("trial", "example", "order")
    assert found["order"].values.tolist() == [1, 2, 3]
    assert found.sizes["trial"] == 6
    assert "reference" not in found  # dense trials have none
    rows = Norms().rows(population.sizes["example"])
    assert found["example"].values.tolist() == population["example"].values[rows].tolist()
    assert np.array_equal(found["label"].values, population["label"].values[rows])
    for scheme in ("dense", "static-int8()", "magnitude-pruning(sparsity=0.5)"):
        scheme = next(s for s in np.unique(found["scheme"].values) if s.startswith(scheme.partition("(")[0]))
        logits = whole(population, scheme)["logits"].values[:, rows]
        assert np.allclose(whole(found, scheme)["norm"].values[..., 0], np.abs(logits).sum(-1), rtol=1e-4)
        assert np.allclose(whole(found, scheme)["norm"].values[..., 1], np.sqrt((logits**2).sum(-1)), rtol=1e-4)
    assert found.attrs["probe"] == {"examples": 40}


def test_settings_that_more_trials_have_win(store):
    before = dict(probed(remnant.load(store), "norms").attrs["probe"])
    execute.probe(store.trials()[:1], [Norms(examples=50)], store, engine="serial")
    assert probed(remnant.load(store), "norms").attrs["probe"] == before


def test_an_analysis_says_which_probe_it_needs(store, monkeypatch):
    from remnant import analyses

    question = dataclasses.replace(analyses.analysis("footprint"), needs=("norms", "gradients"))
    monkeypatch.setattr(analyses, "analysis", lambda name: question)
    population = remnant.load(store)
    population.attrs["probes"] = {}
    assert "`remnant probe STORE norms`" in audit(population, ["footprint"]).not_run["footprint"]
    with pytest.raises(SchemaError, match="remnant probe STORE norms"):
        probed(population, "norms")


def test_a_model_that_answers_otherwise_than_stored_is_told(store, monkeypatch):
    monkeypatch.setattr(
        probing, "model_of", lambda *args: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    )
    with pytest.raises(execute.RunError, match="to answer as it did when it was stored"):
        execute.probe(store.trials()[:1], [Norms(examples=60)], store, engine="serial")


def test_values_that_are_not_finite_are_refused(store, monkeypatch):
    monkeypatch.setattr("tests.test_probes.measure", lambda p, s, x: {"norm": np.full((len(s.rows), 1), np.nan)})
    with pytest.raises(execute.RunError, match="gave NaN or infinity"):
        execute.probe(store.trials()[:1], [Norms(examples=60)], store, engine="serial")


def test_skipped_analyses_are_known_names():
    import tests.simulate

    population = tests.simulate.population(np.random.default_rng(0))
    found = audit(population, ["mismatches", "classes"], skip=["classes"])
    assert [finding.analysis for finding in found.findings] == ["mismatches"]
    with pytest.raises(UnknownNameError, match="Did you mean 'classes'"):
        audit(population, ["classes"], skip=["clases"])
