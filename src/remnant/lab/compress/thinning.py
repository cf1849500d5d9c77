"""Models without the channels that were pruned: smaller tensors, found through torch-pruning's dependency graph."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer
from remnant.lab.compress.structures import Member, Structure, masks_of, member_along, norm_members, on_elements
from remnant.lab.compress.wiring import BATCH_NORMS, Wiring
from remnant.lab.foreign.extras import needed

_TOLERANCE = 1e-4
"""Largest difference of logits, as a share of the largest logit, that sums of floats in another order may make."""
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_NORMS = (*BATCH_NORMS, *_INSTANCE_NORMS)


def coupled(
    model: nn.Module, examples: Tensor, layers: dict[str, Layer], wiring: Wiring
) -> tuple[tuple[Structure, ...], list[str]]:
    """The output channels of `layers` that can be taken out of `model`, with all that goes with them; and the rest.

    Channels that are added to each other are one group, with the slices of all weights that write or read them, their
    biases and norms. Its size is the sum over the layers that write it. All is tried on a copy, without half of its
    channels: it has to answer as one in which they are zero. What fails is in the second result, as "layer: reason",
    for example channels that a shortcut pads to a fixed number, or that are normalised together.

    Raises
    ------
    ValueError
        If torch-pruning is not installed, or no channel can be taken out.

    References
    ----------
    fang2023depgraph
    """
    graph = _dependency_graph(model, examples)
    names = {module: name for name, module in model.named_modules()}
    found: list[Structure] = []
    skipped: list[str] = []
    seen: set[nn.Module] = set()
    for name, layer in layers.items():
        if layer in seen:
            continue
        seen.add(layer)
        if layer not in graph.module2node:
            skipped.append(f"{name}: not called, or its output does not reach the logits")
            continue
        try:
            structure = _structure(graph, model, layer, name, wiring)
        except ValueError as reason:
            skipped.append(f"{name}: {reason}")
            continue
        seen.update(_writers(structure))
        found.append(structure)
    sound = _sound(model, found, examples)
    if len(sound) < len(found) and not _agrees(model, sound, examples):
        sound = []
    for structure in found:
        if structure not in sound:
            tied = ", ".join(names[module] for module in _writers(structure))
            skipped.append(f"{tied}: without some of its channels the model fails or answers otherwise")
    if not sound:
        reasons = "; ".join(skipped)
        raise ValueError(f"Expected channels that can be taken out for physical=True, but found none. {reasons}.")
    return tuple(sound), skipped


@torch.no_grad()
def thin(structures: Sequence[Structure], kept: Sequence[Tensor]) -> None:
    """Take what does not stay out of the tensors, in place; `kept` is for each structure True on groups that stay.

    The modules' attributes (`out_channels`, ...) say their new sizes.
    """
    staying: dict[tuple[nn.Module, str], dict[int, Tensor]] = {}
    for structure, stays in zip(structures, kept, strict=True):
        for member in structure.members:
            assert member.index is not None
            assert member.dim is not None
            here = on_elements(member.index.flatten(), stays)
            dims = staying.setdefault((member.module, member.name), {})
            dims[member.dim] = dims[member.dim] & here if member.dim in dims else here
    for (module, name), dims in list(staying.items()):
        if isinstance(module, _NORMS) and name != "bias":
            for buffer in ("running_mean", "running_var"):
                if getattr(module, buffer) is not None:
                    staying[module, buffer] = dims
    for (module, name), dims in staying.items():
        values = getattr(module, name)
        for dim, here in dims.items():
            values = values.index_select(dim, here.nonzero().squeeze(1))
        _replace(module, name, values)
    for module in {module for module, _ in staying}:
        _declare_sizes(module)


def shaped(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model with tensors of the shapes in `state`, in place; their values are those of `state`.

    Raises
    ------
    ValueError
        If a tensor of the model is not in `state`.
    """
    for prefix, module in model.named_modules():
        changed = False
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            full = f"{prefix}.{name}" if prefix else name
            if full not in state:
                raise ValueError(f"Expected a tensor `{full}` among those stored, but there is none.")
            if state[full].shape != tensor.shape:
                _replace(module, name, state[full].to(tensor.device))
                changed = True
        if changed:
            _declare_sizes(module)
    return model


def _dependency_graph(model: nn.Module, examples: Tensor) -> Any:
    torch_pruning = needed("torch_pruning", "physical=True")
    with torch.enable_grad(), _all_trainable(model):  # the graph is traced through autograd
        try:
            return torch_pruning.DependencyGraph().build_dependency(
                model, examples, forward_fn=lambda model, inputs: model(inputs), verbose=False
            )
        except Exception as error:  # it meets operations that it does not know in many ways
            raise ValueError(
                f"Expected a model that torch-pruning can follow for physical=True, but it failed on "
                f"{type(model).__name__} with {type(error).__name__}: {error}. Use physical=False."
            ) from error


def _structure(graph: Any, model: nn.Module, layer: Layer, name: str, wiring: Wiring) -> Structure:
    """The output channels of a layer and all that is tied to them; ValueError with the reason if they cannot go."""
    channels = layer.weight.shape[0]
    owners = {id(p): (m, n) for m in model.modules() for n, p in m.named_parameters(recurse=False)}
    members: list[Member] = []
    if channels < 2:
        raise ValueError("it has one channel")
    pruner = graph.get_pruner_of_module(layer)
    for item in graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(channels))):
        module, handler = item.dep.target.module, item.dep.handler
        if isinstance(module, nn.Parameter):
            owner, attribute = owners[id(module)]
            dim = item.dep.target.pruning_dim
            members.append(member_along(owner, attribute, dim, _index(item, module.shape[dim], layer)))
            continue
        writes = handler == graph.get_pruner_of_module(module).prune_out_channels
        if module in wiring.logits and writes:
            raise ValueError("it is tied to the logits")
        members += _members(module, item, layer, writes=writes)
    return Structure(name, channels, tuple(members))


def _members(module: nn.Module, item: Any, layer: Layer, *, writes: bool) -> list[Member]:
    """The tensors of a module that shrink with an item of a dependency group."""
    if isinstance(module, Layer):
        _check_groups(module)
        dim = 0 if writes else 1
        index = _index(item, module.weight.shape[dim], layer)
        members = [member_along(module, "weight", dim, index, scored=writes)]
        return members + ([member_along(module, "bias", 0, index)] if writes and module.bias is not None else [])
    if isinstance(module, _NORMS):
        return norm_members(module, _index(item, module.num_features, layer))
    if isinstance(module, nn.PReLU):
        size = len(module.weight)
        return [member_along(module, "weight", 0, _index(item, size, layer))] if size > 1 else []
    if next(module.parameters(recurse=False), None) is None and not list(module.children()):
        return []
    raise ValueError(f"{type(module).__name__} reads it, whose channels cannot be taken out")


def _check_groups(layer: Layer) -> None:
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return
    if not layer.groups == layer.out_channels == layer.in_channels:
        raise ValueError(f"it is tied to a convolution of {layer.groups} groups of several channels")


def _index(item: Any, size: int, layer: Layer) -> Tensor:
    """Number of the channel of the structure's first layer that each element along a dimension belongs to, or -1."""
    index = torch.full((size,), -1, device=layer.weight.device)
    index[item.idxs] = torch.tensor(item.root_idxs, device=layer.weight.device)
    return index


def _writers(structure: Structure) -> list[nn.Module]:
    return [member.module for member in structure.members if member.scored]


def _sound(model: nn.Module, structures: list[Structure], examples: Tensor) -> list[Structure]:
    """Those structures whose channels can really be taken out; halves are tried where all together fail."""
    if not structures or _agrees(model, structures, examples):
        return structures
    if len(structures) == 1:
        return []
    middle = len(structures) // 2
    return [*_sound(model, structures[:middle], examples), *_sound(model, structures[middle:], examples)]


def _agrees(model: nn.Module, structures: Sequence[Structure], examples: Tensor) -> bool:
    """Whether the model without every second channel answers as the one in which these are zero."""
    kept = [torch.arange(structure.size, device=examples.device) % 2 == 0 for structure in structures]
    zeroed, members = copy.deepcopy((model, structures))
    smaller, fewer = copy.deepcopy((model, structures))
    with torch.no_grad():
        for (module, name), mask in masks_of(members, kept).items():
            getattr(module, name).mul_(mask)
        try:
            thin(fewer, kept)
            found = smaller.eval()(examples)
        except (RuntimeError, ValueError, IndexError, TypeError):  # a forward pass that counts on a size
            return False
        expected = zeroed.eval()(examples)
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max().clamp(min=1e-6))


def _replace(module: nn.Module, name: str, values: Tensor) -> None:
    """Give a module a parameter or buffer of another size, laid out in memory as the old one."""
    old = getattr(module, name)
    last = old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last) and not old.is_contiguous()
    values = values.detach().clone(memory_format=torch.channels_last if last else torch.contiguous_format)
    setattr(module, name, nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values)


def _declare_sizes(module: nn.Module) -> None:
    """Bring the attributes of a module in line with the shapes of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        module.out_channels = module.weight.shape[0]
        module.groups = module.out_channels if module.groups > 1 else 1  # only depthwise ones shrink
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, _NORMS):
        sizes = module.weight if module.weight is not None else module.running_mean
        module.num_features = len(sizes) if sizes is not None else module.num_features
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


@contextmanager
def _all_trainable(model: nn.Module) -> Iterator[None]:
    """While the context is open, every parameter asks for a gradient."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_()
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
