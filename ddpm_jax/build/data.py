"""What a config says of conditions and data, held against the data set."""

from ddpm_jax.build.keys import pick, within
from ddpm_jax.conditions import own
from ddpm_jax.conditions.presets import PRESETS
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import augment
from ddpm_jax.data.records import Manifest


def condition_schema(config) -> Schema:
    """The fields of `config.conditioning.fields`, in the order of their preset, then
    those that `config.conditioning.own_fields` declares."""
    options = config.conditioning
    preset = pick(PRESETS, options.schema, "config.conditioning.schema")
    declared = options.get("own_fields", ())
    schema = own.extend(preset, declared, "config.conditioning.own_fields")
    added = schema.names[len(preset.names) :]
    try:
        return schema.select((*options.fields, *added))
    except ValueError as error:
        raise ValueError(f"config.conditioning.fields: {error}") from None


def check_data(config, schema: Schema, manifest: Manifest) -> None:
    """The data set has the fields, with the same values, the split and the size."""
    folder = config.data.folder
    for field in schema:
        if field not in manifest.schema.fields:
            raise ValueError(
                f"config.conditioning.fields: {field.name!r} is no field of the data "
                f"set {folder}, or has other values there; it has "
                f"{', '.join(manifest.schema.names)}."
            )
    pick(manifest.splits, config.data.split, "config.data.split")
    _check_flip(config, schema)
    _check_balance(config, manifest.schema)
    if manifest.height != manifest.width or manifest.height % config.image_size:
        raise ValueError(
            f"config.image_size = {config.image_size}: the data set {folder} is "
            f"{manifest.height} x {manifest.width}, no whole multiple of it; convert "
            f"with --size {config.image_size} or change the config."
        )


def _check_flip(config, schema: Schema) -> None:
    flip = config.data.get("flip", 0.0)
    within("config.data.flip", flip, 0, 1)
    if flip:
        try:
            augment.Mirror.of(schema)
        except ValueError as error:
            raise ValueError(f"config.data.flip = {flip:g}: {error}") from None


def _check_balance(config, stored: Schema) -> None:
    names, power = config.data.get("balance", ()), config.data.get("balance_power", 1)
    allowed = [field.name for field in stored if field.kind == "categorical"]
    if isinstance(names, str) or len(set(names)) < len(names):
        raise ValueError(
            f"config.data.balance = {names!r}: expected a tuple of different fields."
        )
    for name in names:
        if name not in allowed:
            fault = "no field of the data set"
            if name in stored.names:
                fault = "a number, which has no cells"
            raise ValueError(
                f"config.data.balance = {name!r}: {fault}; expected some of "
                f"{', '.join(allowed)}."
            )
    within("config.data.balance_power", power, 0, 1)
