"""Schemas that ship with the project."""

from ddpm_jax.conditions.schema import Categorical, Continuous, Schema

PROSTHESIS = ("no", "yes", "not in view")

PELVIS = Schema(
    (
        Categorical("view", ("AP", "lateral", "oblique"), "view"),
        Categorical("side", ("right", "left", "both"), "side"),
        Categorical("prosthesis_right", PROSTHESIS, "right prosthesis"),
        Categorical("prosthesis_left", PROSTHESIS, "left prosthesis"),
        Categorical("sex", ("F", "M", "other"), "sex"),
        Continuous("age", "years", 0, 120, 60, 20, "age"),
        Continuous("bmi", "kg/m²", 10, 80, 28, 6, "BMI"),
    )
)
"""The seven labels of the published pelvis model; presets are data, not a law."""

PRESETS = {"pelvis": PELVIS}
