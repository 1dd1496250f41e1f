"""One picture as a DICOM file: a header of nobody, pixels in many a syntax."""

import hashlib
import io
import os
import struct
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from data_prep.phantom.patient import Patient
from data_prep.phantom.positioning import Shot
from data_prep.phantom.projector import SOURCE_TO_DETECTOR, Camera

TOP = 4095
SYNTAXES = {
    uid.ExplicitVRLittleEndian: lambda pixels: pixels.tobytes(),
    uid.ImplicitVRLittleEndian: lambda pixels: pixels.tobytes(),
    uid.RLELossless: lambda pixels: run_lengths(pixels),
    uid.JPEGLosslessSV1: lambda pixels: imagecodecs.jpeg8_encode(
        pixels, lossless=True, predictor=1, bitspersample=12
    ),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, level=0, bitspersample=12,
        numthreads=1,
    ),
}  # fmt: skip
FAMILY = (
    "ASHDOWN", "BRACKEN", "CALLOWAY", "DUNMORE", "ELLERBY", "FENWICK", "GARROWAY",
    "HOLLIS", "INGLEBY", "JESSOP", "KELDER", "LARKIN", "MERRIDEW", "NORCOTT",
)  # fmt: skip
GIVEN = {
    "F": ("ADA", "BERYL", "CLARA", "DORA", "EDITH", "FLORA", "GRETA", "HILDA"),
    "M": ("ALBERT", "BASIL", "CECIL", "DENIS", "EDGAR", "FELIX", "GILES", "HUGO"),
}
MAKERS = ("Phantom Works", "Example Imaging", "Made-Up Medical")


def make_uid(*parts) -> str:
    """A UID of the 2.25 root from a hash of `parts`: the same parts, the same UID."""
    digest = hashlib.sha256("|".join(map(str, ("phantom", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') >> 6 | 1 << 121}"


class Known(NamedTuple):
    """Which facts about the patient reached the archive with this picture."""

    age: bool
    sex: bool
    bmi: bool


def header(seed, shot: Shot, patient: Patient, known: Known, person, rng) -> Dataset:
    """Patient, study, series and instance, all made up.

    `person` draws what is the same in all of the patient's pictures, `rng` the rest.
    """
    digital = bool(rng.random() < 0.6)
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = (
        uid.DigitalXRayImageStorageForPresentation
        if digital
        else uid.ComputedRadiographyImageStorage
    )
    dataset.SOPInstanceUID = make_uid(seed, shot.patient, "image", shot.number)
    dataset.StudyInstanceUID = make_uid(seed, shot.patient, "study")
    dataset.SeriesInstanceUID = make_uid(seed, shot.patient, "series", shot.number)
    dataset.Modality = "DX" if digital else "CR"
    dataset.ReferringPhysicianName = "NOBODY^NO"
    dataset.StudyDescription = "Pelvis and hip"
    dataset.SeriesNumber, dataset.InstanceNumber = shot.number + 1, 1
    _study(dataset, f"{seed % 10000:04d}{shot.patient:06d}", person)
    _person(dataset, patient, known, person)
    return dataset


def _study(dataset, number, person):
    day = np.datetime64("2012-01-01") + int(person.integers(4400))
    dataset.StudyDate = dataset.ContentDate = str(day).replace("-", "")
    dataset.StudyTime = dataset.ContentTime = f"{person.integers(8, 18):02d}1500"
    dataset.PatientID = dataset.StudyID = number
    dataset.AccessionNumber = f"A{number}"
    dataset.Manufacturer = str(person.choice(MAKERS))


def _person(dataset, patient, known, person):
    """Name, and of age, sex and build what is known; height in m, weight in kg."""
    family, given = person.choice(FAMILY), person.choice(GIVEN[patient.sex])
    since = int(patient.age * 365.25) + int(person.integers(20, 340))
    day = f"{dataset.StudyDate[:4]}-{dataset.StudyDate[4:6]}-{dataset.StudyDate[6:]}"
    birth = str(np.datetime64(day) - since).replace("-", "")
    dataset.PatientName = f"{family}^{given}"
    dataset.PatientBirthDate = birth if known.age else ""
    dataset.PatientSex = patient.sex if known.sex else ""
    if known.age:
        dataset.PatientAge = f"{patient.age:03d}Y"
    if known.bmi:
        height = round({"F": 1.73, "M": 1.78}[patient.sex] * patient.scale, 2)
        dataset.PatientSize = f"{height:.2f}"
        dataset.PatientWeight = f"{patient.bmi * height**2:.1f}"


def orientation(direction) -> str:
    """DICOM letters (PS3.3 C.7.6.1.1.1) of a direction in patient coordinates."""
    names = ("LR", "PA", "HF")
    order = np.argsort(-np.abs(direction))
    return "".join(
        names[i][int(direction[i] < 0)] for i in order if abs(direction[i]) > 0.35
    )


def view_position(view: str, camera: Camera) -> str:
    """View Position (0018,5101): AP, or the side nearest the detector, L or R."""
    if view == "AP":
        return "AP"
    nearest = "R" if camera.beam[0] < 0 else "L"
    return nearest + {"lateral": "L", "oblique": "LO"}[view]


def place(dataset: Dataset, shot: Shot, camera: Camera, pitch: float) -> None:
    """Where the picture lies on the patient; `pitch` mm from pixel to pixel."""
    dataset.BodyPartExamined = "PELVIS" if shot.side == "both" else "HIP"
    dataset.ViewPosition = view_position(shot.view, camera)
    dataset.ImageLaterality = {"right": "R", "left": "L", "both": "B"}[shot.side]
    dataset.PatientOrientation = [orientation(camera.right), orientation(-camera.up)]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [f"{pitch:.6g}"] * 2
    dataset.DistanceSourceToDetector = f"{SOURCE_TO_DETECTOR:.0f}"
    dataset.BurnedInAnnotation = "NO"


def fill(dataset: Dataset, pixels, rng) -> None:
    """Store a displayed picture in 12 bits so that PS3.4's pipeline shows it again."""
    low, high = int(rng.integers(100, 500)), int(rng.integers(3200, 4000))
    stored = np.rint(low + pixels * (high - low)).astype(np.uint16)
    inverted = bool(rng.random() < 0.4)
    if inverted:
        stored, low, high = (TOP - stored).astype(np.uint16), TOP - high, TOP - low
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = f"MONOCHROME{1 if inverted else 2}"
    dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    _window(dataset, low, high, rng)
    encode(dataset, stored, list(SYNTAXES)[rng.integers(len(SYNTAXES))])


def encode(dataset: Dataset, stored: np.ndarray, syntax: uid.UID) -> None:
    """The stored values, uint16, as pixel data in a transfer syntax of SYNTAXES."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    encoded = bytes(SYNTAXES[syntax](stored))
    dataset.PixelData = encapsulate([encoded]) if syntax.is_encapsulated else encoded
    dataset["PixelData"].VR = "OW" if not syntax.is_encapsulated else "OB"


def _window(dataset, low, high, rng):
    """One window, or a hard one and the NORMAL one, or a table; all show low..high."""
    width = high - low
    centre = low + width / 2 + 0.5
    kind = rng.choice(["one", "two", "table"], p=[0.6, 0.2, 0.2])
    if kind != "table" and dataset.Modality == "CR" and rng.random() < 0.4:
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        dataset.RescaleType = "US"
        centre -= 1024
    if kind == "one":
        dataset.WindowCenter, dataset.WindowWidth = f"{centre:.1f}", str(width + 1)
    elif kind == "two":
        names, order = np.array(["HARD", "NORMAL"]), rng.permutation(2)
        centres, widths = np.array([centre, centre]), np.array([width // 2, width + 1])
        dataset.WindowCenter = [f"{x:.1f}" for x in centres[order]]
        dataset.WindowWidth = [str(x) for x in widths[order]]
        dataset.WindowCenterWidthExplanation = names[order].tolist()
    else:
        ramp = np.clip((np.arange(TOP + 1) - low) / width, 0, 1)
        table = Dataset()
        table.LUTDescriptor = [TOP + 1, 0, 12]
        table.LUTExplanation = "NORMAL"
        table.LUTData = np.rint(ramp * TOP).astype("<u2").tobytes()
        table["LUTData"].VR = "OW"
        dataset.VOILUTSequence = [table]


def run_lengths(pixels: np.ndarray) -> bytes:
    """DICOM's RLE (PS3.5 G): the high bytes, then the low, each row by itself."""
    planes = (pixels >> 8).astype(np.uint8), pixels.astype(np.uint8)
    segments = [
        b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane)
        for plane in planes
    ]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    head = struct.pack("<16L", 2, 64, 64 + len(segments[0]), *[0] * 13)
    return head + b"".join(segments)


def save(dataset: Dataset, path: Path) -> None:
    """Write `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    replace(path, buffer.getvalue())


def replace(path: Path, content: bytes) -> None:
    """Put `content` at `path` by writing beside it and renaming."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
