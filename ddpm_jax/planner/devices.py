"""What manufacturers say of their devices; nothing here is measured on one."""

import os
from typing import NamedTuple


class Device(NamedTuple):
    """`memory` in bytes and `peak` in FLOP/s: dense bf16 products, per chip."""

    platform: str
    memory: float
    peak: float
    source: str


GB, TERA = 1e9, 1e12
A100 = "NVIDIA A100 data sheet (nvidia-1758950), dense"
H100 = "NVIDIA H100 data sheet, SXM5, half of the figure with sparsity"
TPU = "cloud.google.com/tpu/docs/"
HOST = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

DEVICES = {
    "a100-40g": Device("cuda", 40 * GB, 312 * TERA, A100),
    "a100-80g": Device("cuda", 80 * GB, 312 * TERA, A100),
    "h100": Device("cuda", 80 * GB, 989.4 * TERA, H100),
    "v4": Device("tpu", 32 * GB, 275 * TERA, TPU + "v4"),
    "v5e": Device("tpu", 16 * GB, 197 * TERA, TPU + "v5e"),
    "v5p": Device("tpu", 95 * GB, 459 * TERA, TPU + "v5p"),
    "v6e": Device("tpu", 32 * GB, 918 * TERA, TPU + "v6e"),
    "cpu": Device("cpu", HOST, 0.205 * TERA, "this memory; float32 on 2 cores of ours"),
}

KINDS = {
    "NVIDIA A100-SXM4-40GB": "a100-40g",
    "NVIDIA A100-PCIE-40GB": "a100-40g",
    "NVIDIA A100-SXM4-80GB": "a100-80g",
    "NVIDIA A100 80GB PCIe": "a100-80g",
    "NVIDIA H100 80GB HBM3": "h100",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}
"""JAX's `device_kind`, where it names one whole device; other forms of an H100 and
parts of a device (MIG) have other peaks."""
