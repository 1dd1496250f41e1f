"""A synthetic radiograph as a DICOM file that says so wherever a viewer looks.

Secondary Capture (PS3.3 A.8.1) and not DX: a DX instance states a detector, its pixel
spacing and an acquisition, none of which there was; SC has Conversion Type SYN,
"synthetic image", for this. What SC has no module for (view, laterality) is added as
the standard lets a Standard Extended SOP Class do (PS3.2 7.3.3).

All bytes follow from image, row, seed, model, guidance, steps and options: no date is
written, since nothing was taken on one.
"""

import io
import json
import re
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import Code, codes

from ddpm_jax import __version__
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.outputs.requests import Asked, Model, identity

CREATOR, GROUP = "DDPM_JAX SYNTHETIC", 0x0071
MODEL, SEED, GUIDANCE, STEPS, CONDITIONS = 0x01, 0x02, 0x03, 0x04, 0x05
"""Elements of the private block: LO, UL, FD, UL, UT (JSON)."""

STATEMENT = "Synthetic: shows no patient. Not for diagnosis."
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "ddpm_jax.synthetic")
LONGEST_ROOT = 39
"""Characters that leave 24 digits of 64 characters (PS3.5 9.1) to tell images apart."""

UNITS = ("age", "years"), ("bmi", "kg/m²")
SEX = {"F": "F", "M": "M", "other": "O"}
LATERALITY = {"right": "R", "left": "L", "both": "B"}
BODY_PART = {"right": "HIP", "left": "HIP", "both": "PELVIS"}
VIEWS = {
    "AP": codes.cid4010.AnteroPosterior,
    "lateral": codes.cid4010.LateralProjection,
    "oblique": codes.cid4010.ObliqueProjection,
}


class Header(NamedTuple):
    """What the headers of one command share; `burned_in`: the pixels bear the mark."""

    schema: Schema
    model: Model
    uid_root: str = ""
    burned_in: bool = False


def check_root(root: str) -> str:
    """`root`; ValueError where no UID can be made under it."""
    known = re.fullmatch(uid.RE_VALID_UID, root) and root[0] in "012"
    if root and not (known and len(root) <= LONGEST_ROOT):
        raise ValueError(
            f"--uid_root = {root!r}: expected numbers with dots between, none with a "
            f"leading 0, {LONGEST_ROOT} characters at most."
        )
    return root


def make_uid(root: str, *parts: str) -> uid.UID:
    """A UID that follows from `parts`: under `root`, else 2.25 and a name-based UUID
    (PS3.5 B.2)."""
    if not root:
        return uid.UID(f"2.25.{uuid.uuid5(NAMESPACE, '|'.join(parts)).int}")
    return uid.generate_uid(f"{root}.", ["|".join(parts)])


def encode(image: np.ndarray, asked: Asked, header: Header) -> bytes:
    """The file of a uint16 [h, w] image, Explicit VR Little Endian."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    key = identity(asked, header.model).hex()
    _instance(dataset, key, header)
    _subject(dataset, key, asked.row, header.schema)
    _position(dataset, asked.row, header.schema)
    _origin(dataset, asked, header)
    _pixels(dataset, image)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def instance_uid(asked: Asked, header: Header) -> uid.UID:
    """The SOP Instance UID: other pixels, those with a mark, have another."""
    return _instance_uid(identity(asked, header.model).hex(), header)


def _instance_uid(key, header):
    marked = ["marked"] if header.burned_in else []
    return make_uid(header.uid_root, "instance", key, *marked)


def _instance(dataset, key, header):
    root = header.uid_root
    dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = _instance_uid(key, header)
    dataset.StudyInstanceUID = make_uid(root, "study", key)
    dataset.SeriesInstanceUID = make_uid(root, "series", key)
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "SYNTHETIC", 1, 1
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "OT"
    dataset.SyntheticData = "YES"
    dataset.ConversionType = "SYN"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES" if header.burned_in else "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"


def _subject(dataset, key, row: Mapping, schema: Schema):
    """A subject for each image: nobody, of the sex, age and BMI that were asked for."""
    dataset.PatientName = f"SYNTHETIC^{key[:12].upper()}"
    dataset.PatientID = f"SYNTHETIC-{key[:16].upper()}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = SEX.get(row.get("sex"), "")
    dataset.PatientComments = STATEMENT
    age, bmi = (_number(row, schema, *each) for each in UNITS)
    if age is not None and age < 1000:
        dataset.PatientAge = f"{int(age):03d}Y" if age >= 2 else f"{int(age * 12):03d}M"
    if bmi is not None:
        dataset.PatientBodyMassIndex = f"{bmi:g}"


def _number(row, schema, name, unit):
    """A continuous condition, where it is in DICOM's unit."""
    fits = any((f.name, getattr(f, "unit", None)) == (name, unit) for f in schema)
    return row.get(name) if fits else None


def _position(dataset, row: Mapping, schema: Schema):
    """View and side where they were asked for; what a lateral lies on is not known."""
    view, side = row.get("view"), row.get("side")
    dataset.PatientOrientation = ""
    if view in VIEWS:
        dataset.ViewCodeSequence = [_coded(VIEWS[view])]
    if view == "AP":
        dataset.ViewPosition = "AP"
    if side not in LATERALITY:
        dataset.Laterality = ""
    else:
        dataset.ImageLaterality = LATERALITY[side]
        if {"prosthesis_right", "prosthesis_left"} <= set(schema.names):
            dataset.BodyPartExamined = BODY_PART[side]


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _origin(dataset, asked, header):
    """What was asked for and what made it, for people and for programs."""
    model, shown = header.model, header.schema.caption(asked.row).replace("\\", "/")
    made = (
        f"model sha256 {model.sha256}, seed {asked.seed}, guidance "
        f"{model.guidance:g}, {model.steps} steps"
    )
    dataset.StudyDescription = "SYNTHETIC radiograph, no patient, not for diagnosis"
    dataset.SeriesDescription = _within(64, f"SYNTHETIC: {shown}")
    dataset.ImageComments = _within(1024, f"{STATEMENT} Asked for: {shown}")
    dataset.DerivationDescription = _within(
        1024, f"{STATEMENT} Drawn by a diffusion model: {made}. Asked for: {shown}"
    )
    dataset.SecondaryCaptureDeviceManufacturer = "ddpm_jax"
    dataset.SecondaryCaptureDeviceManufacturerModelName = "conditional diffusion model"
    dataset.SecondaryCaptureDeviceSoftwareVersions = __version__
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.ProcessingEquipment)]
    equipment.Manufacturer = "ddpm_jax"
    equipment.ManufacturerModelName = "conditional diffusion model"
    equipment.SoftwareVersions = __version__
    equipment.ContributionDescription = f"All pixels: {made}"
    dataset.ContributingEquipmentSequence = [equipment]
    known = {name: value for name, value in asked.row.items() if value is not None}
    block = dataset.private_block(GROUP, CREATOR, create=True)
    block.add_new(MODEL, "LO", model.sha256)
    block.add_new(SEED, "UL", asked.seed)
    block.add_new(GUIDANCE, "FD", model.guidance)
    block.add_new(STEPS, "UL", model.steps)
    block.add_new(CONDITIONS, "UT", json.dumps(known, ensure_ascii=False))


def _within(length, text):
    """The beginning of `text` in `length` bytes of UTF-8: PS3.5 6.2 counts characters,
    readers (pydicom among them) count bytes."""
    return text.encode()[:length].decode(errors="ignore").strip()


def _pixels(dataset, image):
    """16 bits, black 0 to white 65535, the window that shows all of it (C.11.2.1.2)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = "32768", "65536"
    dataset.PixelData = np.ascontiguousarray(image, "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
