"""What all tests share: one thread, the real data where they exist, and models whose likelihood is known."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal

from ancestral import Joint, bernoulli, bernoulli_bias, linear, mlp

torch.set_num_threads(1)
settings.register_profile("ancestral", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("ancestral")


def _data_folder() -> Path | None:
    named = os.environ.get("ANCESTRAL_DATA")
    if named:
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


def pytest_configure() -> None:
    folder = _data_folder()
    if folder is not None:
        os.environ["ANCESTRAL_DATA"] = str(folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _data_folder() is not None:
        return
    absent = [item for item in items if item.get_closest_marker("real_data")]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]


@pytest.fixture
def shared_data() -> Path:
    """The folder of the real data; only for tests marked ``real_data``."""
    folder = _data_folder()
    if folder is None:
        raise RuntimeError("mark this test real_data: the folder of the data is absent.")
    return folder


class LinearGaussian:
    """z ~ N(m, diag s²) in 3 dimensions, x | z ~ N(Wz + b, diag σ²) in 5: everything is known in closed form."""

    latent, observed, batch = 3, 5, 7

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(17)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        self.m, self.s = 1.3 + 0.4 * normal(3), 0.6 + 0.5 * normal(3).abs()
        self.W, self.b = normal(5, 3), -0.7 + normal(5)
        self.sigma = 0.5 + 0.3 * normal(5).abs()
        self.x = self.b + self.W.sum(1) + 2.0 * normal(7, 5)
        self.p = Joint({"z": self.prior, "x | z": self.decoder})
        precision = torch.diag(self.s**-2) + self.W.T @ torch.diag(self.sigma**-2) @ self.W
        self.covariance = torch.linalg.inv(precision)

    def prior(self) -> Independent:
        return Independent(Normal(self.m, self.s), 1)

    def decoder(self, z: Tensor) -> Independent:
        return Independent(Normal(z @ self.W.T + self.b, self.sigma), 1)

    def posterior_mean(self, x: Tensor) -> Tensor:
        return (self.m / self.s**2 + ((x - self.b) / self.sigma**2) @ self.W) @ self.covariance

    def posterior(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.posterior_mean(x), self.covariance)

    def log_prob(self, x: Tensor) -> Tensor:
        covariance = self.W @ torch.diag(self.s**2) @ self.W.T + torch.diag(self.sigma**2)
        return MultivariateNormal(self.W @ self.m + self.b, covariance).log_prob(x)

    def rough_posterior(self, x: Tensor) -> Independent:
        """Off in its mean, without the correlations, and wider: a q that leaves a gap, with importance weights tame."""
        scale = 1.3 * self.covariance.diagonal().sqrt()
        return Independent(Normal(self.posterior_mean(x) + 0.1, scale.expand(len(x), 3)), 1)


@pytest.fixture
def linear_gaussian() -> LinearGaussian:
    return LinearGaussian()


def bits(size: int) -> Tensor:
    """All binary vectors of a size, ``[2^size, size]``."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x) = Σ x·l - softplus(l), written without the library."""
    return (x * logits - F.softplus(logits)).sum(-1)


class TwoLayers(nn.Module):
    """A sigmoid belief network, h2 (2) -> h1 (3) -> x (4), and a q that goes the other way; and both summed by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.prior, self.middle, self.decoder = (
            bernoulli_bias(2),
            bernoulli(linear(2, 3)),
            bernoulli(mlp(3, 5, 4)),
        )
        self.q_first, self.q_second = bernoulli(linear(4, 3)), bernoulli(mlp(3, 5, 2))
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 + 0.9 * torch.randn_like(parameter))
        self.p = Joint({"h2": self.prior, "h1 | h2": self.middle, "x | h1": self.decoder})
        self.q = Joint({"h1 | x": self.q_first, "h2 | h1": self.q_second})

    def log_joint(self, x: Tensor, h1: Tensor, h2: Tensor) -> Tensor:
        return (
            log_bernoulli(h2, self.prior.logits)
            + log_bernoulli(h1, self.middle.network(h2))
            + log_bernoulli(x, self.decoder.network(h1))
        )

    def log_q(self, x: Tensor, h1: Tensor, h2: Tensor) -> Tensor:
        return log_bernoulli(h1, self.q_first.network(x)) + log_bernoulli(h2, self.q_second.network(h1))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x) and the ELBO, ``[batch]`` each, one term after another."""
        joint, bound = [], torch.zeros(len(x), dtype=torch.float64)
        for h1 in bits(3):
            for h2 in bits(2):
                h1s, h2s = h1.expand(len(x), 3), h2.expand(len(x), 2)
                log_p, log_q = self.log_joint(x, h1s, h2s), self.log_q(x, h1s, h2s)
                joint.append(log_p)
                bound = bound + log_q.exp() * (log_p - log_q)
        return torch.stack(joint).logsumexp(0), bound


@pytest.fixture
def two_layers() -> TwoLayers:
    return TwoLayers()


class Mixture(nn.Module):
    """y in 5 classes, x in {0, 1}^4 given y: one discrete latent whose exact posterior is a table."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(11)
        self.prior_logits = nn.Parameter(torch.randn(5, generator=random, dtype=torch.float64))
        self.pixel_logits = nn.Parameter(1.5 * torch.randn(5, 4, generator=random, dtype=torch.float64))
        self.q_weights = nn.Parameter(torch.randn(4, 5, generator=random, dtype=torch.float64))
        self.p = Joint(
            {
                "y": lambda: Categorical(logits=self.prior_logits),
                "x | y": lambda y: bernoulli(nn.Identity())(self.pixel_logits[y]),
            }
        )
        self.q = Joint({"y | x": lambda x: Categorical(logits=x @ self.q_weights)})
        self.exact_q = Joint({"y | x": lambda x: Categorical(logits=self.log_joint(x).detach())})

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y), ``[batch, classes]``."""
        return self.prior_logits.log_softmax(0) + log_bernoulli(x[:, None], self.pixel_logits)


@pytest.fixture
def mixture() -> Mixture:
    return Mixture()
