"""Which steps are traced, and that the trace is written and holds them."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from ddpm_jax.training import profiling
from tests.test_command_line import assert_refused


@pytest.mark.parametrize(
    "text, start, expected",
    [
        ("", 0, None),
        ("10:15", 0, (10, 15)),
        ("10:10", 7, (10, 10)),
        ("1", 0, (3, 3)),
        ("5", 100, (103, 107)),
    ],
)
def test_spans(text, start, expected):
    assert profiling.span(text, start) == expected


@pytest.mark.parametrize("text", ["0", "5:4", "a", "1:", "-1", "1:2:3", "0:3"])
def test_what_is_no_span(text):
    with pytest.raises(ValueError, match=f"--profile = '{text}': expected a number"):
        profiling.span(text, 0)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_it_is_refused_before_data(command, tiny_data, tmp_path):
    result = command(
        "train",
        *("--config=configs/tiny.py", f"--workdir={tmp_path / 'run'}"),
        *(f"--config.data.folder={tiny_data}", "--profile=5:4"),
    )
    assert_refused(result, 1, "--profile = '5:4'", "FIRST:LAST")
    assert not (tmp_path / "run").exists()


def events(folder):
    (path,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def traced_steps(folder):
    found = (e.get("args", {}).get("step_num") for e in events(folder))
    return sorted({int(number) for number in found if number is not None})


@pytest.mark.parametrize("steps, last", [(8, 6), (5, 5)])
def test_the_trace_holds_the_steps_asked_for(tmp_path, capsys, steps, last):
    """Cut short where training ends within it."""
    step = jax.jit(lambda x: x @ x)
    run = profiling.Traced(step, (4, 6), tmp_path / "profile", start=1)
    x = jnp.eye(8)
    for _ in range(2, steps + 1):
        x = run(x)
    run.close()
    assert traced_steps(tmp_path / "profile") == list(range(4, last + 1))
    assert list((tmp_path / "profile").glob("plugins/profile/*/*.xplane.pb"))
    said = capsys.readouterr().out
    assert f"traced steps 4 to {last}; look" in said
    assert str(tmp_path / "profile") in said


def test_steps_that_the_run_has_not_are_said(tmp_path, capsys):
    run = profiling.Traced(lambda x: x, (4, 6), tmp_path / "profile", start=7)
    run(0)
    run.close()
    assert capsys.readouterr().out == "nothing traced: not at steps 4 to 6\n"


def test_without_a_span_nothing_is_written(tmp_path):
    run = profiling.Traced(lambda x: x, None, tmp_path / "profile", start=0)
    assert [run(i) for i in range(3)] == [0, 1, 2]
    run.close()
    assert not list(tmp_path.iterdir())
