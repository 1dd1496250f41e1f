"""Laws of the networks: what holds for any parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.models import embed, layers
from ddpm_jax.models.functional import network
from ddpm_jax.models.ruvit import RUViT
from ddpm_jax.models.unet import UNet

SCHEMA = PELVIS.select(("view", "age"))
TINY = {
    RUViT: dict(
        patch=2, channels=(8, 16), down=(1,), up=(1,), middle=1, heads=2, emb=16
    ),
    UNet: dict(size=16, channels=(8, 16), blocks=1, attention=8, heads=2, emb=16),
}
both = pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)


@functools.cache
def tiny(kind, **options):
    return network(lambda rngs: kind(SCHEMA, **TINY[kind], **options, rngs=rngs))


@functools.cache
def apply(kind, **options):
    return jax.jit(tiny(kind, **options).apply)


@functools.cache
def trained(kind):
    """Parameters moved away from the start, so that no block is the identity."""
    params = tiny(kind).init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(params))
    return {
        name: value + 0.1 * jax.random.normal(key, value.shape)
        for key, (name, value) in zip(keys, params.items(), strict=True)
    }


def inputs(size=16, batch=2, seed=2):
    z = jax.random.normal(jax.random.key(seed), (batch, size, size, 1))
    cond = {"view": jnp.arange(batch) % 4, "age": jnp.linspace(30.0, 80.0, batch)}
    return z, jnp.linspace(-3.0, 3.0, batch), cond


@both
def test_zero_at_the_start(kind):
    params = tiny(kind).init(jax.random.key(0))
    assert not np.any(apply(kind)(params, *inputs()))


@both
def test_start_depends_on_the_key_alone(kind):
    init = tiny(kind).init
    one, same, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert {value.dtype for value in one.values()} == {jnp.dtype("float32")}
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


@both
def test_one_set_of_parameters_serves_two_sizes(kind):
    small, large = (apply(kind)(trained(kind), *inputs(size)) for size in (16, 32))
    assert small.shape == (2, 16, 16, 1) and large.shape == (2, 32, 32, 1)
    assert np.isfinite(small).all() and np.isfinite(large).all()
    assert small.dtype == large.dtype == jnp.float32


@both
def test_every_input_matters(kind):
    z, logsnr, cond = inputs()
    before = apply(kind)(trained(kind), z, logsnr, cond)
    for changed in (
        (z + 0.1, logsnr, cond),
        (z, logsnr + 1, cond),
        (z, logsnr, cond | {"view": cond["view"] + 1}),
        (z, logsnr, cond | {"age": cond["age"] + 20}),
        (z, logsnr, cond | {"age": cond["age"] * jnp.nan}),
    ):
        moved = np.abs(apply(kind)(trained(kind), *changed) - before)
        assert (moved.max((1, 2, 3)) > 1e-4).all()


@both
def test_images_of_a_batch_do_not_mix(kind):
    z, logsnr, cond = inputs()
    before = apply(kind)(trained(kind), z, logsnr, cond)
    after = apply(kind)(
        trained(kind),
        z.at[0].add(1.0),
        logsnr.at[0].add(1.0),
        {"view": cond["view"].at[0].set(3), "age": cond["age"].at[0].set(jnp.nan)},
    )
    np.testing.assert_array_equal(before[1], after[1])
    assert np.abs(before[0] - after[0]).max() > 0.01


@functools.cache
def gradients(kind, remat=False):
    """Of a loss on known, not known and NaN conditions."""
    net = tiny(kind, remat=remat)

    @jax.jit
    def loss(params, z, logsnr, cond):
        return jnp.mean((net.apply(params, z, logsnr, cond) - 1) ** 2)

    z, logsnr, cond = inputs()
    cond["age"] = cond["age"].at[0].set(jnp.nan)
    return jax.jit(jax.grad(loss))(trained(kind), z, logsnr, cond)


@both
def test_gradients_are_finite_and_reach_every_parameter(kind):
    """Not-known values as well: NaN must not leak through the branch not taken."""
    for name, value in gradients(kind).items():
        assert np.isfinite(value).all(), name
        assert np.any(value), name


@both
def test_only_the_head_moves_first(kind):
    """At the start the output is 0 because of the head, which has a gradient."""
    net = tiny(kind)
    params = net.init(jax.random.key(0))

    @jax.jit
    def loss(head):
        return jnp.mean((net.apply(params | head, *inputs()) - inputs()[0]) ** 2)

    head = {name: params[name] for name in params if name.startswith("head/")}
    assert all(np.any(value) for value in jax.grad(loss)(head).values())


@both
def test_remat_changes_no_value(kind):
    """The same sums in another order of compilation: float32 rounding only."""
    plain, again = gradients(kind), gradients(kind, remat=True)
    for name in plain:
        scale = np.abs(plain[name]).max()
        np.testing.assert_allclose(again[name], plain[name], 0, 1e-4 * scale, name)


@both
def test_bfloat16_blocks_stay_near_float32(kind):
    """bf16 rounds to 2^-9 = 0.2 %; a dozen blocks of it stay under 2 %."""
    exact = apply(kind)(trained(kind), *inputs())
    rough = apply(kind, dtype=jnp.bfloat16)(trained(kind), *inputs())
    assert rough.dtype == jnp.float32
    error = jnp.linalg.norm(rough - exact) / jnp.linalg.norm(exact)
    assert 0 < float(error) < 2e-2


@both
def test_dropout_acts_only_with_a_key(kind):
    net = tiny(kind, dropout=0.5)
    run = jax.jit(net.apply)
    still = run(trained(kind), *inputs())
    np.testing.assert_allclose(still, apply(kind)(trained(kind), *inputs()), 0, 1e-5)
    one, same, other = (
        run(trained(kind), *inputs(), jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - still).max() > 1e-3


# ---- Mistakes ----


def abstract(kind, **options):
    return network(lambda rngs: kind(SCHEMA, **TINY[kind] | options, rngs=rngs))


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (RUViT, {"heads": 3}, "model.heads = 3 for 16 channels: expected a divisor"),
        (RUViT, {"heads": 8}, "leaves a multiple of 4 channels a head"),
        (UNet, {"heads": 5}, "model.heads = 5 for 16 channels"),
        (
            RUViT,
            {"down": (1, 1)},
            "model.down has 2 and model.up 1 entries: expected 1",
        ),
        (RUViT, {"up": ()}, "model.down has 1 and model.up 0 entries"),
    ],
)
def test_options_that_do_not_fit(kind, options, message):
    with pytest.raises(ValueError, match=message):
        abstract(kind, **options)


@pytest.mark.parametrize(
    "kind, size, message",
    [
        (RUViT, 18, "image size 18 x 18: expected multiples of 4 for model.patch = 2"),
        (UNet, 15, "image size 15 x 15: expected multiples of 2 for 2 entries"),
    ],
)
def test_sizes_that_do_not_divide(kind, size, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(kind).apply, trained(kind), *inputs(size))


# ---- Layers ----


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_space_to_depth_and_back(patch):
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    deep = layers.space_to_depth(x, patch)
    assert deep.shape == (2, 8 // patch, 12 // patch, 3 * patch**2)
    np.testing.assert_array_equal(layers.depth_to_space(deep, patch), x)
    # A patch holds its own pixels.
    corner = np.asarray(x[0, :patch, :patch]).ravel()
    np.testing.assert_array_equal(deep[0, 0, 0], corner)


@pytest.mark.parametrize(
    "n, channels, dtype, kernel",
    [
        (64, 64, jnp.bfloat16, "cudnn"),
        (64, 64, jnp.float32, "xla"),
        (63, 64, jnp.bfloat16, "xla"),
        (64, 60, jnp.bfloat16, "xla"),
        (64, 136, jnp.bfloat16, "xla"),
    ],
)
def test_what_cudnn_does_not_take_goes_by_xla(monkeypatch, n, channels, dtype, kernel):
    seen = []
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda *_, implementation: seen.append(implementation),
    )
    q = jnp.zeros((1, n, 1, channels), dtype)
    layers.attention(q, q, q, "cudnn")
    assert seen == [kernel]


def test_upsample_then_pool_is_the_identity():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    np.testing.assert_allclose(layers.mean_pool2(layers.upsample2(x)), x, 0, 1e-6)


def test_rms_norm_has_unit_mean_square():
    x = 100 * jax.random.normal(jax.random.key(0), (2, 3, 3, 16))
    np.testing.assert_allclose(jnp.mean(layers.rms_norm(x) ** 2, -1), 1, 1e-5)
    doubled = layers.rms_norm(2 * x)
    np.testing.assert_allclose(doubled, layers.rms_norm(x), 1e-5)


def test_rotary_preserves_norms():
    x = jax.random.normal(jax.random.key(0), (2, 24, 3, 16))
    turned = layers.rotary(x, layers.rotary_angles(4, 6, 16))
    norms = [jnp.linalg.norm(a, axis=-1) for a in (x, turned)]
    np.testing.assert_allclose(*norms, 1e-5)


def test_rotary_products_depend_on_relative_positions():
    """q · k of two positions is the same wherever the pair lies, and not elsewhere."""
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))
    angles = layers.rotary_angles(8, 8, 16)
    q, k = (layers.rotary(jnp.tile(x, (1, 64, 1, 1)), angles)[0, :, 0] for x in (q, k))
    products = np.asarray(q @ k.T).reshape(8, 8, 8, 8)  # row, column of q, then of k
    pairs = products[1, 2, 3, 5], products[4, 1, 6, 4], products[5, 4, 7, 7]
    np.testing.assert_allclose(pairs, pairs[0], 0, 1e-4)
    assert abs(products[1, 2, 5, 3] - pairs[0]) > 0.01


def test_rotary_positions_are_of_the_image_not_of_the_grid():
    """Corners of 2 x 2 and 4 x 4 grids lie at the same places but half a cell."""
    coarse, fine = layers.rotary_angles(1, 1, 8), layers.rotary_angles(3, 3, 8)
    np.testing.assert_allclose(coarse[0], fine[4], 0, 1e-6)
    # From first to last centre: 2 - 2 / n in units where the image is 2 wide.
    spans = [
        angles[-1] - angles[0]
        for angles in (layers.rotary_angles(2, 2, 8), layers.rotary_angles(8, 8, 8))
    ]
    np.testing.assert_allclose(spans[0] / 1.0, spans[1] / 1.75, 1e-5)


def test_no_two_values_of_a_continuous_field_look_the_same():
    """Fourier features of the standardised value, 4 deviations either way: the longest
    wave must be longer than all of them."""
    standard = jnp.linspace(-4, 4, 161)
    features = np.asarray(embed.fourier(standard, -4, 1))
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    apart = np.abs(np.subtract.outer(standard, standard)) > 0.2
    assert distance[apart].min() > 0.1
