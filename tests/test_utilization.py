"""Which devices have a known peak, and what MFU counts."""

import jax
import pytest

from configs import tiny
from ddpm_jax.planner import flops, program, utilization
from ddpm_jax.planner.devices import DEVICES, KINDS
from ddpm_jax.training import monitoring


@pytest.fixture(scope="module")
def config():
    config = tiny.get_config()
    config.data.batch = 4
    return config


@pytest.fixture(scope="module")
def work(config):
    return utilization.flops_per_image(config)


def test_peaks_add_up_and_one_that_is_not_known_leaves_none():
    kind = "NVIDIA A100-SXM4-80GB"
    assert utilization.peak([kind] * 8) == 8 * DEVICES["a100-80g"].peak
    for unknown in ("cpu", f"{kind} MIG 1g.10gb", "NVIDIA H100 PCIe", "TPU v3"):
        assert utilization.peak([unknown]) is None
        assert utilization.peak([kind, unknown]) is None


def test_every_accelerator_of_the_planner_has_a_kind():
    assert set(KINDS.values()) == DEVICES.keys() - {"cpu"}


def test_work_is_three_times_the_forward_pass(config, work):
    """Backward by both factors: the first layers have no input gradient."""
    whole = program.of_config(config)
    forward = flops.count(program.trace_forward(whole, config.image_size).jaxpr)
    assert 2.5 < work / forward <= 3.01


def test_neither_batch_nor_parts_nor_recomputation_is_work(config, work):
    other = config.copy_and_resolve_references()
    other.model.remat = True
    other.data.batch, other.train.accumulate = 8, 2
    traced = program.trace_step(program.of_config(other))
    assert flops.count(traced.jaxpr) / 8 > 1.1 * work
    assert utilization.flops_per_image(other) == pytest.approx(work, rel=0.01)
    assert other.model.remat


def test_a_device_at_its_peak_has_mfu_one(config, work):
    seconds = iter([0.0, 0.0, 2.0, 2.0])
    kinds = ["TPU v4"] * 2
    rate = 2 * DEVICES["v4"].peak / work
    mfu_per_rate = utilization.mfu_per_rate(config, kinds)
    clock = monitoring.Clock(round(2 * rate), mfu_per_rate, lambda: next(seconds))
    assert clock.rate(1) == {}
    found = clock.rate(2)
    assert found["images_per_second"] == pytest.approx(rate)
    assert found["mfu"] == pytest.approx(1.0)


def test_on_a_cpu_there_is_none(config):
    kinds = [device.device_kind for device in jax.devices("cpu")]
    assert utilization.mfu_per_rate(config, kinds) is None
