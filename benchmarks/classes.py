"""The semi-supervised VAE against the number of classes: a sum over all of them, or one relaxed draw, on MNIST.

    for classes in 5 10 100 500; do python -m benchmarks.classes --classes $classes; done

One training step on 100 images without a label, the label marginalized (``enumerate``) or drawn by Gumbel-Softmax; as
no label is looked at, there may be any number of classes. Jang, Gu and Poole (2017), figure 5, has Gumbel-Softmax 2
times as fast with 10 classes, and 9.9 times with 100, on a Titan X.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import measure
from benchmarks.loops import images

BATCH = 100


def steps(arguments: argparse.Namespace, estimator: str) -> Iterator[int]:
    """Training steps on rows whose label is hidden."""
    import torch

    from ancestral.configs import DataDescription, M2Config
    from ancestral.configs.data import HIDDEN
    from ancestral.models import Batch, semi_supervised_vae
    from ancestral.training.optimization import keep_freed_memory

    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    config = M2Config(network=arguments.network, estimator=estimator, likelihood="bernoulli", hidden=(256,))  # type: ignore[arg-type]
    description = DataDescription((1, 28, 28), "binary", 2, classes=arguments.classes, labeled=0.002)
    model = semi_supervised_vae(config, description)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    data, hidden = torch.from_numpy(images()).view(-1, 1, 28, 28), torch.full((BATCH,), HIDDEN)
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            levels = data[index]
            x = (torch.randint_like(levels, 255) < levels).float()
            model.loss(Batch(x, hidden[: len(x)]))["loss"].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            yield len(x)


CANDIDATES: dict[str, measure.Candidate] = {
    "enumerate": lambda arguments: steps(arguments, "enumerate"),
    "gumbel-softmax": lambda arguments: steps(arguments, "gumbel-softmax"),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--network", choices=["mlp", "conv"], default="conv")
    measure.main("benchmarks.classes", CANDIDATES, parser)
