import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from data_prep import burned_in, dicom

NEEDS_OCR = "rapidocr_onnxruntime"


def background(height: int) -> np.ndarray:
    """A soft oval with a bright shaft, on black, with noise."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -0.8 : 0.8 : round(0.8 * height) * 1j]
    oval = 0.5 * np.exp(-(((x**2 + y**2) / 0.3) ** 2))
    shaft = 0.3 * np.exp(-(((x - 0.2) / 0.1) ** 2)) * (y > 0)
    noise = np.random.default_rng(0).normal(0, 0.02, x.shape)
    return np.clip(oval + shaft + noise, 0, 1).astype(np.float32)


def write(image: np.ndarray, text: str, row: float, column: float, pixels: int, grey):
    """`image` with `text` in letters of `pixels`, its corner at fractions of it."""
    height, width = image.shape
    mask = Image.new("L", (width, height))
    corner = column * width, row * height
    font = ImageFont.load_default(pixels)
    ImageDraw.Draw(mask).text(corner, text, fill=255, font=font)
    share = np.asarray(mask, np.float32) / 255
    return image * (1 - share) + grey * share


@pytest.mark.parametrize(
    ("height", "row", "column", "pixels", "grey", "ground"),
    [
        (1600, 0.03, 0.03, 26, 1.0, "dark"),
        (1024, 0.93, 0.6, 16, 1.0, "dark"),
        (2400, 0.5, 0.4, 50, 1.0, "dark"),
        (1600, 0.05, 0.55, 30, 0.0, "bright"),
    ],
)
def test_a_name_is_seen(height, row, column, pixels, grey, ground):
    pytest.importorskip(NEEDS_OCR)
    image = background(height)
    image = 1 - image if ground == "bright" else image
    image = write(image, "DOE^JANE", row, column, pixels, grey)
    assert burned_in.has_text(image.astype(np.float32))


@pytest.mark.parametrize("marker", ["", "L", "R", "RT"])
def test_a_marker_passes(marker):
    pytest.importorskip(NEEDS_OCR)
    image = write(background(1600), marker, 0.1, 0.1, 70, 1.0)
    assert not burned_in.has_text(image)


def test_a_real_hip_without_text_passes(shared_data):
    pytest.importorskip(NEEDS_OCR)
    with (shared_data / "dicom/radiographs/RG2_HIP_unc.dcm").open("rb") as file:
        assert not burned_in.has_text(dicom.read(file).image)


def test_it_works_under_the_limits_of_a_reading_child(tmp_path):
    pytest.importorskip(NEEDS_OCR)
    np.save(tmp_path / "x.npy", write(background(1600), "DOE^JANE", 0.1, 0.1, 30, 1.0))
    program = (
        "import resource, sys, numpy as np\n"
        "from data_prep import burned_in\n"
        "for name, most in ('AS', 3 << 30), ('NOFILE', 32), ('FSIZE', 0):\n"
        "    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (most, most))\n"
        "print(burned_in.has_text(np.load(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.npy")],
        env={"PYTHONPATH": str(Path(burned_in.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "True\n", done.stderr


@pytest.fixture
def no_engine():
    burned_in._engine.cache_clear()
    yield
    burned_in._engine.cache_clear()


def test_a_missing_extra_is_named(monkeypatch, no_engine):
    monkeypatch.setitem(sys.modules, NEEDS_OCR, None)
    with pytest.raises(ValueError, match=r"--ocr: needs the extra: .*ddpm_jax\[ocr\]"):
        burned_in.check_installed()


def test_a_missing_system_library_is_named(monkeypatch, no_engine, tmp_path):
    """What opencv-python says on a machine without a display's libraries."""
    (tmp_path / f"{NEEDS_OCR}.py").write_text("raise ImportError('libGL.so.1: no')")
    monkeypatch.delitem(sys.modules, NEEDS_OCR, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"libGL.*opencv-python-headless"):
        burned_in.check_installed()
    sys.modules.pop(NEEDS_OCR, None)
