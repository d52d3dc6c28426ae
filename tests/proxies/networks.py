"""Small networks that the proxies' tests look at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.networks import ImageNetwork
from nas.proxies import Batch, TeacherView, Trial


class Block(nn.Module):
    """A residual block; with stride 2 its shortcut subsamples."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        short = x[:, :, :: self.stride, :: self.stride]
        return functional.relu(short + self.norm(self.conv(x)))


class SmallNetwork(ImageNetwork):
    """A stem, `blocks` residual blocks of which the last halves the picture, and a head."""

    def __init__(self, width: int = 6, blocks: int = 2, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        last = blocks - 1
        self.blocks = nn.ModuleList(Block(width, 2 if i == last else 1) for i in range(blocks))
        self.head = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return x


class Plain(ImageNetwork):
    """One 1x1 convolution, a rectifier and a head: small enough to reckon by hand."""

    def __init__(self, width: int = 5, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1, bias=False)
        self.head = nn.Linear(width, classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.conv(images))


class Deaf(ImageNetwork):
    """Its output does not depend on its input."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1, bias=False)
        self.head = nn.Linear(5, classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.conv(images)) * 0


class Zeros(nn.Module):
    """Fresh zeros whatever comes in, as of a cell without a path; its weights are dead."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape)


class Cut(SmallNetwork):
    """`SmallNetwork` whose second block is `Zeros`."""

    def __init__(self) -> None:
        super().__init__(blocks=3)
        self.blocks[1] = Zeros()


class TinyEncoder(nn.Module):
    """Tokens to the queries, keys and values of one layer."""

    def __init__(self, width: int = 24, vocabulary: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def attention_vectors(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embed(tokens)
        return self.query(x), self.key(x), self.value(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens)


def builder(make: type[nn.Module], **settings: int) -> Callable[[int], nn.Module]:
    """What a trial builds from; it starts the global generator, as careless builders do."""

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return make(**settings)

    return build


def pictures(samples: int = 8, classes: int = 4, seed: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 3, 8, 8, generator=generator)
    return Batch(inputs, torch.arange(samples) % classes)


def tokens(samples: int = 3, length: int = 5, seed: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randint(0, 11, (samples, length), generator=generator))


def teacher(batch: Batch, seed: int = 99, **settings: int) -> TeacherView:
    """A stand-in for a trained teacher; its running statistics are those of one pass."""
    network = builder(SmallNetwork, **{"width": 6, "blocks": 3, **settings})(seed)
    with torch.no_grad():
        network.train()(batch.inputs)
    return TeacherView(network.eval(), batch)


def trial(make: type[nn.Module] = SmallNetwork, seed: int = 0, **settings: int) -> Trial:
    """A trial with everything that any proxy over pictures may need."""
    batch = pictures()
    return Trial(builder(make, **settings), batch, teacher(batch), seed)


def encoder_trial(width: int = 24, seed: int = 0) -> Trial:
    batch = tokens()
    view = TeacherView(builder(TinyEncoder, width=36)(5), batch)
    return Trial(builder(TinyEncoder, width=width), batch, view, seed)
