"""Bad input: one line on stderr that says where, what and what is allowed."""

import importlib
import shutil
import subprocess
import sys

import pytest

from ddpm_jax import command_line

CONFIG = "configs/tiny.py"

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
"""ml_collections loads a config file that way."""


def assert_refused(result, status, *parts):
    """One line, no traceback, that holds each of `parts`."""
    found, _, err = result
    assert found == status, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    for part in parts:
        assert str(part) in lines[0]


def copied(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


# ---- train ----


def test_config_key_that_does_not_exist(command, tmp_path):
    result = command(
        "train",
        *(f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.stepz=3",
    )
    assert_refused(result, 2, "no such key in the config", "stepz", "steps")


def test_a_config_file_that_fails_is_one_line(command, tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def get_config():\n    return 1 + 'phases'\n")
    result = command("train", f"--config={path}", f"--workdir={tmp_path}")
    assert_refused(result, 2, f"--config={path}", "TypeError: unsupported operand")
    assert "Traceback" not in result[2]


def test_config_value_of_another_type(command, tmp_path):
    result = command(
        "train",
        *(f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}"),
        "--config.train.steps=many",
    )
    assert_refused(result, 2, "many")


@pytest.mark.parametrize(
    "change, parts",
    [
        ("model.name=resnet", ["config.model.name = 'resnet'", "ruvit, unet"]),
        ("model.dtype=int8", ["config.model.dtype = 'int8'", "bfloat16, float32"]),
        ("model.heads=5", ["model.heads = 5", "expected a divisor"]),
        ("image_size=15", ["image size 15 x 15", "multiples of 4"]),
        ("image_size=32", ["config.image_size = 32", "16 x 16", "--size 32"]),
        ("conditioning.schema=hand", ["config.conditioning.schema = 'hand'", "pelvis"]),
        (
            "conditioning.fields=('view','weight')",
            ["config.conditioning.fields", "'weight'", "view, side"],
        ),
        (
            "diffusion.schedule.name=linear",
            ["config.diffusion.schedule.name", "cosine"],
        ),
        ("diffusion.weight.name=snr", ["config.diffusion.weight.name", "min_snr"]),
        ("diffusion.parameterisation=w", ["config.diffusion.parameterisation", "eps"]),
        ("optimizer.decay=step", ["config.optimizer.decay = 'step'", "cosine, rsqrt"]),
        ("ema.name=none", ["config.ema.name = 'none'", "constant, power"]),
        ("ema.snapshot_every=-1", ["config.ema.snapshot_every = -1", "0 or more"]),
        ("sampler.ema=0.2", ["config.sampler.ema = '0.2'", "0.1"]),
        ("data.split=valid", ["config.data.split = 'valid'", "test, train"]),
        ("data.batch=0", ["config.data.batch = 0", "positive multiple"]),
        ("sampler.grid=linear", ["config.sampler.grid = 'linear'", "uniform_time"]),
        ("sampler.steps=0", ["sampler steps = 0", "expected 1 or more"]),
        ("sampler.guidance_interval=(5,-5)", ["guidance_interval = (5", "lower first"]),
        ("conditioning.drop_all=2.0", ["config.conditioning.drop_all = 2.0", "0 to 1"]),
        ("optimizer.b1=-0.1", ["config.optimizer.b1 = -0.1", "0 to 0.99999"]),
        ("optimizer.b2=1.0", ["config.optimizer.b2 = 1.0", "0 to 0.99999"]),
        ("optimizer.clip=0.0", ["config.optimizer.clip = 0.0", "1e-06 or more"]),
        ("optimizer.clip=-1.0", ["config.optimizer.clip = -1.0", "1e-06 or more"]),
        ("sampler.order=3", ["sampler order 3", "expected 1 or 2"]),
    ],
)
def test_values_that_a_config_cannot_have(command, tiny_data, tmp_path, change, parts):
    workdir = tmp_path / "run"
    result = command(
        "train",
        *(f"--config={CONFIG}", f"--workdir={workdir}"),
        *(f"--config.data.folder={tiny_data}", f"--config.{change}"),
    )
    assert_refused(result, 1, *parts)
    assert not workdir.exists()  # before the first byte is written


def test_empty_shard_folder(command, tmp_path):
    (tmp_path / "shards").mkdir()
    result = command(
        "train",
        *(f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}"),
        f"--config.data.folder={tmp_path / 'shards'}",
    )
    assert_refused(result, 1, tmp_path / "shards", "data_prep.convert")


def test_missing_config_file(command, tmp_path):
    result = command("train", f"--workdir={tmp_path}", "--config=configs/none.py")
    found, _, err = result
    assert found in (1, 2)
    assert_refused(result, found, "configs/none.py")


def test_missing_flags(command, tmp_path):
    assert_refused(command("train"), 1, "--workdir")
    assert_refused(command("sample"), 1, "--out")
    assert_refused(command("export"), 1, "--workdir, --out")
    assert_refused(command("evaluate", f"--out={tmp_path}"), 1, "--real")


# ---- what reads a run ----


@pytest.mark.parametrize("name", ["sample", "export"])
def test_workdir_without_a_run(command, tmp_path, name):
    (tmp_path / "run").mkdir()
    for workdir in (tmp_path / "run", tmp_path / "nowhere"):
        result = command(name, f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
        assert_refused(result, 1, workdir, "config.json", "ddpm_jax.train")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["sample", "export"])
def test_corrupt_checkpoints(command, tiny_run, tmp_path, name):
    workdir = copied(tiny_run, tmp_path)
    for step in (2, 4):
        for path in (workdir / "checkpoints" / str(step)).rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    out = tmp_path / "out"
    prompt = ["--prompt=AP pelvis"] if name == "sample" else []
    result = command(name, f"--workdir={workdir}", f"--out={out}", *prompt)
    found, _, err = result
    assert found == 1
    last = err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert "every checkpoint is damaged; checkpoint 4: the file" in last
    assert not out.exists()


def test_config_json_that_is_no_json(command, tiny_run, tmp_path):
    workdir = copied(tiny_run, tmp_path)
    (workdir / "config.json").write_text('{"seed": 0,')
    result = command("export", f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
    assert_refused(result, 1, "config.json", "not readable JSON")


@pytest.mark.parametrize(
    "prompt, parts",
    [
        ("AP pelvis, blue", ["'blue'", "view can be AP, lateral, oblique"]),
        ("AP pelvis, 670-year-old", ["age", "0 to 120"]),
        ("AP, lateral", ["'AP' and 'lateral' contradict"]),
    ],
)
def test_unknown_value_in_a_prompt(command, tiny_export, tmp_path, prompt, parts):
    out = tmp_path / "out"
    result = command(
        "sample", f"--sampler={tiny_export}", f"--out={out}", f"--prompt={prompt}"
    )
    assert_refused(result, 1, *parts)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--prompt=AP", "--workdir=a"], ["one of --workdir and --sampler"]),
        ([], ["expected one of --prompt and --conditions"]),
        (["--prompt=AP", "--steps=3"], ["steps = 3", "has 4, 8, 16, 32, 64"]),
        (
            ["--prompt=AP", "--seed=4294967296"],
            ["seed = 4294967296", "0 to 4294967295"],
        ),
    ],
)
def test_flags_that_do_not_fit(command, tiny_export, tmp_path, arguments, parts):
    result = command(
        "sample", f"--sampler={tiny_export}", f"--out={tmp_path / 'o'}", *arguments
    )
    assert_refused(result, 1, *parts)


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--count=0"], "count"),
        (["--count=two"], "two"),
        (["--prmpt=AP"], "prmpt"),
        (["AP pelvis"], "'AP pelvis': not a flag"),
    ],
)
def test_flags_that_cannot_be_read(command, arguments, part):
    assert_refused(command("sample", "--out=x", *arguments), 2, part)


def test_out_that_is_in_use(command, tiny_run, tiny_export, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    result = command(
        "sample", f"--sampler={tiny_export}", f"--out={tmp_path}", "--prompt=AP"
    )
    assert_refused(result, 1, tmp_path, "not empty", "--overwrite")
    result = command("export", f"--workdir={tiny_run}", f"--out={tmp_path}")
    assert_refused(result, 1, tmp_path, "exists", "--overwrite")
    # --overwrite replaces a sampler, never something else.
    result = command(
        "export", f"--workdir={tiny_run}", f"--out={tmp_path}", "--overwrite"
    )
    assert_refused(result, 1, "not a sampler folder")
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_out_that_is_a_file(command, tiny_export, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'file'}", "--prompt=AP"),
    )
    assert_refused(result, 1, tmp_path / "file")


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--parts=beauty"], ["--parts beauty", "fidelity"]),
        (["--features=vgg"], ["--features vgg", "labeller"]),
        (["--features=inception"], ["--weights not given", "https://"]),
        (["--fields=hair"], ["hair", "prosthesis_left"]),
        (["--workdir=runs/a"], ["one of --synthetic, --workdir and --sampler"]),
    ],
)
def test_evaluate_says_what_is_allowed(
    command, tiny_export, tiny_data, tmp_path, flags, said
):
    result = command(
        "evaluate",
        *(f"--real={tiny_data}", f"--sampler={tiny_export}"),
        *(f"--out={tmp_path / 'out'}", *flags),
    )
    assert_refused(result, 1, *said)


# ---- help, interrupts, and one real process ----


@pytest.mark.parametrize("name", ["train", "sample", "export", "evaluate"])
def test_help(command, name):
    status, out, err = command(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(importlib.import_module(f"ddpm_jax.{name}").__doc__.strip())
    assert "--help" in out and max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "stopped, status, message",
    [
        (KeyboardInterrupt, 130, "interrupted"),
        (command_line.Preempted, 75, "stopped by SIGTERM; run the same command again"),
    ],
)
def test_interrupt(command, monkeypatch, stopped, status, message):
    def interrupted():
        raise stopped

    monkeypatch.setattr("ddpm_jax.sample.main", interrupted)
    assert_refused(command("sample"), status, message)


def test_our_own_mistakes_keep_their_traceback(command, monkeypatch):
    def broken():
        raise AssertionError("ours")

    monkeypatch.setattr("ddpm_jax.sample.main", broken)
    with pytest.raises(AssertionError, match="ours"):
        command("sample")


def test_as_a_process(tmp_path):
    """The same through `python -m`: nothing else reaches stderr."""
    result = subprocess.run(
        [sys.executable, "-m", "ddpm_jax.export", f"--workdir={tmp_path}", "--out=x"],
        capture_output=True,
        text=True,
    )
    assert_refused((result.returncode, result.stdout, result.stderr), 1, tmp_path)
