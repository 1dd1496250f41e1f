"""What the training step keeps on each device, by its compiler's account."""

import re
from typing import NamedTuple

import jax

from ddpm_jax.planner.program import (
    Program,
    bytes_per_device,
    shardings,
    trace_step,
)
from ddpm_jax.planner.targets import Target

TOO_LARGE = "RESOURCE_EXHAUSTED"
SIZES = re.compile(
    r"Used ([\d.]+\w?) of ([\d.]+\w?)|\(([\d.]+\w?)\) exceeds[^(]*\(([\d.]+\w?)\)"
)
"""Needed and there, as the TPU compiler says it: for all, or for temporaries alone."""


class Memory(NamedTuple):
    """Bytes on each device.

    `activations` is the compiler's temporary memory less the gradients: activations,
    scratch and messages. It is None where the compiler refused: `refusal` says why.
    """

    parameters: int
    optimizer: int
    averages: int
    batch: int
    gradients: int
    activations: int | None
    refusal: str = ""

    @property
    def total(self) -> int | None:
        parts = self[:6]
        return None if self.activations is None else sum(parts)


def of_step(plan: Program, target: Target) -> Memory:
    """Compile the step for `target`, and read the compiler's account."""
    state, split, _ = shardings(plan, target.mesh)
    batch = jax.tree.map(lambda _: split, plan.batch)
    parameters = bytes_per_device(plan.state.params, state.params)
    known = {
        "parameters": parameters,
        "optimizer": bytes_per_device(plan.state.optimizer, state.optimizer),
        "averages": bytes_per_device(plan.state.ema, state.ema),
        "batch": bytes_per_device(plan.batch, batch),
    }
    try:
        traced = trace_step(plan, target.mesh)
        lowered = traced.lower(lowering_platforms=(target.platform,))
        said = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        refusal = _refusal(str(error), target)
        return Memory(**known, gradients=parameters, activations=None, refusal=refusal)
    temporary = said.temp_size_in_bytes
    gradients = min(parameters, temporary)
    return Memory(**known, gradients=gradients, activations=temporary - gradients)


def _refusal(message: str, target: Target) -> str:
    line = " ".join(message.split())
    if TOO_LARGE not in line:
        raise ValueError(f"{target.compiler}: {line[:300]}") from None
    found = SIZES.search(line)
    if found is None:
        return line[:300]
    needed, there = (size for size in found.groups() if size)
    return f"{TOO_LARGE}: {needed} needed, {there} there"
