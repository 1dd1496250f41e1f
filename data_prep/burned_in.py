"""Text burned into the pixels, looked for by OCR: a gate and no proof.

Optional: `pip install 'ddpm_jax[ocr]'` brings rapidocr-onnxruntime (Apache), whose
models, PP-OCRv4, lie in its wheel, so that nothing is fetched when it runs.
"""

import functools

import numpy as np
from PIL import Image

SIDES = (1500, 2000)
"""The long side in pixels that the detector is shown: at 1024 it misses a quarter of
the texts that it finds here."""
FEWEST_CHARACTERS = 3
CONFIDENCE = 0.5
HEADLESS = "pip install --force-reinstall --no-deps opencv-python-headless"


def check_installed() -> None:
    """ValueError where the extra is missing or OpenCV lacks a library of the system."""
    try:
        _engine()
    except ModuleNotFoundError:
        raise ValueError(
            "--ocr: needs the extra: pip install 'ddpm_jax[ocr]'."
        ) from None
    except ImportError as error:  # opencv-python needs libGL, which servers lack
        raise ValueError(
            f"--ocr: the extra cannot be loaded ({error}); expected OpenCV without "
            f"windows: {HEADLESS}."
        ) from None


def has_text(image: np.ndarray) -> bool:
    """Whether text is seen on a displayed image, float [h, w] in [0, 1].

    Text is a line of 3 or more letters and digits, read with a confidence of 0.5 or
    more: a lone L, R or RT marker is none, LEFT is.
    """
    found, _ = _engine()(_resized(image))
    return any(
        sum(map(str.isalnum, line)) >= FEWEST_CHARACTERS and score >= CONFIDENCE
        for _, line, score in found or ()
    )


def _resized(image):
    """uint8 with its long side within SIDES."""
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    longest = max(image.shape)
    wanted = min(max(longest, SIDES[0]), SIDES[1])
    if wanted == longest:
        return pixels
    height, width = (max(1, round(side * wanted / longest)) for side in image.shape)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


@functools.cache
def _engine():
    """One for the process, on one thread: workers fill the other cores."""
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(
        text_score=CONFIDENCE,
        max_side_len=SIDES[1],
        intra_op_num_threads=1,
        inter_op_num_threads=1,
    )
