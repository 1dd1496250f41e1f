"""Devices, processes, threads and memory: the same bits, a bounded queue."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import sources
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.outputs import claim, folder, stream, work
from ddpm_jax.outputs.requests import Asked, Model
from ddpm_jax.outputs.writers import Writers
from tests.outputs.test_going_on import content

ASKED = [Asked(PELVIS.parse({"view": "AP"}), seed, "") for seed in range(100)]


def start(sampler, table, out, processes, devices, limit=0):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    for index in range(processes):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
            "--xla_backend_optimization_level=0",
        }
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(index),
            }
        command = [sys.executable, "-m", "tests.outputs.layouts"]
        started.append(
            subprocess.Popen(
                [*command, *map(str, (sampler, table, out, limit))],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    said = [process.communicate(timeout=300)[0] for process in started]
    return [p.returncode for p in started], said


@pytest.mark.slow
def test_devices_and_processes_change_nothing(tiny_export, tmp_path):
    """Two processes of two devices: disjoint rows, one manifest, the same bytes."""
    rows = [f"AP,{20 + i}" for i in range(70)]
    (tmp_path / "cohort.csv").write_text("\n".join(["view,age", *rows]) + "\n")
    layouts = {"one": (1, 1), "devices": (1, 4), "processes": (2, 2)}
    for name, layout in layouts.items():
        table = tmp_path / "cohort.csv"
        statuses, said = start(tiny_export, table, tmp_path / name, *layout)
        assert set(statuses) == {0}, said
    one = content(tmp_path / "one")
    assert len([name for name in one if name.endswith(".png")]) == 71
    for name in ("devices", "processes"):
        other = content(tmp_path / name)
        assert [k for k in {**one, **other} if one.get(k) != other.get(k)] == [], name


@pytest.mark.slow
def test_where_one_process_fails_all_end_and_the_same_command_goes_on(
    tiny_export, tmp_path
):
    table, out = tmp_path / "cohort.csv", tmp_path / "out"
    table.write_text("view\n" + "AP\n" * 70)
    statuses, said = start(tiny_export, table, out, 2, 1, limit=1000)
    assert statuses == [1, 1], said
    assert "cannot be written (File too large)" in said[1]
    assert "1 of 2 processes did not end their share" in said[0]
    assert not (out / "manifest.csv").exists()
    statuses, said = start(tiny_export, table, out, 2, 1)
    assert statuses == [0, 0] and (out / "manifest.csv").exists(), said


def make_job(out, **options):
    model = Model("ab", 2.0, 4)
    return folder.Job(out, ASKED, PELVIS, 16, model, "sampler", 8, **options)


@pytest.mark.parametrize("formats", [("png",), ("png", "records")])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_processes_share_all_images_and_none_twice(tmp_path, count, formats):
    job = make_job(tmp_path, formats=formats, per_shard=15)
    parts = [folder.share(job, process, count) for process in range(count)]
    assert sorted(i for part in parts for i in part) == list(range(100))
    assert max(map(len, parts)) - min(map(len, parts)) <= 15


def test_a_batch_is_sent_before_the_one_before_it_is_fetched(tiny_export):
    source = sources.open_source(None, str(tiny_export))
    batch, run = stream.spread(source, 2.0, 8)
    sent, clock = [], stream.Clock()

    def counted(*asked):
        sent.append(asked)
        return run(*asked)

    made = []
    for part, images in stream.stream(source, ASKED, range(30), counted, batch, clock):
        made.append(images)
        assert len(sent) == min(len(made) + 1, 4)
        assert len(part) == len(images)
    direct = sources.images(source, [a.row for a in ASKED[:30]], range(30), guidance=2)
    np.testing.assert_array_equal(np.concatenate(made), np.concatenate(list(direct)))
    assert clock.images == 30 and 0 < clock.device
    assert "30 images in" in clock.report()


def test_one_device_of_many_is_the_program_itself(tiny_export):
    source = sources.open_source(None, str(tiny_export))
    batch, run = stream.spread(source, 2.0, 4, jax.local_devices()[:1])
    cond = PELVIS.encode([{}] * 4)
    images = run(np.arange(4, dtype=np.uint32), cond)
    assert batch == 4 and isinstance(images, jax.Array)


def resident() -> int:
    """Bytes of this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGESIZE"
    )


def test_memory_is_the_same_for_any_count(tmp_path):
    """400 images of 0.5 MB, drawn by no network: kept, they would take 210 MB."""
    side, seen = 512, []

    @jax.jit
    def run(seeds, cond, guidance):
        flat = jnp.zeros((len(seeds), side, side), jnp.uint16)
        return flat + seeds[:, None, None].astype(jnp.uint16)

    def watched(*asked):
        seen.append(resident())
        return run(*asked)

    asked = [Asked(PELVIS.parse({}), seed, "") for seed in range(400)]
    source = sources.Source(PELVIS, side, 1.0, watched, "ab", 4, None)
    job = folder.Job(
        tmp_path / "out", asked, PELVIS, side, Model("ab", 1.0, 4), "sampler", 8
    )
    claim.begin(job, overwrite=False)
    work.make(job, source)
    assert len(list((tmp_path / "out").glob("*.png"))) == 400 and len(seen) == 50
    assert max(seen) - seen[15] < 50e6


def test_the_queue_is_bounded_and_failures_come_out():
    running, most, lock = 0, 0, threading.Lock()

    def job(index):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return index

    with Writers(2, 4) as writers:
        made = []
        for index in range(30):
            made.append(writers.submit(job, index))
            assert sum(not future.done() for future in made) <= 4
        writers.drain()
        assert [future.result() for future in made] == list(range(30))
        assert writers.finished == 30 and most <= 2

    def broken():
        raise OSError("full")

    assert writers.news() == 30 and writers.news() == 0
    with pytest.raises(OSError, match="full"), Writers(2, 4) as writers:
        for _ in range(100):
            writers.submit(broken)
