"""What would leave the machine, asked of a stand-in for the client."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest

from configs import pelvis_1024, tiny
from ddpm_jax.training import monitoring
from ddpm_jax.training import weights_and_biases as wb


class Client(types.ModuleType):
    """`wandb`, as far as it is used; keeps what it is given."""

    Error = type("Error", (Exception,), {})
    Settings = dict

    def __init__(self, error=None):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="here")
        self.error, self.started, self.sent = error, [], []
        self.config = types.SimpleNamespace(update=self.sent.append)

    def init(self, **options):
        if self.error:
            raise self.Error(self.error)
        self.started.append(options)
        return self

    def log(self, values, step):
        self.sent.append((step, values))

    def finish(self):
        self.sent.append("finished")


@pytest.fixture
def client(monkeypatch):
    client = Client()
    monkeypatch.setitem(sys.modules, "wandb", client)
    return client


def write_all(folder, config):
    writer = monitoring.make_writer(folder, 0, "hips")
    writer.write_hparams(config.to_dict())
    writer.write_scalars(3, {"loss": np.float32(0.5)})
    writer.write_texts(3, {"parameters": "table"})
    writer.write_images(3, {"samples": np.zeros((8, 8, 1), np.uint8)})
    writer.flush()
    writer.close()


def test_scalars_and_the_model_s_config_are_all_that_is_sent(client, tmp_path):
    config = pelvis_1024.get_config()
    config.data.folder = "archive/of/somebody"
    write_all(tmp_path, config)
    sent, scalars, end = client.sent
    assert sent["model"]["emb"] == 768 and not {"data", "conditioning"} & sent.keys()
    assert "somebody" not in str(client.sent)
    assert scalars == (3, {"loss": 0.5}) and end == "finished"
    (started,) = client.started
    assert started["project"] == "hips" and started["dir"] == str(tmp_path)
    assert started["settings"] == wb.NOTHING_ELSE


def test_a_run_that_goes_on_keeps_its_identity(client, tmp_path):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path, tmp_path / "other"):
        write_all(folder, tiny.get_config())
    one, again, other = (started["id"] for started in client.started)
    assert one == again != other


def test_off_by_default(client, tmp_path):
    assert tiny.get_config().train.wandb == ""
    monitoring.make_writer(tmp_path, 0, "").close()
    assert not client.started and not (tmp_path / "wandb_id").exists()


def test_what_the_client_refuses_is_one_line(client, tmp_path):
    client.error = "api_key not configured (no-tty).\nCall wandb.login()."
    with pytest.raises(ValueError, match="config.train.wandb = 'hips': api_key") as it:
        wb.WeightsAndBiases("hips", tmp_path)
    assert "\n" not in str(it.value) and "WANDB_MODE=offline" in str(it.value)


def test_a_missing_package_is_said_before_data(monkeypatch):
    config = tiny.get_config()
    wb.check(config)
    config.train.wandb = "hips"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="'hips': needs Weights .* `pip install wandb"):
        wb.check(config)
