"""The toy of REBAR and RELAX: one Bernoulli variable, E[(b - t)^2] with t = 0.499, one draw a step.

    python experiments/gradient-estimators/toy.py

Each estimator learns the logit from the same start with Adam; the objective is known exactly at every step, and the
variance of the gradient is measured with many draws as it goes. What REBAR and RELAX learn besides, they learn as they
would in any model. Writes ``toy.json`` and ``toy.png`` beside this file, in about four minutes of one core.

Source: Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), section 4 and figure 1; Tucker et al. (2017) used t = 0.45.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ancestral
from ancestral import (
    REBAR,
    RELAX,
    DisARM,
    Estimator,
    GumbelSoftmax,
    Joint,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    StraightThrough,
    Trace,
    expectation,
    mlp,
)
from ancestral.distributions.bernoulli import IndependentBernoulli
from ancestral.training.folder import write_atomically

HERE = Path(__file__).parent

ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "likelihood ratio": lambda: LikelihoodRatio(baseline=None),
    "likelihood ratio, moving average": lambda: LikelihoodRatio(MovingAverage()),
    "MuProp": MuProp,
    "DisARM": DisARM,
    "REBAR": REBAR,
    "RELAX": lambda: RELAX(mlp(1, 10, 1, activation="relu")),
    "Gumbel-Softmax, 0.5": lambda: GumbelSoftmax(0.5),
    "straight-through": StraightThrough,
}


class Bit(nn.Module):
    """q(b) = Bernoulli(σ(l)), and the cost (b - t)^2."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))
        self.target = target
        self.q = Joint({"b | x": lambda x: IndependentBernoulli(self.logit.expand(len(x), 1), 1)})

    def value(self, estimator: Estimator, draws: int) -> Tensor:
        """The cost of each draw, with the estimator's gradient, ``[draws]``."""
        return expectation(self.cost, self.q, {"x": torch.zeros(draws, 1)}, estimators=estimator)

    def cost(self, trace: Trace) -> Tensor:
        return (trace["b"] - self.target).square().sum(-1)

    def exact(self) -> float:
        """E[(b - t)^2] = σ(l) (1 - 2t) + t^2."""
        return torch.sigmoid(self.logit.detach().double()).item() * (1 - 2 * self.target) + self.target**2


def variance(bit: Bit, estimator: Estimator, draws: int) -> tuple[float, float]:
    """Variance and mean of the gradient of one draw with respect to the logit, without a trace on what is learned."""
    module = estimator if isinstance(estimator, nn.Module) else nn.Module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    logits = bit.logit.detach().expand(draws, 1).clone().requires_grad_()
    q = Joint({"b | x": lambda x: IndependentBernoulli(logits, 1)})
    value = expectation(bit.cost, q, {"x": torch.zeros(draws, 1)}, estimators=estimator)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    module.load_state_dict(before)
    torch.set_rng_state(state)
    return gradient.var().item(), gradient.mean().item()


def learn(name: str, target: float, steps: int, rate: float, seed: int, draws: int) -> dict[str, Any]:
    """One curve: objective and variance at a hundred steps."""
    torch.manual_seed(seed)
    bit, estimator = Bit(target), ESTIMATORS[name]()
    parameters = [bit.logit, *(estimator.parameters() if isinstance(estimator, nn.Module) else ())]
    optimizer = torch.optim.Adam(parameters, rate)
    started, rows = time.monotonic(), []
    for step in range(steps + 1):
        if step % (steps // 100) == 0:
            spread, mean = variance(bit, estimator, draws)
            rows.append({"step": step, "objective": bit.exact(), "variance": spread, "mean gradient": mean})
        optimizer.zero_grad()
        bit.value(estimator, 1).mean().backward()
        optimizer.step()
    return {"estimator": name, "seed": seed, "seconds": round(time.monotonic() - started, 1), "curve": rows}


def draw(curves: list[dict[str, Any]], target: float, file: Path) -> None:
    """The objective and the variance over steps, the median of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), dpi=110)
    for name in ESTIMATORS:
        mine = [curve["curve"] for curve in curves if curve["estimator"] == name]
        steps = [row["step"] for row in mine[0]]
        for axes, key in ((left, "objective"), (right, "variance")):
            values = torch.tensor([[row[key] for row in curve] for curve in mine]).median(0).values
            # a variance of zero has no logarithm: it is drawn at the lower edge
            axes.plot(steps, values.clamp_min(1e-9) if key == "variance" else values, label=name)
    left.axhline(min(target**2, (1 - target) ** 2), color="black", linewidth=0.8, linestyle=":")
    left.set_title(f"E[(b - {target:g})²], exactly; dotted: its minimum")
    right.set_title("variance of the gradient of one draw")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("updates")
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=0.499)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000, help="draws behind each variance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    curves = []
    for name in ESTIMATORS:
        for seed in range(arguments.seeds):
            curves.append(learn(name, arguments.target, arguments.steps, arguments.rate, seed, arguments.draws))
        last = [curve["curve"][-1] for curve in curves if curve["estimator"] == name]
        middle = sorted(row["objective"] for row in last)[len(last) // 2]
        spread = sorted(row["variance"] for row in last)[len(last) // 2]
        seconds = sum(curve["seconds"] for curve in curves if curve["estimator"] == name)
        print(f"{name:34s} objective {middle:.6f}  variance {spread:.3g}  {seconds:.0f} s", flush=True)
    record = {
        "command": "python experiments/gradient-estimators/toy.py",
        "settings": vars(arguments),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "version": ancestral.__version__,
        "curves": curves,
    }
    write_atomically(HERE / "toy.json", (json.dumps(record) + "\n").encode())
    draw(curves, arguments.target, HERE / "toy.png")


if __name__ == "__main__":
    main()
