"""From a config to objects: the only file that knows what names mean.

Everything here is built before the first byte of data is read, so that a mistake in
a config costs a second, not a queue's night.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ddpm_jax import ema, guidance, losses, process, reverse, samplers, schedule
from ddpm_jax.conditions import own
from ddpm_jax.conditions.presets import PRESETS
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import augment
from ddpm_jax.data.records import Manifest
from ddpm_jax.models.functional import Network, network
from ddpm_jax.models.ruvit import RUViT
from ddpm_jax.models.unet import UNet
from ddpm_jax.training import guards
from ddpm_jax.types import Denoiser, Schedule, Weight

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
MODELS = {"ruvit": RUViT, "unet": UNet}
SCHEDULES = {
    "discrete_cosine": schedule.discrete_cosine,
    "cosine": schedule.cosine,
    "interpolated": schedule.interpolated,
}
WEIGHTS = {
    "simple": losses.simple,
    "min_snr": losses.min_snr,
    "sigmoid": losses.sigmoid,
}


def pick(table: Mapping, name, where: str):
    """table[name], or a ValueError that says what `where` may be."""
    if name not in table:
        allowed = ", ".join(map(str, sorted(table)))
        raise ValueError(f"{where} = {name!r}: expected one of {allowed}.")
    return table[name]


def call(function: Callable, options: Mapping, where: str, **given):
    """function(**options, **given), its keywords checked against its signature."""
    signed = function.__init__ if inspect.isclass(function) else function
    parameters = inspect.signature(signed).parameters
    allowed = sorted(set(parameters) - set(given) - {"self"})
    for name in options:
        if name not in allowed:
            raise ValueError(
                f"{where}.{name}: no such key; expected some of {', '.join(allowed)}."
            )
    needed = [n for n in allowed if parameters[n].default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in options]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}.")
    return function(**options, **given)


def _named(options: ConfigDict, where: str) -> tuple[str, dict]:
    options = dict(options)
    if "name" not in options:
        raise ValueError(f"{where}.name: missing.")
    return options.pop("name"), options


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


def _whole(where: str, value, low: int) -> None:
    """ValueError unless `value` is a whole number from `low`, or a tuple of them."""
    parts = value if isinstance(value, tuple | list) else (value,)
    if not parts or not all(isinstance(n, int) and n >= low for n in parts):
        raise ValueError(f"{where} = {value}: expected whole numbers from {low}.")


def within(where: str, value: float, low: float, high: float) -> None:
    """ValueError for a number out of [low, high]; NaN is out."""
    if not low <= value <= high:
        top = "or more" if high == np.inf else f"to {high:g}"
        raise ValueError(f"{where} = {value}: expected {low:g} {top}.")


def check_counts(config) -> None:
    """The numbers of `config.train` and their like that must not be too small."""
    least = {
        "config.seed": (config.seed, 0),
        "config.data.workers": (config.data.workers, 0),
        "config.ema.snapshot_every": (config.ema.get("snapshot_every", 0), 0),
        "config.train.steps": (config.train.steps, 1),
        "config.train.log_every": (config.train.log_every, 1),
        "config.train.save_every": (config.train.save_every, 1),
        "config.train.keep": (config.train.keep, 1),
        "config.train.sample_every": (config.train.sample_every, 1),
        "config.train.sample_count": (config.train.sample_count, 1),
    }
    for where, (value, low) in least.items():
        if value < low:
            raise ValueError(f"{where} = {value}: expected {low} or more.")
    if not config.data.folder:
        raise ValueError(
            "config.data.folder: not set; expected the --out folder of "
            "`python -m data_prep.convert`."
        )


def model(config, schema: Schema, portable: bool = False) -> Network:
    """The network of `config.model`, tried abstractly at `config.image_size`.

    `portable` leaves out kernels that one kind of device alone has.
    """
    name, options = _named(config.model, "config.model")
    make = pick(MODELS, name, "config.model.name")
    options["dtype"] = pick(
        DTYPES, options.get("dtype", "float32"), "config.model.dtype"
    )
    kernel = _attention_kernel(options.pop("attention_kernel", "auto"), portable)
    given = {"schema": schema, "attention_kernel": kernel}
    given |= {"size": config.image_size} if name == "unet" else {}
    within("config.image_size", config.image_size, 1, np.inf)
    within("config.model.dropout", options.get("dropout", 0.0), 0, 0.95)
    for key in ("patch", "channels", "heads", "emb", "blocks", "attention"):
        _whole(f"config.model.{key}", options.get(key, 1), 1)
    for key in ("down", "up", "middle"):
        _whole(f"config.model.{key}", options.get(key, 1), 0)
    net = network(lambda rngs: call(make, options, "config.model", rngs=rngs, **given))
    size = config.image_size
    jax.eval_shape(
        net.apply,
        jax.eval_shape(net.init, jax.random.key(0)),
        jnp.zeros((1, size, size, 1)),
        jnp.zeros(1),
        jax.tree.map(jnp.asarray, schema.unknown(1)),
    )
    return net


def _attention_kernel(asked: str, portable: bool) -> str:
    """`config.model.attention_kernel` on this process's devices, xla where portable."""
    here = ("xla", "cudnn") if jax.default_backend() == "gpu" else ("xla",)
    if asked not in ("auto", *here):
        raise ValueError(
            f"config.model.attention_kernel = {asked!r}: expected one of auto, "
            f"{', '.join(here)} on {jax.default_backend()} devices."
        )
    return "xla" if portable or asked == "xla" else here[-1]


def noise_schedule(config) -> Schedule:
    name, options = _named(config.diffusion.schedule, "config.diffusion.schedule")
    where = "config.diffusion.schedule"
    make = pick(SCHEDULES, name, f"{where}.name")
    if name == "interpolated":
        options.setdefault("size", config.image_size)
    for key in ("steps", "size", "noise_size"):
        within(f"{where}.{key}", options.get(key, 1), 1, np.inf)
    low, high = options.get("low", -20.0), options.get("high", 14.0)
    within(f"{where}.low", low, -40, high)
    within(f"{where}.high", high, low, 40)
    return call(make, options, "config.diffusion.schedule")


def loss_weight(config) -> Weight:
    name, options = _named(config.diffusion.weight, "config.diffusion.weight")
    make = pick(WEIGHTS, name, "config.diffusion.weight.name")
    given = {"schedule": noise_schedule(config)} if name == "sigmoid" else {}
    if given and config.diffusion.schedule.name == "discrete_cosine":
        raise ValueError(
            "config.diffusion.weight.name = 'sigmoid': needs the slope of a schedule, "
            "which discrete_cosine, a table, lacks; expected simple or min_snr."
        )
    within("config.diffusion.weight.bias", options.get("bias", 0.0), -20, 20)
    within("config.diffusion.weight.gamma", options.get("gamma", 5.0), 0, np.inf)
    return call(make, options, "config.diffusion.weight", **given)


def parameterisation(config) -> Callable:
    """(z, the network's output, logsnr) to x_hat."""
    name = config.diffusion.parameterisation
    return pick(process.TO_X, name, "config.diffusion.parameterisation")


LEAST_FOR_EPS = -12.0
"""x = (z - sigma eps) / alpha magnifies an error of eps by exp(6) = 400 there."""


def check_parameterisation(config) -> None:
    """ValueError for eps with (nearly) zero terminal SNR, where it says nothing of x.

    The paper's discrete process ends at -19.8 and is let in as it was published.
    """
    parameterisation(config)
    name, options = _named(config.diffusion.schedule, "config.diffusion.schedule")
    lows = {"config.diffusion.schedule.low": options.get("low", -20.0)}
    if config.sampler.grid == "uniform_logsnr":
        lows["config.sampler.low"] = _logsnr_range(config.sampler)[0]
    if config.diffusion.parameterisation != "eps" or name == "discrete_cosine":
        return
    for where, low in lows.items():
        if low < LEAST_FOR_EPS:
            raise ValueError(
                f"{where} = {low:g}: too noisy for config.diffusion.parameterisation = "
                f"'eps'; expected {LEAST_FOR_EPS:g} or more, or 'v'."
            )


def denoiser(config, net: Network, params, key=None) -> Denoiser:
    """The network as a predictor of the clean image: parameterisation ends here."""
    to_x = parameterisation(config)

    def denoise(z, logsnr, cond):
        return to_x(z, net.apply(params, z, logsnr, cond, key), logsnr)

    return denoise


def training_loss(config, net: Network, schema: Schema, to_x: Callable) -> Callable:
    """(params, key, batch) to per-example losses and details; `to_x` decodes images."""
    options = {"schedule": noise_schedule(config), "weight": loss_weight(config)}
    unknown = {field.name: field.unknown for field in schema}
    rates = {
        "joint": config.conditioning.drop_all,
        "each": config.conditioning.drop_each,
    }
    within("config.conditioning.drop_all", rates["joint"], 0, 1)
    within("config.conditioning.drop_each", rates["each"], 0, 1)

    def loss(params, key, batch):
        drop_key, dropout_key, loss_key = jax.random.split(key, 3)
        cond = guidance.drop(drop_key, batch["cond"], unknown, **rates)
        denoise = denoiser(config, net, params, dropout_key)
        x = to_x(batch["image"])
        return losses.diffusion_loss(loss_key, denoise, x, cond, **options)

    return loss


def learning_rate(config) -> optax.Schedule:
    """Warm-up, then constant, cosine to 0, or 1/sqrt decay with a linear end to 0."""
    peak, steps = config.optimizer.learning_rate, config.train.steps
    warmup = min(config.optimizer.warmup, steps)
    rest = max(1, steps - warmup)
    start = max(1, config.optimizer.decay_from - warmup)
    cooldown = max(1, round(0.1 * steps))
    decays = {
        "constant": lambda step: peak,
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "rsqrt": lambda step: (
            peak
            * jnp.minimum(1, jax.lax.rsqrt(jnp.maximum(step, 1) / start))
            * jnp.clip((rest - step) / cooldown, 0, 1)
        ),
    }
    decay = pick(decays, config.optimizer.decay, "config.optimizer.decay")
    ramp = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([lambda step: ramp(step + 1), decay], [warmup])


def optimizer(config) -> optax.GradientTransformation:
    """AdamW with decay on matrices only, after clipping by the global norm.

    With `config.optimizer.skip_above` steps of far too large a gradient are left out.
    """
    options = config.optimizer
    ranges = {
        "learning_rate": (0, np.inf),
        "b1": (0, 0.99999),
        "b2": (0, 0.99999),
        "warmup": (0, np.inf),
        "weight_decay": (0, 1),
        "clip": (1e-6, np.inf),
    }
    for name, (low, high) in ranges.items():
        within(f"config.optimizer.{name}", options[name], low, high)
    adamw = optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.adamw(
            learning_rate(config),
            options.b1,
            options.b2,
            weight_decay=options.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
    above = options.get("skip_above", 0.0)
    if above and not above > 1:
        raise ValueError(
            f"config.optimizer.skip_above = {above:g}: expected 0 (off) or more than 1."
        )
    return guards.skip_spikes(adamw, above) if above else adamw


def ema_rates(config) -> dict[str, Callable]:
    """step -> rate, by the name of the track; config.ema.name is power or constant."""
    kinds = {"power": ema.power_rate, "constant": ema.constant_rate}
    make = pick(kinds, config.ema.name, "config.ema.name")
    if config.ema.name == "constant" and config.ema.get("snapshot_every", 0):
        raise ValueError(
            "config.ema.snapshot_every: nothing is made of constant averages; expected "
            "0, or config.ema.name = power."
        )
    widths = [float(width) for width in config.ema.widths]
    if not widths or len(set(widths)) < len(widths):
        raise ValueError(
            f"config.ema.widths = {tuple(widths)}: expected one or more different ones."
        )
    return {f"{width:g}": make(width) for width in widths}


class Sampling(NamedTuple):
    """How images are made: the table, where guidance acts, whether x_hat is cut, and
    the share of the guidance weight that each field has on its own, {} for all of
    them jointly."""

    table: samplers.Table
    guided: slice
    clip: bool
    shares: Mapping[str, float]

    def segments(self, denoise: Denoiser, unknown, weight) -> list[samplers.Segment]:
        """Plain, guided, plain: each a static scan; empty ones are left out."""
        denoise = _cut(denoise, self.clip)
        if self.shares:
            weights = {name: weight * share for name, share in self.shares.items()}
            guided = guidance.compositional(denoise, unknown, weights)
        else:
            guided = guidance.classifier_free(denoise, unknown, weight)
        guided = _cut(guided, self.clip)
        start, stop = self.guided.start, self.guided.stop
        parts = [
            (denoise, slice(0, start)),
            (guided, slice(start, stop)),
            (denoise, slice(stop, None)),
        ]
        return [
            samplers.Segment(chosen, samplers.rows(self.table, part))
            for chosen, part in parts
            if len(self.table.logsnr[part])
        ]


def _cut(denoise: Denoiser, clip: bool) -> Denoiser:
    return guidance.clipped(denoise) if clip else denoise


TYPICAL_RANGE = (-16.5, 11.0)
"""Where no data set says: the logsnr of radiographs of 1024 px with mean -0.5 and a
power spectrum of 1 / k^3, 4 further out."""


def resolve_sampler(config, manifest: Manifest) -> None:
    """Fill `config.sampler.low` and `.high`, where open, from the data's spectrum: the
    least and the largest -ln of its power, 4 further out.

    Means over k x k pixels have 1 / k^2 of the power in each ring that they keep, and
    none of those with the least, so that `high` holds for them as it is.
    """
    if config.sampler.grid != "uniform_logsnr":
        return
    found = manifest.statistics.get("spectrum", {})
    shifts = 2 * np.log(manifest.height / config.image_size), 0.0
    for name, typical, shift in zip(
        ("low", "high"), TYPICAL_RANGE, shifts, strict=True
    ):
        if config.sampler[name] is None:
            config.sampler[name] = float(found.get(f"logsnr_{name}", typical) + shift)


def _logsnr_range(options) -> tuple[float, float]:
    pairs = zip((options.low, options.high), TYPICAL_RANGE, strict=True)
    low, high = (typical if given is None else given for given, typical in pairs)
    if not low < high:
        raise ValueError(
            f"config.sampler.low = {low:g}, high = {high:g}: expected low < high."
        )
    return low, high


def _discrete_table(config) -> np.ndarray:
    name, options = _named(config.diffusion.schedule, "config.diffusion.schedule")
    if name != "discrete_cosine":
        raise ValueError(
            "config.sampler.grid = 'discrete': expected config.diffusion.schedule.name "
            f"= discrete_cosine, not {name!r}."
        )
    return schedule.cosine_table(**options)


def sampling(config, steps: int | None = None) -> Sampling:
    """The sampler of `config.sampler`, with `steps` in place of its own if given."""
    options = config.sampler
    steps = options.steps if steps is None else steps
    grids = {
        "uniform_logsnr": lambda: schedule.uniform_logsnr_grid(
            steps, *_logsnr_range(options)
        ),
        "uniform_time": lambda: schedule.uniform_time_grid(
            steps, noise_schedule(config)
        ),
        "discrete": lambda: schedule.discrete_grid(steps, _discrete_table(config)),
    }
    grid = pick(grids, options.grid, "config.sampler.grid")()
    rows = samplers.table(
        grid,
        order=options.order,
        eta=options.eta,
        large_variance=options.large_variance,
    )
    interval = tuple(options.guidance_interval)
    if len(interval) != 2 or not interval[0] <= interval[1]:
        raise ValueError(
            f"config.sampler.guidance_interval = {interval}: expected two logsnr, the "
            "lower first."
        )
    shift = 2 * np.log(config.image_size / 64)
    guided = guidance.steps_within(grid[:-1] + shift, interval)
    return Sampling(rows, guided, options.clip, dict(options.get("shares", {})))


def sampler(config, net: Network, schema: Schema, steps: int | None = None) -> Callable:
    """(params, seeds uint32 [b], cond, guidance) to uint16 [b, size, size].

    Pure and jittable; image i depends on seed i and condition i alone.
    """
    plan = sampling(config, steps)
    unknown = _unknown(schema, plan.shares)
    shape = _shape(config)

    def run(params, seeds, cond, weight):
        segments = plan.segments(denoiser(config, net, params), unknown, weight)
        keys = samplers.keys_from_seeds(seeds)
        return samplers.to_uint16(samplers.sample(segments, keys, cond, shape))

    return run


def reverse_parts(config, net: Network, schema: Schema) -> reverse.Parts:
    """The sampler of `config` in pieces that serve every number of steps, each pure and
    jittable; `reverse.Parts` says what they take."""
    options = config.sampler
    unknown = _unknown(schema, options.get("shares", {}))
    shape, stochastic = _shape(config), options.eta > 0

    def start(seeds):
        z = samplers.normal(samplers.keys_from_seeds(seeds), shape)
        return z, jnp.zeros_like(z)

    def advance(guide, params, state, rows, first, stop, seeds, cond):
        plain = _cut(denoiser(config, net, params), options.clip)
        denoise = _cut(guide(plain), options.clip)
        keys = samplers.keys_from_seeds(seeds)
        bounds = rows, first, stop, keys, cond
        return samplers.advance(denoise, state, *bounds, stochastic=stochastic)

    def plain(*inputs):
        return advance(lambda denoise: denoise, *inputs)

    def guided(*inputs):
        *inputs, weight = inputs
        return advance(
            lambda denoise: guidance.classifier_free(denoise, unknown, weight), *inputs
        )

    def composed(*inputs):
        *inputs, weights = inputs
        return advance(
            lambda denoise: guidance.compositional(denoise, unknown, weights), *inputs
        )

    return reverse.Parts(start, plain, guided, composed, samplers.to_uint16)


def course(config, steps: int | None = None) -> reverse.Course:
    """`sampling` as `reverse_parts` take it."""
    plan = sampling(config, steps)
    bounds = int(plan.guided.start), int(plan.guided.stop)
    return reverse.Course(samplers.stacked(plan.table), bounds)


def _shape(config) -> tuple[int, int, int]:
    return config.image_size, config.image_size, 1


def _unknown(schema: Schema, shares) -> dict[str, float]:
    """The value of "not known" by field; ValueError for a share of no field."""
    unknown = {field.name: field.unknown for field in schema}
    for name in shares:
        pick(unknown, name, "config.sampler.shares")
    return unknown
