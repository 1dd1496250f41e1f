"""The network of a config, the process it is trained on, and its loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax import guidance, losses, process, schedule
from ddpm_jax.build.keys import call, named, pick, whole, within
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.models.functional import Network, network
from ddpm_jax.models.ruvit import RUViT
from ddpm_jax.models.unet import UNet
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


def model(config, schema: Schema, portable: bool = False) -> Network:
    """The network of `config.model`, tried abstractly at `config.image_size`.

    `portable` leaves out kernels that one kind of device alone has.
    """
    name, options = named(config.model, "config.model")
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
        whole(f"config.model.{key}", options.get(key, 1), 1)
    for key in ("down", "up", "middle"):
        whole(f"config.model.{key}", options.get(key, 1), 0)
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
    name, options = named(config.diffusion.schedule, "config.diffusion.schedule")
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
    name, options = named(config.diffusion.weight, "config.diffusion.weight")
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
