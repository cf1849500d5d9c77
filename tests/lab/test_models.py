import re
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant import registry
from remnant.lab.cifar_networks import BasicBlock
from remnant.lab.models import ARCHITECTURES, FAMILIES, build
from remnant.registry import UnknownNameError

SMALL = ["mlp", "mlp-32", "mlp-24-16-12", "cnn", "cnn-8", "lean-resnet", "lean-resnet-4", "resnet8", "resnet20-8",
         "wide-resnet-10-1", "densenet-10-4", "densenet-bc-16-4", "resnext11", "resnext11-2x4d"]  # fmt: skip


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(architecture: str, shape: tuple[int, ...] = (3, 32, 32), num_classes: int = 10, seed: int = 0) -> nn.Module:
    return build(architecture, shape, num_classes, rng(seed))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# Known structure


@pytest.mark.parametrize(
    ("architecture", "published", "digits"),
    [
        # He et al. (2016), Deep residual learning, table 6: # params in millions.
        ("resnet20", 0.27e6, 2),
        ("resnet32", 0.46e6, 2),
        ("resnet44", 0.66e6, 2),
        ("resnet56", 0.85e6, 2),
        ("resnet110", 1.7e6, 2),
        # Zagoruyko & Komodakis (2016), Wide residual networks, table 4.
        ("wide-resnet-40-1", 0.6e6, 1),
        ("wide-resnet-40-2", 2.2e6, 2),
        ("wide-resnet-40-4", 8.9e6, 2),
        ("wide-resnet-16-8", 11.0e6, 3),
        ("wide-resnet-28-10", 36.5e6, 3),
        # Huang et al. (2017), Densely connected convolutional networks, table 2.
        ("densenet-40-12", 1.0e6, 2),
        ("densenet-100-12", 7.0e6, 2),
        ("densenet-bc-100-12", 0.8e6, 1),
        # Xie et al. (2017), Aggregated residual transformations, table 7.
        ("resnext29-8x64d", 34.4e6, 3),
        # Li et al. (2017), Pruning filters for efficient ConvNets, table 1: 1.5e7 for VGG-16 on CIFAR-10, with a
        # second linear layer of 512 units (0.26e6), which later work and this one leave out.
        ("vgg16-bn", 1.5e7, 2),
    ],
)
def test_networks_have_the_published_number_of_parameters(architecture, published, digits):
    with torch.device("meta"):
        number = parameters(made(architecture))
    assert float(f"{number:.{digits - 1}e}") == published


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [("resnet8", 8), ("resnet20", 20), ("densenet-40-12", 40), ("densenet-bc-100-12", 100),
     ("resnext20", 20), ("resnext29-2x4d", 29), ("vgg11-bn", 9), ("vgg16-bn", 14), ("vgg19-bn", 17)],
)  # fmt: skip
def test_the_depth_is_the_number_of_layers_with_weights(architecture, layers):
    """Shortcuts do not count. VGG's name counts three linear layers, of which CIFAR's has one."""
    with torch.device("meta"):
        model = made(architecture)
    counted = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(counted) == layers


@pytest.mark.parametrize("depth", [16, 28, 40])
def test_the_depth_of_a_wide_resnet_is_the_number_of_its_convolutions(depth):
    """Zagoruyko & Komodakis (2016), section 3: "total number of convolutional layers n", shortcuts among them."""
    with torch.device("meta"):
        model = made(f"wide-resnet-{depth}-2")
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == depth


def test_the_narrow_resnext_is_that_of_group_sparsity():
    """32 groups of 1, 2 and 4 channels inside, and twice as many outside (github.com/ofsoundof/group_sparsity)."""
    with torch.device("meta"):
        model = made("resnext20")
    grouped = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [(m.groups, m.out_channels) for m in grouped] == [(32, 32)] * 2 + [(32, 64)] * 2 + [(32, 128)] * 2
    assert [m.in_features for m in model.modules() if isinstance(m, nn.Linear)] == [256]


def test_shortcuts_have_no_parameters():
    block = BasicBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    images = torch.randn(1, 2, 5, 5)
    expected = torch.zeros(1, 4, 3, 3)
    expected[:, 1:3] = images[:, :, ::2, ::2]
    assert torch.equal(block(images), functional.relu(expected))


def test_widths_are_as_named():
    def sizes(model: nn.Module) -> list[int]:
        return [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]

    assert sizes(made("mlp")) == [128, 64, 10]
    assert sizes(made("mlp-7")) == [7, 10]
    assert sizes(made("mlp-256-128-3")) == [256, 128, 3, 10]
    for name, width in (
        ("cnn", 16),
        ("cnn-24", 24),
        ("lean-resnet", 32),
        ("lean-resnet-6", 6),
        ("resnet8", 16),
        ("resnet8-12", 12),
    ):
        convolutions = [m.out_channels for m in made(name).modules() if isinstance(m, nn.Conv2d)]
        assert (convolutions[0], convolutions[-1]) == (width, 4 * width)
    lean = [m.out_channels for m in made("vgg11-bn-6").modules() if isinstance(m, nn.Conv2d)]
    assert lean == [6, 12, 24, 24, 48, 48, 48, 48]
    assert [tuple(p.shape) for p in made("vgg11-bn-64").parameters()] == [
        tuple(p.shape) for p in made("vgg11-bn").parameters()
    ]


# Behaviour


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 33, 20)])
def test_pictures_of_all_sizes_become_logits_and_gradients_reach_every_weight(architecture, shape):
    model = made(architecture, shape, 7)
    assert all(module.training for module in model.modules())
    logits = model(torch.randn(4, *shape))
    assert logits.shape == (4, 7)
    functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("architecture", ["vgg11-bn", "vgg13-bn-8", "wide-resnet-16-4", "resnext29-1x4d", "cnn"])
def test_larger_networks_give_logits(architecture):
    model = made(architecture, num_classes=3).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", [*SMALL, "torchvision:mobilenet_v3_small"])
def test_weights_depend_on_the_stream_alone(architecture):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = made(architecture).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = made(architecture).state_dict(), made(architecture, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("architecture", SMALL)
def test_every_activation_is_a_module_used_once(architecture):
    """What attribution by hooks (DeepLIFT, guided backpropagation) needs."""
    model = made(architecture, (3, 16, 16))
    used: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            assert not module.inplace
            module.register_forward_hook(lambda module, *_: used.append(module))
    model(torch.randn(2, 3, 16, 16))
    assert len(used) == len(set(used)) == sum(isinstance(m, nn.ReLU) for m in model.modules()) > 0


@pytest.mark.parametrize(("side", "expected"), [(32, [16, 16, 8, 8, 8, 4]), (8, [8, 8, 4, 4, 4, 2])])
def test_the_lean_network_does_all_its_work_on_few_pixels(side, expected):
    """On at most a quarter of the pixels of a picture; of very small ones the first layers keep all."""
    model = made("lean-resnet-4", (3, side, side))
    sides: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *given: sides.append(given[-1].shape[-1]))
    model(torch.randn(2, 3, side, side))
    assert sides == expected


def test_first_weights_keep_the_scale_of_activations():
    """He et al. (2015): variance 2 / (outputs of a position) for convolutions."""
    layers = [m for m in made("wide-resnet-16-4").modules() if isinstance(m, nn.Conv2d)]
    convolution = next(m for m in layers if m.kernel_size == (3, 3) and 64 <= m.in_channels < m.out_channels)
    expected = np.sqrt(2 / (convolution.out_channels * 9))
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.02)


def test_features_go_into_an_mlp():
    assert made("mlp", (7,), 3)(torch.randn(5, 7)).shape == (5, 3)


def test_networks_of_torchvision_can_be_named():
    # 11,689,512 parameters: torchvision's table of ResNet18_Weights.
    assert parameters(made("torchvision:resnet18", (3, 64, 64), 1000)) == 11_689_512
    assert made("torchvision:googlenet", (3, 64, 64), 4)(torch.randn(2, 3, 64, 64)).shape == (2, 4)


# Names


def test_every_family_is_listed_and_knows_its_examples():
    for family in FAMILIES:
        assert ARCHITECTURES[family.syntax] == family.summary
        for example in family.examples:
            assert [f for f in FAMILIES if re.fullmatch(f.pattern, example)] == [family]


def test_unknown_names_get_the_nearest():
    for wrong, near in (("resnet_20", "resnet20"), ("wideresnet-28-10", "wide-resnet-28-10"), ("vgg16", "vgg16-bn"),
                        ("torchvision:resnet81", "torchvision:resnet18")):  # fmt: skip
        with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
            made(wrong)
    with pytest.raises(UnknownNameError, match=re.escape("package.module:function")):
        made("nothing of the kind")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet21", r"Expected 6n \+ 2 layers, such as 8, 20.*'resnet21'"),
        ("resnet2", r"Expected 6n \+ 2 layers"),
        ("resnet50", "ResNet-50 of ImageNet is 'torchvision:resnet50'"),
        ("wide-resnet-20-4", r"Expected 6n \+ 4 layers, such as 16.*'wide-resnet-20-4'"),
        ("densenet-41-12", r"Expected 3n \+ 4 layers.*'densenet-41-12'"),
        ("densenet-bc-43-12", r"Expected 6n \+ 4 layers.*'densenet-bc-43-12'"),
        ("resnext21", r"Expected 9n \+ 2 layers.*'resnext21'"),
        ("vgg12-bn", r"Expected VGG with \[11, 13, 16, 19\] layers, but got 'vgg12-bn'"),
    ],
)
def test_depths_that_do_not_exist_are_refused(architecture, message):
    with pytest.raises(ValueError, match=message):
        made(architecture)


@pytest.mark.parametrize(
    "architecture", ["mlp-0", "cnn-0", "resnet8-0", "vgg11-bn-0", "wide-resnet-16-0", "resnext20-0x4d"]
)
def test_widths_of_zero_are_refused(architecture):
    with pytest.raises(ValueError, match=f"positive numbers .*'{architecture}'"):
        made(architecture)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("vgg16-bn", (3, 28, 28)), ("resnet20", (3, 2, 32)), ("cnn", (1, 3, 3)), ("densenet-40-12", (7,))],
)
def test_inputs_that_a_family_cannot_take_are_refused(architecture, shape):
    with pytest.raises(ValueError, match=rf"Expected pictures .* for '{architecture}', but .*{re.escape(str(shape))}"):
        made(architecture, shape)


def test_torchvision_needs_three_channels_and_enough_pixels():
    with pytest.raises(ValueError, match=r"3 channels for 'torchvision:resnet18', .*\(1, 28, 28\)"):
        made("torchvision:resnet18", (1, 28, 28))
    with pytest.raises(ValueError, match=r"'torchvision:alexnet' cannot take inputs of shape \(2, 3, 32, 32\): "):
        made("torchvision:alexnet")


# A user's own


class Own(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5).eval()
        self.norm = nn.BatchNorm2d(input_shape[0])
        self.last = nn.Linear(input_shape[0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.dropout(self.norm(images)).mean((2, 3)))


class Returns(Own):
    """Own, with something else than logits as its output."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, change) -> None:
        super().__init__(input_shape, num_classes)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(super().forward(images))


@pytest.fixture
def user(monkeypatch):
    """Makes a function known as own:network."""

    def known(function: object) -> str:
        module = ModuleType("own")
        module.network = function  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "own", module)
        return "own:network"

    return known


def test_a_users_function_is_called_with_shapes(user):
    model = made(user(Own), (3, 8, 8), 4)
    assert isinstance(model, Own)
    assert model.last.out_features == 4
    # The look at its logits leaves no trace.
    assert (model.training, model.norm.training, model.dropout.training) == (True, True, False)
    assert model.norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda logits: logits[:, :3],
            r"logits of shape \(2, 4\) for 2 examples, but got torch.float32 of shape \(2, 3\)",
        ),
        (lambda logits: logits.mean(0), r"of shape \(4,\)"),
        (lambda logits: logits.argmax(1), r"of shape \(2,\)"),
        (lambda logits: logits.long(), r"but got torch.int64 of shape \(2, 4\)"),
        (lambda logits: (logits, logits), r"it returned a tuple of 2. Return the logits alone"),
        (lambda logits: {"logits": logits}, r"it returned a dict with the keys \['logits'\]"),
        (lambda logits: None, "it returned a NoneType"),
        (lambda logits: logits @ torch.ones(9, 9), r"'own:network' cannot take inputs of shape \(2, 3, 8, 8\): mat1"),
    ],
)
def test_a_users_model_must_return_logits(user, change, message):
    name = user(lambda input_shape, num_classes: Returns(input_shape, num_classes, change))
    with pytest.raises(ValueError, match=message):
        made(name, (3, 8, 8), 4)


def test_a_users_function_must_take_both_arguments_and_return_a_module(user):
    with pytest.raises(
        ValueError, match=r"Calling 'own:network' as function\(input_shape=\(3, 8, 8\), num_classes=4\)"
    ):
        made(user(lambda shape: None), (3, 8, 8), 4)
    with pytest.raises(ValueError, match=r"'own:network' to return a torch.nn.Module, but it returned str"):
        made(user(lambda input_shape, num_classes: "model"), (3, 8, 8), 4)
    with pytest.raises(ValueError, match="'own:network' to be a function, but it is of type int"):
        made(user(3), (3, 8, 8), 4)
    with pytest.raises(ValueError, match="Cannot import 'no_such_module'"):
        made("no_such_module:network")


def test_packages_can_offer_architectures(monkeypatch):
    class Point:
        value = "offering"

        def load(self):
            return Own

    monkeypatch.setattr(registry, "_offered", lambda group: {"their-net": Point()} if "architectures" in group else {})
    assert isinstance(made("their-net"), Own)
