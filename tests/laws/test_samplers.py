"""Laws of the samplers: closed forms, orders of convergence, addressed randomness."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import guidance, samplers, schedule

GRIDS = {
    "uniform": schedule.uniform_logsnr_grid(16, -13, 11),
    "uneven": np.append(np.sort(np.random.default_rng(0).uniform(-15, 12, 20)), np.inf),
    "published": schedule.discrete_grid(1000, schedule.cosine_table()),
}
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
SHAPE = (4, 4, 1)
MEAN, STD = 0.8, 0.2


def scales(grid):
    """alpha and sigma before and after each step but the last, and their squares."""
    alpha_bar = 1 / (1 + np.exp(-grid[:-1]))
    noise = 1 / (1 + np.exp(grid[:-1]))
    return alpha_bar[:-1], noise[:-1], alpha_bar[1:], noise[1:]


def assert_rows(found, *, z, x, x_before=0.0, noise=0.0, atol):
    expected = {"z": z, "x": x, "x_before": x_before, "noise": noise}
    for name, column in expected.items():
        np.testing.assert_allclose(
            getattr(found, name)[:-1], column, 0, atol, err_msg=name
        )


# ---- Closed forms, float64 ----


@every_grid
def test_last_step_returns_x(grid):
    for options in ({"order": 1}, {"order": 2}, {"order": 1, "eta": 1.0}):
        last = [c[-1] for c in samplers.coefficients(grid, **options)[1:]]
        assert last == [0, 1, 0, 0]


@every_grid
def test_order_one_is_ddim(grid):
    """Song et al. (2021), eq. 12 with sigma = 0: predicted x, then predicted eps."""
    now, noise, after, noise_after = scales(grid)
    assert_rows(
        samplers.coefficients(grid, order=1),
        z=np.sqrt(noise_after / noise),
        x=np.sqrt(after) - np.sqrt(now * noise_after / noise),
        atol=1e-12,
    )


@every_grid
@pytest.mark.parametrize("large", [False, True])
def test_eta_one_is_ancestral_sampling(grid, large):
    """Ho et al. (2020), eqs. 6 and 7; large: variance beta_t, their section 3.2."""
    now, noise, after, noise_after = scales(grid)
    kept = now / after  # Ho's alpha_t
    beta = -np.expm1(_log_ratio(grid))
    assert_rows(
        samplers.coefficients(grid, order=1, eta=1.0, large_variance=large),
        z=np.sqrt(kept) * noise_after / noise,
        x=np.sqrt(after) * beta / noise,
        noise=np.sqrt(beta if large else noise_after / noise * beta),
        atol=1e-12,
    )


def _log_ratio(grid):
    """log(1 - beta_t), from which beta_t comes without cancellation."""
    log = -np.logaddexp(0, -grid[:-1])
    return log[:-1] - log[1:]


@every_grid
def test_order_two_is_the_multistep_solver(grid):
    """Lu et al. (2022), DPM-Solver++(2M), algorithm 2, in their symbols."""
    now, noise, after, noise_after = scales(grid)
    h = np.diff(grid[:-1]) / 2
    r = h[:-1] / h[1:]
    outer = -np.sqrt(after) * (np.exp(-h) - 1)
    found = samplers.coefficients(grid, order=2)
    assert_rows(
        found,
        z=np.sqrt(noise_after / noise),
        x=outer * np.append(1, 1 + 1 / (2 * r)),
        x_before=-outer * np.append(0, 1 / (2 * r)),
        atol=1e-11,  # 1 / (2 r) is up to 1e3 on the uneven grid
    )


@pytest.mark.parametrize("large", [False, True])
def test_ancestral_table_is_the_published_process_at_every_step(large):
    """Ho et al. (2020), eqs. 6 and 7, from the betas alone: no logsnr on this side.

    Betas as Nichol & Dhariwal (2021), eq. 17, and 1 - alpha_bar as a sum of positive
    terms, so that it does not cancel. Row j leaves step 1000 - j; the last returns x.
    """
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    signal, noise = np.ones(1001), np.zeros(1001)
    for i, value in enumerate(beta):
        signal[i + 1] = signal[i] * (1 - value)
        noise[i + 1] = noise[i] * (1 - value) + value
    posterior = noise[:-1] / noise[1:] * beta
    found = samplers.coefficients(
        GRIDS["published"], order=1, eta=1.0, large_variance=large
    )
    expected = {
        "z": np.sqrt(1 - beta) * noise[:-1] / noise[1:],
        "x": np.sqrt(signal[:-1]) * beta / noise[1:],
        "noise": np.sqrt(beta if large else posterior),
    }
    expected["noise"][0] = 0
    for name, column in expected.items():
        np.testing.assert_allclose(getattr(found, name)[::-1], column, 0, 1e-12)


@every_grid
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_every_step_carries_the_process_to_its_next_marginal(grid, order, eta):
    """If x_hat is x, z' has mean alpha' x and variance sigma'^2, whatever eta."""
    now, noise, after, noise_after = scales(grid)
    rows = samplers.coefficients(grid, order=order, eta=eta)
    mean = (rows.z[:-1] * np.sqrt(now)) + rows.x[:-1] + rows.x_before[:-1]
    variance = rows.z[:-1] ** 2 * noise + rows.noise[:-1] ** 2
    np.testing.assert_allclose(mean, np.sqrt(after), 0, 1e-11)
    np.testing.assert_allclose(variance, noise_after, 1e-11)


def test_table_is_the_coefficients_in_float32():
    exact = samplers.coefficients(GRIDS["published"], order=1, eta=1.0)
    rounded = samplers.table(GRIDS["published"], order=1, eta=1.0)
    for column, float32 in zip(exact, rounded, strict=True):
        assert float32.dtype == np.float32
        np.testing.assert_allclose(float32, column, 2.0**-24, 1e-30)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"order": 3}, "sampler order 3, eta 0.0: expected 1 or 2, 0 to 1"),
        ({"eta": 1.5}, "eta 1.5"),
        ({"eta": -0.1}, "eta -0.1"),
        ({"large_variance": True}, "large variance: expected order 1 and eta 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        samplers.table(GRIDS["uniform"], **options)


# ---- Gaussian data: the ideal denoiser and the exact solution are known ----


def gaussian_x_hat(z, logsnr, xp=np):
    """E[x | z] for pixels that are normal with MEAN and STD."""
    alpha_bar, noise = 1 / (1 + xp.exp(-logsnr)), 1 / (1 + xp.exp(logsnr))
    seen = z - xp.sqrt(alpha_bar) * MEAN
    gain = xp.sqrt(alpha_bar) * STD**2 / (alpha_bar * STD**2 + noise)
    return MEAN + gain * seen


def gaussian_denoiser(z, logsnr, cond):
    return gaussian_x_hat(z, logsnr[:, None, None, None], jnp)


def spread(logsnr):
    """Standard deviation of z: along the exact path (z - alpha MEAN) / it is fixed."""
    return np.sqrt((STD**2 * np.exp(logsnr) + 1) / (1 + np.exp(logsnr)))


def error_before_the_last_step(steps, order, low=-4.0, high=8.0):
    """|z - exact z| at `high`, from one point at `low`, in float64."""
    grid = schedule.uniform_logsnr_grid(steps, low, high)
    rows = samplers.coefficients(grid, order=order)
    alpha = 1 / np.sqrt(1 + np.exp(-grid[:-1]))
    z, before = alpha[0] * MEAN + 1.3 * spread(low), 0.0
    for logsnr, a, b, c, _ in list(zip(*rows, strict=True))[:-1]:
        x_hat = gaussian_x_hat(z, logsnr)
        z, before = a * z + b * x_hat + c * before, x_hat
    return abs(z - (alpha[-1] * MEAN + 1.3 * spread(high)))


@pytest.mark.parametrize("order, slack", [(1, 0.15), (2, 0.25)])
def test_order_of_convergence(order, slack):
    moves = [32, 64, 128, 256]
    errors = [error_before_the_last_step(n + 1, order) for n in moves]
    slope = -np.polyfit(np.log(moves), np.log(errors), 1)[0]
    assert abs(slope - order) < slack


def affine_map(rows, count=8):
    """(mean, std) of what `sample` makes of Gaussian noise under the ideal denoiser.

    Without noise in between the result is affine in the first z, so two numbers tell
    its distribution exactly, with no error of sampling.
    """
    keys = samplers.keys_from_seeds(range(count))
    segment = samplers.Segment(gaussian_denoiser, rows)
    made = samplers.sample([segment], keys, {}, SHAPE)
    z = samplers.normal(keys, SHAPE)
    slope, mean = np.polyfit(np.ravel(z).astype(float), np.ravel(made), 1)
    return mean, abs(slope)


@pytest.mark.parametrize("steps", [7, 10, 33, 50, 100])
def test_brightness_has_no_bias_at_few_steps(steps):
    """The true mean is 0.8: peers are off by up to 0.018 at 10 steps (PEERS.md)."""
    for grid in (
        schedule.discrete_grid(steps, schedule.cosine_table()),
        schedule.uniform_logsnr_grid(steps, -13, 11),
    ):
        for order in (1, 2):
            mean, std = affine_map(samplers.table(grid, order=order))
            assert abs(mean - MEAN) < 1e-3
            assert std < STD + 0.02


@pytest.mark.parametrize("steps, std", [(10, 0.141), (50, 0.186), (100, 0.193)])
def test_contrast_of_ddim_on_the_published_grid(steps, std):
    """DDIM loses contrast at few steps: trailing, zero SNR, in design note PEERS.md."""
    grid = schedule.discrete_grid(steps, schedule.cosine_table())
    assert abs(affine_map(samplers.table(grid, order=1))[1] - std) < 0.002


def test_default_sampler_keeps_the_contrast():
    """2M, 16 steps uniform in logsnr: 0.26 dB in the worst band of a radiograph's
    spectrum (design note DIFFUSION.md, section 2), so no more at this variance."""
    grid = schedule.uniform_logsnr_grid(16, -13, 11)
    assert abs(20 * np.log10(affine_map(samplers.table(grid))[1] / STD)) < 0.26


# ---- The loop ----


def toy(scale):
    """A denoiser with a condition, quick and not linear."""
    return lambda z, logsnr, cond: jnp.tanh(
        scale * z + cond["c"][:, None, None, None] + 0.01 * logsnr[:, None, None, None]
    )


@functools.partial(jax.jit, static_argnums=(2, 3))
def guided(seeds, c, order, eta):
    rows = samplers.table(GRIDS["uniform"], order=order, eta=eta)
    denoise = guidance.classifier_free(toy(0.7), {"c": 0.0}, 1.5)
    keys = samplers.keys_from_seeds(seeds)
    return samplers.sample([samplers.Segment(denoise, rows)], keys, {"c": c}, SHAPE)


every_sampler = pytest.mark.parametrize(
    "order, eta", [(2, 0.0), (1, 1.0), (2, 0.5)], ids=["2M", "ancestral", "SDE"]
)


@every_sampler
def test_an_image_depends_on_its_seed_and_condition_alone(order, eta):
    """PEERS.md: in one package batch-mates change an image by 0.15 under guidance."""
    seeds = np.arange(8, dtype=np.uint32)
    c = np.linspace(-1, 1, 8, dtype=np.float32)
    together = guided(seeds, c, order, eta)
    others = guided(seeds.copy() * 7 + 3, c[::-1].copy(), order, eta)
    assert (np.abs(np.asarray(others - together)).max((1, 2, 3)) > 0.01).all()
    moved = np.roll(seeds, 3), np.roll(c, 3)
    np.testing.assert_array_equal(np.roll(together, 3, 0), guided(*moved, order, eta))
    # Another size of batch is another program: equal to rounding.
    alone = guided(seeds[5:6], c[5:6], order, eta)
    np.testing.assert_allclose(alone[0], together[5], 0, 1e-5)


@every_sampler
def test_three_segments_equal_one(order, eta):
    rows = samplers.table(GRIDS["uniform"], order=order, eta=eta)
    keys, cond = samplers.keys_from_seeds(range(2)), {"c": jnp.zeros(2)}
    parts = [slice(0, 5), slice(5, 6), slice(6, None)]
    whole = samplers.sample([samplers.Segment(toy(0.7), rows)], keys, cond, SHAPE)
    pieces = samplers.sample(
        [samplers.Segment(toy(0.7), samplers.rows(rows, part)) for part in parts],
        keys,
        cond,
        SHAPE,
    )
    np.testing.assert_allclose(pieces, whole, 0, 1e-5)


@every_sampler
def test_scan_equals_a_plain_loop(order, eta):
    rows = samplers.table(GRIDS["uniform"], order=order, eta=eta)
    keys, cond = samplers.keys_from_seeds(range(2)), {"c": jnp.zeros(2)}
    found = samplers.sample([samplers.Segment(toy(0.7), rows)], keys, cond, SHAPE)
    images = []
    for key in keys:
        z, before = jax.random.normal(key, SHAPE), 0.0
        for i, (logsnr, a, b, c, s) in enumerate(zip(*rows, strict=True)):
            x_hat = np.tanh(0.7 * z + 0.01 * logsnr)
            noise = jax.random.normal(jax.random.fold_in(key, i), SHAPE)
            z, before = a * z + b * x_hat + c * before + s * noise, x_hat
        images.append(z)
    np.testing.assert_allclose(found, np.stack(images), 0, 1e-5)


def test_ancestral_noise_is_fresh_at_every_step():
    """With x_hat = 0 the last z but one is a sum of independent draws: its variance
    is that of the marginal, sigma^2; re-used draws would add up instead."""
    grid = schedule.uniform_logsnr_grid(9, -6, 2)
    rows = samplers.rows(samplers.table(grid, order=1, eta=1.0), slice(0, 8))
    segment = samplers.Segment(lambda z, logsnr, cond: 0 * z, rows)
    keys = samplers.keys_from_seeds(range(64))
    z = np.asarray(samplers.sample([segment], keys, {}, (8, 8, 1)))
    # 4096 values: the variance is known to 2.2 %; five of these.
    assert abs(z.var() * (1 + np.exp(2)) - 1) < 0.11


def test_to_uint16_spans_the_range():
    x = jnp.asarray([-2, -1, 0, 1, 2], jnp.float32).reshape(1, 1, 5, 1)
    assert samplers.to_uint16(x).tolist() == [[[0, 0, 32768, 65535, 65535]]]


@pytest.mark.parametrize("order, eta", [(2, 0.0), (1, 1.0), (2, 0.5)])
@pytest.mark.parametrize("cuts", [(), (1,), (3, 4), tuple(range(1, 9))])
def test_advancing_in_pieces_is_sampling_in_one(order, eta, cuts):
    """One compilation takes any rows of a table, whatever is filled up behind them."""
    table = samplers.table(GRIDS["uniform"], order=order, eta=eta)
    rows = jnp.pad(samplers.stacked(table), ((0, 7), (0, 0)))
    keys, cond = samplers.keys_from_seeds(range(2)), {"c": jnp.zeros(2)}
    compiled = []

    @jax.jit
    def advance(state, start, stop):
        compiled.append((start, stop))
        return samplers.advance(
            toy(0.7), state, rows, start, stop, keys, cond, stochastic=eta > 0
        )

    z = samplers.normal(keys, SHAPE)
    begin = z, jnp.zeros_like(z)
    steps = len(table.logsnr)
    state, whole = begin, advance(begin, np.int32(0), np.int32(steps))
    for bounds in itertools.pairwise((0, *cuts, steps)):
        state = advance(state, *map(np.int32, bounds))
    np.testing.assert_array_equal(state, whole)
    assert len(compiled) == 1
    np.testing.assert_array_equal(*state)  # the last step returns x_hat
    segment = samplers.Segment(toy(0.7), table)
    scan = samplers.sample([segment], keys, cond, SHAPE)
    np.testing.assert_allclose(state[0], scan, 0, 1e-5)
