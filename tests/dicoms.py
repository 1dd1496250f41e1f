"""DICOM files made for a test: the smallest ones that show what is tested."""

import csv
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from data_prep import dicom

ENCODERS = {
    JPEG2000Lossless: lambda x: imagecodecs.jpeg2k_encode(
        x, codecformat="j2k", level=0
    ),
    HTJ2KLossless: imagecodecs.htj2k_encode,
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLosslessSV1: lambda x: imagecodecs.ljpeg_encode(x, bitspersample=12),
}
LOSSLESS = (*ENCODERS, RLELossless)


def ramp(size: int = 64) -> np.ndarray:
    """All 4096 stored values of 12 bits once, if `size` is 64."""
    return np.arange(size * size, dtype=np.uint16).reshape(size, size)


def noise(seed: int, shape=(24, 20)) -> np.ndarray:
    """12-bit pixels that no other seed has."""
    return np.random.default_rng(seed).integers(0, 4096, shape, np.uint16)


def dataset(pixels: np.ndarray, **tags) -> Dataset:
    """A CR image of `pixels`; `tags` set elements, None removes one."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = dicom.CR
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[pixels.tobytes().hex()])
    ds.Modality = "CR"
    ds.PatientID = "7"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    ds.BitsAllocated = 8 * pixels.itemsize
    ds.BitsStored = 12 if pixels.itemsize == 2 else 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = pixels.tobytes()
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def save(path: Path, pixels: np.ndarray, syntax=ExplicitVRLittleEndian, **tags) -> Path:
    """The file of `dataset(pixels, **tags)` under a transfer syntax."""
    ds = dataset(pixels, **tags)
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    elif syntax in ENCODERS:
        ds.PixelData = encapsulate([bytes(ENCODERS[syntax](pixels))])
        ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def read(path: Path, accept: dicom.Accept = dicom.GREY_CR_DX) -> dicom.Radiograph:
    with dicom.open_regular(path, path.parent) as file:
        return dicom.read(file, accept)


def scan(path: Path, root: Path | None = None) -> dicom.Header:
    with dicom.open_regular(path, root or path.parent) as file:
        return dicom.scan(file)


def shown(path: Path, pixels: np.ndarray, **tags) -> np.ndarray:
    """The displayed image of `pixels`, by way of a file."""
    return read(save(path, pixels, **tags)).image


def lut_item(first: int, bits: int, data, count: int | None = None) -> Dataset:
    """An item of a Modality or VOI LUT Sequence; bytes are OW, a list is US."""
    item = Dataset()
    item.LUTDescriptor = [len(data) if count is None else count, first, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return item


def archive(folder: Path, count: int = 12, patients: int = 6) -> tuple[Path, Path]:
    """(archive, label table) of `count` images of several patients."""
    rows = []
    for i in range(count):
        path = save(
            folder / "archive" / f"{i:03d}.dcm",
            noise(i),
            PatientID=f"P{i % patients}",
            SOPInstanceUID=f"1.2.3.{i}",
        )
        rows.append(
            {
                "sop_instance_uid": f"1.2.3.{i}",
                "file": path.name,
                "view": ("AP", "lateral", "oblique", "")[i % 4],
                "side": ("right", "left", "both")[i % 3],
                "prosthesis_right": ("no", "yes", "not in view")[i % 3],
                "prosthesis_left": "",
                "age": 40 + i,
                "sex": "FM"[i % 2],
                "bmi": 20.25 + i,
            }
        )
    return folder / "archive", write_labels(folder / "labels.csv", rows)


def write_labels(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path
