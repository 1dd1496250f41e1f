"""Devices to compile for that need not be there: CPU, CUDA and TPU."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from ddpm_jax.training import sharding

WITHOUT_DEVICE = {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""What the plugins read before they look for devices or for a cloud; no logs."""

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


class Target(NamedTuple):
    """`compiler` says whose memory analysis a plan rests on."""

    mesh: Mesh
    platform: str
    compiler: str


def prepare(count: int) -> None:
    """Keep JAX on the CPU, with `count` virtual devices; before it is first used."""
    os.environ.update(WITHOUT_DEVICE)
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX is in use already, as in tests
        if len(jax.devices("cpu")) < count:
            raise ValueError(
                f"--count {count}: JAX of this process has started with "
                f"{len(jax.devices('cpu'))} CPU devices; run `python -m ddpm_jax.plan`."
            ) from None


def virtual(count: int, fsdp: int = 1) -> Target:
    """`count` devices of the CPU backend, which computes bfloat16 in float32."""
    devices = jax.devices("cpu")[:count]
    return Target(
        sharding.make_mesh(fsdp, devices),
        "cpu",
        f"XLA's CPU backend, {count} virtual device(s)",
    )


def cuda(path: str, count: int, fsdp: int = 1) -> Target:
    """`count` GPUs in one host, described by XLA's text proto at `path`."""
    if not any(importlib.util.find_spec(name) for name in CUDA_PLUGINS):
        raise ValueError(
            "--target: needs the plugin of jax for CUDA and ptxas; expected "
            f"`pip install jax-cuda12-plugin=={jax.__version__} nvidia-cuda-nvcc-cu12`."
        )
    text = Path(path).read_text()
    shape = {"target_config": text, "topology": f"1x1x{count}"}
    devices = _devices(f"--target {path}", "cuda", "", **shape)
    name = devices[0].device_kind
    return Target(
        sharding.make_mesh(fsdp, devices),
        "cuda",
        f"XLA for {count} x {name}, none there",
    )


def tpu(topology: str, fsdp: int = 1) -> Target:
    """The chips of a slice such as v5e:4x4."""
    if not importlib.util.find_spec("libtpu"):
        raise ValueError("--topology: needs libtpu; expected `pip install jax[tpu]`.")
    devices = _devices(f"--topology {topology}", "tpu", topology)
    name = f"XLA for a slice {topology} of {devices[0].device_kind}, none there"
    return Target(sharding.make_mesh(fsdp, devices), "tpu", name)


def _devices(where: str, platform: str, name: str, **options):
    try:
        return topologies.get_topology_desc(name, platform, **options).devices
    except (RuntimeError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{where}: no such {platform} target ({said}).") from None
