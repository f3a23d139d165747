"""How gradients pass discrete variables: the estimator by name, and its settings, for every model that has some."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from ancestral.errors import AncestralError, nearest

EstimatorName = Literal[
    "reinforce", "rloo", "vimco", "nvil", "muprop", "darn", "half", "straight-through", "gumbel-softmax",
    "straight-through-gumbel-softmax", "rebar", "relax", "disarm", "enumerate",
]  # fmt: skip
"""The estimators by the names of their papers; :func:`ancestral.models.make_estimator` makes them."""
ESTIMATORS: dict[EstimatorName, str] = {
    "reinforce": "the likelihood ratio, with the baselines of --baseline; unbiased (Williams, 1992)",
    "rloo": "the likelihood ratio, each particle compared with the others; unbiased (Kool et al., 2019)",
    "vimco": "the same under the importance-weighted bound; unbiased (Mnih and Rezende, 2016)",
    "nvil": "the likelihood ratio with learned baselines, normalized (Mnih and Gregor, 2014)",
    "muprop": "the likelihood ratio of what a Taylor expansion leaves; unbiased (Gu et al., 2016)",
    "darn": "a Taylor expansion as baseline, its mean left out; biased (Gregor et al., 2014)",
    "half": "the same around 1/2; biased (Gu et al., 2016)",
    "straight-through": "the gradient of the mean; biased (Bengio et al., 2013)",
    "gumbel-softmax": "through a relaxed variable; biased (Jang et al., 2017; Maddison et al., 2017)",
    "straight-through-gumbel-softmax": "the same with hard values; biased (Jang et al., 2017)",
    "rebar": "the likelihood ratio, a relaxed variable as control variate; unbiased (Tucker et al., 2017)",
    "relax": "rebar with a free network besides; unbiased (Grathwohl et al., 2018)",
    "disarm": "two antithetic draws of binary variables; unbiased (Dong et al., 2020)",
    "enumerate": "the exact sum over all values of few variables",
}
"""What each is, in one line."""
BaselineName = Literal["moving-average", "network"]

ANNEALED = ("temperature", "temperature_rate", "temperature_end", "learn_temperature")
USED: dict[str, tuple[str, ...]] = {
    "reinforce": ("baseline", "normalize"),
    "muprop": ("baseline", "normalize"),
    "straight-through": ("slope", "slope_rate", "slope_end"),
    "gumbel-softmax": ANNEALED,
    "straight-through-gumbel-softmax": ANNEALED,
    "rebar": ("temperature",),
    "relax": ("temperature",),
}
"""The settings that have an effect with each estimator; those left out have none."""
OF_EXPECTATIONS = ("muprop", "rebar", "relax", "disarm", "enumerate")
"""Estimators of plain expectations, which the importance-weighted bound is not."""


@dataclass(frozen=True)
class EstimatorSettings:
    """Which estimator, and its settings: a model with discrete variables has them among its own, by inheritance.

    Its config calls :meth:`check_estimator` with its bound.
    """

    estimator: EstimatorName = "gumbel-softmax"
    """How the gradient passes the discrete variables; `ancestral list estimators` says what each is. rloo and vimco
    compare particles (elbo, iwae); nvil is reinforce with both baselines, normalized."""
    particles: int = 1
    """Draws of the latent variables per datapoint."""
    baseline: tuple[BaselineName, ...] = ()
    """What is subtracted from the cost (reinforce, muprop): its moving average, and what a network of 100 tanh units
    predicts of it."""
    normalize: bool = False
    """Divide the signal by its running standard deviation where that is above 1 (reinforce, muprop)."""
    temperature: float = 0.5
    """Of the relaxation (gumbel-softmax and its straight-through form; rebar and relax, which start there and learn
    it)."""
    temperature_rate: float = 0.0
    """Falls by e^-rate an epoch (both gumbel-softmax); 0 leaves it where it is."""
    temperature_end: float = 0.5
    """Where a falling temperature stays."""
    learn_temperature: bool = False
    """Learn the temperature by the gradient of the loss, instead (both gumbel-softmax)."""
    slope: float = 1.0
    """Multiplies the logits where the gradient passes (straight-through)."""
    slope_rate: float = 0.0
    """Rises by e^rate an epoch (straight-through); 0 leaves it where it is."""
    slope_end: float = 5.0
    """Where a rising slope stays."""

    @property
    def normalizes(self) -> bool:
        """Whether the signal is divided by its standard deviation: what does not pass it would then outweigh it."""
        return self.normalize or self.estimator == "nvil"

    def check_estimator(self, bound: str, classes: int | None = None) -> None:
        """Raise where a setting is out of range or has no effect, or the estimator does not suit the model.

        Args:
            bound: what is maximized, elbo or iwae.
            classes: of each discrete variable, of which 2 make a Bernoulli variable; 0 where only the label is
                discrete, a one-hot vector; None where it is not known yet.

        Raises:
            AncestralError: it names the setting and the flag to turn.
        """
        self.check_settings()
        if self.estimator in OF_EXPECTATIONS and bound == "iwae":
            raise AncestralError(
                f"the estimator {self.estimator} is for a plain expectation, which the iwae bound is not: use "
                "--estimator vimco, or --bound elbo."
            )
        if self.normalizes and bound == "iwae":
            raise AncestralError(
                f"the estimator {self.estimator} divides its signal by its deviation, but not what the weights "
                "of the iwae bound tell q besides, which would outweigh it: use --estimator vimco, or the elbo."
            )
        if self.estimator == "disarm" and classes not in (None, 2):
            kinds = f"these have {classes} classes" if classes else "labels are one-hot vectors"
            raise AncestralError(
                f"the estimator disarm is for binary variables, but {kinds}: use --estimator muprop or rebar"
                + (", or --classes 2." if classes else ".")
            )
        if self.estimator == "enumerate" and classes and self.particles > 1:  # labels leave others to be drawn
            raise AncestralError(
                f"particles is {self.particles}, which has no effect with the estimator enumerate: it draws nothing. "
                "Leave it out."
            )
        one, other = {"rloo": ("iwae", "vimco"), "vimco": ("elbo", "rloo")}.get(self.estimator, ("", ""))
        if one == bound:
            raise AncestralError(
                f"comparing the particles is called {other} under the {bound} bound: use --estimator {other}."
            )
        if other and self.particles < 2:
            raise AncestralError(
                f"particles is {self.particles}, but {self.estimator} compares particles: use --particles 2 or more, "
                "or --estimator nvil."
            )

    def check_settings(self) -> None:
        """The part of :meth:`check_estimator` that no model is needed for.

        Raises:
            AncestralError: a setting is out of range or has no effect.
        """
        if self.estimator not in get_args(EstimatorName):
            raise AncestralError(
                f"there is no estimator {self.estimator!r}. " + nearest(str(self.estimator), get_args(EstimatorName))
            )
        for word in self.baseline:
            if word not in get_args(BaselineName):
                raise AncestralError(f"there is no baseline {word!r}. " + nearest(word, get_args(BaselineName)))
            if self.baseline.count(word) > 1:
                raise AncestralError(f"baseline names {word} {self.baseline.count(word)} times: once is enough.")
        if self.particles < 1:
            raise AncestralError(f"particles is {self.particles}, but sizes are 1 or more.")
        for name in ("temperature", "temperature_end", "slope", "slope_end"):
            if not 0 < getattr(self, name) < float("inf"):
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be a positive number.")
        for name in ("temperature_rate", "slope_rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be 0 or more.")
        self._check_effects()

    def _check_effects(self) -> None:
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        used = USED.get(self.estimator, ())
        for name in dict.fromkeys(name for names in USED.values() for name in names):
            if name not in used and getattr(self, name) != usual[name]:
                raise _without_effect(self.estimator, name, getattr(self, name))
        if self.learn_temperature and self.temperature_rate:
            raise AncestralError(
                f"temperature_rate is {self.temperature_rate}, which has no effect where the temperature is learned: "
                "leave it out, or --learn-temperature."
            )
        for name, falls in (("temperature", True), ("slope", False)):
            rate, end, start = (getattr(self, f"{name}{part}") for part in ("_rate", "_end", ""))
            if not rate and end != usual[f"{name}_end"]:
                raise AncestralError(
                    f"{name}_end is {end}, which has no effect without a rate: give --{name}-rate, or leave it out."
                )
            if rate and (end >= start if falls else end <= start):
                raise AncestralError(
                    f"{name}_rate is {rate}, which has no effect from {start} to a {name}_end of {end}: it only "
                    + (f"falls. Give a higher --{name}." if falls else f"rises. Give a higher --{name}-end.")
                )


def _without_effect(estimator: str, name: str, value: object) -> AncestralError:
    able = ", ".join(other for other, names in USED.items() if name in names)
    return AncestralError(
        f"{name} is {value}, which has no effect with the estimator {estimator}: it is for {able}. Leave it out, or "
        "use another --estimator."
    )


def from_word(word: str) -> EstimatorSettings:
    """Settings from one word, ``NAME`` or ``NAME:SETTING=VALUE``: those that it does not name have their defaults.

    Each further setting follows a colon, values of which there are several stand between commas, and what is yes or no
    is yes by its name alone: ``muprop:baseline=moving-average,network:normalize``.

    Raises:
        AncestralError: there is no such estimator or setting, or a setting is out of range or has no effect.
    """
    estimator, *parts = word.split(":")
    EstimatorSettings(estimator=estimator).check_settings()  # type: ignore[arg-type]
    kinds = get_type_hints(EstimatorSettings)
    own = USED.get(estimator, ())
    values: dict[str, Any] = {}
    for part in parts:
        written, equals, text = part.partition("=")
        name = written.replace("-", "_")
        if not any(name in names for names in USED.values()):
            known = nearest(written, [setting.replace("_", "-") for setting in own]) or f"{estimator} has none."
            raise AncestralError(f"{word!r}: there is no setting {written!r} of {estimator}. {known}")
        if name not in own:
            raise _without_effect(estimator, name, text or "set")
        if name in values:
            raise AncestralError(f"{word!r} sets {written} twice, and only one can have effect: keep one.")
        if bool(text) == (kinds[name] is bool) or (equals and not text):
            how = written if kinds[name] is bool else f"{written}=VALUE"
            raise AncestralError(f"{word!r}: write {how} for {part!r}.")
        values[name] = _value(word, written, text, kinds[name])
    settings = EstimatorSettings(estimator=estimator, **values)  # type: ignore[arg-type]
    settings.check_settings()
    return settings


def _value(word: str, name: str, text: str, kind: type) -> bool | float | tuple[str, ...]:
    if kind is bool:
        return True
    if kind is not float:
        return tuple(text.split(","))
    try:
        return float(text)
    except ValueError:
        raise AncestralError(f"{word!r}: {text!r} is no number. Give one for {name}.") from None


def as_word(settings: EstimatorSettings) -> str:
    """The word that :func:`from_word` reads as these settings, but for the particles."""
    parts: list[str] = [settings.estimator]
    for name in USED.get(settings.estimator, ()):
        value, written = getattr(settings, name), name.replace("_", "-")
        if value is True:
            parts.append(written)
        elif value != getattr(EstimatorSettings, name):
            parts.append(
                f"{written}=" + (",".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0"))
            )
    return ":".join(parts)
