"""Players: who has gradients in whose turn, and what training leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

import ancestral
import ancestral.data
from ancestral import Joint, LatentVariableModel, bernoulli, mlp, normal, standard_normal
from ancestral.configs import TrainingConfig
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.training import Training


class ThreePlayers(nn.Module):
    """An adversarial autoencoder's game: the encoder is trained by two players."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.critic = nn.Linear(64, 3), nn.Linear(3, 64), nn.Linear(3, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.gradients: dict[str, set[str]] = {}

    def players(self) -> list[Player]:
        both = [*self.encoder.parameters(), *self.decoder.parameters(), self.frozen]
        return [
            Player("reconstruct", both, self.reconstruct),
            Player("criticize", list(self.critic.parameters()), self.criticize),
            Player("fool", list(self.encoder.parameters()), self.fool),
        ]

    def _note(self, player: str) -> None:
        self.gradients[player] = {name for name, value in self.named_parameters() if value.requires_grad}

    def reconstruct(self, batch: Batch) -> Scalars:
        self._note("reconstruct")
        x = batch.x.flatten(1)
        return {"loss": ((self.decoder(self.encoder(x)) - x) ** 2).mean() * self.frozen.sum()}

    def criticize(self, batch: Batch) -> Scalars:
        self._note("criticize")
        return {"loss": self.critic(self.encoder(batch.x.flatten(1)).detach()).square().mean()}

    def fool(self, batch: Batch) -> Scalars:
        self._note("fool")
        return {"loss": -self.critic(self.encoder(batch.x.flatten(1))).mean()}


def test_a_parameter_shared_by_two_players_learns_in_both_turns_and_a_frozen_one_in_none() -> None:
    model = ThreePlayers()
    config = TrainingConfig(epochs=1, batch_size=700, schedule="constant")
    Training(model, ancestral.data.load("digits"), config).run()
    encoder, decoder = {"encoder.weight", "encoder.bias"}, {"decoder.weight", "decoder.bias"}
    critic = {"critic.weight", "critic.bias"}
    assert model.gradients == {"reconstruct": encoder | decoder, "criticize": critic, "fool": encoder}
    assert model.frozen.item() == 1.0
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == {"frozen"}


def test_training_leaves_the_number_of_threads_as_it_was() -> None:
    torch.set_num_threads(2)
    try:
        Training(ThreePlayers(), ancestral.data.load("digits"), TrainingConfig(epochs=1, threads=1)).run()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_training_a_trained_model_again_goes_on_from_its_weights(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, (1, 8, 8)), event_dims=3)})
    q = Joint({"z | x": normal(mlp((1, 8, 8), 2 * 2))})
    model = LatentVariableModel(p, q)
    ancestral.train(model, "digits", epochs=1, out=tmp_path / "first")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Training(model, ancestral.data.load("digits"), TrainingConfig()).start()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Notes:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def start(self, config: dict[str, Any]) -> None:
        self.heard.append("start")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.heard.append("scalars")

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        self.heard.append("image")

    def text(self, name: str, content: str) -> None:
        self.heard.append(f"{name}: {content}")

    def finish(self) -> None:
        self.heard.append("finish")


def test_a_tracker_of_ones_own_hears_of_everything(tmp_path: Path) -> None:
    notes = Notes()
    ancestral.train("vae", "digits", epochs=1, hidden=(5,), latent=2, out=tmp_path / "run", own_trackers=[notes])
    assert notes.heard[0] == "start"
    assert {"scalars", "image"} <= set(notes.heard)
    assert notes.heard[-2:] == ["end: all 1 epochs done", "finish"]
