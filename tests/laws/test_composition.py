"""Laws of guidance by field, of guidance by a weaker model, and of trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import guidance, samplers, schedule
from tests.laws.test_guidance import COND, UNKNOWN, denoise, inputs, null_cond


def additive(z, logsnr, cond):
    """A score to which fields contribute independently: x_hat is a sum over them."""
    age = jnp.nan_to_num(cond["age"] / 100, nan=0.0)
    shift = age + 0.3 * cond["side"] - 0.2 * cond["view"]
    return 0.5 * z + shift[:, None, None, None]


def test_independent_fields_composed_are_joint_guidance():
    weights = dict.fromkeys(UNKNOWN, 1.7)
    composed = guidance.compositional(additive, UNKNOWN, weights)
    joint = guidance.classifier_free(additive, UNKNOWN, 1.7)
    np.testing.assert_allclose(composed(*inputs()), joint(*inputs()), atol=1e-5)


def test_fields_that_interact_composed_are_not_joint_guidance():
    composed = guidance.compositional(denoise, UNKNOWN, dict.fromkeys(UNKNOWN, 1.0))
    assert np.abs(composed(*inputs()) - denoise(*inputs())).max() > 0.01


@pytest.mark.parametrize("field", sorted(UNKNOWN))
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_one_field_alone_is_guidance_given_that_field(field, weight):
    z, logsnr, cond = inputs()
    alone = null_cond() | {field: cond[field]}
    composed = guidance.compositional(denoise, UNKNOWN, {field: weight})
    joint = guidance.classifier_free(denoise, UNKNOWN, weight)
    np.testing.assert_allclose(
        composed(z, logsnr, cond), joint(z, logsnr, alone), atol=1e-6
    )


def test_no_weights_and_unknown_fields_are_the_unconditional_model():
    z, logsnr, _ = inputs()
    plain = denoise(z, logsnr, null_cond())
    for weights, cond in (({}, COND), (dict.fromkeys(UNKNOWN, 3.0), null_cond())):
        composed = guidance.compositional(denoise, UNKNOWN, weights)
        np.testing.assert_allclose(composed(z, logsnr, cond), plain, atol=1e-6)


def test_weight_on_no_field_is_refused():
    with pytest.raises(ValueError, match="'hip'.*expected some of age, side, view"):
        guidance.compositional(denoise, UNKNOWN, {"hip": 1.0})


def test_autoguidance_of_weight_one_is_the_model_and_moves_on_a_line():
    weaker = guidance.clipped(denoise, 0.3)
    at = {
        w: np.asarray(guidance.autoguided(denoise, weaker, w)(*inputs()))
        for w in (0.0, 1.0, 3.0)
    }
    np.testing.assert_array_equal(at[1.0], denoise(*inputs()))
    np.testing.assert_allclose(at[0.0], weaker(*inputs()), atol=1e-6)
    np.testing.assert_allclose(at[3.0], at[1.0] + 2 * (at[1.0] - at[0.0]), atol=1e-5)


def test_a_model_does_not_guide_itself_anywhere():
    guided = guidance.autoguided(denoise, denoise, 4.0)
    np.testing.assert_array_equal(guided(*inputs()), denoise(*inputs()))


@pytest.mark.parametrize("order, eta", [(1, 0.0), (2, 0.0), (1, 1.0), (2, 0.5)])
def test_trajectory_is_the_sample_and_all_that_led_to_it(order, eta):
    grid = schedule.uniform_logsnr_grid(6, -8.0, 6.0)
    table = samplers.table(grid, order=order, eta=eta)
    halves = [
        samplers.Segment(denoise, samplers.rows(table, part))
        for part in (slice(0, 2), slice(2, None))
    ]
    keys, shape = samplers.keys_from_seeds(np.arange(3)), (4, 4, 1)
    expected = samplers.sample(halves, keys, COND, shape)
    found, seen = samplers.trajectory(halves, keys, COND, shape)
    np.testing.assert_array_equal(found, expected)
    assert seen.z.shape == seen.x_hat.shape == (6, 3, 4, 4, 1)
    np.testing.assert_array_equal(seen.z[0], samplers.normal(keys, shape))
    np.testing.assert_array_equal(seen.x_hat[-1], found)
    for z, x_hat, logsnr in zip(seen.z, seen.x_hat, table.logsnr, strict=True):
        again = denoise(z, jnp.full(3, logsnr), COND)
        np.testing.assert_allclose(x_hat, again, atol=1e-5)


def test_trajectory_can_be_jitted():
    table = samplers.table(schedule.uniform_logsnr_grid(3, -6.0, 6.0))

    @jax.jit
    def run(seeds):
        keys = samplers.keys_from_seeds(seeds)
        segments = [samplers.Segment(denoise, table)]
        return samplers.trajectory(segments, keys, COND, (4, 4, 1))

    _, seen = run(np.arange(3))
    assert np.isfinite(seen.x_hat).all()
