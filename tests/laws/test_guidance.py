"""Laws of guidance and of the dropout of conditions that allows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import guidance

UNKNOWN = {"age": float("nan"), "side": 0, "view": 0}
COND = {
    "age": jnp.asarray([20.0, 50.0, float("nan")]),
    "side": jnp.asarray([1, 2, 0]),
    "view": jnp.asarray([3, 0, 1]),
}


def denoise(z, logsnr, cond):
    """Every condition and the noise level matter; NaN is not known, as in the nets."""
    age = jnp.nan_to_num(cond["age"] / 100, nan=-0.3)
    shift = 0.3 * cond["side"] - 0.2 * cond["view"] + age + 0.1 * logsnr
    return jnp.tanh(z + shift[:, None, None, None])


def inputs():
    z = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    return z, jnp.asarray([-2.0, 0.0, 3.0]), COND


def null_cond():
    return {name: jnp.full_like(v, UNKNOWN[name]) for name, v in COND.items()}


def test_weight_one_is_the_plain_model_to_the_bit():
    for weight in (1, 1.0, jnp.float32(1)):
        guided = guidance.classifier_free(denoise, UNKNOWN, weight)
        np.testing.assert_array_equal(guided(*inputs()), denoise(*inputs()))


def test_weight_zero_is_unconditional():
    z, logsnr, _ = inputs()
    guided = guidance.classifier_free(denoise, UNKNOWN, 0.0)(*inputs())
    expected = denoise(z, logsnr, null_cond())
    np.testing.assert_allclose(guided, expected, 0, 4 * 2.0**-24)


def test_weight_extrapolates_on_a_line():
    def at(weight):
        return guidance.classifier_free(denoise, UNKNOWN, weight)(*inputs())

    # Numbers of order 2 under float32.
    np.testing.assert_allclose(at(3.0) - at(1.0), 2 * (at(1.0) - at(0.0)), 0, 1e-6)


def test_weight_may_be_traced():
    run = jax.jit(lambda w: guidance.classifier_free(denoise, UNKNOWN, w)(*inputs()))
    plain = guidance.classifier_free(denoise, UNKNOWN, 1.5)(*inputs())
    np.testing.assert_allclose(run(1.5), plain, 0, 1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_batch_size(batch):
    """PEERS.md: one package raises for batch 1 and 3 and misreads batch 2."""
    z, logsnr, cond = jax.tree.map(lambda a: a[:batch], inputs())
    whole = guidance.classifier_free(denoise, UNKNOWN, 2.0)(*inputs())
    part = guidance.classifier_free(denoise, UNKNOWN, 2.0)(z, logsnr, cond)
    np.testing.assert_allclose(part, whole[:batch], 0, 1e-6)


def test_clipped_cuts_and_nothing_else():
    z, logsnr, cond = inputs()
    double = guidance.clipped(lambda z, logsnr, cond: 2 * z, 1.0)(z, logsnr, cond)
    np.testing.assert_array_equal(double, np.clip(2 * z, -1, 1))


# ---- Dropout ----

COUNT = 20_000
FULL = {
    "age": jnp.full(COUNT, 40.0),
    "side": jnp.full(COUNT, 2),
    "view": jnp.full(COUNT, 1),
}


def hidden(cond, original):
    """bool [count] by field; every other value must be the original's, bit for bit."""
    masks = {}
    for name, value in cond.items():
        value, before = np.asarray(value), np.asarray(original[name])
        assert value.dtype == before.dtype
        unknown = np.isnan(value) if name == "age" else value == UNKNOWN[name]
        np.testing.assert_array_equal(value[~unknown], before[~unknown])
        masks[name] = unknown
    return masks


def assert_rate(mask, probability):
    """Within five standard deviations of a binomial share: 1 in 2 million by chance."""
    spread = (probability * (1 - probability) / len(mask)) ** 0.5
    assert abs(mask.mean() - probability) <= 5 * spread


@pytest.mark.parametrize("joint, each", [(0.10, 0.05), (0.0, 0.2), (0.3, 0.0)])
def test_drop_rates(joint, each):
    dropped = guidance.drop(jax.random.key(1), FULL, UNKNOWN, joint=joint, each=each)
    masks = hidden(dropped, FULL)
    for mask in masks.values():
        assert_rate(mask, joint + (1 - joint) * each)
    every = np.logical_and.reduce(list(masks.values()))
    assert_rate(every, joint + (1 - joint) * each**3)
    none = ~np.logical_or.reduce(list(masks.values()))
    assert_rate(none, (1 - joint) * (1 - each) ** 3)
    # Fields go on their own: age hidden and side kept.
    assert_rate(masks["age"] & ~masks["side"], (1 - joint) * each * (1 - each))


@pytest.mark.parametrize(
    "rates, share", [((0.0, 0.0), 0), ((1.0, 0.0), 1), ((0, 1), 1)]
)
def test_drop_at_its_ends(rates, share):
    joint, each = rates
    dropped = guidance.drop(
        jax.random.key(2), FULL, UNKNOWN, joint=float(joint), each=float(each)
    )
    for mask in hidden(dropped, FULL).values():
        assert mask.mean() == share


def test_drop_never_invents_a_value():
    """What was not known stays so; what is kept is kept to the bit."""
    many = {name: jnp.tile(value, 500) for name, value in COND.items()}
    masks = hidden(guidance.drop(jax.random.key(3), many, UNKNOWN), many)
    for name, mask in masks.items():
        before = np.asarray(many[name])
        assert mask[np.isnan(before) if name == "age" else before == 0].all()


def test_drop_does_not_depend_on_the_order_of_fields():
    backwards = dict(reversed(FULL.items()))
    one = guidance.drop(jax.random.key(4), FULL, UNKNOWN)
    other = guidance.drop(jax.random.key(4), backwards, UNKNOWN)
    for name in FULL:
        np.testing.assert_array_equal(one[name], other[name])


def test_drop_without_fields():
    assert guidance.drop(jax.random.key(5), {}, {}) == {}


# ---- Where guidance acts ----

GRID = np.array([-10.0, -4.0, -2.0, 0.0, 2.0, 6.0])


@pytest.mark.parametrize(
    "interval, expected",
    [
        ((-3.0, 2.0), slice(2, 5)),
        ((-4.0, -4.0), slice(1, 2)),
        ((-np.inf, np.inf), slice(0, 6)),
        ((2.5, 3.0), slice(0, 0)),
        ((20.0, 30.0), slice(0, 0)),
        ((-100.0, -10.0), slice(0, 1)),
        ((6.0, 9.0), slice(5, 6)),
    ],
)
def test_steps_within(interval, expected):
    assert guidance.steps_within(GRID, interval) == expected
