"""Small data sets for tests, through the on-disk contract alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records


def random_row(rng: np.random.Generator) -> dict:
    """Conditions drawn field by field, each not known with probability 0.1."""
    row = {
        "view": rng.choice(["AP", "lateral", "oblique"]),
        "side": rng.choice(["right", "left", "both"]),
        "prosthesis_right": rng.choice(["no", "yes"]),
        "prosthesis_left": rng.choice(["no", "yes"]),
        "sex": rng.choice(["F", "M"]),
        "age": round(float(rng.uniform(20, 90))),
        "bmi": round(float(rng.uniform(18, 45)), 1),
    }
    return {name: value for name, value in row.items() if rng.uniform() > 0.1}


def draw(row: dict, size: int, rng: np.random.Generator) -> np.ndarray:
    """uint16 [size, size], 12 bits: brightness by view, horizontal slope by side."""
    level = {"AP": 0.3, "lateral": 0.5, "oblique": 0.7}.get(row.get("view"), 0.4)
    slope = {"right": -0.2, "left": 0.2}.get(row.get("side"), 0.0)
    x = np.linspace(-1, 1, size)
    image = level + slope * x[None] + 0.01 * rng.normal(size=(size, size))
    return np.round(np.clip(image, 0, 1) * 4095).astype(np.uint16)


def write_dataset(
    folder: Path, *, size: int, counts=(("train", 32), ("test", 16)), seed: int = 0
) -> Path:
    """A finished data set of random rows under `folder`, one shard a split."""
    rng = np.random.default_rng(seed)
    template = tfds.core.ShardedFileTemplate(
        dataset_name="radiographs", data_dir=str(folder), filetype_suffix="array_record"
    )
    splits, infos = {}, []
    for split, count in counts:
        path = folder / f"radiographs-{split}.array_record-00000-of-00001"
        written = _write_shard(path, size, count, rng)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        splits[split] = (records.Shard(path.name, count, digest),)
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[count],
                num_bytes=written,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=records.features(PELVIS),
        split_infos=infos,
        filename_template=template,
        check_data=False,
    )
    manifest = records.Manifest(
        "radiographs", PELVIS, size, size, 12, "png", splits, {}, {}
    )
    (folder / records.MANIFEST).write_text(json.dumps(manifest.to_json()))
    return folder


def _write_shard(path: Path, size: int, count: int, rng) -> int:
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    written = 0
    for _ in range(count):
        row = random_row(rng)
        record = records.Record(
            record_id=rng.bytes(16),
            patient_key=rng.bytes(16),
            image=records.encode_image(draw(row, size, rng), "png"),
            codec="png",
            bits=12,
            height=size,
            width=size,
            content_box=(0, 0, size, size),
            original_rows=size,
            original_columns=size,
            spacing_mm=(0.2, 0.2),
            voi_source="window",
            inverted=False,
            flags=0,
            output_hash=rng.bytes(16),
            row=row,
        )
        data = records.serialize(record, PELVIS)
        writer.write(data)
        written += len(data)
    writer.close()
    return written
