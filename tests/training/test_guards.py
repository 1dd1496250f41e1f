"""Laws of a guarded step and of skipped spikes, on a loss whose gradient is chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from ddpm_jax import build, ema
from ddpm_jax.training import guards
from ddpm_jax.training import state as states
from ddpm_jax.training import step as steps
from ddpm_jax.training.checkpoint import Checkpoints

DECAYS = {"0.1": ema.power_rate(0.1)}
KEY = jax.random.key(0)


def loss(params, key, batch):
    """Gradient slope + 1, or NaN for root 0; `offset` is in the loss alone."""
    w = params["w"]
    values = batch["slope"] * w + batch["offset"] + jnp.sqrt(batch["root"] * w**2)
    return values, {"logsnr": jnp.zeros(2), "v_mse": values}


def batch(slope=1.0, offset=0.0, root=1.0):
    named = {"slope": slope, "offset": offset, "root": root}
    return {name: jnp.full(2, value) for name, value in named.items()}


BAD = {
    "loss": batch(offset=jnp.inf),
    "grad_norm": batch(root=0.0),
    "both": batch(slope=jnp.nan),
}


@functools.cache
def jitted(guard=True, factor=0.0):
    optimizer = optax.adam(0.1)
    if factor:
        optimizer = guards.skip_spikes(optimizer, factor)
    step = steps.make_step(loss, optimizer, DECAYS)
    state = states.create({"w": jnp.float32(100)}, optimizer, DECAYS)
    return jax.jit(guards.guarded(step) if guard else step), state


def run(batches, state=None, factor=0.0):
    """(state, fault) after the batches."""
    step, start = jitted(factor=factor)
    state, fault = start if state is None else state, guards.no_fault()
    for given in batches:
        state, fault, _ = step(state, fault, given, KEY)
    return state, fault


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def grad_steps(slopes):
    """Batches whose gradients are `slopes`, while w > 0."""
    return [batch(slope=slope - 1.0) for slope in slopes]


# ---- Not finite ----


@pytest.mark.parametrize("name", BAD)
def test_from_the_first_fault_on_the_state_is_that_before_it(name):
    good = [batch()] * 3
    expected, none = run(good)
    state, fault = run([*good, BAD[name], batch(), BAD["both"], batch()])
    assert_equal(state, expected)
    assert int(none.step) == 0 and int(fault.step) == 4 and int(state.step) == 3
    assert np.isfinite(fault.loss) == (name == "grad_norm")
    assert np.isfinite(fault.grad_norm) == (name == "loss")


def test_without_a_fault_the_guard_changes_nothing():
    step, state = jitted(guard=False)
    for given in [batch(), batch(slope=2.0)]:
        state, _ = step(state, given, KEY)
    assert_equal(state, run([batch(), batch(slope=2.0)])[0])


# ---- Spikes ----


def test_constant_gradients_are_never_skipped():
    """At any factor, from the first step on: the same run as without."""
    constant = grad_steps([1.0] * 2 * guards.WINDOW)
    state, _ = run(constant, factor=1.01)
    assert int(state.optimizer.skipped) == 0
    plain, _ = run(constant)
    np.testing.assert_allclose(state.params["w"], plain.params["w"], 1e-5)


def test_a_spike_changes_neither_parameters_nor_moments():
    """The average has seen the same parameters once more; the step still counts."""
    before, _ = run(grad_steps([1.0] * 40), factor=10.0)
    after, fault = run(grad_steps([100.0]), before, factor=10.0)
    assert_equal(after.params, before.params)
    assert_equal(after.optimizer.inner, before.optimizer.inner)
    assert_equal(after.ema, ema.update(before.ema, before.params, 41, DECAYS))
    assert (int(after.step), int(after.optimizer.skipped)) == (41, 1)
    assert int(fault.step) == 0
    assert guards.skipped(after.optimizer) == {"skipped_steps": 1.0}
    below, _ = run(grad_steps([9.9]), before, factor=10.0)
    assert int(below.optimizer.skipped) == 0 and below.params != before.params


@pytest.mark.parametrize("known, skipped", [(0, 0), (32, 0), (33, 1), (64, 1)])
def test_nothing_is_skipped_before_half_a_window_is_known(known, skipped):
    state, _ = run(grad_steps([1.0] * known + [100.0]), factor=10.0)
    assert int(state.optimizer.skipped) == skipped


def test_a_lasting_rise_is_followed_after_half_a_window():
    slopes = [1.0] * guards.WINDOW + [100.0] * guards.WINDOW
    state, _ = run(grad_steps(slopes), factor=10.0)
    assert int(state.optimizer.skipped) == guards.WINDOW // 2


def test_a_gradient_that_is_not_finite_stops_and_is_not_skipped():
    before, _ = run(grad_steps([1.0] * 40), factor=10.0)
    for name in BAD:
        after, fault = run([BAD[name]], before, factor=10.0)
        assert_equal(after, before)
        assert int(fault.step) == 41


def test_a_resumed_run_skips_the_same_steps(tmp_path):
    rng = np.random.default_rng(0)
    slopes = np.exp(rng.normal(size=50)).round(3)
    whole, _ = run(grad_steps(slopes), factor=2.0)
    half, _ = run(grad_steps(slopes[:42]), factor=2.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(42, half, {})
        restored, _ = checkpoints.restore(42, jitted(factor=2.0)[1])
    assert_equal(restored, half)
    resumed, _ = run(grad_steps(slopes[42:]), restored, factor=2.0)
    assert_equal(resumed, whole)
    assert 0 < int(half.optimizer.skipped) < int(whole.optimizer.skipped)


def test_skip_above_is_built_from_a_config():
    config = tiny.get_config()
    params = {"w": jnp.ones((2, 2))}
    assert guards.skipped(build.optimizer(config).init(params)) == {}
    config.optimizer.skip_above = 10.0
    skipped = guards.skipped(build.optimizer(config).init(params))
    assert skipped == {"skipped_steps": 0.0}
    for wrong in (1.0, -1.0, float("nan")):
        config.optimizer.skip_above = wrong
        with pytest.raises(ValueError, match="config.optimizer.skip_above = .*: expec"):
            build.optimizer(config)
