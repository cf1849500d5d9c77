"""Compress a network with tools that are not remnant, each to a file: python docs/results/tools.py STORE OUT [DATA]

Takes the networks that `remnant run docs/results/tools.toml --store STORE` trained and writes OUT/fp32.onnx and its
compressed versions by ONNX Runtime, torchao and torch-pruning. tools.md has what `remnant compare` says of them.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from remnant import Store
from remnant.lab.data import Dataset, load, take
from remnant.lab.run import load_model
from remnant.lab.train import normalize

CALIBRATION = 500
"""Training images that set the ranges of activations."""


def main(store: str, out: str, root: str | None = None) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    shelf = Store(store)
    first, second = sorted(shelf.trials(), key=lambda trial: trial.seed)[:2]
    data = load(first.recipe.dataset, root)
    model = load_model(first, shelf, root).to(memory_format=torch.contiguous_format)
    inputs = normalize(data, take(data.train.images, torch.arange(CALIBRATION))).contiguous()

    export_onnx(model, inputs[:2].clone(), folder / "fp32.onnx")
    other = load_model(second, shelf, root).to(memory_format=torch.contiguous_format)
    export_onnx(other, inputs[:2].clone(), folder / "fp32-another-seed.onnx")
    onnx_runtime(folder, inputs.numpy())
    torchao_int8(model, inputs, folder / "torchao-static-int8.pt2")
    for share in (0.3, 0.5):
        pruned = torch_pruning(model, inputs[:1], share)
        export_torch(pruned, inputs[:2].clone(), folder / f"torch-pruning-{share:.0%}.pt2".replace("%", ""))
        tuned = fine_tune(copy.deepcopy(pruned), data)
        export_torch(tuned, inputs[:2].clone(), folder / f"torch-pruning-{share:.0%}-tuned.pt2".replace("%", ""))


def export_onnx(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        model, (example,), dynamo=True, dynamic_shapes=({0: batch},), input_names=["images"], verbose=False
    )
    assert program is not None
    program.save(str(path))


def export_torch(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},)), path)


def onnx_runtime(folder: Path, inputs: np.ndarray) -> None:
    """Dynamic int8, and static int8 per tensor and per channel, as ONNX Runtime's documentation shows."""
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared = folder / "fp32.onnx", folder / "prepared.onnx"
    quant_pre_process(str(source), str(prepared))
    ort.quantize_dynamic(prepared, folder / "ort-dynamic-int8.onnx", weight_type=ort.QuantType.QUInt8)

    class Images(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(np.array_split(inputs, 10))

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    for name, per_channel in (("ort-static-int8", False), ("ort-static-int8-per-channel", True)):
        ort.quantize_static(str(prepared), str(folder / f"{name}.onnx"), Images(), per_channel=per_channel)
    prepared.unlink()


def torchao_int8(model: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    """Static int8 by torchao's quantization of exported programs."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model.eval(), (inputs[:2].clone(),), dynamic_shapes=({0: batch},)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared: Any = prepare_pt2e(program, quantizer)
    for part in inputs.split(50):
        prepared(part)
    quantized = convert_pt2e(prepared)
    torch.export.save(torch.export.export(quantized, (inputs[:2].clone(),), dynamic_shapes=({0: batch},)), path)


def torch_pruning(model: nn.Module, example: torch.Tensor, share: float) -> nn.Module:
    """The network with that share of the channels inside its blocks cut out, smallest weights first.

    Channels on the shortcuts stay: theirs have no parameters, and the padding in them hides the dependency.
    """
    import torch_pruning as tp

    pruned = copy.deepcopy(model)
    kept = [m for n, m in pruned.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and not n.endswith("conv1")]
    pruner = tp.pruner.BasePruner(
        pruned,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=kept,
    )
    pruner.step()
    return pruned


def fine_tune(model: nn.Module, data: Dataset, epochs: int = 2) -> nn.Module:
    """A plain loop, as the tool's examples have it."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train.labels), generator=generator).split(128):
            loss = nn.functional.cross_entropy(
                model(normalize(data, take(data.train.images, batch))), data.train.labels[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    main(*sys.argv[1:])
