"""Laws of counts and memory; the planner's command on a tiny config."""

import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from configs import tiny
from ddpm_jax import build
from ddpm_jax.planner import flops, memory, program, targets
from ddpm_jax.planner.devices import DEVICES
from tests.test_command_line import assert_refused

CONFIG = "--config=configs/tiny.py"

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
"""ml_collections loads a config file that way."""


def counted(function, *shapes) -> int:
    return flops.count(jax.make_jaxpr(function)(*map(jnp.zeros, shapes)))


# ---- FLOPs ----


def test_flops_of_a_matrix_product():
    """2 b m n, twice that again for the gradients of both factors."""
    b, m, n = 3, 5, 7

    def loss(x, w):
        return jnp.sum((x @ w) ** 2)

    assert counted(jnp.matmul, (b, m), (m, n)) == 2 * b * m * n
    gradients = jax.grad(loss, argnums=(0, 1))
    assert counted(gradients, (b, m), (m, n)) == 3 * 2 * b * m * n


@pytest.mark.parametrize("padding, height, width", [("SAME", 6, 8), ("VALID", 4, 6)])
def test_flops_of_a_convolution(padding, height, width):
    """2 x outputs x 9 x channels; XLA agrees where nothing is padded."""

    def convolve(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), padding, dimension_numbers=numbers
        )

    shapes = (2, 6, 8, 3), (3, 3, 3, 5)
    closed = 2 * (2 * height * width * 5) * 9 * 3
    assert counted(convolve, *shapes) == closed
    lowered = jax.jit(convolve).lower(*map(jnp.zeros, shapes))
    by_xla = flops.by_xla(lowered)
    assert by_xla == closed if padding == "VALID" else by_xla < closed


def test_flops_of_loops_branches_and_recomputation():
    w = jnp.zeros((4, 4))
    once = 2 * 4**3

    def turns(x):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]

    def branches(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)

    def block(x):
        return jnp.sum(jnp.sin(jnp.sin(x @ w) @ w))

    assert counted(turns, (4, 4)) == 5 * once
    assert counted(branches, (4, 4)) == 2 * once
    assert counted(jax.jit(turns), (4, 4)) == 5 * once
    plain = counted(jax.grad(block), (4, 4))
    assert counted(jax.grad(jax.checkpoint(block)), (4, 4)) - plain in (once, 2 * once)


def test_flops_of_a_sample(planned):
    """N + N_guided evaluations: a guided step asks the network twice.

    Positions are embedded once a batch: a guided step saves 2 % of one evaluation.
    """
    sampling = build.sampling(tiny.get_config())
    guided = sampling.guided.stop - sampling.guided.start
    expected = len(sampling.table.logsnr) + guided
    assert guided > 0 and planned["evaluations"] == expected
    assert abs(planned["sample"] / planned["forward"] / expected - 1) < 0.01


# ---- Memory ----


def test_bytes_per_device_of_a_split_and_of_a_replicated_array():
    mesh = AbstractMesh((4,), ("data",))
    batch = NamedSharding(mesh, PartitionSpec("data"))
    state = NamedSharding(mesh, PartitionSpec())
    array = jax.ShapeDtypeStruct((8, 3), jnp.uint16)
    assert program.bytes_per_device({"x": array}, {"x": batch}) == 2 * 3 * 2
    assert program.bytes_per_device({"x": array}, {"x": state}) == 8 * 3 * 2


def test_twice_the_batch_needs_twice_the_activations_and_the_same_state():
    config = tiny.get_config()
    found = []
    for batch in (128, 256):
        config.data.batch = batch
        whole = program.of_config(config)
        found.append(memory.of_step(whole, targets.virtual(1)))
    small, large = found
    assert large.batch == 2 * small.batch
    assert 1.8 < large.activations / small.activations < 2.2
    same = ("parameters", "optimizer", "averages", "gradients")
    assert [getattr(small, n) for n in same] == [getattr(large, n) for n in same]
    assert small.optimizer > 2 * small.parameters  # Adam's two moments


def test_refusal_of_the_compiler_is_one_line_with_both_sizes():
    """Messages of libtpu 0.0.42 and of XLA's hbm accounting, shortened."""
    target = targets.Target(None, "tpu", "XLA")
    for message in (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for "
        "HLO temporaries (75.23G) exceeds available HBM (15.75G).",
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in "
        "memory space hbm.\nUsed 75.23G of 15.75G hbm. Exceeded by 59.48G.",
    ):
        expected = "RESOURCE_EXHAUSTED: 75.23G needed, 15.75G there"
        assert memory._refusal(message, target) == expected
    with pytest.raises(ValueError, match="XLA: INTERNAL"):
        memory._refusal("INTERNAL: ptxas\nis missing", target)


# ---- The command ----


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan of configs/tiny.py on 2 devices, as JSON."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    run("--device=a100-80g", "--count=2", "--images=1_000_000", f"--json={path}")
    return json.loads(path.read_text())


def run(*arguments):
    """In a process of its own: the number of virtual devices is fixed at its start."""
    return subprocess.run(
        [sys.executable, "-m", "ddpm_jax.plan", CONFIG, *arguments],
        capture_output=True,
        text=True,
    )


def test_parameters_are_those_of_the_initialised_tree(planned):
    config = tiny.get_config()
    net = build.model(config, build.condition_schema(config))
    params = net.init(jax.random.key(0))
    assert planned["parameters"] == sum(p.size for p in params.values())
    assert planned["memory"]["parameters"] == 4 * planned["parameters"]


def test_what_a_plan_derives(planned):
    parts = dict(planned["memory"])
    total, refusal = parts.pop("total"), parts.pop("refusal")
    assert total == sum(parts.values()) and not refusal
    assert planned["fits"]
    work = 0.40 * DEVICES["a100-80g"].peak
    assert math.isclose(planned["images_per_second"] * planned["step"], 2 * work)
    seconds = planned["device_hours"] * 3600
    assert math.isclose(seconds * work, 1_000_000 * planned["step"])
    assert math.isclose(planned["seconds_per_1000"] * work, 1000 * planned["sample"])
    # Forward, and backward by both factors: the first layers have no input gradient.
    assert 2.5 < planned["step"] / planned["forward"] <= 3.01


def test_plan_on_stdout_and_as_a_row(command, tmp_path):
    rows = tmp_path / "rows.md"
    for batch in (8, 16):
        status, out, err = command(
            *("plan", CONFIG, "--device=v5e", f"--batch={batch}", "--share=0.25"),
            f"--markdown={rows}",
        )
        assert status == 0, err
        assert f"batch {batch} on 1 x v5e" in out
        assert "25% is an assumption" in out and "not a measurement" in out
        assert "by XLA's CPU backend" in out and "to spare" in out
        assert "computes bfloat16 in float32" in out
    lines = rows.read_text().splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--device=a100"], ["--device = 'a100'", "a100-40g, a100-80g, cpu, h100"]),
        (["--topology=v9:2x2"], ["--topology = 'v9'", "v4, v5e, v5p, v6e"]),
        ([], ["--device: needed, or --topology"]),
        (["--device=v5e", "--target=x"], ["--target", "--device v5e is none"]),
        (["--device=v5e", "--topology=v4:2x2x1"], ["v4:2x2x1", "not of --device v5e"]),
        (["--topology=v5e:2x2", "--count=4"], ["--count", "--topology says how many"]),
        (["--topology=cpu:2x2"], ["--topology cpu:2x2", "no TPU"]),
        (["--device=cpu", "--count=64"], ["--count 64", "1 CPU devices"]),
        (["--device=cpu", "--config.model.heads=5"], ["model.heads = 5", "divisor"]),
        (["--device=cpu", "--json=no/x.json"], ["--json no/x.json", "folder that exi"]),
        (["--device=cpu", "--markdown=docs"], ["--markdown docs", "expected a file"]),
        (["--device=cpu", "--json=README.md"], ["--json README.md", "--overwrite"]),
    ],
)
def test_flags_that_a_plan_cannot_have(command, arguments, parts):
    assert_refused(command("plan", CONFIG, *arguments), 1, *parts)


def test_numbers_that_a_plan_cannot_have(command):
    for flag in ("--count=0", "--share=1.5", "--share=0", "--images=0", "--batch=x"):
        result = command("plan", CONFIG, "--device=cpu", flag)
        assert_refused(result, 2, flag[2:].partition("=")[0])
    assert_refused(command("plan", "--device=cpu"), 1, "--config")


def test_batch_that_devices_cannot_share():
    done = run("--device=cpu", "--count=3")
    result = (done.returncode, done.stdout, done.stderr)
    assert_refused(result, 1, "config.data.batch = 8", "multiple of the 3 devices")


# ---- Compilers of devices that are not there ----


@pytest.mark.slow
def test_plan_for_a_tpu_slice():
    pytest.importorskip("libtpu")
    done = run("--topology=v5e:2x2")
    assert done.returncode == 0, done.stderr
    assert "batch 8 on 4 x v5e" in done.stdout
    assert "slice v5e:2x2 of TPU v5 lite, none there" in done.stdout
    done = run("--topology=v5e:2x2", "--batch=4_000_000")
    assert done.returncode == 0, done.stderr
    assert "does not fit (RESOURCE_EXHAUSTED: " in done.stdout


@pytest.mark.slow
def test_plan_for_a_described_gpu(shared_data):
    pytest.importorskip("jax_cuda12_plugin")
    target = shared_data / "targets" / "a100_sxm_80gb.txtpb"
    if not target.is_file():
        pytest.skip(f"no {target}")
    done = run("--device=a100-80g", "--count=2", f"--target={target}")
    assert done.returncode == 0, done.stderr
    assert "XLA for 2 x NVIDIA A100-SXM4-80GB, none there" in done.stdout
