"""Read a finished data set from end to end and name every fault, one a line.

python -m data_prep.verify --data data
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep.manifest import check_ledger
from data_prep.splits import check_disjoint
from ddpm_jax import command_line
from ddpm_jax.data import records
from ddpm_jax.data.shards import read_entries

FLAGS = command_line.new_flags()
DATA = flags.DEFINE_string(
    "data", None, "The --out folder of data_prep.convert.", flag_values=FLAGS
)


def faults(folder: Path) -> Iterator[str]:
    """What is wrong with a data set; nothing if all of it is as the manifest says."""
    manifest = records.load_manifest(folder)
    yield from check_ledger(manifest)
    yield from _metadata(folder, manifest)
    yield from _stray(folder, manifest)
    split_of, patients = {}, {split: set() for split in manifest.splits}
    total = sum(map(manifest.count, manifest.splits))
    with tqdm(total=total, desc="verifying", unit="record") as bar:
        for split, shards in manifest.splits.items():
            for shard in shards:
                yield from _shard_faults(folder / shard.file, shard)
                for example in _examples(folder / shard.file, manifest):
                    bar.update()
                    key = example["record_id"].hex()
                    if key in split_of:
                        yield f"record {key}: in {split_of[key]} and again in {split}"
                    split_of[key] = split
                    patients[split].add(example["patient_key"])
                    yield from _record_faults(key, example, manifest)
    try:
        check_disjoint(patients)
    except ValueError as error:
        yield str(error)


def _shard_faults(path: Path, shard: records.Shard) -> Iterator[str]:
    if not path.is_file():
        yield f"{shard.file}: is missing"
        return
    if records.file_digest(path) != shard.sha256:
        yield f"{shard.file}: its sha256 is not the manifest's"
    readable = 0
    with contextlib.suppress(ValueError):
        for _ in read_entries(path):
            readable += 1
    if readable != shard.records:
        yield (
            f"{shard.file}: {readable} readable records, the manifest says "
            f"{shard.records}"
        )


def _metadata(folder, manifest):
    """TFDS's own files must tell of the same splits and records."""
    import tensorflow_datasets as tfds

    try:
        found = tfds.builder_from_directory(str(folder)).info.splits
        counts = {name: split.num_examples for name, split in found.items()}
    except Exception:  # whatever TFDS makes of a damaged file
        yield "dataset_info.json, features.json: TFDS cannot read them"
        return
    for split in manifest.splits:
        if counts.get(split, 0) != manifest.count(split):
            yield (
                f"dataset_info.json: {counts.get(split, 0)} records in {split}, the "
                f"manifest says {manifest.count(split)}"
            )


def _stray(folder, manifest):
    named = {s.file for shards in manifest.splits.values() for s in shards}
    for path in sorted(folder.glob("*.array_record-*")):
        if path.name.removesuffix(".json") not in named:
            yield f"{path.name}: the manifest does not know it"


def _examples(path, manifest) -> Iterator[dict]:
    """The examples of a shard, as far as they can be read."""
    features = records.features(manifest.schema)
    try:
        for entry in read_entries(path):
            yield features.deserialize_example_np(entry)
    except Exception:  # flipped bits raise anything; `_shard_faults` has told of them
        return


def _record_faults(
    key: str, example: Mapping, manifest: records.Manifest
) -> Iterator[str]:
    codec = example["codec"].decode(errors="replace")
    try:
        pixels = records.decode_image(example["image"], codec)
    except Exception:
        yield f"record {key}: its image cannot be decoded"
        return
    if codec != manifest.codec:
        yield f"record {key}: its codec is not the manifest's"
    if records.image_hash(pixels) != example["output_hash"]:
        yield f"record {key}: its image is not the one that was written"
    if not pixels.shape == (manifest.height, manifest.width):
        yield f"record {key}: its image is {pixels.shape[0]} by {pixels.shape[1]}"
        return
    if pixels.max() >= 1 << manifest.bits:
        yield f"record {key}: its image has more than {manifest.bits} bits"
    top, left, bottom, right = example["content_box"]
    if not 0 <= top < bottom <= manifest.height or not (
        0 <= left < right <= manifest.width
    ):
        yield f"record {key}: its content box is not inside the image"
        return
    outside = np.ones(pixels.shape, bool)
    outside[top:bottom, left:right] = False
    if pixels[outside].any():
        yield f"record {key}: its image is not 0 outside its content box"


def main() -> None:
    command_line.require(FLAGS, "data")
    count = 0
    for fault in faults(Path(DATA.value)):
        tqdm.write(fault)
        count += 1
    if count:
        raise ValueError(f"{DATA.value}: {count} faults, listed above.")
    print(f"{DATA.value}: all records are as they were written.")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
