"""A run whose second step overflows: what it says, keeps, and how it is run again."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import build
from ddpm_jax.data import pipeline
from ddpm_jax.train import train
from ddpm_jax.training import monitoring, repro
from ddpm_jax.training.guards import Fault

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.fixture(scope="module")
def failed(tiny_config, tmp_path_factory):
    """(config, workdir, message): seen at step 4, when it logs and saves."""
    config = tiny_config.copy_and_resolve_references()
    config.optimizer.learning_rate = 1e30
    config.train.update(log_every=4, save_every=4)
    workdir = tmp_path_factory.mktemp("failed") / "run"
    with pytest.raises(ValueError) as raised:
        train(config, workdir)
    return config, workdir, str(raised.value)


def test_it_stops_with_step_quantity_records_and_folder(failed):
    config, workdir, message = failed
    folder = workdir / "repro" / "step_0000002"
    data = pipeline.train_iterator(config, build.condition_schema(config))
    next(data)
    ids = [row.tobytes().hex() for row in next(data)["record_id"]]
    data.close()
    assert re.match(r"loss is (nan|inf) at step 2, whose update was not made", message)
    assert f"records {', '.join(ids[:4])} and 4 more; {folder} holds" in message
    assert "\n" not in message
    assert repro.load(folder).record_ids == ids


def test_nothing_of_it_is_saved_or_logged(failed):
    _, workdir, _ = failed
    assert not list((workdir / "checksums").iterdir())
    assert monitoring.read_metrics(workdir) == []
    assert [p.name for p in (workdir / "repro").iterdir()] == ["step_0000002"]


def run_again(folder):
    """(found, values) of the document's program."""
    (code,) = re.findall("```python\n(import.*?)```", DOCUMENT.read_text(), re.DOTALL)
    scope = {}
    exec(code.replace("runs/pelvis/repro/step_0000002", str(folder)), scope)
    scope["data"].close()
    return scope["found"], np.asarray(scope["values"])


def test_what_is_run_again_is_the_step_of_the_run(tiny_config, tiny_run, tmp_path):
    """Its loss is the one that was logged, here of a sound first step."""
    config = tiny_config
    schema = build.condition_schema(config)
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    data = pipeline.train_iterator(config, schema)
    _, read = next(pipeline.prefetch(data, jax.device_put))
    data.close()
    watch = repro.Watch(tmp_path, config, step_key)
    watch.note(1, read)
    fault = Fault(jnp.int32(1), jnp.float32(0.5), jnp.float32(jnp.inf))
    with pytest.raises(ValueError, match="grad_norm is inf at step 1, whose"):
        watch.check(fault, build.model(config, schema).init(init_key))
    found, values = run_again(tmp_path / "repro" / "step_0000001")
    (logged, *_) = monitoring.read_metrics(tiny_run)
    np.testing.assert_allclose(values.mean(), logged["loss"], 1e-5)
    assert (found.loss, found.grad_norm) == (0.5, float("inf"))


def test_what_the_document_says_runs_it_again(failed, capsys):
    _, workdir, _ = failed
    found, values = run_again(workdir / "repro" / "step_0000002")
    assert found.step == 2
    assert all(np.isfinite(p).all() for p in found.params.values())
    np.testing.assert_equal(np.isfinite(found.loss), False)
    assert not np.isfinite(values).all()
    assert len(capsys.readouterr().out.splitlines()) == len(found.record_ids) == 8


def test_a_folder_that_is_none(failed, tmp_path):
    with pytest.raises(ValueError, match="no step.json here; expected a folder WORKDI"):
        repro.load(tmp_path)
    (tmp_path / "step.json").write_text("{")
    with pytest.raises(ValueError, match="no config.json here"):
        (tmp_path / "step.json").write_text("{}")
        repro.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not as training wrote it"):
        repro.load(tmp_path)
