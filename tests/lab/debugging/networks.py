"""Networks with what makes matching of layers hard."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class InPlace(nn.Module):
    """Convolutions with batch norm, activations in place and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.conv = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        a = self.stem(images)
        b = self.norm(self.conv(a))
        b += a
        return self.head(functional.relu_(b).mean((2, 3)))


class Attention(nn.Module):
    """A class token, positions, attention that reads weights without calling layers, and layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], 1)
        given = self.norm(tokens)
        return self.head((tokens + self.attention(given, given, given, need_weights=False)[0])[:, 0])


class Shared(nn.Module):
    """One layer under two names, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 16)
        self.middle = nn.Linear(16, 16)
        self.again = self.middle
        self.twice = nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        values = functional.relu(self.first(images.flatten(1)))
        values = functional.relu(self.again(functional.relu(self.middle(values))))
        return self.head(functional.relu(self.twice(functional.relu(self.twice(values)))))


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 24), nn.ReLU(inplace=True), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
    )


MAKERS = {"plain": plain, "in place": InPlace, "attention": Attention, "shared": Shared}


def made(name: str, seed: int = 0) -> nn.Module:
    """A network in evaluation mode, with running statistics that are not those at the start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MAKERS[name]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean)  # pyright: ignore
                nn.init.uniform_(module.running_var, 0.5, 2)  # pyright: ignore
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return model.eval()


def images(number: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
