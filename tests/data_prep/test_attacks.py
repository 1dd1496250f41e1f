"""Hostile files, read by the real child: each ends in its code and costs one file."""

import json
import re
import struct
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from data_prep import child, pipeline, plans
from data_prep import worker as workers
from data_prep.codes import Rejected
from data_prep.job import Job
from data_prep.manifest import summary
from data_prep.worker import Reading, Worker
from ddpm_jax.conditions.presets import PELVIS
from tests.data_prep.test_convert import CANARIES, command, label, spellings
from tests.dicoms import LOSSLESS, dataset, noise, save, write_labels

READING = Reading(32)
IMAGES = Reading(32, source="images")
PIXELS = b"\xe0\x7f\x10\x00"
SEQUENCE = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4
ITEM = b"\xfe\xff\x00\xe0" + b"\xff" * 4
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
LOST = {"TRUNCATED", "DECODE_ERROR"}


@pytest.fixture(scope="module")
def worker():
    one = Worker(seconds=20)
    yield one
    one.close()


@pytest.fixture
def good(tmp_path) -> Path:
    return save(tmp_path / "good.dcm", noise(1))


def code_of(worker: Worker, path: Path, reading=READING, kind="picture") -> str:
    try:
        with path.open("rb") as file:
            getattr(worker, kind)(file, reading)
    except Rejected as rejected:
        return rejected.code
    return "WRITTEN"


@pytest.fixture
def attack(worker, good, tmp_path):
    """The code of a file's bytes; the next file succeeds, in little time and memory."""

    def run(content: bytes, reading=READING, kind="picture", seconds=8) -> str:
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        assert code_of(worker, good) == "WRITTEN"
        started = time.monotonic()
        code = code_of(worker, bad, reading, kind)
        assert time.monotonic() - started < seconds
        status = Path(f"/proc/{worker._process.pid}/status") if worker._process else ""
        if status:
            peak = int(re.search(r"VmPeak:\s+(\d+) kB", status.read_text())[1])
            assert 1024 * peak <= child.MEMORY
        assert code_of(worker, good) == "WRITTEN"
        return code

    return run


def encapsulated(folder: Path, frame: bytes, syntax: str, **tags) -> bytes:
    """A DICOM file around one codestream, whatever that is."""
    ds = dataset(noise(2, (64, 64)), **tags)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(folder / "made.dcm", enforce_file_format=True)
    return (folder / "made.dcm").read_bytes()


def before_the_class(path: Path, extra: bytes) -> bytes:
    """The file with `extra` in front of its SOPClassUID."""
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x16\x00UI")
    return data[:at] + extra + data[at:]


def j2k(rows: int, columns: int, tile: tuple[int, int] | None = None) -> bytes:
    """A few hundred bytes of JPEG 2000 that claim rows x columns (15444-1 A.5.1)."""
    small = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)
    data = bytearray(imagecodecs.jpeg2k_encode(small, codecformat="j2k", level=0))
    struct.pack_into(">2I", data, 8, columns, rows)
    struct.pack_into(">2I", data, 24, *(tile or (columns, rows)))
    return bytes(data)


@pytest.mark.parametrize("tile", [None, (16, 16), (1, 1)])
@pytest.mark.parametrize(
    "claim, declared, codes",
    [
        ((11726, 11726), (64, 64), {"DIM_MISMATCH"}),
        ((11726, 11726), (11726, 11726), {"BOMB"}),
        ((8000, 8000), (8000, 8000), {"DECODE_ERROR", "BLANK", "OOM"}),
        ((2**32 - 1, 2**32 - 1), (64, 64), {"DIM_MISMATCH"}),
    ],
)
def test_small_j2k_that_claims_a_large_image(
    attack, tmp_path, claim, declared, codes, tile
):
    frame = j2k(*claim, tile)
    assert len(frame) < 700
    tags = {"Rows": declared[0], "Columns": declared[1]}
    assert attack(encapsulated(tmp_path, frame, JPEG2000Lossless, **tags)) in codes


@pytest.mark.parametrize("tile", [(8000, 8000), (1, 1), (0, 0)])
def test_small_htj2k_that_claims_a_large_image(attack, tmp_path, tile):
    """Tiles of no size end the decoder by a signal; that is what the child is for."""
    frame = bytearray(imagecodecs.htj2k_encode(noise(6, (64, 64))))
    struct.pack_into(">2I", frame, 8, 8000, 8000)
    struct.pack_into(">2I", frame, 24, *tile)
    tags = {"Rows": 8000, "Columns": 8000}
    code = attack(encapsulated(tmp_path, bytes(frame), HTJ2KLossless, **tags))
    assert code in {"DECODE_ERROR"} | ({"CRASH"} if tile == (0, 0) else set())


def sof(data: bytes, marker: int, rows: int, columns: int) -> bytes:
    at = data.index(bytes([0xFF, marker]))
    return data[: at + 5] + struct.pack(">HH", rows, columns) + data[at + 9 :]


def test_jpeg_ls_of_another_size(attack, tmp_path):
    frame = sof(imagecodecs.jpegls_encode(noise(3, (64, 64))), 0xF7, 12000, 12000)
    data = encapsulated(tmp_path, frame, JPEGLSLossless)
    assert attack(data) == "DIM_MISMATCH"


@pytest.mark.parametrize(
    "syntax, marker", [(JPEGLSLossless, 0xF7), (JPEGLosslessSV1, 0xC3)]
)
def test_second_frame_header_of_another_size(attack, tmp_path, syntax, marker):
    """The first one is compared; a decoder might believe the second."""
    pixels = noise(3, (64, 64))
    frame = (
        imagecodecs.jpegls_encode(pixels)
        if marker == 0xF7
        else imagecodecs.ljpeg_encode(pixels, bitspersample=12)
    )
    at = frame.index(bytes([0xFF, marker]))
    end = at + 2 + struct.unpack_from(">H", frame, at + 2)[0]
    second = sof(frame[at:end], marker, 12000, 12000)
    frame = frame[:end] + second + frame[end:]
    code = attack(encapsulated(tmp_path, frame, syntax))
    assert code in {"DECODE_ERROR", "DIM_MISMATCH"}


@pytest.mark.parametrize("kind", ["header", "picture"])
def test_deflated_bomb_is_refused_before_it_is_inflated(attack, good, kind):
    data = good.read_bytes()
    start = data.index(b"\x08\x00\x16\x00UI")
    meta = data[:start].replace(
        ExplicitVRLittleEndian.encode() + b"\0",
        DeflatedExplicitVRLittleEndian.encode(),
    )
    group = meta.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    meta = meta[:group] + struct.pack("<I", start - group - 4 + 2) + meta[group + 4 :]
    squeeze = zlib.compressobj(9, wbits=-15)
    head = squeeze.compress(b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", 1 << 31))
    head += squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(1 << 26)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bomb = head + 32 * block + squeeze.flush()
    assert len(bomb) < 3 << 20
    assert attack(meta + bomb, kind=kind, seconds=2) == "BAD_SYNTAX"


@pytest.mark.parametrize("kind", ["header", "picture"])
@pytest.mark.parametrize("depth", [500, 5000])
def test_nested_sequences(attack, good, depth, kind):
    nest = depth * (SEQUENCE + ITEM) + depth * (ITEM_END + SEQUENCE_END)
    assert attack(before_the_class(good, nest), kind=kind) == "PARSE_LIMIT"


def test_nested_sequences_of_known_length(attack, good):
    """Inside a sequence that is looked into; each level is parsed when asked for."""
    nest = b""
    for _ in range(500):
        item = ITEM[:4] + struct.pack("<I", len(nest)) + nest
        nest = b"\x28\x00\x00\x30SQ\0\0" + struct.pack("<I", len(item)) + item
    data = good.read_bytes()
    at = data.index(PIXELS)
    assert attack(data[:at] + nest + data[at:]) in {"BAD_LUT", "PARSE_LIMIT"}


def test_million_empty_elements(attack, good):
    tags = np.empty(1_000_000, [("group", "<u2"), ("element", "<u2"), ("vr", "S4")])
    number = np.arange(len(tags))
    tags["group"] = 0x0009 + 2 * (number // 60000)
    tags["element"] = 0x1000 + number % 60000
    tags["vr"] = b"LO"
    data = good.read_bytes()
    at = data.index(b"\x10\x00\x20\x00LO")
    content = data[:at] + tags.tobytes() + data[at:]
    code = attack(content, kind="header", seconds=45)
    assert code in {"WRITTEN", "TIMEOUT"}  # as fast as this machine is; it is legal


@pytest.mark.parametrize("kind", ["header", "picture"])
@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE])
def test_element_longer_than_the_file(attack, good, length, kind):
    element = b"\x08\x00\x01\x00OB\0\0" + struct.pack("<I", length)
    code = attack(before_the_class(good, element), kind=kind)
    assert code in {"TRUNCATED", "PARSE_LIMIT", "SOP_CLASS"}  # it swallows the class


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE])
def test_pixels_longer_than_the_file(attack, good, length):
    """The second lie may pass, since all pixels are there."""
    data = good.read_bytes()
    at = data.index(PIXELS) + 8
    content = data[:at] + struct.pack("<I", length) + data[at + 4 :]
    assert attack(content) in {"TRUNCATED", "PARSE_LIMIT", "WRITTEN"}
    assert attack(content[:-8]) in {"TRUNCATED", "PARSE_LIMIT"}


def png(rows: int, columns: int, pixels: bytes) -> bytes:
    def chunk(name, body):
        whole = name + body
        return (
            struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))
        )

    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(rows: int, columns: int) -> bytes:
    tags = [(256, columns), (257, rows), (258, 8), (259, 1), (262, 1)]
    tags += [(273, 8), (277, 1), (278, rows), (279, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory


@pytest.mark.parametrize(
    "content, codes",
    [
        (png(60000, 60000, zlib.compress(bytes(60001))), {"BOMB"}),
        (png(2**31 - 1, 2**31 - 1, b""), {"BOMB"}),
        (png(8000, 8000, zlib.compress(bytes(8000 * 8001), 1)), {"BLANK"}),
        (png(64, 64, zlib.compress(bytes(1 << 28), 1)), {"BLANK", "DECODE_ERROR"}),
        (tiff(60000, 60000), {"BOMB"}),
        (tiff(8000, 8000), {"DECODE_ERROR", "TRUNCATED", "BLANK"}),
    ],
    ids=["png", "png_max", "png_in_the_caps", "png_excess", "tiff", "tiff_short"],
)
def test_image_bombs(attack, content, codes):
    assert attack(content, IMAGES) in codes


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("length", [None, 2, 0x7FFFFFF0, 0xFFFFFFFF])
def test_fragments_cut_off_or_lying(attack, tmp_path, syntax, length):
    data = save(tmp_path / "whole.dcm", noise(4, (64, 64)), syntax).read_bytes()
    at = data.rindex(PIXELS)
    fragment = data.index(ITEM[:4], data.index(ITEM[:4], at) + 4)
    if length is None:
        content = data[: fragment + 100]
    else:
        there = data[:fragment], data[fragment + 8 :]
        content = (ITEM[:4] + struct.pack("<I", length)).join(there)
    whole = {"WRITTEN"} if length == 0x7FFFFFF0 else set()  # no byte is missing
    assert attack(content) in LOST | {"DIM_MISMATCH"} | whole


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_codestream_cut_inside_whole_fragments(attack, tmp_path, syntax, share):
    whole = dcmread(save(tmp_path / "whole.dcm", noise(4, (64, 64)), syntax))
    frame = get_frame(whole.PixelData, 0, number_of_frames=1)
    cut = frame[: int(share * len(frame))]
    assert attack(encapsulated(tmp_path, cut, syntax)) in LOST


@pytest.mark.parametrize(
    "head",
    [
        (2, 64, 0xFFFFFFF0),
        (2, 0xFFFFFFF0, 64),
        (2, 1 << 20, 1 << 21),
        (2, 64, 64),
        (2, 64, 8),
        (2, 0, 0),
        (15, *range(64, 64 + 15)),
        (0xFFFFFFFF, 64, 70),
        (0,),
        (1, 64),
    ],
)
def test_rle_with_lying_segments(attack, tmp_path, head):
    data = save(tmp_path / "whole.dcm", noise(5, (64, 64)), RLELossless).read_bytes()
    at = data.index(struct.pack("<II", 2, 64), data.rindex(PIXELS))
    lie = struct.pack(f"<{len(head)}I", *head).ljust(64, b"\0")
    assert attack(data[:at] + lie + data[at + 64 :]) in LOST


SCRIPT = "<script>CANARYNAME</script>"
TAGS = {
    "PatientName": "CANARYNAME^Jane",
    "PatientID": "MRN8842",
    "PatientBirthDate": "19520203",
    "StudyDate": "19520203",
    "Manufacturer": SCRIPT,
    "ImageComments": SCRIPT,
    "ViewPosition": "CANARYNAME",
}


def secret_archive(folder: Path) -> tuple[Path, Path, Path]:
    """(archive, label table, label map): canaries wherever a person or a lab may write,
    in files that are written, held back, dead, and without a label."""
    archive = folder / "CANARYPATH"
    endings = {
        "0": {},
        "1": {},
        "crash": {},
        "hang": {},
        "burned": {"BurnedInAnnotation": "YES"},
        "class": {"Modality": "CT"},
        "here": {},
        "there": {"PatientID": "MRN8842-2"},
        "cut": {},
        "stranger": {},
    }
    rows = []
    for i, (name, tags) in enumerate(endings.items()):
        file, uid = f"CANARYPATH{name}.dcm", f"1.2.826.99.7.{i}"
        pixels = noise(100 if name in ("here", "there") else i)
        path = save(archive / file, pixels, SOPInstanceUID=uid, **TAGS | tags)
        if name == "cut":
            path.write_bytes(path.read_bytes()[:-50])
        if name != "stranger":
            row = label(0, file=file, sop_instance_uid=uid, view="CANARYNAME")
            row |= {"patient_id": "MRN8842", "comment": f"MRN8842 {SCRIPT} 19520203"}
            rows.append(row)
    rows.append(rows[0] | {"file": "CANARYPATHgone.dcm", "sop_instance_uid": ""})
    words = folder / "CANARYPATH.yaml"
    words.write_text(
        "columns: {Operator CANARYNAME: sex}\nvalues:\n"
        "  view: {CANARYNAME: AP}\n  sex: {MRN8842: F}\n"
    )
    for row in rows:
        row["Operator CANARYNAME"] = "MRN8842"
        del row["sex"]
    return archive, write_labels(folder / "CANARYPATH.csv", rows), words


def check_nothing_told(out: Path, *said: str) -> None:
    """No canary in what is written below `out`, in file names or in `said`."""
    told = [text.encode() for text in said]
    for path in out.rglob("*"):
        told += [path.name.encode(), path.read_bytes()]
    told = b"\0".join(told)
    for canary in (*CANARIES, "<script"):
        for needle in spellings(canary):
            assert needle not in told, needle


def check_page(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert not re.search(r"<\s*script|javascript:", page, re.I)


def test_deaths_and_quarantine_tell_nothing(tmp_path, monkeypatch, capfd):
    """Two of the files end their child: they are given to one that obeys them."""
    archive, labels, words = secret_archive(tmp_path)
    hostile = Worker(seconds=1, module="tests.data_prep.hostile_child")
    read = workers.read

    def obey(path, root, reading):
        word = {"CANARYPATHcrash": b"segv", "CANARYPATHhang": b"hang"}.get(path.stem)
        if word is None:
            return read(path, root, reading)
        (tmp_path / "word").write_bytes(word)
        with (tmp_path / "word").open("rb") as file:
            return hostile.picture(file, reading)

    monkeypatch.setattr(workers, "read", obey)
    key, shares = b"a key for tests, sixteen or more", {"train": 0.7, "test": 0.3}
    options = {"reading": Reading(16), "workers": 1, "labels_map": words}
    out = tmp_path / "out"
    manifest = pipeline.run(Job(archive, labels, out, key, PELVIS, shares, **options))
    hostile.close()
    print(summary(manifest))
    assert manifest.ledger["codes"] == {
        "CRASH": 1,
        "DUP_CROSS": 2,
        "LABEL_MISSING": 1,
        "PHI_SUSPECT": 1,
        "SOP_CLASS": 1,
        "TIMEOUT": 1,
        "TRUNCATED": 1,
        "WRITTEN": 2,
    }
    check_nothing_told(out, *capfd.readouterr())
    check_page(out)


@pytest.mark.parametrize("mode", ["keyed", "random"])
def test_command_with_a_map_and_any_ids_tells_nothing(tmp_path, mode):
    archive, labels, words = secret_archive(tmp_path)
    out = tmp_path / "out"
    paths = ["--dicom", archive, "--labels", labels, "--labels_map", words]
    options = ["--out", out, "--size=16", f"--id_mode={mode}", "--workers=2"]
    done = command(
        *paths, *options, key="0123456789abcdef" if mode == "keyed" else None
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["ledger"]["written"] == 4
    check_nothing_told(out, done.stdout, done.stderr)
    check_page(out)
    private = tmp_path / "out.private"
    assert "CANARYPATHcut" in (private / "audit.csv").read_text()
    assert not (private / plans.KEY).exists()
