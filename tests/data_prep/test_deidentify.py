"""Pseudonyms, keys, and the record that names nobody."""

import dataclasses
import stat

import numpy as np
import pytest

from data_prep import deidentify
from data_prep.codes import Rejected
from data_prep.deidentify import Ids, build_record, load_key, make_key, safe_row
from data_prep.picture import fit
from data_prep.splits import check_disjoint
from ddpm_jax.data import records
from ddpm_jax.data.splits import parse_splits, split_of
from tests.dicoms import noise, ramp, read, save

IDS = Ids(b"a key for tests, sixteen or more")


def record(radiograph, **options):
    defaults = {"ids": IDS, "patient_key": bytes(16), "codec": "htj2k", "bits": 12}
    options = defaults | options
    picture = fit(radiograph, 64, options["bits"])
    return build_record(picture, {"age": 97.0}, **options)


def test_ids_depend_on_key_kind_and_value():
    other = Ids(b"another key of sixteen or more bytes")
    same = {IDS.patient("|7"), Ids(b"a key for tests, sixteen or more").patient("|7")}
    assert len(same) == 1
    assert other.patient("|7") != IDS.patient("|7") != IDS.patient("A|7")
    assert IDS.patient("x").hex() != IDS.file("x") != IDS.record(b"x").hex()
    assert other.key_id() != IDS.key_id()
    assert len(IDS.patient("x")) == len(IDS.record(b"x")) == 16


@pytest.mark.parametrize("age, kept", [(89, 89), (90, 90), (97, 90), (None, None)])
def test_oldest_age(age, kept):
    assert safe_row({"age": age, "bmi": 23.456}) == {"age": kept, "bmi": 23.5}


def test_raw_ramp_is_stored_exactly(tmp_path):
    stored = record(read(save(tmp_path / "a.dcm", ramp())))
    pixels = records.decode_image(stored.image, stored.codec)
    np.testing.assert_array_equal(pixels, ramp())
    assert stored.output_hash == records.image_hash(ramp())
    assert stored.row == {"age": 90}


def test_record_holds_only_what_it_names(tmp_path):
    tags = {"PatientName": "CANARY", "StudyDate": "20200101", "PatientID": "CANARY"}
    stored = record(read(save(tmp_path / "CANARY.dcm", noise(1), **tags)))
    assert "CANARY" not in repr(stored) and "2020" not in repr(stored)
    assert {field.name for field in dataclasses.fields(stored)} == {
        field.name for field in dataclasses.fields(records.Record)
    }


def test_spacing_is_that_of_the_stored_pixels(tmp_path):
    path = save(tmp_path / "a.dcm", noise(2, (128, 96)), PixelSpacing=[0.2, 0.2])
    stored = record(read(path))
    assert stored.spacing_mm == pytest.approx((0.4, 0.4))
    assert (stored.original_rows, stored.original_columns) == (128, 96)
    assert stored.content_box == (0, 8, 64, 56)


def test_flags_of_pixels_and_label_together(tmp_path):
    path = save(tmp_path / "a.dcm", noise(3), PresentationLUTShape="INVERSE")
    stored = record(read(path), flags=["LABEL_RANGE"])
    assert stored.flags == records.flag_bits(["POLARITY_CONFLICT", "LABEL_RANGE"])


def test_blank_image(tmp_path):
    blank = noise(4) % 8 + 2000
    with pytest.raises(Rejected, match="BLANK"):
        record(read(save(tmp_path / "a.dcm", blank)))


def test_codec_that_loses_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "decode_image", lambda data, codec: np.zeros((64, 64)))
    with pytest.raises(Rejected, match="ENCODE_ERROR"):
        record(read(save(tmp_path / "a.dcm", noise(5))))


def test_new_key_is_private_and_never_replaced(tmp_path):
    path = tmp_path / "sub" / "key"
    make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(load_key(path, tmp_path / "out")) == 64
    with pytest.raises(ValueError, match="there already"):
        make_key(path)


def test_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv(deidentify.ENVIRONMENT, raising=False)
    with pytest.raises(ValueError, match="NO_KEY.*--make_key"):
        load_key(None, tmp_path)
    with pytest.raises(ValueError, match="NO_KEY.*no such file"):
        load_key(tmp_path / "none", tmp_path / "out")


def test_key_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(deidentify.ENVIRONMENT, "0123456789abcdef")
    assert load_key(None, tmp_path) == b"0123456789abcdef"


def test_key_that_is_not_safe(tmp_path):
    path = tmp_path / "out" / "key"
    make_key(path)
    with pytest.raises(ValueError, match="NO_KEY.*lies inside"):
        load_key(path, tmp_path / "out")
    path.chmod(0o640)
    with pytest.raises(ValueError, match="NO_KEY.*others may read"):
        load_key(path, tmp_path / "elsewhere")
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(ValueError, match="NO_KEY.*5 bytes"):
        load_key(path, tmp_path / "elsewhere")


def test_splits_hold_their_shares_and_never_move():
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}
    keys = [IDS.patient(str(i)) for i in range(4000)]
    found = [split_of(key, shares) for key in keys]
    for name, share in shares.items():
        assert found.count(name) / 4000 == pytest.approx(share, abs=0.03)
    assert found == [split_of(key, shares) for key in keys]


def test_parse_splits():
    assert parse_splits(["train=0.9", "test=0.1"]) == {"train": 0.9, "test": 0.1}


@pytest.mark.parametrize(
    "entries, message",
    [
        (["train"], "above 0"),
        (["train=x"], "above 0"),
        (["train=1", "test=0"], "above 0"),
        (["train=0.5", "test=0.4"], "add up to 0.9"),
        (["train=0.5", "train=0.5"], "each name once"),
        (["../x=1"], "small letters"),
    ],
)
def test_parse_splits_says_what_is_wrong(entries, message):
    with pytest.raises(ValueError, match=message):
        parse_splits(entries)


def test_split_leak():
    check_disjoint({"train": ["a", "b", "a"], "test": ["c"]})
    with pytest.raises(ValueError, match="SPLIT_LEAK"):
        check_disjoint({"train": ["a", "b"], "test": ["b"]})
