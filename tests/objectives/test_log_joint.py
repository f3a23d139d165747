"""The density of all latent variables in one vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta, Dirichlet, Distribution, Gamma, Independent, Normal, Uniform

from ancestral import Joint, Trace, bernoulli, bernoulli_bias, linear, standard_normal
from ancestral.errors import AncestralError, GraphError
from ancestral.objectives.log_joint import LogJoint


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Several(nn.Module):
    """A scale, a share, weights that sum to 1 and a number whose bound is another variable, with state."""

    def forward(self, trace: Trace) -> None:
        scale = trace.sample("scale", Gamma(tensor(2.3), tensor(1.7)))
        share = trace.sample("share", Independent(Beta(tensor(2.0, 3.0), tensor(1.5, 0.7)), 1))
        weights = trace.sample("weights", Dirichlet(tensor(1.1, 2.3, 3.1)))
        bounded = trace.sample("bounded", Uniform(torch.zeros_like(scale), scale))
        mean = torch.cat([share, weights], -1) * bounded[..., None]
        trace.sample("x", Independent(Normal(mean, scale[..., None]), 1))


X = torch.linspace(-1, 2, 15, dtype=torch.float64).reshape(3, 5)


def test_positions_and_values_go_into_each_other() -> None:
    torch.manual_seed(0)
    joint = LogJoint(Several(), {"x": X})
    assert joint.dimensions == 1 + 2 + 2 + 1
    u = joint.draw(7)
    assert u.shape == (7, 3, 6)
    values = joint.values(u)
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        "scale": (7, 3), "share": (7, 3, 2), "weights": (7, 3, 3), "bounded": (7, 3),
    }  # fmt: skip
    assert (values["bounded"] < values["scale"]).all()
    torch.testing.assert_close(joint.position(values), u, atol=1e-9, rtol=0)


def test_the_density_is_that_of_the_model_times_the_change_of_volume() -> None:
    torch.manual_seed(1)
    joint = LogJoint(Several(), {"x": X})
    u = joint.draw(2)
    values = joint.values(u)
    trace = Trace((2, 3), {"x": X, **values})
    Several()(trace)

    def free(one: Tensor) -> Tensor:
        """Those coordinates of one datapoint that are free: the last weight is what the others leave."""
        found = joint.values(one.expand(1, 3, 6))
        parts = (found["scale"][0, 1:2], found["share"][0, 1], found["weights"][0, 1, :2], found["bounded"][0, 1:2])
        return torch.cat(parts)

    jacobian = torch.autograd.functional.jacobian(free, u[1, 1])  # type: ignore[no-untyped-call]
    expected = trace.log_prob()[1, 1] + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(joint(u)[1, 1], expected)
    prior, likelihood = joint.parts(u)
    torch.testing.assert_close(likelihood, trace.log_prob(["x"]))
    torch.testing.assert_close(prior + likelihood, joint(u))


def test_real_variables_are_their_own_coordinates(linear_gaussian: Any) -> None:
    m = linear_gaussian
    joint = LogJoint(m.p, {"x": m.x})
    u = joint.draw(5)
    assert torch.equal(joint.values(u)["z"], u)
    torch.testing.assert_close(joint(u), m.prior().log_prob(u) + m.decoder(u).log_prob(m.x))


def test_parameters_get_no_gradient_and_learn_again_after(linear_gaussian: Any) -> None:
    m = linear_gaussian
    network = linear(3, 5).double()
    p = Joint({"z": m.prior, "x | z": lambda z: Independent(Normal(network(z), 1.0), 1)})
    p.register_module("network", network)
    joint = LogJoint(p, {"x": m.x})
    u = joint.draw(2).requires_grad_()
    value = joint(u)
    assert all(parameter.requires_grad for parameter in network.parameters())
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert u.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_torchs_checks_of_arguments_are_off_within_and_on_again_after() -> None:
    joint = LogJoint(Several(), {"x": X})
    u = joint.draw(1)
    u[:] = torch.nan
    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)  # a compiler may have turned them off
    try:
        assert not joint(u).isfinite().any()
        with pytest.raises(ValueError, match="scale"):
            Normal(0.0, -1.0)
    finally:
        Distribution.set_default_validate_args(before)


def test_what_has_no_gradient_is_an_error() -> None:
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 5))})
    with pytest.raises(AncestralError, match=r"'h', a Bernoulli, is discrete.*exact"):
        LogJoint(p, {"x": torch.zeros(2, 5)})


def test_a_model_without_latent_variables_or_data_is_an_error(linear_gaussian: Any) -> None:
    m = linear_gaussian
    with pytest.raises(GraphError, match="no latent variable"):
        LogJoint(Joint({"x": m.prior}), {"x": torch.zeros(2, 3, dtype=torch.float64)})
    with pytest.raises(GraphError, match="draws none of the given y"):
        LogJoint(m.p, {"y": m.x})


def test_data_outside_the_support_of_their_likelihood_are_an_error() -> None:
    p = Joint({"z": lambda: Independent(Normal(torch.zeros(2), 1.0), 1), "x | z": bernoulli(linear(2, 3))})
    with pytest.raises(AncestralError, match="outside the support"):
        LogJoint(p, {"x": torch.full((2, 3), 0.3)})


def test_a_q_that_lacks_a_latent_variable_is_an_error(linear_gaussian: Any) -> None:
    m = linear_gaussian
    q = Joint({"w | x": m.posterior})
    with pytest.raises(GraphError, match="does not draw 'z'"):
        LogJoint(m.p, {"x": m.x}, q).draw(2)


def test_it_is_one_density_of_a_model_that_is_being_trained() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(linear(2, 7), nn.Dropout(), linear(7, 5))
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(network)})
    density = LogJoint(p, {"x": torch.ones(3, 5)})
    u = density.draw(11)
    expected = LogJoint(p.eval(), {"x": torch.ones(3, 5)})(u)
    p.train()
    torch.testing.assert_close(density(u), expected, atol=0, rtol=0)
    assert network[1].training
