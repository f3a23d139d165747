"""What p(x | ...) is, and how the data are prepared to suit it: for every model with a choice of likelihoods."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from ancestral.configs.data import DataConfig, DataDescription
from ancestral.errors import AncestralError, nearest

Likelihood = Literal["auto", "bernoulli", "normal", "discretized-logistic", "continuous-bernoulli"]


@dataclass(frozen=True)
class LikelihoodSettings:
    """The likelihood and its settings: a model has them among its own, by inheritance, and checks them."""

    likelihood: Likelihood = "auto"
    """p(x | z); auto: bernoulli for binary data, discretized-logistic for grey levels, normal for real numbers."""
    scale: Literal["learned", "shared"] = "learned"
    """Standard deviation of a normal likelihood: computed by the decoder, or one learned number for all."""
    mean: Literal["identity", "sigmoid"] = "identity"
    """What squashes the mean of a normal likelihood."""

    def check_likelihood(self) -> None:
        """Raise where a setting is none of those known, or has no effect with the likelihood.

        Raises:
            AncestralError: it names the setting and the flag to turn.
        """
        for field, options in (
            ("likelihood", Likelihood.__args__),  # type: ignore[attr-defined]
            ("scale", ("learned", "shared")),
            ("mean", ("identity", "sigmoid")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        if self.likelihood not in ("auto", "normal") and (self.scale != "learned" or self.mean != "identity"):
            raise AncestralError(
                f"scale and mean have no effect with a {self.likelihood} likelihood: use --likelihood normal."
            )

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[Self, DataConfig]:
        """Choose the likelihood that suits the data, and the preparation of the data that suits the likelihood.

        Args:
            raw: the data as stored: binary, grey levels, or continuous.
            usual_binarization: what the literature does with this set.

        Raises:
            AncestralError: the likelihood contradicts the data. A density of bits or of grey levels without noise is
                refused because it has no bound: a standard deviation that shrinks around the few values there are
                raises it forever, and says nothing of their probability (Theis, van den Oord and Bethge, 2016,
                section 3.1).
        """
        likelihood, binarization = self.likelihood, data.binarization
        if binarization == "auto":
            wants_binary = likelihood in ("auto", "bernoulli") and raw.kind == "levels" and data.dequantize != "yes"
            usual = usual_binarization if likelihood == "auto" else "dynamic"
            binarization = usual if wants_binary else "none"  # type: ignore[assignment]
        binary = (raw.kind == "binary" and data.dequantize != "yes") or binarization != "none"
        shaped = self.scale != "learned" or self.mean != "identity"
        if likelihood == "auto":
            if binary:
                likelihood = "bernoulli"
            else:
                likelihood = "discretized-logistic" if raw.kind == "levels" and data.dequantize != "yes" else "normal"
            if likelihood != "normal" and shaped:
                other = raw.kind == "levels" and data.binarization in ("auto", "none") and data.dequantize == "auto"
                raise AncestralError(
                    f"scale and mean have no effect with the {likelihood} likelihood chosen for these data: "
                    + ("add --likelihood normal, or leave them out." if other else "leave them out.")
                )
        density = likelihood in ("normal", "continuous-bernoulli")
        dequantize = data.dequantize
        if dequantize == "auto":
            dequantize = "yes" if density and raw.kind == "levels" and not binary else "no"
        if density and raw.kind != "continuous" and dequantize != "yes":
            if binary:
                values, cure = "zeros and ones", "Use --likelihood bernoulli"
                cure += "." if raw.kind == "binary" else ", or --binarization none for the grey levels."
            else:
                values = "grey levels without noise"
                cure = "Use --dequantize yes, or --likelihood discretized-logistic."
            raise AncestralError(
                f"a {likelihood} likelihood is a density, and of {values} a density has no bound: it is no likelihood "
                f"of them. {cure}"
            )
        if likelihood == "bernoulli" and not binary:
            if raw.kind == "continuous":
                seen, cure = "real numbers", "--likelihood normal"
            elif dequantize == "yes":
                seen, cure = "dequantized", "--dequantize no, or --likelihood normal"
            else:
                seen = "grey levels without binarization"
                cure = "--binarization dynamic, or --likelihood discretized-logistic"
            raise AncestralError(f"a bernoulli likelihood needs binary data, but these are {seen}. Use {cure}.")
        if likelihood == "discretized-logistic" and (raw.kind == "continuous" or dequantize == "yes"):
            raise AncestralError(
                "a discretized-logistic likelihood needs grey levels, but these data are continuous. Use "
                "--likelihood normal."
            )
        if raw.scale and likelihood == "continuous-bernoulli":
            raise AncestralError(
                "a continuous-bernoulli likelihood is of numbers in [0, 1], but the columns of a table are "
                "standardized to mean 0 and variance 1. Use --likelihood normal."
            )
        if raw.scale and self.mean == "sigmoid":
            raise AncestralError(
                "mean sigmoid lies in (0, 1), which can't follow the columns of a table: they are standardized to mean "
                "0 and variance 1. Use --mean identity."
            )
        return (
            dataclasses.replace(self, likelihood=likelihood),
            dataclasses.replace(data, binarization=binarization, dequantize=dequantize),
        )


def as_bits(data: DataConfig, raw: DataDescription, usual_binarization: str) -> DataConfig:
    """The preparation of the data for a model of zeros and ones: by default what the literature does, else dynamic.

    Raises:
        AncestralError: real numbers, or the user wants them as they are.
    """
    if raw.kind == "continuous" or data.dequantize == "yes":
        seen, cure = "real numbers", "Use data of bits or grey levels."
        if raw.kind != "continuous":
            seen, cure = "dequantized", "Leave --dequantize out."
        raise AncestralError(f"this model is of zeros and ones, but these data are {seen}. {cure}")
    if raw.kind == "levels" and data.binarization == "none":
        raise AncestralError(
            f"this model is of zeros and ones, but these data have {raw.levels} levels. Use --binarization dynamic."
        )
    binarization = data.binarization
    if binarization == "auto":
        binarization = "none" if raw.kind == "binary" else "dynamic"
    return dataclasses.replace(data, binarization=binarization, dequantize="no")
