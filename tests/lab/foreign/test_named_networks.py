"""Networks of torchvision and timm with local weights."""

import numpy as np
import pytest
import torch

from remnant.lab.foreign import of_arrays, predict
from remnant.lab.foreign.named_networks import open_timm
from remnant.references import model_reference
from tests.lab.foreign.networks import scores

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
DATA = of_arrays(IMAGES, np.array([0, 1, 2, 3, 0]), classes=list("abcd"))
INPUTS = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255


def test_a_model_of_torchvision_takes_its_weights_from_a_file(tmp_path):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    model = squeezenet1_1(num_classes=4).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found = predict(f"torchvision:squeezenet1_1@{tmp_path}/w.pth", DATA, preprocessing="none")
    with torch.no_grad():
        np.testing.assert_allclose(scores(found), model(INPUTS).numpy(), atol=1e-5)
    assert found.source["name"] == f"torchvision:squeezenet1_1@{tmp_path}/w.pth"


def test_names_and_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="Did you mean 'torchvision:squeezenet1_1'"):
        predict(f"torchvision:squeezenet11@{tmp_path}/w.pth", DATA, preprocessing="none")
    with pytest.raises(ValueError, match="52 missing in the file: features.0.weight.*1 unknown to the model: a"):
        predict(f"torchvision:squeezenet1_1@{tmp_path}/w.pth", DATA, preprocessing="none")
    with pytest.raises(FileNotFoundError, match="a file of weights"):
        predict("torchvision:squeezenet1_1@nothing.pth", DATA, preprocessing="none")


@pytest.mark.slow
def test_a_model_of_timm_with_its_own_preprocessing(tmp_path):
    """Oracle: timm.data.create_transform on Pillow images."""
    timm = pytest.importorskip("timm")
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=4).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    reference = f"timm:test_resnet@{tmp_path}/w.safetensors"
    found = predict(reference, DATA, preprocessing="model")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    inputs = torch.stack([transform(Image.fromarray(image)) for image in IMAGES])
    with torch.no_grad():
        np.testing.assert_allclose(scores(found), model(inputs).numpy(), atol=1e-4)
    with pytest.raises(ValueError, match="what does timm:test_resnet"):
        predict(reference, DATA)
    with pytest.raises(ValueError, match="Did you mean 'timm:test_resnet'"):
        open_timm(model_reference(f"timm:test_resnt@{tmp_path}/w.safetensors"), 4, 3)
    grey = timm.create_model("test_resnet", pretrained=False, num_classes=4, in_chans=1)
    torch.save(grey.state_dict(), tmp_path / "grey.pt")
    assert scores(predict(f"timm:test_resnet@{tmp_path}/grey.pt", DATA, preprocessing="channels=grey")).shape == (5, 4)
