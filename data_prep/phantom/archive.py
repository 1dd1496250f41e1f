"""The made-up archive: who is X-rayed how, each picture's DICOM file, the labels."""

import csv
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

from data_prep.phantom import anatomy, detector, projector

COLUMNS = (
    "file", "sop_instance_uid", "patient_id", "view", "side", "prosthesis_right",
    "prosthesis_left", "age", "sex", "bmi",
)  # fmt: skip
VIEWS = {"AP": 0.5, "lateral": 0.25, "oblique": 0.25}
SIDES = ("right", "left", "both")
MISSING = 0.03
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


class Shot(NamedTuple):
    """One picture: the archive's patient, the number among that patient's, what."""

    patient: int
    number: int
    view: str
    side: str


def stream(seed: int, *address: int) -> np.random.Generator:
    """The random numbers at an address: the same whatever else was drawn."""
    sequence = np.random.SeedSequence(seed, spawn_key=address)
    return np.random.Generator(np.random.Philox(sequence))


def plan(seed: int, count: int) -> list[Shot]:
    """`count` shots, patient after patient; a shorter plan is a prefix of a longer.

    60 % of patients have one picture, 25 % two, 15 % three, no two of the same view
    and side. View: AP a half, lateral and oblique a quarter each; side: a third each.
    """
    shots, patient = [], 0
    while len(shots) < count:
        rng = stream(seed, patient, 0)
        wanted, seen = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])), []
        while len(seen) < wanted:
            view = str(rng.choice(list(VIEWS), p=list(VIEWS.values())))
            side = SIDES[rng.integers(3)]
            if (view, side) not in seen:
                seen.append((view, side))
        shots += [Shot(patient, i, *what) for i, what in enumerate(seen)]
        patient += 1
    return shots[:count]


def point_pitch(side: str, size: int) -> float:
    """Edge, mm, of the bones' sampling: a little over a pixel, 0.9 at the finest."""
    field = 375 if side == "both" else 190
    return float(np.clip(1.1 * field / size, 0.9, 3.0))


class Picture(NamedTuple):
    """A displayed radiograph [size, size] in [0, 1] and the camera that took it."""

    pixels: np.ndarray
    camera: projector.Camera
    scale: float


def radiograph(patient: anatomy.Patient, shot: Shot, size: int, rng) -> Picture:
    """The picture of a patient; all else in it comes from `rng`.

    Its bits do not depend on what lies outside the field.
    """
    geometry, exposing, marking, grain = rng.spawn(4)
    camera, legs = projector.frame(shot.view, shot.side, geometry)
    pitch = point_pitch(shot.side, size)
    scene = anatomy.build_scene(patient, legs, pitch)
    found = projector.attenuate(scene, camera, size, pitch)
    found = projector.Attenuation(*(part * np.float32(patient.scale) for part in found))
    lead = _lead(shot, camera, size, marking)
    exposure = detector.draw_exposure(exposing)
    field = camera.field * patient.scale
    pixels = detector.display(found, exposure, lead, field, grain)
    return Picture(pixels, camera, patient.scale)


def _lead(shot, camera, size, rng):
    """The side's letter, where that side is; in laterals in front or behind."""
    side = shot.side
    if side == "both":
        either = "right" if rng.random() < 0.5 else "left"
        side = "right" if shot.view == "lateral" else either
    low = bool(rng.random() < 0.4)
    if shot.view == "lateral":
        far = bool(rng.random() < 0.5)
    else:
        far = side == "left"
    return detector.marker(side[0].upper(), (low, far), size, rng)


def orientation(direction) -> str:
    """DICOM letters (PS3.3 C.7.6.1.1.1) of a direction in patient coordinates."""
    names = ("LR", "PA", "HF")
    order = np.argsort(-np.abs(direction))
    return "".join(
        names[i][int(direction[i] < 0)] for i in order if abs(direction[i]) > 0.35
    )


def view_position(view: str, camera: projector.Camera) -> str:
    """View Position (0018,5101): AP, or the side nearest the detector, L or R."""
    if view == "AP":
        return "AP"
    nearest = "R" if camera.beam[0] < 0 else "L"
    return nearest + {"lateral": "L", "oblique": "LO"}[view]


def make_uid(*parts) -> str:
    """A UID of the 2.25 root from a hash of `parts`: the same parts, the same UID."""
    digest = hashlib.sha256("|".join(map(str, ("phantom", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') >> 6 | 1 << 121}"


class Known(NamedTuple):
    """Which facts about the patient reached the archive with this picture."""

    age: bool
    sex: bool
    bmi: bool


def labels(shot: Shot, patient: anatomy.Patient, known: Known, file, sop, person):
    """The picture's row of labels.csv."""
    metal = {
        name: ("yes" if patient.prosthesis[name] else "no")
        if shot.side in (name, "both")
        else "not in view"
        for name in anatomy.SIDES
    }
    age, sex, bmi = patient.age, patient.sex, f"{patient.bmi:.1f}"
    facts = [
        fact if told else "" for fact, told in zip((age, sex, bmi), known, strict=True)
    ]
    values = (file, sop, person, shot.view, shot.side, metal["right"], metal["left"])
    return dict(zip(COLUMNS, (*values, *facts), strict=True))


def write_image(out: str, seed: int, size: int, shot: Shot) -> dict:
    """Make, write (whole or not at all) and label one picture of the archive."""
    patient = anatomy.draw_patient(stream(seed, shot.patient, 1))
    rng = stream(seed, shot.patient, 2, shot.number)
    drawing, heading = rng.spawn(2)
    picture = radiograph(patient, shot, size, drawing)
    known = Known(*(bool(x) for x in heading.random(3) >= MISSING))
    dataset = header(seed, shot, patient, known, heading)
    place(dataset, shot, picture, size)
    fill(dataset, picture.pixels, heading)
    file = f"images/{shot.patient:06d}/{shot.number:02d}.dcm"
    save(dataset, Path(out) / file)
    sop, person = str(dataset.SOPInstanceUID), str(dataset.PatientID)
    return labels(shot, patient, known, file, sop, person)


def header(seed, shot, patient, known, rng) -> Dataset:
    """Patient, study, series and instance: made up, the same for the same seed."""
    person = stream(seed, shot.patient, 3)
    family, given = person.choice(FAMILY), person.choice(GIVEN[patient.sex])
    day = np.datetime64("2012-01-01") + int(person.integers(4400))
    birth = day.astype("M8[Y]") - patient.age
    birth = np.datetime64(f"{birth}-01-01") + int(person.integers(0, 1))
    number = f"{seed % 10000:04d}{shot.patient:06d}"
    sop_class = (
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
    )[int(rng.random() < 0.6)]
    modality = "DX" if sop_class.endswith("1.1.1") else "CR"
    height = {"F": 1.73, "M": 1.78}[patient.sex] * patient.scale
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = make_uid(seed, shot.patient, "image", shot.number)
    dataset.StudyInstanceUID = make_uid(seed, shot.patient, "study")
    dataset.SeriesInstanceUID = make_uid(seed, shot.patient, "series", shot.number)
    dataset.StudyDate = dataset.ContentDate = str(day).replace("-", "")
    dataset.StudyTime = dataset.ContentTime = f"{8 + shot.patient % 10:02d}1500"
    dataset.AccessionNumber = f"A{number}"
    dataset.Modality = modality
    dataset.Manufacturer = str(person.choice(MAKERS))
    dataset.ReferringPhysicianName = "NOBODY^NO"
    dataset.StudyDescription = "Pelvis and hip"
    dataset.PatientName = f"{family}^{given}"
    dataset.PatientID = number
    dataset.PatientBirthDate = str(birth).replace("-", "") if known.age else ""
    dataset.PatientSex = patient.sex if known.sex else ""
    if known.age:
        dataset.PatientAge = f"{patient.age:03d}Y"
    if known.bmi:
        dataset.PatientSize = f"{height:.2f}"
        dataset.PatientWeight = f"{patient.bmi * round(height, 2) ** 2:.1f}"
    dataset.StudyID = number
    dataset.SeriesNumber = shot.number + 1
    dataset.InstanceNumber = 1
    return dataset


def place(dataset: Dataset, shot: Shot, picture: Picture, size: int) -> None:
    """Where the picture lies on the patient and how wide its pixels are."""
    camera = picture.camera
    pitch = f"{camera.field * picture.scale / size:.6g}"
    dataset.BodyPartExamined = "PELVIS" if shot.side == "both" else "HIP"
    dataset.ViewPosition = view_position(shot.view, camera)
    dataset.ImageLaterality = {"right": "R", "left": "L", "both": "B"}[shot.side]
    dataset.PatientOrientation = [orientation(camera.right), orientation(-camera.up)]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [pitch, pitch]
    dataset.DistanceSourceToDetector = f"{projector.SOURCE_TO_DETECTOR:.0f}"
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
    syntax = list(SYNTAXES)[rng.integers(len(SYNTAXES))]
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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_labels(path: Path, rows) -> None:
    """labels.csv: comma-separated, a header, LF; a cell is empty where not known."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    replace(path, text.getvalue().encode())
