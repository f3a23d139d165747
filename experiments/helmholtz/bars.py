"""The bars problem: does a Helmholtz machine find the causes of its data?

    python experiments/helmholtz/bars.py            # some minutes; the same command continues what was interrupted
    python experiments/helmholtz/bars.py --table    # print what is recorded

An image of 4 x 4 pixels has vertical or horizontal bars: a coin gives the direction, then each of the four bars is
there with probability one half. There are 30 different images, so that KL(data || model) is known exactly: p(x) is the
sum over all 2^9 values of the units of a machine of 8 units and, above them, one. After Hinton, Dayan, Frey and Neal
(1995), who drew such images anew for every update; here 20,000 are drawn once, of which 16,000 train.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ancestral
from ancestral.data import DataConfig
from ancestral.data.dataset import Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.training.folder import write_atomically

HERE = Path(__file__).parent
SIDE, ROWS, SEEDS = 4, 20_000, 5
RULES: dict[str, dict[str, Any]] = {
    "wake-sleep": {},
    "reweighted-wake-sleep, K = 5": {"objective": "reweighted-wake-sleep", "particles": 5},
    "reweighted-wake-sleep, K = 5, q from both phases": {
        "objective": "reweighted-wake-sleep", "particles": 5, "q_phase": "both"
    },
    "nvil": {"objective": "elbo"},
    "vimco, K = 5": {"objective": "iwae", "particles": 5, "estimator": "vimco"},
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "layers": (8, 1), "batch_size": 50, "learning_rate": 1e-2, "epochs": 60, "validate_every": 10,
}  # fmt: skip


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Every image there is, ``[30, 1, 4, 4]``, and its probability."""
    found: dict[tuple[float, ...], float] = {}
    for bars in itertools.product((0.0, 1.0), repeat=SIDE):
        rows = torch.tensor(bars).expand(SIDE, SIDE)
        for image in (rows, rows.T):
            key = tuple(image.flatten().tolist())
            found[key] = found.get(key, 0) + 0.5 / 2**SIDE
    return torch.tensor(list(found)).reshape(-1, 1, SIDE, SIDE), torch.tensor(list(found.values()))


def log_mass(model: Any, x: torch.Tensor) -> torch.Tensor:
    """log p(x) as a sum over all values of the units, nats."""
    values = [torch.tensor(list(itertools.product((0.0, 1.0), repeat=units))) for units in SETTINGS["layers"]]
    p = model.p.conditionals
    h1, h2 = (value.repeat(*repeats) for value, repeats in zip(
        (values[0].repeat_interleave(len(values[1]), 0), values[1]), ((1, 1), (len(values[0]), 1)), strict=True
    ))  # fmt: skip
    log_h = p["h2"]().log_prob(h2) + p["h1"](h2).log_prob(h1)
    likelihood = p["x"](h1[:, None]).log_prob(x[None])
    return torch.logsumexp(log_h[:, None] + likelihood, 0)


def divergence(model: Any) -> float:
    """KL(data || model) in nats."""
    x, mass = images()
    with torch.no_grad():
        return float((mass.double() * (mass.double().log() - log_mass(model, x).double())).sum())


def run(name: str, seed: int) -> dict[str, Any]:
    """Train with one rule and seed; the record."""
    x, mass = images()
    drawn = torch.multinomial(mass, ROWS, replacement=True, generator=torch.Generator().manual_seed(seed))
    data = assemble("bars", Raw(Rows(x[drawn].numpy().astype(np.uint8)), levels=2), DataConfig(binarization="none"))
    folder = HERE / "runs" / "bars" / name.replace(", ", "-").replace(" = ", "").replace(" ", "-") / str(seed)
    started = time.monotonic()
    if (folder / "config.toml").exists():
        trained = ancestral.resume(folder, data=data)
    else:
        trained = ancestral.train("helmholtz", data, out=folder, seed=seed, **SETTINGS, **RULES[name])
    if not json.loads((folder / "checkpoints" / "last" / "state.json").read_text())["finished"]:
        raise SystemExit("interrupted; the same command continues.")
    return {"kl": divergence(trained.model), "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print what is recorded")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = HERE / "bars.json"
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"results": {}}
    if not arguments.table:
        for name, seed in itertools.product(RULES, range(SEEDS)):
            results = record["results"].setdefault(name, {})
            if str(seed) not in results:
                results[str(seed)] = run(name, seed)
                record |= {
                    "command": "python experiments/helmholtz/bars.py",
                    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    "version": ancestral.__version__,
                    "settings": {**SETTINGS, "rules": RULES, "rows": ROWS},
                    "entropy": float(-(images()[1] * images()[1].log()).sum()),
                }
                write_atomically(file, (json.dumps(record, indent=2) + "\n").encode())
                print(f"{name}, seed {seed}: KL {results[str(seed)]['kl']:.4f} nats", flush=True)
    print("| rule | KL(data \\|\\| model), nats: median | each seed |\n| --- | ---: | --- |")
    for name, results in record["results"].items():
        values = sorted(result["kl"] for result in results.values())
        median = values[len(values) // 2] if values else math.nan
        print(f"| {name} | **{median:.3f}** | {', '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main()
