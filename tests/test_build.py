"""A mistake in a config costs a second: what is refused, and what the data decide."""

import dataclasses
import re

import ml_collections
import numpy as np
import pytest

from configs import (
    paper,
    pelvis_256,
    pelvis_512,
    pelvis_1024,
    pelvis_1024_progressive,
    quickstart,
    tiny,
)
from ddpm_jax import build
from ddpm_jax.data import records

CONFIGS = (
    pelvis_1024,
    pelvis_1024_progressive,
    pelvis_512,
    pelvis_256,
    paper,
    quickstart,
    tiny,
)


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_every_config_is_sound(module):
    build.check_parameterisation(module.get_config())


EPS = {"diffusion.parameterisation": "eps"}
SCHEDULE, SAMPLER = "diffusion.schedule.low", "sampler.low"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "schedule.low = -20: too noisy"),
        ({SCHEDULE: -10.0, SAMPLER: -13.0}, "sampler.low = -13: too noisy"),
    ],
)
def test_eps_with_zero_terminal_snr_is_refused(changes, message):
    config = quickstart.get_config()
    config.update_from_flattened_dict(EPS | changes)
    with pytest.raises(ValueError, match=message):
        build.check_parameterisation(config)


def test_eps_that_stops_before_it_is_let_in():
    config = quickstart.get_config()
    config.update_from_flattened_dict(EPS | {SCHEDULE: -10.0, SAMPLER: -10.0})
    build.check_parameterisation(config)


def test_paper_keeps_its_own_process():
    config = paper.get_config()
    assert config.diffusion.parameterisation == "eps"
    grid = build.sampling(config).table.logsnr
    assert len(grid) == 1000 and grid[0] == pytest.approx(-19.84, abs=0.01)


def test_the_data_set_says_where_the_sampler_starts(tiny_data):
    manifest = dataclasses.replace(
        records.load_manifest(tiny_data),
        statistics={"spectrum": {"logsnr_low": -9.5, "logsnr_high": 7.5}},
    )
    config = pelvis_1024.get_config()
    config.image_size = manifest.height
    build.resolve_sampler(config, manifest)
    assert (config.sampler.low, config.sampler.high) == (-9.5, 7.5)
    logsnr = build.sampling(config).table.logsnr
    np.testing.assert_allclose(logsnr[[0, -1]], [-9.5, 7.5])
    given = quickstart.get_config()
    build.resolve_sampler(given, manifest)
    assert (given.sampler.low, given.sampler.high) == (-11.0, 10.0)


def test_a_range_upside_down_is_refused():
    config = quickstart.get_config()
    config.sampler.low = 12.0
    with pytest.raises(ValueError, match="low = 12, high = 10: expected low < high"):
        build.sampling(config)


def test_shares_of_fields_that_are_none(tiny_config):
    config = tiny_config.copy_and_resolve_references()
    config.sampler.shares = {"hip": 1.0}
    schema = build.condition_schema(config)
    with pytest.raises(ValueError, match="config.sampler.shares = 'hip'"):
        build.sampler(config, build.model(config, schema), schema)


@pytest.mark.parametrize(
    "data, fields, message",
    [
        ({"flip": 1.5}, None, "config.data.flip = 1.5: expected 0 to 1."),
        (
            {"flip": 0.5},
            ("view", "prosthesis_left"),
            "config.data.flip = 0.5: prosthesis_left without prosthesis_right",
        ),
        ({"balance": ("hip",)}, None, "config.data.balance = 'hip': no field of the"),
        ({"balance": ("age",)}, None, "config.data.balance = 'age': a number, which"),
        ({"balance": ("sex", "sex")}, None, "expected a tuple of different fields"),
        ({"balance": "sex"}, None, "config.data.balance = 'sex': expected a tuple"),
        ({"balance_power": -0.5}, None, "balance_power = -0.5: expected 0 to 1."),
    ],
)
def test_flips_and_balance_that_cannot_be(tiny_config, data, fields, message):
    config = ml_collections.ConfigDict(tiny_config.to_dict())
    with config.unlocked(), config.ignore_type():
        config.data.update(data)
    if fields:
        config.conditioning.fields = fields
    manifest = records.load_manifest(config.data.folder)
    with pytest.raises(ValueError, match=re.escape(message)):
        build.check_data(config, build.condition_schema(config), manifest)


def test_balance_takes_fields_that_are_not_conditioned_on(tiny_config):
    config = ml_collections.ConfigDict(tiny_config.to_dict())
    config.conditioning.fields = ("view",)
    config.data.balance = ("sex",)
    manifest = records.load_manifest(config.data.folder)
    build.check_data(config, build.condition_schema(config), manifest)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("diffusion.schedule.low", 14.5, "config.diffusion.schedule.low = 14.5"),
        ("diffusion.schedule.high", float("nan"), "config.diffusion.schedule"),
        ("diffusion.weight.bias", 1000.0, "config.diffusion.weight.bias = 1000.0"),
        ("model.dropout", 1.0, "config.model.dropout = 1.0: expected 0 to 0.95"),
        (
            "model.attention_kernel",
            "flash",
            "'flash': expected one of auto, xla on cpu",
        ),
        (
            "model.attention_kernel",
            "cudnn",
            "'cudnn': expected one of auto, xla on cpu",
        ),
        ("model.heads", 0, "config.model.heads = 0: expected whole numbers from 1"),
        ("model.channels", (16, 0), "config.model.channels"),
        ("ema.widths", (0.1, 0.1), "config.ema.widths"),
        ("sampler.grid", "discrete", "config.sampler.grid = 'discrete': expected conf"),
    ],
)
def test_numbers_that_would_train_something_else(key, value, message):
    config = tiny.get_config()
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    schema = build.condition_schema(config)
    with pytest.raises(ValueError, match=re.escape(message)):
        build.model(config, schema)
        build.loss_weight(config)
        build.ema_rates(config)
        build.sampling(config)


def test_a_table_has_no_slope_to_weight_by():
    """Its gradient is 0: sigmoid weighting would train nothing."""
    config = tiny.get_config()
    config.diffusion.schedule = {"name": "discrete_cosine", "steps": 1000}
    config.diffusion.weight = {"name": "sigmoid"}
    with pytest.raises(ValueError, match="sigmoid.*discrete_cosine"):
        build.loss_weight(config)
