"""A run: what it leaves in its folder, and how it is found again."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from torch import nn

import ancestral
from ancestral import (
    AncestralError,
    GraphError,
    Joint,
    LatentVariableModel,
    Run,
    bernoulli,
    linear,
    mlp,
    normal,
    standard_normal,
)
from ancestral.configs import DataConfig, TrainingConfig, VAEConfig
from ancestral.data import load as load_data
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.runs import check_types, parse
from ancestral.training import RunFolder

SMALL: dict[str, Any] = {"latent": 3, "hidden": (7,), "epochs": 2, "batch_size": 13}
GREY = np.random.default_rng(1).integers(0, 256, (53, 5, 7), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a file beside it."""
    place = tmp_path_factory.mktemp("trained")
    np.save(place / "grey.npy", GREY)
    ancestral.train("vae", place / "grey.npy", out=place / "run", binarization="static", **SMALL)
    return place


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged; its data stay where they are."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def bits(n: int = 53) -> Dataset:
    x = np.random.default_rng(1).integers(0, 2, (n, 7), dtype=np.uint8)
    return assemble("bits", Raw(Rows(x), levels=2), DataConfig())


def own(hidden: int = 5) -> LatentVariableModel:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, hidden, 7))})
    return LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))


def change(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit config.toml."""
    config = tomllib.loads((run / "config.toml").read_text())
    edit(config)
    (run / "config.toml").write_text(tomli_w.dumps(config))


def test_the_folder_holds_all_that_is_needed_and_no_pickle(trained: Path) -> None:
    run = trained / "run"
    assert {place.name for place in run.iterdir()} == {
        "config.toml", "environment.json", "metrics.jsonl", "samples", "checkpoints", "MODEL_CARD.md", ".lock",
    }  # fmt: skip
    assert {place.name for place in (run / "checkpoints").iterdir()} == {"last", "best"}
    assert {file.suffix for file in run.rglob("*") if file.is_file()} == {
        ".toml", ".json", ".jsonl", ".png", ".safetensors", ".md", "",
    }  # fmt: skip


def test_the_settings_are_written_as_they_were_resolved(trained: Path) -> None:
    config = tomllib.loads((trained / "run" / "config.toml").read_text())
    assert (config["format"], config["model"], config["in_memory"]) == (1, "vae", False)
    assert config["data"] == str(trained / "grey.npy")
    assert config["settings"]["likelihood"] == "bernoulli"
    assert config["settings"]["hidden"] == [7]
    assert config["data_settings"]["binarization"] == "static"
    assert config["training"]["epsilon"] == 1e-4  # the default that suits the model
    assert config["description"]["shape"] == [1, 5, 7]


def test_the_environment_names_versions_and_the_digests_of_the_data(trained: Path) -> None:
    noted = json.loads((trained / "run" / "environment.json").read_text())
    assert {"python", "torch", "ancestral", "numpy", "safetensors"} <= noted["versions"].keys()
    data = load_data(trained / "grey.npy", DataConfig(binarization="static"))
    for split in ("train", "test"):
        assert noted["data"][split] == {"rows": len(getattr(data, split)), "digest": data.digest(split)}


def test_the_model_card_says_what_it_is(trained: Path) -> None:
    card = (trained / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in (
        "p(x, z) = p(z) p(x | z)",
        "likelihood Bernoulli",
        "binarization static",
        "Best validation loss",
        "2.0 epochs",
    ):
        assert words in card


def test_a_run_is_found_again_with_its_weights_metrics_and_data(trained: Path) -> None:
    run = ancestral.load(trained / "run")
    assert isinstance(run, Run)
    assert run.which == "best"
    assert not run.model.training
    assert repr(run) == f"Run({str(trained / 'run')!r}: vae on {trained / 'grey.npy'}, best weights)"
    assert run.metrics[-1]["epoch"] == 2.0
    assert run.data.description.kind == "binary"
    x = run.data.rows("test", range(3))
    assert torch.equal(run.model.encode(x), ancestral.load(trained / "run").model.encode(x))
    names = [figure.name for figure in run.evaluate(particles=3)]
    assert names[0] == "log p(x)"
    assert names[-3:] == ["active units of z", "mutual information of x and z", "effective sample size"]


def test_either_checkpoint_is_loaded_by_name(run: Path) -> None:
    last, best = ancestral.load(run, which="last"), ancestral.load(run, which="best")
    assert (last.which, best.which) == ("last", "best")
    with pytest.raises(AncestralError, match=r"lsat.*last"):
        ancestral.load(run, which="lsat")
    shutil.rmtree(run / "checkpoints" / "best")
    assert ancestral.load(run).which == "last"
    with pytest.raises(AncestralError, match=r"no checkpoint 'best'. It has one called 'last'"):
        ancestral.load(run, which="best")
    shutil.rmtree(run / "checkpoints" / "last")
    with pytest.raises(AncestralError, match=r"no checkpoint 'last'.*ancestral resume"):
        ancestral.load(run)


def test_averaged_weights_serve_whichever_checkpoint_is_loaded(tmp_path: Path) -> None:
    run = ancestral.train("vae", bits(), out=tmp_path / "run", ema=0.9, **SMALL)
    last, best = ancestral.load(run.path, which="last"), ancestral.load(run.path, which="best")
    for (name, a), b in zip(last.model.state_dict().items(), best.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name  # validated at the end, with the same average


def test_training_leaves_the_random_stream_as_it_was(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    ancestral.train("vae", bits(), out=tmp_path / "run", **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    ancestral.resume(tmp_path / "run", data=bits())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_without_a_place_gets_a_new_one_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", GREY)
    paths = [ancestral.train("vae", "rows.npy", **SMALL).path for _ in range(2)]
    assert paths == [Path("runs/vae-rows-1"), Path("runs/vae-rows-2")]


def test_data_named_by_a_relative_path_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", GREY)
    ancestral.train("vae", "rows.npy", out="run", **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(ancestral.load("../run").data.train) > 0


def test_what_was_said_names_the_model_the_likelihood_and_the_data(tmp_path: Path) -> None:
    said: list[str] = []

    class Listener:
        def begin(self, total: int, done: int) -> None: ...

        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

        def say(self, message: str) -> None:
            said.append(message)

        def end(self) -> None: ...

    ancestral.train("vae", bits(), out=tmp_path / "run", reporter=Listener(), **SMALL)
    heard = "\n".join(said)
    for words in (r"vae: [\d,]+ parameters, p\(x, z\)", r"likelihood p\(x \| \.\.\.\): Bernoulli", "bits: .* training"):
        assert re.search(words, heard), words
    assert "all 2 epochs done" in said[-1]


# ---- data that are gone, changed or in memory


def test_data_made_in_memory_are_passed_again(tmp_path: Path) -> None:
    ancestral.train("vae", bits(), out=tmp_path / "run", **SMALL)
    for ask in (lambda: ancestral.resume(tmp_path / "run"), lambda: ancestral.load(tmp_path / "run").data):
        with pytest.raises(AncestralError, match="made in memory"):
            ask()
    assert ancestral.load(tmp_path / "run", data=bits()).data.name == "bits"


def test_a_named_set_that_was_passed_loaded_is_found_again(tmp_path: Path) -> None:
    data = load_data("digits", DataConfig(train_limit=53))
    ancestral.train("vae", data, out=tmp_path / "run", **SMALL)
    assert len(ancestral.load(tmp_path / "run").data.train) == 53


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.random.default_rng(2).integers(0, 256, (53, 5, 7), dtype=np.uint8), "training rows have changed"),
        (np.random.default_rng(2).integers(0, 256, (53, 7, 7), dtype=np.uint8), r"they are .*\(1, 7, 7\).*trained on"),
        (None, "no file or folder"),
    ],
)
def test_data_that_have_changed_are_detected(rows: np.ndarray | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "grey.npy"
    np.save(file, GREY)
    ancestral.train("vae", file, out=tmp_path / "run", **SMALL)
    file.unlink()
    if rows is not None:
        np.save(file, rows)
        with pytest.raises(AncestralError, match=words):
            ancestral.resume(tmp_path / "run", data=load_data(file, DataConfig()))
    for ask in (lambda: ancestral.resume(tmp_path / "run"), lambda: ancestral.load(tmp_path / "run").data):
        with pytest.raises(AncestralError, match=words):
            ask()


# ---- what is refused


def test_a_folder_in_use_is_refused(run: Path) -> None:
    with pytest.raises(AncestralError, match="already holds something"):
        ancestral.train("vae", bits(), out=run, **SMALL)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"laten": 3}, "no setting 'laten' for vae. Did you mean 'latent'"),
        ({"latent": "3"}, "vae: latent is '3', but must be like 50"),
        ({"latent": 2.5}, "latent is 2.5"),
        ({"latent": True}, "latent is True"),
        ({"hidden": 7}, "hidden is 7"),
        ({"hidden": (7.5,)}, "hidden is"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"validation": "a bit"}, "validation is 'a bit'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match=words):
        ancestral.train("vae", bits(), out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_whole_numbers_and_lists_stand_for_reals_and_tuples(tmp_path: Path) -> None:
    run = ancestral.train("vae", bits(), out=tmp_path / "run", beta=1, hidden=[7, 5], latent=3, epochs=1)
    assert list(run.config["settings"]["hidden"]) == [7, 5]


@pytest.mark.parametrize("name", ["vea", "bert"])
def test_an_unknown_model_is_answered_with_those_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match=f"no model {name!r}.*gan, .*vae.*LatentVariableModel"):
        ancestral.train(name, bits(), out=tmp_path / "run")


def test_settings_of_a_named_model_are_none_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match="no setting 'latent' for own"):
        ancestral.train(own(), bits(), out=tmp_path / "run", latent=3)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["settings"].update(laten=3), r"config\.toml: there is no setting 'laten'. Did you mean 'latent'"),
        (lambda c: c["settings"].update(latent="3"), r"config\.toml: latent is '3', but must be like 50"),
        (lambda c: c["settings"].update(hidden=["a"]), r"config\.toml: hidden is \['a'\]"),
        (lambda c: c["settings"].update(latent=0), "latent is 0"),
        (lambda c: c["description"].pop("shape"), r"config\.toml: .*shape"),
        (lambda c: c["description"].update(levels="many"), "levels is 'many'"),
        (lambda c: c.update(model="vea"), "names the model 'vea'. Did you mean 'vae'"),
        (lambda c: c.update(format=99), "format 99"),
        (lambda c: c["settings"].update(latent=5), "do not fit this model"),
    ],
)
def test_a_config_that_was_edited_wrongly_is_a_clear_error(
    edit: Callable[[dict[str, Any]], Any], words: str, run: Path
) -> None:
    change(run, edit)
    with pytest.raises(AncestralError, match=words):
        ancestral.load(run)


def test_wrong_settings_of_training_and_data_are_found_on_resume(run: Path) -> None:
    change(run, lambda c: c["training"].update(epochs="many"))
    with pytest.raises(AncestralError, match="epochs is 'many'"):
        ancestral.resume(run)
    change(run, lambda c: (c["training"].update(epochs=2), c["data_settings"].update(binarisation="none")))
    with pytest.raises(AncestralError, match=r"binarisation.*binarization"):
        ancestral.resume(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for ask in (ancestral.load, ancestral.resume):
        with pytest.raises(AncestralError, match="is no run folder"):
            ask(tmp_path / "nothing")


def test_a_damaged_checkpoint_is_refused(run: Path) -> None:
    weights = run / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(AncestralError, match="damaged"):
        ancestral.load(run)
    (run / "checkpoints" / "last" / "optimizer.safetensors").unlink()
    with pytest.raises(AncestralError, match="incomplete"):
        ancestral.resume(run)


def test_ones_own_model_is_passed_again_and_a_named_one_is_not(run: Path, tmp_path: Path) -> None:
    ancestral.train(own(), bits(), out=tmp_path / "own", epochs=1)
    for ask in (ancestral.load, ancestral.resume):
        with pytest.raises(AncestralError, match=r"model of your own.*pass model="):
            ask(tmp_path / "own", data=bits())
        with pytest.raises(AncestralError, match="do not fit this model"):
            ask(tmp_path / "own", own(hidden=11), data=bits())
    with pytest.raises(AncestralError, match="needs no model of yours"):
        ancestral.load(run, own())
    assert ancestral.resume(tmp_path / "own", own(), data=bits()).which == "best"


def test_settings_in_the_config_of_ones_own_model_are_not_believed(tmp_path: Path) -> None:
    ancestral.train(own(), bits(), out=tmp_path / "own", epochs=1)
    change(tmp_path / "own", lambda config: config["settings"].update(particles="x", latent=10**15))
    assert ancestral.resume(tmp_path / "own", own(), data=bits()).which == "best"


def test_an_unknown_device_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match="'nowhere' is not available"):
        ancestral.load(run, device="nowhere")
    with pytest.raises(AncestralError, match="'nowhere' is not available"):
        ancestral.train("vae", bits(), out=tmp_path / "run2", device="nowhere")


def test_settings_are_parsed_from_a_table() -> None:
    where = Path("config.toml")
    assert parse(VAEConfig, {"hidden": [7, 5], "beta": 1}, where) == VAEConfig(hidden=(7, 5), beta=1)
    assert parse(TrainingConfig, {"trackers": []}, where) == TrainingConfig()
    with pytest.raises(AncestralError, match="seed is True"):
        check_types(TrainingConfig, {"seed": True}, "here")


def test_a_gan_has_a_run_too_and_no_likelihood(tmp_path: Path) -> None:
    run = ancestral.train(
        "gan", bits(), out=tmp_path / "run", latent=3, hidden=(7,), discriminator_hidden=(5,), epochs=1
    )
    assert run.which == "last"
    assert run.model.sample(5).shape == (5, 7)
    assert {"discriminator loss", "generator loss", "discriminator accuracy on data"} <= run.metrics[0].keys()
    with pytest.raises(AncestralError, match="no LatentVariableModel"):
        run.evaluate()


def test_an_observed_variable_that_p_does_not_have_is_an_error() -> None:
    with pytest.raises(GraphError, match="'w'"):
        LatentVariableModel(own().p, own().q, observed="w")


@pytest.mark.real_data
def test_named_sets_are_trained_on_by_name(tmp_path: Path, shared_data: Path) -> None:
    run = ancestral.train("vae", "frey-faces", out=tmp_path / "run", train_limit=101, latent=2, hidden=(7,), epochs=1)
    assert run.config["data"] == "frey-faces"
    assert run.model.sample(2).shape == (2, 1, 28, 20)


@pytest.mark.parametrize("line", ["data = 3", "training = 3", "model = []"])
def test_a_config_whose_sections_are_no_tables_or_names_is_an_error(tmp_path: Path, line: str) -> None:
    run = ancestral.train("vae", "digits", epochs=1, hidden=(5,), latent=2, out=tmp_path / "run")
    lines, word = run.folder.config_file.read_text().splitlines(), line.split()[0]
    kept = [text for text in lines if not text.startswith((f"{word} =", f"[{word}]"))]
    run.folder.config_file.write_text("\n".join([line, *kept]))
    with pytest.raises(AncestralError, match=word):
        ancestral.load(run.path)


def test_a_run_can_continue_on_a_named_device(tmp_path: Path) -> None:
    run = ancestral.train("vae", "digits", epochs=1, hidden=(5,), latent=2, out=tmp_path / "run")
    again = ancestral.resume(run.path, device="cpu")
    assert next(again.model.parameters()).device.type == "cpu"
    with pytest.raises(AncestralError, match="not available"):
        ancestral.resume(run.path, device="cuda:7")


@pytest.mark.parametrize("value", ["3", None, float("nan"), -1])
def test_a_checkpoint_that_does_not_say_its_epoch_is_an_error(value: object, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path), nn.Linear(2, 3), {}, "best", state={"epoch": value})
    with pytest.raises(AncestralError, match=r"best has epoch .*, but must have a number"):
        _ = run.epoch
