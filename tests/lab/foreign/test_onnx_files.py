"""ONNX models, sound and hostile."""

from pathlib import Path

import numpy as np
import pytest

from remnant.lab.foreign import evaluation_data, of_arrays, predict
from remnant.lab.foreign.onnx_files import open_onnx
from tests.lab.foreign.networks import direct, scores, trained

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def saved(path: Path, nodes, weights, *, inputs=None, outputs=("logits",), **options) -> Path:
    inputs = inputs or [("x", FLOAT, ["batch", 1, 8, 8])]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, **options)
    return path


NODES = [
    helper.make_node("Flatten", ["x"], ["flat"]),
    helper.make_node("Gemm", ["flat", "w1", "b1"], ["h"], transB=1),
    helper.make_node("Relu", ["h"], ["r"]),
    helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"], transB=1),
]


def weights() -> dict[str, np.ndarray]:
    return dict(zip(("w1", "b1", "w2", "b2"), (p.detach().numpy() for p in trained().parameters()), strict=True))


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("onnx") / "digits.onnx", NODES, weights())


def test_a_model_answers_as_the_module_it_was_made_from(digits_model):
    found = predict(str(digits_model), "digits", preprocessing="dataset", threads=1)
    np.testing.assert_allclose(scores(found), direct().numpy(), atol=1e-4)
    source = found.source
    assert source["cost"]["parameters"] == 1210
    assert source["bytes"] == digits_model.stat().st_size
    assert source["model"]["opset"] == {"ai.onnx": 17}
    assert source["model"]["runtime"].startswith("onnxruntime ")


def test_a_quantized_model_answers_as_onnx_runtime_alone(digits_model, tmp_path):
    """Dynamic int8 depends on the batch: the same batches give the same numbers."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = tmp_path / "int8.onnx"
    quantize_dynamic(digits_model, target, weight_type=QuantType.QInt8)
    found = predict(target, "digits", preprocessing="none", batch_size=90, threads=1)
    session = runtime.InferenceSession(target, providers=["CPUExecutionProvider"])
    inputs = evaluation_data("digits").inputs.numpy().astype(np.float32) * np.float32(1 / 255)  # pyright: ignore
    wanted = np.concatenate([session.run(None, {"x": inputs[i : i + 90]})[0] for i in range(0, len(inputs), 90)])
    np.testing.assert_allclose(scores(found), wanted, atol=1e-5)
    assert found.source["cost"]["parameters"] == 1210  # its scales and zero points do not count
    assert found.source["bytes"] < digits_model.stat().st_size


def test_weights_beside_the_file_count_and_are_named(tmp_path):
    path = saved(
        tmp_path / "big.onnx", NODES, weights(), save_as_external_data=True, location="big.bin", size_threshold=0
    )
    source = predict(path, "digits", preprocessing="dataset").source
    assert [entry["name"] for entry in source["model"]["files"]] == ["big.onnx", "big.bin"]
    assert source["bytes"] == path.stat().st_size + (tmp_path / "big.bin").stat().st_size
    (tmp_path / "big.bin").unlink()
    with pytest.raises(FileNotFoundError, match="weights of .* in .*big.bin"):
        open_onnx(path)
    (tmp_path / "big.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="too short"):
        open_onnx(path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "", "link.bin"])
def test_weights_outside_the_models_folder_are_not_read(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = saved(folder / "m.onnx", NODES, weights())
    proto = onnx.load(path)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="in its own folder, but it asks for"):
        open_onnx(path)


@pytest.mark.parametrize("depth", [0, 2])
def test_a_path_hidden_in_a_node_or_in_a_branch_is_found(tmp_path, depth):
    tensor = onnx.numpy_helper.from_array(np.zeros((64, 10), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    for _ in range(depth):
        branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("w", FLOAT, [64, 10])])
        node = helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), node, helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    with pytest.raises(ValueError, match="in its own folder, but it asks for '/etc/passwd'"):
        open_onnx(saved(tmp_path / "m.onnx", nodes, {"yes": np.array(True)}))


def test_a_small_file_that_asks_for_terabytes_is_refused(tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["s"], keepdims=0),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Add", ["flat", "s"], ["logits"]),
    ]
    path = saved(tmp_path / "bomb.onnx", nodes, {"n": np.array([2**34], np.int64)})
    with pytest.raises(ValueError, match=r"more memory than this machine has free|cannot run .*bomb.onnx: .*alloc"):
        predict(path, "digits", preprocessing="none", limit=4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Cannot read|cannot run"),
        (b"not a model", "Cannot read .* as an ONNX model"),
        (bytes(100), "Cannot read|cannot run"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, content, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_onnx(path)


def test_missing_files_unknown_operators_and_other_signatures_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected an ONNX model"):
        open_onnx(tmp_path / "none.onnx")
    strange = [helper.make_node("NoSuchOperator", ["x"], ["logits"])]
    with pytest.raises(ValueError, match="ONNX Runtime cannot run .*NoSuchOperator"):
        open_onnx(saved(tmp_path / "a.onnx", strange, {}))
    two = [helper.make_node("Add", ["x", "y"], ["logits"])]
    inputs = [("x", FLOAT, [None, 4]), ("y", FLOAT, [None, 4])]
    with pytest.raises(ValueError, match=r"one input, .*it has 2: \['x', 'y'\]"):
        open_onnx(saved(tmp_path / "b.onnx", two, {}, inputs=inputs))
    outputs = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    with pytest.raises(ValueError, match=r"or one called 'logits', but it has \['a', 'b'\]"):
        open_onnx(saved(tmp_path / "c.onnx", outputs, {}, outputs=("a", "b")))
    text = [helper.make_node("Cast", ["x"], ["logits"], to=FLOAT)]
    with pytest.raises(ValueError, match="tensors of numbers, but got"):
        open_onnx(saved(tmp_path / "d.onnx", text, {}, inputs=[("x", onnx.TensorProto.BOOL, [None])]))


@pytest.mark.parametrize(
    ("shape", "preprocessing", "message"),
    [
        (["n", 8, 8, 1], "none", "Add layout=NHWC"),
        (["n", 1, 9, 10], "none", "Add for example size=9x10"),
        (["n", 3, 8, 8], "none", "Add channels=RGB"),
        (["n", 64], "none", r"inputs of shape \(64\)"),
    ],
)
def test_the_wrong_shape_is_named_with_its_remedy(tmp_path, shape, preprocessing, message):
    nodes = [helper.make_node("Flatten", ["x"], ["logits"])]
    path = saved(tmp_path / "m.onnx", nodes, {}, inputs=[("x", FLOAT, shape)])
    with pytest.raises(ValueError, match=message):
        predict(path, "digits", preprocessing=preprocessing)


def test_bytes_and_fixed_batches_as_some_converters_make_them(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    w = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    path = saved(tmp_path / "m.onnx", nodes, {"w": w}, inputs=[("x", onnx.TensorProto.UINT8, [4, 8, 8, 1])])
    found = predict(path, "digits", preprocessing="range=0..255,layout=NHWC", limit=10)
    chosen = evaluation_data("digits").part(np.round(np.linspace(0, 354, 10)).astype(int))
    pixels = chosen.batch(np.arange(10)).numpy().reshape(10, 64)  # pyright: ignore
    np.testing.assert_allclose(scores(found), pixels.astype(np.float32) @ w, rtol=1e-5)
    assert found.source["cost"]["latency_batch_size"] == 4
    with pytest.raises(ValueError, match="whole numbers of 0 to 255.*range=0..255"):
        predict(path, "digits", preprocessing="none,layout=NHWC")


def test_a_model_of_tokens_wants_texts(tmp_path):
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["f"], to=FLOAT),
        helper.make_node("ReduceSum", ["f"], ["s"], keepdims=1),
        helper.make_node("Concat", ["s", "s"], ["logits"], axis=1),
    ]
    path = saved(tmp_path / "t.onnx", nodes, {}, inputs=[("input_ids", onnx.TensorProto.INT64, ["n", "t"])])
    with pytest.raises(ValueError, match="Expected tokens for t.onnx"):
        predict(path, "digits", preprocessing="none")
    with pytest.raises(ValueError, match="a tokenizer for t.onnx. Name its folder"):
        predict(path, of_arrays(["a b", "c"], np.array([0, 1]), classes=["n", "y"]))


def test_another_device_is_refused(digits_model):
    with pytest.raises(ValueError, match="`device` to be 'cpu'"):
        predict(digits_model, "digits", preprocessing="none", device="cuda")
