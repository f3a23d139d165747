"""Your own p and q: three bits h, summed over exactly, and four real numbers z explain an image x."""

import torch

import ancestral
from ancestral import Enumerate, Joint, LatentVariableModel, bernoulli, bernoulli_bias, mlp, normal, standard_normal

torch.manual_seed(0)
image = (1, 8, 8)
p = Joint(
    {
        "h": bernoulli_bias(3),
        "z": standard_normal(4),
        "x | h, z": bernoulli(mlp(3 + 4, 100, image), event_dims=3),
    }
)
q = Joint({"h | x": bernoulli(mlp(image, 100, 3)), "z | x": normal(mlp(image, 100, 2 * 4))})
model = LatentVariableModel(p, q, estimators={"h": Enumerate()}, analytic_kl=["h", "z"])

if __name__ == "__main__":
    run = ancestral.train(model, "digits", epochs=20, learning_rate=4e-3)
    for figure in run.evaluate(particles=100):
        print(f"{figure.name}: {figure.value:.2f} {figure.unit} ({figure.kind})")
