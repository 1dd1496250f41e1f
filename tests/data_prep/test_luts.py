"""Modality and VOI transformations, with pydicom as the oracle where it is right."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import processing

from data_prep import luts
from data_prep.codes import Rejected
from tests.dicoms import dataset, lut_item, noise

RAMP = np.arange(4096)


def header(**tags):
    return dataset(noise(0), **tags)


def test_linear_full_window_is_identity():
    found = luts.window(RAMP, 2048, 4096, "LINEAR")
    np.testing.assert_array_equal(np.rint(found * 4095), RAMP)


def test_linear_width_one_is_a_threshold():
    """C.11.2.1.2.1: at most center - 0.5 is black, above is white."""
    found = luts.window(RAMP, 100, 1, "LINEAR")
    np.testing.assert_array_equal(found, RAMP >= 100)


def test_linear_exact_has_its_middle_at_the_center():
    found = luts.window(RAMP, 100, 20, "LINEAR_EXACT")
    assert (found[90], found[100], found[110]) == (0, 0.5, 1)


def test_sigmoid_is_one_half_at_the_center_and_symmetric():
    found = luts.window(RAMP, 100, 20, "SIGMOID")
    assert found[100] == 0.5
    np.testing.assert_allclose(found[100:200], 1 - found[100:0:-1])


@pytest.mark.parametrize(
    "center, width, function",
    [
        (0, 0, "LINEAR"),
        (0, 0.5, "LINEAR"),
        (0, -3, "LINEAR"),
        (0, 0, "SIGMOID"),
        (0, 0, "LINEAR_EXACT"),
        (float("nan"), 3, "LINEAR"),
        (0, 3, "GAUSSIAN"),
    ],
)
def test_undefined_windows(center, width, function):
    assert luts.window(RAMP, center, width, function) is None


@settings(deadline=None, max_examples=60)
@given(
    center=st.integers(-1000, 5000),
    width=st.integers(2, 6000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.sampled_from([0.5, 1.0, 2.5]),
    intercept=st.integers(-1024, 1024),
)
def test_windows_agree_with_pydicom(center, width, function, slope, intercept):
    ds = header(
        WindowCenter=center,
        WindowWidth=width,
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    values = processing.apply_modality_lut(RAMP, ds)
    found, _ = luts.modality(ds, RAMP)
    np.testing.assert_allclose(found, values)
    low, high = intercept, 4095 * slope + intercept
    with np.errstate(over="ignore"):
        expected = (processing.apply_windowing(values, ds) - low) / (high - low)
    np.testing.assert_allclose(luts.voi(ds, found).shown, expected, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(
    first=st.integers(0, 4000), bits=st.sampled_from([10, 12, 16]), seed=st.integers()
)
def test_luts_agree_with_pydicom(first, bits, seed):
    rng = np.random.default_rng(abs(seed))
    data = [*rng.integers(0, 1 << bits, 300).tolist(), (1 << bits) - 1]
    ds = header(VOILUTSequence=[lut_item(first, bits, data)])
    expected = processing.apply_voi(RAMP, ds) / ((1 << bits) - 1)
    found = luts.voi(ds, RAMP)
    np.testing.assert_array_equal(found.shown, expected)
    assert (found.source, found.flags) == ("lut", frozenset())


def test_sigmoid_with_a_trailing_space():
    ds = header(VOILUTFunction="SIGMOID ")
    expected = luts.window(RAMP, 2048, 4096, "SIGMOID")
    np.testing.assert_array_equal(luts.voi(ds, RAMP).shown, expected)


EIGHT_BITS = np.minimum(RAMP, 255).astype(np.uint8)
ASKED = [0, 15, 16, 128, 255]


@pytest.mark.parametrize(
    "data",
    [
        EIGHT_BITS.tolist(),
        EIGHT_BITS.astype("<u2").tobytes(),
        EIGHT_BITS.tobytes(),
        EIGHT_BITS.view("<u2").tolist(),
    ],
    ids=["US words", "OW words", "OW packed", "US packed"],
)
def test_eight_bit_entries_of_a_long_table(data):
    """pydicom 3.0.2 gives 0, 15, 0, 0, 15 for the first, and fails on packed data."""
    ds = header(VOILUTSequence=[lut_item(0, 8, data, count=4096)])
    found = luts.voi(ds, RAMP)
    np.testing.assert_array_equal(np.rint(found.shown[ASKED] * 255), ASKED)
    assert not found.flags


def test_odd_number_of_packed_entries():
    data = bytes([0, 100, 255, 0])
    lut = luts.read_lut(lut_item(0, 8, data, count=3), signed_input=False)
    assert lut.entries.tolist() == [0, 100, 255]


def test_table_narrower_than_declared_uses_its_real_bits():
    """Agfa: 16 bits declared, 12 used."""
    ds = header(VOILUTSequence=[lut_item(0, 16, RAMP.tolist())])
    found = luts.voi(ds, RAMP)
    np.testing.assert_allclose(found.shown, RAMP / 4095)
    assert found.flags == {"BAD_LUT"}


@pytest.mark.parametrize("data", [[1, 2, 3], b"\x01\x02", []])
def test_table_shorter_than_declared(data):
    with pytest.raises(Rejected, match="BAD_LUT"):
        luts.read_lut(lut_item(0, 12, data, count=10), signed_input=False)


def test_table_of_65536_entries_is_declared_as_0():
    lut = luts.read_lut(
        lut_item(0, 16, np.arange(65536, dtype="<u2").tobytes(), count=65536 & 0xFFFF),
        signed_input=False,
    )
    assert len(lut.entries) == 65536 and not lut.repaired


def test_first_input_below_zero_may_be_read_as_unsigned():
    lut = luts.read_lut(lut_item(65536 - 5, 8, [0, 255]), signed_input=True)
    assert lut.look_up(np.array([-9, -5, -4, 7])).tolist() == [0, 0, 255, 255]


def test_big_endian_words():
    data = np.array([1, 2, 255], ">u2").tobytes()
    lut = luts.read_lut(lut_item(0, 8, data, count=3), signed_input=False, endian=">")
    assert lut.entries.tolist() == [1, 2, 255]


def test_modality_lut_of_12_bits():
    """pydicom 3.0.2 raises TypeError."""
    ds = header(ModalityLUTSequence=[lut_item(0, 12, (4095 - RAMP).tolist())])
    np.testing.assert_array_equal(luts.modality(ds, RAMP)[0], 4095 - RAMP)


@pytest.mark.parametrize(
    "tags, expected",
    [
        ({"RescaleSlope": 2}, RAMP * 2),
        ({"RescaleIntercept": -5}, RAMP - 5),
        ({}, RAMP),
    ],
)
def test_rescale_with_one_of_its_two(tags, expected):
    """pydicom 3.0.2 ignores a slope without an intercept."""
    np.testing.assert_array_equal(luts.modality(header(**tags), RAMP)[0], expected)


def test_slope_zero_is_ignored_and_flagged():
    values, flags = luts.modality(header(RescaleSlope=0, RescaleIntercept=0), RAMP)
    np.testing.assert_array_equal(values, RAMP)
    assert flags == {"BAD_LUT"}


@given(seed=st.integers(0, 99), slope=st.sampled_from([1.0, -1.0]))
@settings(deadline=None, max_examples=20)
def test_percentiles_are_numpys(seed, slope):
    pixels = np.random.default_rng(seed).integers(0, 4096, 10000)
    counts = np.bincount(pixels, minlength=4096)
    low, high = np.percentile(slope * pixels, (0.5, 99.5))
    expected = np.clip((slope * RAMP - low) / (high - low), 0, 1)
    found = luts.percentiles(slope * RAMP, counts)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_empty_elements_are_missing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = header(WindowCenter=[], WindowWidth=[])
    assert luts.voi(ds, RAMP).flags == {"VOI_MISSING"}
