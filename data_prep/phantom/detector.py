"""From line integrals to a displayed radiograph in [0, 1]: bright bone, dark air."""

from typing import NamedTuple

import numpy as np

from data_prep.phantom import projector

LETTERS = {
    "R": (
        ((0, 1), (0, 0), (0.42, 0), (0.6, 0.14), (0.6, 0.38), (0.42, 0.52), (0, 0.52)),
        ((0.28, 0.52), (0.64, 1)),
    ),
    "L": (((0, 0), (0, 1), (0.58, 1)),),
}


class Exposure(NamedTuple):
    """How one picture was taken and processed; `dose` is relative, `edges` px masked.

    `brightness` and `contrast` scale soft tissue and bone; `sharpness` is the
    detector's Gaussian blur, mm; `edges` the share of each side under the collimator.
    """

    dose: float
    brightness: float
    contrast: float
    sharpness: float
    edges: tuple[float, float, float, float]


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Dose varies by a third, display by 6 %; two in five show the collimator."""
    dose, brightness, contrast = np.exp(
        rng.normal(size=3).clip(-2, 2) * [0.3, 0.08, 0.06]
    )
    edges = rng.uniform(0, 0.045, 4) * (rng.random() < 0.4)
    blur = rng.uniform(0.35, 0.7)
    return Exposure(dose, brightness, contrast, blur, tuple(map(float, edges)))


def transmitted(attenuation: projector.Attenuation) -> np.ndarray:
    """Share of primary photons that reach each pixel: exp(-line integral)."""
    return np.exp(-(attenuation.soft + attenuation.bone + attenuation.metal))


def stroke(shape, lines, half_width) -> np.ndarray:
    """Coverage [rows, columns] of pixels by polylines, points in pixels (x, y)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    nearest = np.full(shape, np.inf, np.float32)
    for line in lines:
        for (ax, ay), (bx, by) in zip(line, line[1:], strict=False):
            dx, dy = bx - ax, by - ay
            along = ((columns - ax) * dx + (rows - ay) * dy) / (dx * dx + dy * dy)
            along = np.clip(along, 0, 1)
            gap = np.hypot(columns - ax - along * dx, rows - ay - along * dy)
            nearest = np.minimum(nearest, gap)
    return np.clip(half_width - nearest + 0.5, 0, 1)


def marker(letter: str, corner: tuple[bool, bool], size: int, rng) -> np.ndarray:
    """Coverage of a lead letter 12 to 14 % of the field high, in a corner.

    `corner` is (low, at the viewer's right); the letter is tilted up to 8 degrees.
    """
    height = size * rng.uniform(0.12, 0.14)
    margin = size * rng.uniform(0.055, [0.075 if corner[0] else 0.12, 0.12])
    tilt = np.radians(rng.uniform(-8, 8))
    left = size - margin[0] - 0.62 * height if corner[1] else margin[0]
    top = size - margin[1] - height if corner[0] else margin[1]
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    middle = np.array([0.3, 0.5])
    lines = [
        (np.array(line) - middle) @ turn * height + middle * height + [left, top]
        for line in LETTERS[letter]
    ]
    low = np.floor(np.maximum([top - 0.3 * height, left - 0.3 * height], 0)).astype(int)
    high = np.minimum(low + int(1.7 * height) + 2, size)
    box = stroke(high - low, [line - low[::-1] for line in lines], 0.085 * height)
    image = np.zeros((size, size), np.float32)
    image[low[0] : high[0], low[1] : high[1]] = box
    return image


def _noise(attenuation, exposure, pitch, rng):
    """Quantum noise of log signal for a grid passing 12 % of scatter per unit depth.

    The automatic exposure raises the dose up to twelvefold for a thick patient.
    """
    depth = attenuation.soft + attenuation.bone + np.minimum(attenuation.metal, 3)
    scatter = 1 + 0.12 * attenuation.soft
    automatic = min(np.exp(float(np.percentile(attenuation.soft, 75)) - 4.5), 12)
    photons = exposure.dose * automatic * 3e5 * max(pitch, 0.3) ** 2 * np.exp(-depth)
    grain = rng.standard_normal(depth.shape, np.float32)
    return grain * np.minimum(np.sqrt(scatter / photons), 0.07)


def _texture(size, pitch, rng):
    """Trabecular mottle: relative, 6 % where pixels resolve its 1.2 mm grain."""
    sigma = 1.2 / pitch
    smooth = projector.blur(size, sigma)
    mottle = smooth @ rng.standard_normal((size, size), np.float32) @ smooth.T
    return 0.06 * min(2 * sigma, 1) * mottle / np.maximum(mottle.std(), 1e-6)


def display(
    attenuation: projector.Attenuation,
    exposure: Exposure,
    lead: np.ndarray,
    field: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The picture as a reader sees it, 0 to 1: air 0, soft 0.15-0.4, bone 0.45-0.8.

    Soft tissue is compressed (power 0.75) as dynamic-range compression would, bone
    keeps its logarithmic contrast less the share scatter takes (thick patients are
    flatter and noisier), and a shoulder brings metal and lead to 1.
    """
    size = len(lead)
    pitch = field / size
    scatter = 1 / (1 + 0.06 * np.maximum(attenuation.soft - 4, 0))
    grain = _noise(attenuation, exposure, pitch, rng)
    bone = attenuation.bone * (1 + _texture(size, pitch, rng))
    bone = np.maximum(bone + grain, -0.3) * exposure.contrast * scatter
    shoulder = np.where(bone > 0, 0.72 * (1 - np.exp(-1.15 * bone)), 0.83 * bone)
    soft = 0.25 * exposure.brightness * (attenuation.soft / 4.5) ** 0.75
    tissue = np.clip(soft + shoulder, 0, 0.97)
    dense = 0.6 * attenuation.metal + 6 * lead
    picture = 1 - (1 - tissue) * np.exp(-dense)
    soften = projector.blur(size, exposure.sharpness / pitch)
    picture = soften @ picture @ soften.T
    return np.clip(picture * _open_field(size, exposure.edges), 0, 1)


def _open_field(size, edges):
    """1 where the collimator was open, 0 under its four blades."""
    top, bottom, left, right = (round(size * edge) for edge in edges)
    window = np.zeros((size, size), np.float32)
    window[top : size - bottom, left : size - right] = 1
    return window
