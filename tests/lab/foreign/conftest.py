"""Models in files, made once."""

from pathlib import Path

import pytest
import torch

from tests.lab.foreign.networks import trained


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained network as weights, archives (of any and of 7 examples), TorchScript and pickle."""
    import warnings

    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models")
    model, x = trained(), torch.randn(7, 1, 8, 8)
    save_file(model.state_dict(), folder / "weights.safetensors")
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, folder / "wrapped.pth"
    )
    torch.save(model, folder / "whole.pt")
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), folder / "any.pt2")
    torch.export.save(torch.export.export(model, (x,)), folder / "seven.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, x), folder / "script.pt")
    return folder
