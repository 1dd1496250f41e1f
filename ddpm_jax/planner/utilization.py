"""Model FLOPs utilisation (MFU; Chowdhery et al., 2022, appendix B).

The share of the devices' peak that the model's own arithmetic takes: forward and
backward pass without what `config.model.remat` computes again, over the dense bf16
peak, also where the model computes in float32.
"""

from collections.abc import Sequence

from ddpm_jax.planner import flops, program
from ddpm_jax.planner.devices import DEVICES, KINDS


def peak(kinds: Sequence[str]) -> float | None:
    """FLOP/s of devices by their `device_kind`; None where one is not known."""
    if not set(kinds) <= KINDS.keys():
        return None
    return sum(DEVICES[KINDS[kind]].peak for kind in kinds)


def flops_per_image(config) -> float:
    """Of one image in a training step, forward and backward, nothing computed twice."""
    config = config.copy_and_resolve_references()
    if "remat" in config.model:
        config.model.remat = False
    step = program.trace_step(program.of_config(config))
    return flops.count(step.jaxpr) / config.data.batch


def mfu_per_rate(config, kinds: Sequence[str]) -> float | None:
    """MFU at one image a second on all of the devices; None where no peak is known."""
    available = peak(kinds)
    return None if available is None else flops_per_image(config) / available
