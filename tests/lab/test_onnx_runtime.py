"""Our int8 arithmetic beside the int8 kernels of ONNX Runtime."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remnant.lab.compress import Context, compress
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab.toys import answers, calibration_images, context, evaluation_images, quantized_layers, sqnr, trained


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


@pytest.fixture(scope="module")
def exported(
    residual: nn.Module, place: Context, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """Networks as ONNX files: the trained one and two of a single layer."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    models = {"residual": residual.eval(), **SINGLE}
    logging.disable(logging.WARNING)  # the exporter tells of optional packages
    found = {}
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        example = evaluation_images(place)[:2].contiguous()
        batch = torch.export.Dim("batch")
        torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
        graph = onnx.load(path)
        del graph.graph.value_info[:]  # stale shapes that ONNX Runtime's quantizer stumbles over
        onnx.save(graph, path)
        found[name] = path
    yield found
    logging.disable(logging.NOTSET)


SINGLE = {
    "conv": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval(),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(),
}


def onnx_answers(path: Path, batches: list[Tensor]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([np.asarray(session.run(None, {name: b.contiguous().numpy()})[0]) for b in batches])


def onnx_static(path: Path, place: Context) -> Path:
    """Static int8 by ONNX Runtime with our rules and our calibration images."""
    import onnx
    from onnxruntime import quantization

    images = calibration_images(place)
    name = onnx.load(path).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):
        batches = iter([{name: images.contiguous().numpy()}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    target = path.with_suffix(".static.onnx")
    int8 = quantization.QuantType.QInt8
    quantization.quantize_static(
        path,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=int8,
        weight_type=int8,
    )
    return target


def onnx_dynamic(path: Path, kind: str = "QUInt8") -> Path:
    from onnxruntime import quantization

    target = path.with_suffix(".dynamic.onnx")
    options = {"per_channel": kind == "QInt8", "weight_type": quantization.QuantType[kind]}
    quantization.quantize_dynamic(path, target, **options)
    return target


def test_static_layers_equal_onnx_runtime_within_one_step(exported, place):
    """Oracle: ONNX Runtime 1.31 QLinearConv / QGemm kernels, quantize_static QDQ per channel."""
    images = evaluation_images(place)
    for name, model in SINGLE.items():
        ours: Any = compress(StaticInt8(), model, place)
        layer: Any = quantized_layers(ours)[0]
        difference = (
            answers(ours, images) - onnx_answers(onnx_static(exported[name], place), [images])
        ) / layer.outputs.scale
        assert abs(difference).max() < 1.01, name
        assert (abs(difference) < 0.01).mean() > 0.99, name


def test_dynamic_linear_layer_equals_onnx_runtime(exported, place):
    """Oracle: ONNX Runtime 1.31 DynamicQuantizeLinear and MatMulInteger, one example at a time."""
    inputs = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = onnx_answers(onnx_dynamic(exported["linear"], "QInt8"), list(inputs.split(1)))
    ours = answers(compress(DynamicInt8(), SINGLE["linear"], place), inputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [DynamicInt8(), StaticInt8()], ids=lambda scheme: scheme.label)
def test_networks_are_as_near_to_onnx_runtime_as_quantization_noise(scheme, exported, residual, place):
    images = evaluation_images(place)
    dense = answers(residual.eval(), images)
    ours = answers(compress(scheme, residual, place), images)
    if isinstance(scheme, StaticInt8):
        theirs = onnx_answers(onnx_static(exported["residual"], place), [images])
    else:
        theirs = onnx_answers(onnx_dynamic(exported["residual"]), list(images.split(1)))
    np.testing.assert_allclose(onnx_answers(exported["residual"], [images]), dense, atol=1e-4)
    noise = ((ours - dense) ** 2).sum() + ((theirs - dense) ** 2).sum()
    assert ((ours - theirs) ** 2).sum() <= 1.2 * noise
    assert sqnr(dense, ours) > sqnr(dense, theirs) - 1  # and no worse than theirs
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.95
