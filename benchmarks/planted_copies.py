r"""Which copies of training images the evaluation's part `memorization` flags.

    python -m benchmarks.planted_copies --data quickstart/shards \
        --other quickstart/held_out_shards

Training images are those of `--data`, split `train`; its `test` split sets the
threshold; images of `--other`, which holds other patients, are no copies. Of
`--copies` training images a row changes each as it says, by the same seed every time;
shifts are drawn evenly up to the pixels given, down and right, at 64 px. Features are
all equal, so that only pixels count: with features, a copy can be found that pixels
alone miss.

What it costs, in CPU time, is measured with the training images repeated up to 20,000;
`OPENBLAS_NUM_THREADS=1` keeps waiting threads out of it.
"""

import time

import numpy as np
from absl import flags
from scipy import ndimage

from ddpm_jax import command_line
from ddpm_jax.data import records
from ddpm_jax.evaluation import copies, memorisation
from ddpm_jax.evaluation.images import FULL, of_records

FLAGS = command_line.new_flags()
DATA = flags.DEFINE_string("data", None, "Shards of 64 px.", flag_values=FLAGS)
OTHER = flags.DEFINE_string(
    "other", None, "Shards of other patients.", flag_values=FLAGS
)
COPIES = flags.DEFINE_integer(
    "copies", 200, "Of each kind.", lower_bound=1, flag_values=FLAGS
)
FRESH = flags.DEFINE_integer(
    "fresh", 500, "Images that are no copies.", lower_bound=1, flag_values=FLAGS
)
flags.mark_flags_as_required(["data", "other"], flag_values=FLAGS)

MOST, LARGE, TIMED = 5000, 20_000, 20


def mirrored(x, rng):
    return x[:, :, ::-1]


def noised(share: float):
    return lambda x, rng: x + share * FULL * rng.normal(size=x.shape)


def shifted(most: int, fill: str = "nearest", least: int = 0):
    """By whole pixels; `fill` as scipy.ndimage names it."""

    def change(x, rng):
        by = rng.integers(least, most + 1, (len(x), 2))
        by *= rng.choice((-1, 1), by.shape)
        pairs = zip(x, by, strict=True)
        return np.stack([ndimage.shift(a, b, order=0, mode=fill) for a, b in pairs])

    return change


def warped(zoom: float = 1.0, degrees: float = 0.0):
    """About the middle, by cubic splines; either way at random."""

    def change(x, rng):
        return np.stack([_warp(a, rng.choice((-1, 1))) for a in x])

    def _warp(a, sign):
        angle, scale = sign * np.deg2rad(degrees), zoom**sign
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        turn, middle = np.array([[cos, -sin], [sin, cos]]), (len(a) - 1) / 2
        offset = middle - turn @ [middle, middle]
        return ndimage.affine_transform(a, turn, offset, order=3, mode="nearest")

    return change


KINDS = {
    "plain": (),
    "mirrored": (mirrored,),
    "brighter and flatter": (lambda x, rng: 0.7 * x + 5000,),
    "blurred by 1 px": (lambda x, rng: ndimage.gaussian_filter(x, (0, 1, 1)),),
    "3 % noise": (noised(0.03),),
    "5 % noise": (noised(0.05),),
    "shifted by up to 4 px": (shifted(4),),
    "shifted by up to 6 px": (shifted(6),),
    "the same, border black": (shifted(6, "constant"),),
    "the same, border wrapped": (shifted(6, "grid-wrap"),),
    "shifted by up to 8 px": (shifted(8),),
    "up to 4 px, mirrored, 3 % noise": (shifted(4), mirrored, noised(0.03)),
    "up to 6 px, mirrored, 3 % noise": (shifted(6), mirrored, noised(0.03)),
    "6 px both ways, mirrored, 3 % noise": (shifted(6, "nearest", 6), mirrored)
    + (noised(0.03),),
    "those, border black": (shifted(6, "constant", 6), mirrored, noised(0.03)),
    "half a pixel both ways": (
        lambda x, rng: ndimage.shift(x, (0, 0.5, 0.5), order=3, mode="nearest"),
    ),
    "enlarged or shrunk by 1 %": (warped(zoom=1.01),),
    "by 2 %": (warped(zoom=1.02),),
    "by 5 %": (warped(zoom=1.05),),
    "turned by 1°": (warped(degrees=1),),
    "by 2°": (warped(degrees=2),),
    "by 3°": (warped(degrees=3),),
}


def changed(images: np.ndarray, changes, seed: int = 2) -> np.ndarray:
    rng, x = np.random.default_rng(seed), images.astype(float)
    for change in changes:
        x = change(x, rng)
    return np.uint16(np.clip(np.rint(x), 0, FULL))


def load(folder: str, split: str, most: int) -> np.ndarray:
    """uint16 [n, s, s]."""
    schema = records.load_manifest(folder).schema
    return np.stack(list(of_records(folder, split, schema, most)))


def look_up(library: copies.Library, images: np.ndarray) -> copies.Nearest:
    none = np.zeros((len(images), 1))
    return library.nearest(copies.shrink(images), none, none)


def library_of(images: np.ndarray) -> copies.Library:
    return copies.Library(copies.shrink(images), np.zeros((len(images), 1)))


def cost(training: np.ndarray, images: np.ndarray) -> None:
    for count in (len(training), LARGE):
        start = time.process_time()
        library = library_of(np.resize(training, (count, *training.shape[1:])))
        look_up(library, images[:1])
        ready = time.process_time() - start
        start = time.process_time()
        look_up(library, images[1 : 1 + TIMED])
        each = (time.process_time() - start) / TIMED
        print(
            f"{count} training images: {ready:.0f} s of CPU once and {each:.3f} s an "
            f"image, 5000 images {(ready + 5000 * each) / 60:.0f} min"
        )


def main() -> None:
    training = load(DATA.value, "train", MOST)
    held_out = load(DATA.value, "test", MOST)
    fresh = load(OTHER.value, "train", FRESH.value)
    library = library_of(training)
    near = look_up(library, held_out)
    told = memorisation.judge(look_up(library, fresh), near)
    print(f"{len(training)} training images, threshold from {len(held_out)}")
    print("\n| copies | flagged | source named |\n|---|---|---|")
    chosen = np.random.default_rng(1).choice(len(training), COPIES.value, False)
    for name, changes in KINDS.items():
        found = look_up(library, changed(training[chosen], changes))
        flagged = memorisation.judge(found, near).flagged.mean()
        named = (found.index == chosen).mean()
        print(f"| {name} | {flagged:.1%} | {named:.1%} |", flush=True)
    false = told.flagged
    print(f"| none: {len(false)} others | {false.mean():.1%} | |\n", flush=True)
    cost(training, fresh)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
