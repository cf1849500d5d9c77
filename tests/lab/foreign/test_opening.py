"""Models from files, by every form of reference that needs torch alone."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.foreign import predict
from remnant.lab.foreign.checkpoints import read_weights
from remnant.lab.foreign.exported_programs import open_exported
from remnant.lab.foreign.opening import open_model
from tests.lab.foreign.networks import direct, scores, trained

FUNCTION = "tests.lab.foreign.networks:small"


class Bomb:
    """Unpickling it raises, which shows that it was unpickled."""

    def __reduce__(self):
        return exec, ("raise RuntimeError('unpickled')",)


@pytest.mark.parametrize(
    "form",
    ["{}/any.pt2", "{}/seven.pt2", "torchscript:{}/script.pt", "pickle:{}/whole.pt",
     FUNCTION + "@{}/weights.safetensors", FUNCTION + "@{}/weights.pt", FUNCTION + "@{}/wrapped.pth",
     "tests.lab.foreign.networks:trained"],
)  # fmt: skip
def test_every_form_answers_as_the_module_itself(models, form):
    reference = form.format(models)
    found = predict(reference, "digits", preprocessing="dataset", batch_size=50)
    np.testing.assert_allclose(scores(found), direct().numpy(), atol=1e-4)
    assert found.source["cost"]["parameters"] == 1210
    files = found.source["model"]["files"]
    assert len(files) == (0 if form.endswith("trained") else 1)
    assert found.source["bytes"] == (files[0]["bytes"] if files else 4840)
    assert found.source["sha256"] == (files[0]["sha256"] if files else found.source["sha256"])


def test_a_graph_for_seven_examples_gets_seven_at_a_time(models):
    assert open_model(models / "seven.pt2").fixed_batch == 7
    assert open_model(models / "any.pt2").fixed_batch is None
    found = predict(models / "seven.pt2", "digits", preprocessing="dataset", limit=10)
    assert found.source["cost"]["latency_batch_size"] == 7
    assert len(found) == 10


def test_the_shape_that_a_graph_states_is_asked_for(models):
    with pytest.raises(ValueError, match="shape \\(1, 8, 8\\) for any.pt2, but the data give \\(1, 9, 9\\).*size=8x8"):
        predict(models / "any.pt2", "digits", preprocessing="size=9")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no.such.module:f", "Cannot import 'no.such.module'"),
        ("torchvison:resnet18", "Cannot import.*Did you mean 'torchvision:resnet18'"),
        ("tests.lab.foreign.networks:smal", "Did you mean 'small'"),
        ("tests.lab.foreign.networks:not_a_model", "to return a torch.nn.Module, but it returned str"),
        ("tests.lab.foreign.networks:with_argument", "without arguments"),
        ("tests.lab.foreign.networks:NUMBER", "to be a function, but it is int"),
        (FUNCTION + "@{}/script.pt", "Cannot read .*script.pt|Expected"),
        (FUNCTION + "@{}/whole.pt", "other Python objects, and reading those can run any code: tests.lab"),
        (FUNCTION + "@{}/nothing.pt", "does not exist"),
        (FUNCTION + "@{}/broken.safetensors", "as a safetensors file"),
        (FUNCTION + "@{}/broken.pt", "Cannot read .*broken.pt as a file of torch.save"),
        (FUNCTION + "@{}/wide.pt", "1 missing in the file: out.bias. 1 unknown to the model: extra. 2 of another "
         "shape: hidden.weight is \\(20, 64\\) in the file and \\(16, 64\\) in the model"),
        ("torchscript:{}/weights.pt", "Cannot read .* as TorchScript"),
        ("torchscript:{}/nothing.pt", "does not exist"),
        ("pickle:{}/weights.pt", "to hold a torch.nn.Module, but it holds OrderedDict"),
        ("pickle:{}/broken.pt", "Cannot unpickle"),
        ("{}/broken.pt2", "Cannot read .* as an archive of torch.export"),
        ("{}/nothing.pt2", "does not exist"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_the_reason(models, reference, message):
    for ending in ("safetensors", "pt", "pt2"):
        (models / f"broken.{ending}").write_bytes(b"no model at all")
    wide = {"hidden.weight": torch.zeros(20, 64), "hidden.bias": torch.zeros(20), "extra": torch.zeros(1)}
    torch.save({**wide, "out.weight": torch.zeros(10, 16)}, models / "wide.pt")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        predict(reference.format(models), "digits", preprocessing="none")


def test_weights_are_never_unpickled_unless_asked_by_name(tmp_path):
    path = tmp_path / "bomb.pt"
    torch.save({"state_dict": Bomb()}, path)
    with pytest.raises(ValueError, match="can run any code"):
        predict(f"{FUNCTION}@{path}", "digits", preprocessing="none")
    with pytest.raises(ValueError, match="RuntimeError: unpickled"):
        predict(f"pickle:{path}", "digits", preprocessing="none")


def test_older_files_without_a_counter_of_batches_are_read(tmp_path):
    from remnant.lab.foreign.checkpoints import load_into

    weights = nn.BatchNorm2d(3).state_dict()
    del weights["num_batches_tracked"]
    weights["running_mean"] += 2
    model = nn.BatchNorm2d(3)
    load_into(model, weights, "old.pt")
    assert model.running_mean is not None
    assert model.running_mean.tolist() == [2, 2, 2]


def test_a_list_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="to hold a state_dict, names to tensors, but it holds list"):
        read_weights(tmp_path / "list.pt")


def rewritten(source, target, change) -> None:
    """The archive with some members changed: `change` maps name and content to new content, or None to drop it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


def graph_with(edit):
    def change(name, content):
        if not name.endswith("models/model.json"):
            return content
        graph = json.loads(content)
        edit(graph)
        return json.dumps(graph).encode()

    return change


def set_guard(code):
    return lambda graph: graph.__setitem__("guards_code", [code])


def set_node(**fields):
    return lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(fields)


def pickled(name, content):
    if "sample_inputs" in name:
        buffer = io.BytesIO()
        torch.save((Bomb(),), buffer)
        return buffer.getvalue()
    return content


def pickled_weight(name, content):
    if name.endswith("weights_config.json"):
        config = json.loads(content)
        config["config"]["hidden.bias"]["use_pickle"] = True
        return json.dumps(config).encode()
    if name.endswith("weight_1"):
        buffer = io.BytesIO()
        torch.save(Bomb(), buffer)
        return buffer.getvalue()
    return content


HOSTILE = {
    "pickle in the sample inputs": pickled,
    "pickled weight": pickled_weight,
    "a function of torch": graph_with(set_node(target="torch.hub.load")),
    "a module inside torch": graph_with(set_node(target="torch.os.system")),
    "an operator that calls": graph_with(set_node(target="_operator.call")),
    "an operator that reads files": graph_with(set_node(target="torch.ops.aten.from_file.default")),
    "code as a name": graph_with(set_node(name="x): import os; os.system('true')\ndef f(")),
    "code as a guard": graph_with(set_guard("__import__('os').system('true')")),
    "attributes as a guard": graph_with(set_guard("L['x'].__class__.__mro__")),
    "a call as a guard": graph_with(set_guard("eval(L['x'])")),
    "a comprehension as a guard": graph_with(set_guard("[x for x in L]")),
    "code as a size": graph_with(
        lambda g: g["graph_module"]["graph"]["sym_int_values"].update(
            a={"as_expr": {"expr_str": "exec(s0)", "hint": None}}
        )
    ),
    "not a graph": lambda name, content: b"[1, 2]" if name.endswith("model.json") else content,
    "no graph": lambda name, content: None if name.endswith("model.json") else content,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_could_run_code_is_not_loaded(models, tmp_path, kind, monkeypatch):
    target = tmp_path / "hostile.pt2"
    rewritten(models / "any.pt2", target, HOSTILE[kind])
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(ValueError, match=r"(Expected|Cannot read) .*hostile.pt2|Expected only weights in"):
        open_exported(target)


def test_compiled_code_in_an_archive_is_not_loaded(models, tmp_path):
    target = tmp_path / "hostile.pt2"
    rewritten(models / "any.pt2", target, lambda _, content: content)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("any/data/aotinductor/model/x.so", b"")
    with pytest.raises(ValueError, match=r"but it holds \['any/data/aotinductor/model/x.so'\]"):
        open_exported(target)


def test_an_unchanged_archive_passes_the_same_look(models, tmp_path):
    target = tmp_path / "same.pt2"
    rewritten(models / "any.pt2", target, graph_with(set_guard("L['x'].size()[0] >= 2")))
    assert open_exported(target).parameters == 1210


def test_a_broken_graph_is_an_error_of_ours(models, tmp_path, capfd):
    target = tmp_path / "broken.pt2"
    rewritten(models / "any.pt2", target, graph_with(set_node(target="torch.ops.aten.no_such_operator.default")))
    with pytest.raises(ValueError, match="torch cannot load"):
        open_exported(target)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_quantized_modules_of_torchao_come_in_as_objects_weights_and_archives(tmp_path):
    pytest.importorskip("torchao")
    import copy
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    model = copy.deepcopy(trained())
    quantize_(model, Int8WeightOnlyConfig())
    torch.save(model.state_dict(), tmp_path / "int8.pt")
    batch = torch.export.Dim("batch")
    archive = torch.export.export(model, (torch.randn(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(archive, tmp_path / "int8.pt2")
    answers = [
        predict(reference, "digits", preprocessing="dataset")
        for reference in (model, f"{FUNCTION}@{tmp_path}/int8.pt", tmp_path / "int8.pt2")
    ]
    assert answers[0].source["bytes"] < 0.6 * 4840
    for found in answers[1:]:
        np.testing.assert_allclose(scores(found), scores(answers[0]), atol=1e-4)
    assert 0 < np.abs(scores(answers[0]) - direct().numpy()).max() < 0.5


def test_pruned_modules_of_torch_pruning_come_in_by_name(tmp_path):
    pruning = pytest.importorskip("torch_pruning")
    import copy

    model, x = copy.deepcopy(trained()), torch.randn(1, 1, 8, 8)
    pruner = pruning.pruner.MagnitudePruner(
        model, x, importance=pruning.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=[model.out]
    )
    pruner.step()
    assert model.hidden.out_features == 8
    torch.save(model, tmp_path / "pruned.pt")
    ours = predict(model, "digits", preprocessing="dataset")
    theirs = predict(f"pickle:{tmp_path}/pruned.pt", "digits", preprocessing="dataset")
    assert np.array_equal(scores(ours), scores(theirs))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="Pruned models need a function"):
        predict(f"{FUNCTION}@{tmp_path}/weights.pt", "digits", preprocessing="dataset")
