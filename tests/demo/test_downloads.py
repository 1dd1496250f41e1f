"""Files of the page: PNG and DICOM that read back, a ZIP that can be asked again."""

import io
import zipfile

import numpy as np
import pydicom
import pytest

from ddpm_jax.demo import downloads
from ddpm_jax.demo.asking import Setting
from ddpm_jax.outputs import png, requests

SHA = "ab" * 32


@pytest.fixture
def items(studio):
    schema = studio.sampler.schema
    settings = [
        Setting(schema.parse({"view": "AP", "sex": sex}), 2.5, 8, "") for sex in "FM"
    ]
    return [
        downloads.Item(image, setting, seed)
        for setting in settings
        for seed, image in enumerate(studio.images(setting, range(2)))
    ]


def test_png_holds_the_16_bits(items, studio):
    path = downloads.write(items[:1], "png", studio.sampler.schema, SHA)
    np.testing.assert_array_equal(png.decode(path.read_bytes()), items[0].image)
    assert path.name.startswith("synthetic_") and path.suffix == ".png"


def test_dicom_says_what_it_is(items, studio):
    path = downloads.write(items[1:2], "dicom", studio.sampler.schema, SHA)
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(dataset.pixel_array, items[1].image)
    assert dataset.SyntheticData == "YES" and dataset.PatientSex == "F"
    assert SHA in dataset.DerivationDescription


@pytest.mark.parametrize("kind", ["png", "dicom"])
def test_a_zip_holds_all_and_its_manifest_is_a_request(items, studio, kind, tmp_path):
    schema = studio.sampler.schema
    data = downloads.write(items, kind, schema, SHA).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        (tmp_path / "manifest.csv").write_bytes(archive.read("manifest.csv"))
    assert len(names) == 1 + len(items)
    rows = requests.read_conditions(str(tmp_path / "manifest.csv"), schema)
    assert [(row, seed) for row, seed, _ in rows] == [
        (item.setting.row, item.seed) for item in items
    ]


def test_folders_do_not_add_up(items, studio):
    paths = [
        downloads.write(items[:1], "png", studio.sampler.schema, SHA)
        for _ in range(2 * downloads.KEPT)
    ]
    assert [path.exists() for path in paths] == [False] * downloads.KEPT + [
        True
    ] * downloads.KEPT


def test_format_that_there_is_not(items, studio):
    with pytest.raises(ValueError, match="format = 'gif': expected one of png, dicom"):
        downloads.write(items, "gif", studio.sampler.schema, SHA)
