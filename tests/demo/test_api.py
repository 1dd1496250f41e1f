"""What gradio_client gets: images, files, one line for a mistake, a place in the queue.

Every refusal is followed by a request that works: the server goes on.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("gradio_client")

from gradio_client import Client  # noqa: E402

from ddpm_jax.conditions.schema import Schema  # noqa: E402
from ddpm_jax.outputs import png  # noqa: E402

PROMPT = "AP pelvis, both hips, 67-year-old woman"


def connect(address, tmp_path, **options):
    return Client(address, verbose=False, download_files=str(tmp_path), **options)


@pytest.fixture
def client(address, tmp_path):
    client = connect(address, tmp_path)
    yield client
    client.close()


def sample(client, **asked):
    return client.predict(**({"steps": 8} | asked), api_name="/sample")


def test_schema_and_limits(client, studio, limit):
    told = client.predict(api_name="/schema")
    assert Schema.from_json(told["schema"]) == studio.sampler.schema
    assert told["steps"]["allowed"] == list(limit.steps)
    assert told["most_images"] == 4 and len(told["model_sha256"]) == 64


def test_understand(client, studio):
    row = client.predict(PROMPT, api_name="/understand")
    expected = {"view": "AP", "side": "both", "age": 67.0, "sex": "F"}
    assert {k: v for k, v in row.items() if v is not None} == expected
    assert list(row) == list(studio.sampler.schema.names)


def test_png_is_what_the_sampler_makes(client, studio):
    files, asked = sample(client, prompt=PROMPT, seed=5, count=3, guidance=2)
    images = np.stack([png.decode(Path(file).read_bytes()) for file in files])
    expected = studio.sampler.sample(
        PROMPT, range(5, 8), steps=8, guidance=2.0, batch=studio.batch
    )
    np.testing.assert_array_equal(images, expected)
    assert [each["seed"] for each in asked] == [5, 6, 7]
    assert asked[0]["age"] == 67 and asked[0]["guidance"] == 2


def test_dicom(client):
    files, _ = sample(client, conditions={"view": "lateral", "age": 50}, format="dicom")
    dataset = pydicom.dcmread(files[0])
    assert dataset.SyntheticData == "YES" and dataset.PatientAge == "050Y"


def test_prompt_and_conditions_together(client):
    _, asked = sample(client, prompt="AP", conditions={"age": 50})
    assert (asked[0]["view"], asked[0]["age"]) == ("AP", 50)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"prompt": "AP skull"}, "cannot read 'skull'"),
        ({"prompt": "AP " * 101}, "prompt of 303 characters: expected 300"),
        ({"conditions": {"age": 500}}, "age = 500: expected a number from 0 to 120"),
        ({"conditions": {"agee": 5}}, "agee"),
        ({"conditions": [1]}, "conditions: expected a mapping"),
        ({"prompt": "AP", "conditions": {"view": "lateral"}}, "prompt says view = AP"),
        ({"count": 5}, "count = 5: expected a whole number from 1 to 4"),
        ({"count": 10**12}, "count"),
        ({"steps": 10**6}, "steps = 1000000: expected one of"),
        ({"seed": "abc"}, "seed = abc: expected a number"),
        ({"seed": -1}, "seed = -1: expected a whole number from 0"),
        ({"guidance": "nan"}, "guidance = nan: expected a number"),
        ({"guidance": 1000}, "guidance = 1000: expected a number from 0 to 20"),
        ({"format": "exe"}, "format = 'exe': expected one of png, dicom"),
    ],
)
def test_mistakes_are_one_line(client, asked, message):
    with pytest.raises(Exception) as refused:
        sample(client, **asked)
    assert message in str(refused.value) and "Traceback" not in str(refused.value)
    files, _ = sample(client, prompt="AP")
    assert len(files) == 1


def test_nan_in_a_request_of_another_client(address, client):
    """JSON has no NaN, but Python's json writes it."""
    import httpx

    answer = httpx.post(
        f"{address}gradio_api/call/sample",
        content='{"data": ["AP", {}, 0, 1, NaN, null, "png"]}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code < 600 and not math.isnan(answer.status_code)
    assert len(sample(client, prompt="AP")[0]) == 1


def test_twenty_clients_at_once_are_served(address, tmp_path):
    def one(i):
        client = connect(address, tmp_path / str(i))
        try:
            return png.decode(Path(sample(client, seed=i)[0][0]).read_bytes())
        finally:
            client.close()

    with ThreadPoolExecutor(20) as threads:
        images = list(threads.map(one, range(20)))
    assert len({image.tobytes() for image in images}) == 20


def test_of_twenty_clients_those_beyond_the_queue_are_told(serve, tmp_path):
    address = serve(queue=2)

    def one(i):
        client = connect(address, tmp_path / str(i))
        try:
            return len(sample(client, seed=100 + i, count=4, steps=64)[0])
        except Exception as error:
            return str(error)
        finally:
            client.close()

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(one, range(20)))
    served = [answer for answer in answers if answer == 4]
    told = [answer for answer in answers if answer != 4]
    assert served and told and all("ueue is full" in answer for answer in told), answers
    assert one(0) == 4


def test_a_full_queue_is_told_in_words(full, tmp_path):
    """gradio_client has words of its own for status 503."""
    import httpx

    asked = {"data": ["AP", {}, 0, 1, 2.0, 8, "png"]}
    answer = httpx.post(f"{full}gradio_api/call/sample", json=asked)
    said = "busy: 1 request waits already; try again in a minute."
    assert (answer.status_code, answer.json()) == (503, {"detail": said})
    assert answer.headers["retry-after"] == "60"
    client = connect(full, tmp_path)
    with pytest.raises(Exception, match="Queue is full! Please try again"):
        sample(client)
    client.close()


def test_auth(serve, tmp_path):
    import httpx

    address = serve(users=[("ada", "secret")])
    for path in ("gradio_api/info", "config", "gradio_api/call/sample"):
        assert httpx.get(address + path).status_code in (401, 403, 405)
    blind = {"data": ["AP", {}, 0, 1, 2, 8, "png"]}
    asked = httpx.post(f"{address}gradio_api/call/sample", json=blind)
    assert asked.status_code == 401
    with pytest.raises(Exception, match="[Aa]uth|[Ll]ogin|credentials"):
        connect(address, tmp_path, auth=("ada", "wrong"))
    client = connect(address, tmp_path, auth=("ada", "secret"))
    assert len(sample(client, prompt="AP")[0]) == 1
    client.close()
