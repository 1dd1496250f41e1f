"""One run on one device, on eight, in two processes, whole and split, is one run."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from ddpm_jax.training import best, monitoring
from tests.datasets import write_dataset

FLAG = "--xla_force_host_platform_device_count"
LAYOUTS = {
    "one": dict(processes=1, devices=1, fsdp=1),
    "data": dict(processes=1, devices=8, fsdp=1),
    "fsdp": dict(processes=1, devices=8, fsdp=4),
    "two_data": dict(processes=2, devices=4, fsdp=1),
    "two_fsdp": dict(processes=2, devices=4, fsdp=8),
}
STEPS = 20


def run(data, workdir, processes, devices, fsdp, steps=STEPS) -> dict:
    """The line of JSON that process 0 of `tests.training.layouts` prints."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(processes):
        several = {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
        environment = os.environ | {
            "XLA_FLAGS": f"{FLAG}={devices} {os.environ['XLA_FLAGS']}",
            "JAX_PLATFORMS": "cpu",
        }
        environment |= several if processes > 1 else {}
        command = [sys.executable, "-m", "tests.training.layouts"]
        arguments = [str(data), str(workdir), str(fsdp), str(steps)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(
            subprocess.Popen([*command, *arguments], env=environment, **pipes)
        )
    said = [process.communicate(timeout=300) for process in started]
    assert [p.returncode for p in started] == [0] * processes, said
    assert all("training on" not in out for out, _ in said[1:])
    return json.loads(said[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    return write_dataset(folder, size=16, counts=(("train", 32), ("validation", 24)))


@pytest.fixture(scope="module")
def ran(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    said = {
        name: run(data, folder / name, **layout) for name, layout in LAYOUTS.items()
    }
    return folder, said


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_same_losses_in_every_layout(ran, name):
    """But for the order of sums: float32, growing over 20 steps of training."""
    folder, _ = ran
    one, other = (monitoring.read_metrics(folder / which) for which in ("one", name))
    assert [entry["step"] for entry in other] == list(range(1, STEPS + 1))
    for quantity in ("loss", "grad_norm"):
        values = [[entry[quantity] for entry in entries] for entries in (one, other)]
        np.testing.assert_allclose(values[1], values[0], 1e-3, err_msg=quantity)
        np.testing.assert_allclose(values[1][:3], values[0][:3], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_same_distance_and_best_in_every_layout(ran, name):
    """Of models that differ as their losses do; process 0 alone reads the images."""
    folder, _ = ran
    found = []
    for which in ("one", name):
        entries = monitoring.read_metrics(folder / which)
        chosen = best.newest(folder / which).measured
        values = [[e["step"], e["fd"], e["fd_real"]] for e in entries if "fd" in e]
        found.append([*values, [chosen.step, chosen.fd, chosen.fd_real]])
    np.testing.assert_allclose(found[1], found[0], 1e-3)
    assert [step for step, *_ in found[0][:-1]] == [10, 20]


@pytest.mark.slow
def test_the_step_is_compiled_once_and_talks_no_more_than_it_must(ran):
    """Replicated, gradients are summed and nothing is gathered. Split, parameters are
    gathered and gradients summed; no example changes its device."""
    _, said = ran
    assert {name: found["traced"] for name, found in said.items()} == dict.fromkeys(
        LAYOUTS, 1
    )
    assert said["one"]["collectives"] == {}
    assert set(said["data"]["collectives"]) == {"all-reduce"}
    assert {"all-gather"} < set(said["fsdp"]["collectives"])
    assert set(said["fsdp"]["collectives"]) <= {
        "all-gather",
        "all-reduce",
        "reduce-scatter",
    }


@pytest.mark.slow
def test_a_run_goes_on_in_another_layout(ran, data):
    """Eight devices, split by four, then two whole, then one: the same losses still."""
    folder, _ = ran
    run(data, folder / "moved", 1, 8, 4, steps=10)
    run(data, folder / "moved", 1, 2, 1, steps=14)
    run(data, folder / "moved", 1, 1, 1, steps=20)
    one, moved = (monitoring.read_metrics(folder / which) for which in ("one", "moved"))
    values = [[entry["loss"] for entry in entries] for entries in (one, moved)]
    np.testing.assert_allclose(values[1], values[0], 1e-3)


def test_a_checkpoint_is_restored_bit_for_bit_in_any_layout(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.moved", str(tmp_path)],
        env=os.environ | {"XLA_FLAGS": f"{FLAG}=8", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "5 layouts\n"), result.stderr
