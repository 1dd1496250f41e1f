"""The power spectrum of the images: at which noise level each detail is drowned.

An image with power S_k in ring k, corrupted to z = alpha x + sigma eps, has signal
and noise alike in that ring at logsnr = -ln S_k: a sampler has to cross all of them,
that of the mean (ring 0) too, since it starts from noise without a mean.
"""

import dataclasses
import functools

import numpy as np

MARGIN = 4.0
"""Added to both ends of the range of -ln S_k: exp(4) is 55 to 1."""


@functools.cache
def _rings(size: int) -> np.ndarray:
    frequency = np.fft.fftfreq(size, 1 / size)
    return np.rint(np.hypot(frequency[:, None], frequency)).astype(int)


def ring_sizes(size: int) -> np.ndarray:
    """How many coefficients of the 2-D DFT lie in each ring 1..size // 2."""
    return np.bincount(_rings(size).ravel())[1 : size // 2 + 1]


def radial_power(x: np.ndarray) -> np.ndarray:
    """The mean of |DFT(x)|² over each ring of integer radius, float64[size // 2].

    `x` is a square image in [-1, 1]. Entry i is ring i + 1, in cycles per image: a
    coefficient belongs to the ring nearest to its radius; the mean (radius 0) and the
    corners (beyond size // 2) belong to none. The DFT is orthonormal, so white noise
    of variance 1 has power 1 in every ring, and a · x has a² the power of x.
    """
    if x.ndim != 2 or x.shape[0] != x.shape[1] or x.shape[0] < 2:
        raise ValueError(f"image of shape {x.shape}: expected [size, size], size >= 2.")
    power = np.abs(np.fft.fft2(np.asarray(x, np.float64), norm="ortho")) ** 2
    if not np.isfinite(power).all():
        raise ValueError("image with values that are not finite: expected [-1, 1].")
    size = len(x)
    summed = np.bincount(_rings(size).ravel(), power.ravel())[1 : size // 2 + 1]
    return summed / ring_sizes(size)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """A sum of `radial_power` and of the power of the mean (ring 0) over images; two
    of them add, in any order."""

    images: int
    size: int
    total: np.ndarray
    mean: float = 0.0

    @classmethod
    def empty(cls, size: int) -> "Spectrum":
        return cls(0, size, np.zeros(size // 2))

    @classmethod
    def of(cls, x: np.ndarray) -> "Spectrum":
        mean = float(np.mean(x, dtype=np.float64) * len(x)) ** 2
        return cls(1, len(x), radial_power(x), mean)

    def __add__(self, other: "Spectrum") -> "Spectrum":
        if self.size != other.size:
            raise ValueError(
                f"spectra of sizes {self.size} and {other.size}: expected one size."
            )
        images = self.images + other.images
        mean = self.mean + other.mean
        return Spectrum(images, self.size, self.total + other.total, mean)

    def to_json(self) -> dict:
        """The mean power of each ring, and the range of logsnr for a sampler:
        the least and the largest -ln S_k, ring 0 included, 4 further out, to 0.1.

        Rings without power have no such level and do not count. ValueError if there
        is no power at all, as without images or in uniform ones.
        """
        power = self.total / max(self.images, 1)
        if not power.any():
            raise ValueError("no power in any ring: expected images that vary.")
        mean = self.mean / self.images
        level = -np.log([*power[power > 0], *([mean] if mean else [])])
        return {
            "images": self.images,
            "size": self.size,
            "power": power.tolist(),
            "mean_power": mean,
            "logsnr_low": round(float(level.min()) - MARGIN, 1),
            "logsnr_high": round(float(level.max()) + MARGIN, 1),
        }
