"""Files for other tools: what ONNX Runtime and torch make of them is what our arithmetic says."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remnant.lab.compress import Context, compress
from remnant.lab.compress.grids import Grid
from remnant.lab.compress.qat import quantization_aware
from remnant.lab.compress.quantized_layers import DynamicLayer, QuantizedLayer, StaticLayer, WeightOnlyLayer
from remnant.lab.compress.weight_only import restored, weight_only
from remnant.lab.export import Normalization, measured, to_exported_program, to_onnx, to_safetensors
from remnant.lab.foreign.exported_programs import open_exported
from remnant.lab.foreign.onnx_files import open_onnx
from remnant.lab.onnx_export import finished
from remnant.lab.onnx_layers import INT4
from remnant.lab.train import normalize, take
from remnant.schemes import DynamicInt8, Float16, StaticInt8
from remnant.schemes.quantization import QuantizationAwareTraining, WeightOnly
from tests.lab.toys import SHAPE, answers, built, context, evaluation_images, quantized_layers, trained

PIXELS = Normalization((0.5, 0.45, 0.4), (0.2, 0.2, 0.2))
"""That of the toys' data."""


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


@pytest.fixture(autouse=True)
def onnx() -> Any:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def one_layer(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=(1, 0), groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )


def static(model: Any) -> nn.Module:
    model[0] = StaticLayer(model[0], True, Grid.over(-2.7, 2.6), Grid.over(0, 1.8))
    model[3] = StaticLayer(model[3], True, Grid.over(0, 1.8), Grid.over(-1.5, 1.2))
    return model.eval()


def onnx_answers(path: Path, batch: Tensor, size: int | None = None) -> np.ndarray:
    model = open_onnx(path, threads=1)
    return np.concatenate([np.asarray(model.answer(part)) for part in batch.split(size or len(batch))])


def optimized(path: Path) -> list[str]:
    """Operators that ONNX Runtime runs."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = f"{path}.optimized"
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(f"{path}.optimized").graph.node]


def test_static_layers_run_on_integer_kernels_with_our_answers(tmp_path, onnx):
    """Oracle: ONNX Runtime 1.31, QLinearConv and QGemm."""
    model = static(one_layer())
    path = to_onnx(model, SHAPE, tmp_path / "static.onnx", normalize=PIXELS, metadata={"scheme": "static-int8"})
    pixels = torch.randint(0, 256, (200, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = (pixels.float() / 255 - torch.tensor(PIXELS.mean).view(3, 1, 1)) / 0.2
    found, expected = onnx_answers(path, pixels), answers(model, inputs)
    step = model[3].outputs.scale  # pyright: ignore
    assert np.abs(found - expected).max() <= 1.01 * step
    assert (np.abs(found - expected) < 0.01 * step).mean() > 0.995
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.allclose(onnx_answers(path, pixels, 1), found)
    operators = optimized(path)
    assert {"QLinearConv", "QGemm"} <= set(operators)
    assert not {"Conv", "Gemm", "Relu"} & set(operators)
    proto = onnx.load(path)
    assert "Relu" not in [node.op_type for node in proto.graph.node]  # codes of a ReLU's output are not negative
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert kinds["network.0.codes"] == onnx.TensorProto.INT8
    assert kinds["network.0.bias"] == onnx.TensorProto.INT32
    described = {entry.key: entry.value for entry in proto.metadata_props}
    assert described["scheme"] == "static-int8"
    assert described["quantized_layers"] == "StaticLayer"
    assert "(x / 255 - mean) / std with mean [0.5, 0.45, 0.4]" in described["inputs"]
    assert [entry.name for entry in proto.graph.input] == ["pixels"]
    assert [entry.name for entry in proto.graph.output] == ["logits"]
    speed = measured(path, pixels[:3])
    assert speed["bytes"] == path.stat().st_size
    assert speed["threads"] == 1
    assert 0 < speed["latency_1"] < 1
    assert 0 < speed["latency_32"] < 1


Q, DQ = "QuantizeLinear", "DequantizeLinear"


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "second", "left"),
    [
        ("Relu", 0.02, 0, 0.02, [Q, DQ]),
        ("Relu", 0.02, 9, 0.02, [Q, DQ, "Relu", Q, DQ]),
        ("Relu", 0.02, 0, 0.03, [Q, DQ, "Relu", Q, DQ]),  # ONNX Runtime would merge the grids
        ("Clip", 6 / 255, 0, 6 / 255, [Q, DQ]),
        ("Clip", 0.03, 0, 0.03, [Q, DQ, "Clip", Q, DQ]),
    ],
)
def test_what_integers_make_superfluous_is_dropped_and_nothing_else(activation, scale, zero_point, second, left, onnx):
    import onnxruntime

    helper, numbers = onnx.helper, onnx.numpy_helper.from_array
    bounds = ["least", "most"] if activation == "Clip" else []
    nodes = [
        helper.make_node(Q, ["images", "s", "z"], ["a"]),
        helper.make_node(DQ, ["a", "s", "z"], ["b"]),
        helper.make_node(activation, ["b", *bounds], ["c"]),
        helper.make_node(Q, ["c", "t", "z"], ["d"]),
        helper.make_node(DQ, ["d", "t", "z"], ["logits"]),
        helper.make_node("Neg", ["c"], ["nobody reads it"]),
    ]
    constants = {"s": np.float32(scale), "t": np.float32(second), "z": np.uint8(zero_point)}
    constants |= {"least": np.float32(0), "most": np.float32(6)}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("images", "logits")]
    initializers = [numbers(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializers))
    model.ir_version, model.opset_import[0].version = 10, 21
    before = model.SerializeToString()
    proto = finished(model)
    assert [node.op_type for node in proto.graph.node] == left
    values = {"images": np.linspace(-3, 9, 1000, dtype=np.float32)}
    found, expected = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, values)[0]
        for content in (proto.SerializeToString(), before)
    )
    np.testing.assert_array_equal(found, expected)


KINDS = {
    "float": lambda model, place: model,
    "float16": lambda model, place: compress(Float16(), model, place),
    "static": lambda model, place: compress(StaticInt8(), model, place),
    "static per layer": lambda model, place: compress(StaticInt8(per_channel=False), model, place),
    "dynamic": lambda model, place: compress(DynamicInt8(), model, place),
    "4 bits": lambda model, place: weight_only(WeightOnly(), model, place),
    "8 bits": lambda model, place: weight_only(WeightOnly(8), model, place),
    "groups": lambda model, place: weight_only(WeightOnly(3, "group", 10), model, place),
    "trained": lambda model, place: quantization_aware(QuantizationAwareTraining(4), model, place),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_networks_answer_in_onnx_runtime_as_here(kind, residual, place, tmp_path):
    """Oracle: ONNX Runtime 1.31 on the CPU; dynamic ranges are those of a batch, so of one example here."""
    model = KINDS[kind](residual, place)
    path = to_onnx(model, SHAPE, tmp_path / "model.onnx")
    images = normalize(place.dataset, take(place.dataset.train.images, torch.arange(400))).contiguous()
    found, expected = onnx_answers(path, images, 1 if kind == "dynamic" else 100), answers(model, images)
    layers: Any = quantized_layers(model)
    if layers and isinstance(layers[-1], StaticLayer):
        assert np.abs(found - expected).max() <= 1.01 * layers[-1].outputs.scale
        assert optimized(path).count("QLinearConv") == 3
    elif kind == "dynamic":
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.997  # logits of fixed point may tie


@pytest.mark.parametrize("bits", [3, 8])
def test_weights_of_four_and_fewer_bits_are_packed(bits, tmp_path, onnx):
    model: Any = one_layer()
    codes = torch.randint(-3, 4, (5, 96), generator=torch.Generator().manual_seed(0)).float()
    model[3] = WeightOnlyLayer(model[3], codes, torch.rand(5, 12) + 0.1, bits, 8)
    path = to_onnx(model[3], (96,), tmp_path / "model.onnx")
    (tensor,) = [tensor for tensor in onnx.load(path).graph.initializer if list(tensor.dims) == [5, 96]]
    packed = bits <= 4
    assert (tensor.data_type == onnx.TensorProto.INT4) == packed
    assert tensor.name.endswith(INT4) == packed
    assert len(tensor.raw_data or bytes(tensor.int32_data)) == (240 if packed else 480)
    inputs = torch.randn(7, 96, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(onnx_answers(path, inputs), answers(model[3], inputs), rtol=1e-4, atol=1e-4)


CONVOLUTIONS = {
    "strided": nn.Conv2d(3, 4, 3, stride=(2, 1), padding=(0, 2)),
    "dilated": nn.Conv2d(3, 4, 3, dilation=(1, 3), padding="same", bias=False),
    "grouped": nn.Conv2d(3, 6, 3, groups=3, padding="valid"),
    "reflected": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_all_shapes_are_written_as_they_are(name, tmp_path):
    """Oracle: ONNX Runtime 1.31, ConvInteger and QLinearConv."""
    layer = CONVOLUTIONS[name].requires_grad_(False)
    inputs = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    made: list[QuantizedLayer] = [
        DynamicLayer(layer, True),
        StaticLayer(layer, False, Grid.over(-3, 3), Grid.over(-1, 1)),
        StaticLayer(layer, True, None, None, 4),
    ]
    for quantized in made:
        path = to_onnx(quantized, (3, 9, 8), tmp_path / "layer.onnx")
        expected = answers(quantized, inputs)
        step = 2 / 255 if getattr(quantized, "outputs", None) else 1e-4
        assert np.abs(onnx_answers(path, inputs) - expected).max() <= 1.01 * step


def test_archives_answer_as_the_model(residual, place, tmp_path):
    images = evaluation_images(place).contiguous()
    raw = take(place.dataset.test.images, torch.arange(64))
    model = compress(StaticInt8(), residual, place)
    path = to_exported_program(model, SHAPE, tmp_path / "model.pt2", normalize=PIXELS, metadata={"seed": "3"})
    found = open_exported(path).answer(raw.float()).detach().numpy()
    expected = answers(model, images)
    assert np.abs(found - expected).max() <= 1.01 * model.head.outputs.scale  # pyright: ignore
    assert (np.abs(found - expected) < 1e-4).mean() > 0.99
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("metadata.json")]
        described = json.loads(archive.read(name))
    assert described["seed"] == "3"
    assert described["quantized_layers"] == "StaticLayer"
    assert measured(path, raw.float())["runtime"] == "torch"


def test_tensors_take_the_smallest_type_that_loses_nothing(residual, place, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file

    images = evaluation_images(place)
    scheme = WeightOnly(4, "group", 16)
    for number, (model, parts) in enumerate(
        {
            compress(StaticInt8(), residual, place): {"stem.layer.weight": torch.int8, "stem.layer.bias": torch.int32},
            weight_only(scheme, residual, place): {"head.layer.weight": torch.int8, "head.bias": torch.float32},
            compress(Float16(), residual, place): {"head.weight": torch.float16, "norm3.running_var": torch.float32},
            residual: {"head.weight": torch.float32},
        }.items()
    ):
        path = to_safetensors(model, tmp_path / f"{number}.safetensors", metadata={"seed": "1"})
        state = load_file(path)
        assert {name: state[name].dtype for name in parts} == parts
        expected = answers(model, images)
        for parameter in model.parameters():
            parameter.data.zero_()
        model.load_state_dict(state)
        np.testing.assert_array_equal(answers(model, images), expected)
        with safe_open(path, "pt") as file:
            assert file.metadata()["seed"] == "1"
    place = context()
    fresh = trained("residual", place)
    again = restored(scheme, fresh, load_file(tmp_path / "1.safetensors"))
    np.testing.assert_array_equal(answers(again, images), answers(weight_only(scheme, fresh, place), images))


def test_the_model_is_untouched(tmp_path):
    model = static(one_layer()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    to_exported_program(model, SHAPE, tmp_path / "model.pt2")
    to_safetensors(model, tmp_path / "model.safetensors")
    assert [type(module) for module in model.modules()] == kinds
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# Errors


class Branches(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if float(images.sum()) > 0 else -images.flatten(1)


def test_models_that_cannot_be_exported_are_named_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"torch cannot write Branches as ONNX: .+"):
        to_onnx(Branches(), SHAPE, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"torch cannot export Branches: .+"):
        to_exported_program(Branches(), SHAPE, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(missing, monkeypatch, tmp_path):
    import remnant.lab.foreign.extras

    def absent(name: str) -> Any:
        if name == missing:
            raise ImportError(f"No module named {missing!r}")

    monkeypatch.setattr(remnant.lab.foreign.extras, "import_module", absent)
    with pytest.raises(ValueError, match=rf"Expected the package '{missing}'.*pip install \"remnant\[onnx\]\""):
        to_onnx(built("mlp"), SHAPE, tmp_path / "model.onnx")


def test_normalization_of_other_channels_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected `normalize` with a mean for each of 3 channels, but got \(0.5, 0.4\)"
    ):
        to_onnx(built("mlp"), SHAPE, tmp_path / "model.onnx", normalize=Normalization((0.5, 0.4), (0.2,)))


@pytest.mark.slow
def test_modules_of_torchao_are_measured_exported_or_refused(tmp_path):
    """Models that torchao quantized: weights of a tensor type of their own."""
    pytest.importorskip("torchao")
    import copy
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

    from remnant.lab.footprint import measure

    dense = built("mlp").eval()
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    for config in (Int8WeightOnlyConfig(), Int8DynamicActivationInt8WeightConfig()):
        model = copy.deepcopy(dense)
        quantize_(model, config)
        found, expected = measure(model, SHAPE), measure(dense, SHAPE)
        assert found["bytes"]["int8"] == expected["bytes"]["int8"]
        assert found["flops"] == expected["flops"]
        assert 0.95 < found["nonzeros"] / expected["nonzeros"] <= 1
        path = to_exported_program(model, SHAPE, tmp_path / "model.pt2")
        with torch.no_grad():
            np.testing.assert_allclose(open_exported(path).answer(images), model(images), atol=1e-4)
        with pytest.raises(ValueError, match=r"but `1.weight` is of type Int8Tensor. Write the model with to_exported"):
            to_safetensors(model, tmp_path / "model.safetensors")
        if isinstance(config, Int8WeightOnlyConfig):
            path = to_onnx(model, SHAPE, tmp_path / "model.onnx")
            np.testing.assert_allclose(onnx_answers(path, images), answers(model, images), atol=1e-4)
        else:
            with pytest.raises(ValueError, match=r"torch cannot write Sequential as ONNX: No ONNX function found for"):
                to_onnx(model, SHAPE, tmp_path / "model.onnx")


def test_tied_layers_are_written_twice(tmp_path):
    from safetensors.torch import load_file

    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    tied = nn.Sequential(first, second)
    found = load_file(to_safetensors(tied, tmp_path / "tied.safetensors"))
    assert torch.equal(found["0.weight"], first.weight)
    assert torch.equal(found["1.weight"], first.weight)
