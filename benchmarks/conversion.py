"""Images a second and core, into a data set and out of it again.

    python -m benchmarks.conversion [--only image,reading] [--repeats 12]

image: an open DICOM file of 3000 x 2500, 12 bits in 16, to the record of a data set
at 1024 x 1024 (12-bit HTJ2K, decoded again and compared), as `data_prep.convert`
makes it, against a plain loop that checks nothing and stores nothing: pydicom.dcmread,
.pixel_array and Pillow's bicubic resize in float. The same files in the same run, in
turn; encapsulated ones are decoded by imagecodecs on both sides.

reading: shards of such records to batches, as `ddpm_jax.train` reads them, with two
reading threads and no worker processes.

The pictures are noise with a power spectrum of 1 / k^3, as radiographs have, blurred
as by a detector, and 2.5 grey levels of white noise: 0.67 MB a record, where NEMA's
real hip takes 0.50 and its chest 0.82. Times are processor time of this process, all
threads together, median of the repeats. Not in here: checks and starts of worker
processes.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections
import numpy as np
import pydicom
import tensorflow_datasets as tfds
from absl import flags
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless

from data_prep import decode, deidentify, dicom, picture
from ddpm_jax import command_line
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import pipeline, records
from ddpm_jax.data.shards import OPTIONS
from tests import dicoms

FLAGS = command_line.new_flags()
ONLY = flags.DEFINE_list(
    "only", ["image", "reading"], "What to time.", flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer("repeats", 12, "Of each time.", flag_values=FLAGS)

SHAPE = (3000, 2500)
SIZE = 1024
BITS = 12
SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "JPEG Lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
}
IDS = deidentify.Ids(b"benchmark" * 4)


def radiograph(seed: int) -> np.ndarray:
    """uint16 SHAPE in 12 bits, mean 2000, deviation 500; k in cycles a pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = SHAPE
    k = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns))
    k[0, 0] = np.inf
    amplitude = k**-1.5 * np.exp(-((k / 0.1) ** 2))
    white = np.fft.rfft2(rng.standard_normal(SHAPE))
    smooth = np.fft.irfft2(white * amplitude, s=SHAPE)
    grey = 2000 + 500 * smooth / smooth.std() + 2.5 * rng.standard_normal(SHAPE)
    return np.clip(np.rint(grey), 0, 4095).astype(np.uint16)


def convert(path: Path) -> records.Record:
    """Our path, from the file to the record."""
    with dicom.open_regular(path, path.parent) as file:
        shown = dicom.read(file)
    return deidentify.build_record(
        picture.fit(shown, SIZE, BITS),
        {},
        ids=IDS,
        patient_key=b"p" * 16,
        codec="htj2k",
    )


def plain(path: Path) -> np.ndarray:
    """The loop that everybody writes first."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID in decode.ENCAPSULATED:
        dataset.pixel_array_options(decoding_plugin=decode.PLUGIN)
    image = Image.fromarray(dataset.pixel_array.astype(np.float32))
    scale = SIZE / max(image.size)
    size = [round(side * scale) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def seconds(call: Callable, *arguments) -> float:
    """Processor time of one call, over all threads."""
    start = time.process_time()
    call(*arguments)
    return time.process_time() - start


def time_image(folder: Path) -> Iterator[str]:
    """A line a transfer syntax: ours, the plain loop, and how often ours is faster."""
    pictures = [radiograph(seed) for seed in range(2)]
    for name, syntax in SYNTAXES.items():
        paths = [
            dicoms.save(folder / f"{i}.dcm", pixels, syntax)
            for i, pixels in enumerate(pictures)
        ]
        ours, loop = [], []
        for i in range(REPEATS.value):
            path = paths[i % len(paths)]
            ours.append(seconds(convert, path))
            loop.append(seconds(plain, path))
        ours, loop = 1 / statistics.median(ours), 1 / statistics.median(loop)
        yield (
            f"{name:14} ours {ours:5.1f}   plain loop {loop:5.1f} images/s/core   "
            f"ratio {ours / loop:.2f}"
        )


def write_shards(folder: Path, count: int, shards: int = 2) -> None:
    """A data set with `count` records a shard, out of two pictures."""
    made = [
        records.serialize(
            convert(dicoms.save(folder / f"{i}.dcm", radiograph(i))), PELVIS
        )
        for i in range(2)
    ]
    names = [f"r-train.array_record-{i:05d}-of-{shards:05d}" for i in range(shards)]
    for name in names:
        writer = ArrayRecordWriter(str(folder / name), OPTIONS)
        for i in range(count):
            writer.write(made[i % len(made)])
        writer.close()
    files = tuple(records.Shard(name, count, "") for name in names)
    write_metadata(folder, files, count * shards * len(made[0]))


def write_metadata(folder: Path, shards: tuple[records.Shard, ...], size: int) -> None:
    """What TFDS and `records.open_split` ask for."""
    template = tfds.core.ShardedFileTemplate(
        dataset_name="r", data_dir=str(folder), filetype_suffix="array_record"
    )
    info = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[shard.records for shard in shards],
        num_bytes=size,
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=records.features(PELVIS),
        split_infos=[info],
        filename_template=template,
        check_data=False,
    )
    manifest = records.Manifest(
        "r",
        PELVIS,
        SIZE,
        SIZE,
        BITS,
        "htj2k",
        {"train": shards},
        ledger={},
        settings={},
    )
    (folder / records.MANIFEST).write_text(json.dumps(manifest.to_json()))


def time_reading(folder: Path, batch: int = 32) -> Iterator[str]:
    """The rate of `pipeline.train_iterator` when as much is read ahead as later."""
    write_shards(folder, count=128)
    config = ml_collections.ConfigDict(
        {
            "seed": 0,
            "data": {
                "folder": str(folder), "split": "train", "batch": batch, "workers": 0
            },
        }
    )  # fmt: skip
    iterator = pipeline.train_iterator(config, PELVIS)
    count = max(REPEATS.value, 5 * pipeline.BATCHES_AHEAD)
    for _ in range(2 * pipeline.BATCHES_AHEAD):
        next(iterator)
    spent = seconds(lambda: sum(len(next(iterator)["image"]) for _ in range(count)))
    rate = batch * count / spent
    yield f"reading        {rate:5.0f} images/s/core at {SIZE} x {SIZE}, HTJ2K"


TIMERS = {"image": time_image, "reading": time_reading}


def main() -> None:
    for name in ONLY.value:
        if name not in TIMERS:
            raise ValueError(f"--only {name}: expected some of {', '.join(TIMERS)}.")
    for name in ONLY.value:
        with tempfile.TemporaryDirectory() as folder:
            for line in TIMERS[name](Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
