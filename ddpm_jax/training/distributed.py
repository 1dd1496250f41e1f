"""Several processes as one: found from the environment, and kept in step."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""host:port of process 0, their number, and which this one is; all three or none."""


class Stop(Protocol):
    def __call__(self, step: int) -> int: ...


def kind(environment: Mapping[str, str]) -> str | None:
    """What starts this process as one of several, None where it is alone.

    `explicit`: the three variables of `EXPLICIT`, as a Kubernetes Job or a person sets
    them. `found`: a Slurm step of several tasks, or a TPU slice of several hosts whose
    variables are set (GKE). ValueError where one of the three is missing or no number.
    """
    given = {name: environment[name] for name in EXPLICIT if environment.get(name)}
    if given:
        missing = [name for name in EXPLICIT if name not in given]
        if missing:
            raise ValueError(
                f"{', '.join(given)} is set in the environment; expected "
                f"{', '.join(missing)} as well."
            )
        count, index = (given[name] for name in EXPLICIT[1:])
        if not (count.isdigit() and index.isdigit() and int(index) < int(count)):
            raise ValueError(
                f"JAX_PROCESS_ID = {index!r}, JAX_NUM_PROCESSES = {count!r}: expected "
                "numbers, the first below the second."
            )
        return "explicit"
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    several = (tasks.isdigit() and int(tasks) > 1) or len(hosts) > 1
    return "found" if several else None


def initialize(ask: bool = False, environment: Mapping[str, str] = os.environ) -> None:
    """Join the processes of this run, if there are several; before JAX is used.

    `ask`: even if the environment shows none, let JAX look for them.
    """
    how = kind(environment) or ("found" if ask else None)
    if how is None or jax.distributed.is_initialized():
        return
    if how == "found":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"--distributed: no other process found ({error})."
            ) from None
        return
    address, count, index = (environment[name] for name in EXPLICIT)
    jax.distributed.initialize(
        address, int(count), int(index), cluster_detection_method="deactivate"
    )


def leads() -> bool:
    """Whether this process writes what is written once: files, logs, the bar."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """What process 0 says; all must ask."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(value))


def count(value: bool) -> int:
    """Of how many processes `value` is true; all must ask."""
    if jax.process_count() == 1:
        return int(value)
    return int(np.sum(multihost_utils.process_allgather(np.int32(value))))


@contextlib.contextmanager
def stop_signal() -> Iterator[Stop]:
    """A function of the step: the number of the SIGTERM or SIGINT that has come, or 0.

    With several processes one SIGTERM stops all of them after the same step (JAX's
    preemption service). A second signal kills.
    """
    if jax.process_count() > 1:
        reached = multihost_utils.reached_preemption_sync_point
        yield lambda step: signal.SIGTERM if reached(step) else 0
        return
    received = []

    def handler(number, frame):
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield lambda step: received[0] if received else 0
    finally:
        for number, old in before.items():
            signal.signal(number, old)
