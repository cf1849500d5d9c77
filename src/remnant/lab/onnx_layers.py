"""Quantized layers written in ONNX's operators, as modules that torch's exporter understands.

What they compute in torch is of no use: the operators are placeholders that stand for their ONNX counterparts.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress.grids import Grid
from remnant.lab.compress.layers import Layer, replaced
from remnant.lab.compress.quantized_layers import DynamicLayer, StaticLayer, WeightOnlyLayer

INT4 = "int4_codes"
"""Name of buffers of 4-bit integers, which torch can hold as int8 only."""


def exportable(model: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode whose quantized layers are written in ONNX's operators."""
    model = copy.deepcopy(model).cpu().eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    made: dict[Any, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, StaticLayer):
            made[module] = _Static(module)
        elif isinstance(module, DynamicLayer):
            made[module] = _Dynamic(module)
        elif isinstance(module, WeightOnlyLayer):
            made[module] = _WeightOnly(module)
    return replaced(model, made)


class _Static(nn.Module):
    """A `StaticLayer`: uint8 input, int8 weights, int32 bias, uint8 output, each dequantized.

    ONNX Runtime fuses that into one kernel of integers.
    """

    def __init__(self, exact: StaticLayer) -> None:
        super().__init__()
        self.layer = exact.layer
        self.inputs, self.outputs = _Requantized(exact.inputs), _Requantized(exact.outputs)
        self.codes = nn.Buffer(exact.layer.weight.detach().to(torch.int8))
        self.scale = nn.Buffer(exact.weight_scale.clone())
        self.zero_point = nn.Buffer(torch.zeros(len(exact.weight_scale), dtype=torch.int8))
        self.integer_bias = exact.layer.bias is not None and exact.inputs is not None
        if exact.layer.bias is None:
            self.bias = None
        elif exact.inputs is None:
            assert exact.bias is not None
            self.bias = nn.Buffer(exact.bias.detach().clone())
        else:
            self.bias = nn.Buffer(exact.layer.bias.detach().to(torch.int32))
            self.bias_scale = nn.Buffer(exact.weight_scale * exact.inputs.scale)

    def forward(self, values: Tensor) -> Tensor:
        weight = _dequantized(self.codes, self.scale, self.zero_point, axis=0)
        bias = self.bias
        if bias is not None and self.integer_bias:
            bias = _dequantized(bias, self.bias_scale, axis=0)
        return self.outputs(_applied(self.layer, self.inputs(values), weight, bias))


class _Requantized(nn.Module):
    """Numbers of a grid as uint8 and back; as they are without one.

    int8 would do as well, but on x86 ONNX Runtime makes uint8 of it, and fails to where two layers read the numbers.
    """

    def __init__(self, grid: Grid | None) -> None:
        super().__init__()
        self.grid = grid
        if grid is not None:
            self.scale = nn.Buffer(torch.tensor(grid.scale))
            self.zero_point = nn.Buffer(torch.tensor(-grid.low, dtype=torch.uint8))

    def forward(self, values: Tensor) -> Tensor:
        if self.grid is None:
            return values
        if self.grid.low == self.grid.high:
            return torch.zeros_like(values)
        operands = values, self.scale, self.zero_point
        codes = torch.onnx.ops.symbolic("QuantizeLinear", operands, dtype=torch.uint8, shape=values.shape)
        return _dequantized(codes, self.scale, self.zero_point)


class _Dynamic(nn.Module):
    """A `DynamicLayer`: uint8 input over the range of the batch, weights as codes + 128 in uint8, products in int32."""

    def __init__(self, exact: DynamicLayer) -> None:
        super().__init__()
        self.layer = exact.layer
        codes = (exact.layer.weight.detach() + 128).to(torch.uint8)
        self.codes = nn.Buffer(codes.t().contiguous() if isinstance(exact.layer, nn.Linear) else codes)
        self.zero_point = nn.Buffer(torch.tensor(128, dtype=torch.uint8))
        self.scale = nn.Buffer(exact._per_output(exact.weight_scale).clone())
        self.bias = None if exact.bias is None else nn.Buffer(exact._per_output(exact.bias.detach()).clone())

    def forward(self, values: Tensor) -> Tensor:
        layer = self.layer
        if not isinstance(layer, nn.Linear) and layer.padding_mode != "zeros":
            values = functional.pad(values, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        codes, scale, zero_point = torch.onnx.ops.symbolic_multi_out(
            "DynamicQuantizeLinear",
            (values,),
            dtypes=(torch.uint8, torch.float32, torch.uint8),
            shapes=(values.shape, (), ()),
        )
        operands = (codes, self.codes, zero_point, self.zero_point)
        if isinstance(layer, nn.Linear):
            shape, name, attributes = (*values.shape[:-1], layer.out_features), "MatMulInteger", None
        else:
            attributes, name = _attributes(layer), "ConvInteger"
            shape = (values.shape[0], layer.out_channels, *_sizes(layer, values, attributes["pads"]))
        sums = torch.onnx.ops.symbolic(name, operands, attributes, dtype=torch.int32, shape=shape)
        outputs = sums.float() * (scale * self.scale)
        return outputs if self.bias is None else outputs + self.bias


class _WeightOnly(nn.Module):
    """A `WeightOnlyLayer`: codes of 8 or 4 bits, dequantized before a float32 product."""

    def __init__(self, exact: WeightOnlyLayer) -> None:
        super().__init__()
        self.layer, self.group_size = exact.layer, exact.group_size
        codes = exact.layer.weight.detach().to(torch.int8)
        self.codes_name = INT4 if exact.bits <= 4 else "codes"
        self.register_buffer(self.codes_name, codes if exact.group_size is None else codes.flatten(1))
        self.scale = nn.Buffer(exact.weight_scale.clone())
        self.bias = None if exact.bias is None else nn.Buffer(exact.bias.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        codes = self.get_buffer(self.codes_name)
        if self.group_size is None:
            weight = _dequantized(codes, self.scale, axis=0)
        else:
            weight = _dequantized(codes, self.scale, axis=1, block_size=self.group_size)
            weight = weight.view(self.layer.weight.shape)
        return _applied(self.layer, values, weight, self.bias)


def _dequantized(codes: Tensor, scale: Tensor, zero_point: Tensor | None = None, **attributes: int) -> Tensor:
    operands = (codes, scale) if zero_point is None else (codes, scale, zero_point)
    return torch.onnx.ops.symbolic(
        "DequantizeLinear", operands, dict(attributes), dtype=torch.float32, shape=codes.shape
    )


def _applied(layer: Layer, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(values, weight, bias)
    return layer._conv_forward(values, weight, bias)


def _attributes(layer: Any) -> dict[str, Any]:
    """Those of ConvInteger, whose pads are the ends of all dimensions after their beginnings."""
    pads = layer._reversed_padding_repeated_twice if layer.padding_mode == "zeros" else [0] * 2 * len(layer.stride)
    return {
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "group": layer.groups,
        "pads": [*pads[-2::-2], *pads[::-2]],
    }


def _sizes(layer: Any, values: Tensor, pads: list[int]) -> list[int]:
    """Height, width, ... of what a convolution gives."""
    number = len(layer.stride)
    return [
        (values.shape[2 + i] + pads[i] + pads[number + i] - layer.dilation[i] * (layer.kernel_size[i] - 1) - 1)
        // layer.stride[i]
        + 1
        for i in range(number)
    ]
