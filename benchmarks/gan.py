"""The generative adversarial network of 2014: rectifier generator, maxout discriminator with dropout, on MNIST.

    python -m benchmarks.gan --threads 1

One step is an update of each player. The tuned loop by hand has fused Adam and kept memory, makes no gradients for the
discriminator's weights in the generator's step, and shows the discriminator both halves at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks import measure
from benchmarks.loops import PIXELS, images, ours, products

BATCH, NOISE, HIDDEN, UNITS, PIECES = 100, 100, 1200, 240, 5
DISCRIMINATOR = [(PIXELS, UNITS * PIECES), (UNITS, UNITS * PIECES), (UNITS, 1)]
GENERATOR = [(NOISE, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, PIXELS)]


# The discriminator's update sees data and samples; the generator's passes through a discriminator that learns nothing.
LAYERS = [
    *((BATCH, a, b, "y") for a, b in GENERATOR),
    *((2 * BATCH, a, b, "ywx" if i else "yw") for i, (a, b) in enumerate(DISCRIMINATOR)),
    *((BATCH, a, b, "yx") for a, b in DISCRIMINATOR),
    *((BATCH, a, b, "ywx" if i else "yw") for i, (a, b) in enumerate(GENERATOR)),
]


def by_hand(
    arguments: argparse.Namespace, tuned: bool = False, layer: bool = False, bf16: bool = False
) -> Iterator[int]:
    """The loop one would write without a library."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ancestral.networks import Linear
    from ancestral.training.optimization import keep_freed_memory

    torch.set_num_threads(arguments.threads)
    if tuned:
        keep_freed_memory()
    linear: Any = Linear if layer else nn.Linear

    class Maxout(nn.Module):
        def __init__(self, inward: int, units: int) -> None:
            super().__init__()
            self.linear = linear(inward, units * PIECES)

        def forward(self, x: Any) -> Any:
            return self.linear(x).unflatten(-1, (PIECES, UNITS)).amax(-2)

    generator = nn.Sequential(
        linear(NOISE, HIDDEN), nn.ReLU(), linear(HIDDEN, HIDDEN), nn.ReLU(), linear(HIDDEN, PIXELS), nn.Sigmoid()
    )
    discriminator = nn.Sequential(
        nn.Dropout(0.2), Maxout(PIXELS, UNITS), nn.Dropout(0.5), Maxout(UNITS, UNITS), nn.Dropout(0.5), linear(UNITS, 1)
    )
    players = [
        torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=tuned)
        for network in (discriminator, generator)
    ]
    levels = torch.from_numpy(images())
    data = levels if tuned else levels.float() / 255
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index].float() / 255 if tuned else data[index]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                with torch.no_grad():
                    fake = generator(torch.rand(len(x), NOISE) * 2 - 1).float()
                if tuned:
                    on_data, on_fake = discriminator(torch.cat([x, fake])).float().chunk(2)
                else:
                    on_data, on_fake = discriminator(x).float(), discriminator(fake).float()
                loss = (F.softplus(-on_data) + F.softplus(on_fake)).mean()
            players[0].zero_grad()
            loss.backward()
            players[0].step()
            discriminator.requires_grad_(not tuned)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.softplus(-discriminator(generator(torch.rand(len(x), NOISE) * 2 - 1)).float()).mean()
            players[1].zero_grad()
            loss.backward()
            players[1].step()
            discriminator.requires_grad_(True)
            yield len(x)


CANDIDATES: dict[str, measure.Candidate] = {
    "by hand, default Adam": by_hand,
    "by hand, tuned": lambda a: by_hand(a, tuned=True),
    "by hand, tuned, our affine layer": lambda a: by_hand(a, tuned=True, layer=True),
    "ours": lambda a: ours(a, "gan", BATCH),
    "by hand, tuned, bfloat16": lambda a: by_hand(a, tuned=True, bf16=True),
    "ours, bfloat16": lambda a: ours(a, "gan", BATCH, precision="bfloat16"),
    "matrix products": lambda a: products(a, LAYERS, BATCH),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measure.main("benchmarks.gan", CANDIDATES, parser)
