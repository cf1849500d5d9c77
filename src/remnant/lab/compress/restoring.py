"""The model of a finished trial from its stored tensors, without training again."""

import copy
from functools import singledispatch

from torch import Tensor, nn

from remnant.schemes import Scheme


@singledispatch
def restore(scheme: Scheme, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `compress(scheme, parent, ...)` made, from its state dictionary.

    `parent` is the model that was compressed; it is not changed. Schemes that change the architecture register a
    function of their own with `restore.register`.
    """
    model = copy.deepcopy(parent)
    model.load_state_dict(state)
    return model
