r"""Turn an archive of radiographs and a label table into training data.

    python -m data_prep.convert --make_key key.txt
    python -m data_prep.convert --dicom archive --labels labels.csv --out data \
        --size 256 --key_file key.txt

The label table is a CSV or Parquet with a column sop_instance_uid, or file (the path
below --dicom), and one column per condition; --labels_map translates a lab's own names
and values. --dry_run tells what would become of every file and writes nothing.

One bad file is counted and the rest goes on; the table at the end says where every
file went. The same command goes on after any interruption. What leads back to the
files (plan, map of ids, review sheet) goes to --private and nowhere else.

On a cluster: --step plan, then --shards i/n in an array of jobs, then --step finish;
or --runner with a Beam runner.
"""

from pathlib import Path

from absl import flags

from data_prep import burned_in, pipeline, plans
from data_prep import manifest as manifests
from data_prep.deidentify import load_key, make_key, random_key
from data_prep.job import STEPS, Job, parse_slice
from data_prep.own_fields import load_schema
from data_prep.worker import Reading
from ddpm_jax import command_line
from ddpm_jax.data.records import CODECS
from ddpm_jax.data.splits import parse_splits

FLAGS = command_line.new_flags()


def _define(kind, name, default, text, **options):
    return getattr(flags, f"DEFINE_{kind}")(
        name, default, help=text, flag_values=FLAGS, **options
    )


DICOM = _define("string", "dicom", None, "The folder of the DICOM archive.")
IMAGES = _define(
    "string", "images", None, "Instead of --dicom: a folder of PNG, TIFF or JPEG."
)
LABELS = _define("string", "labels", None, "The label table, CSV or Parquet.")
LABELS_MAP = _define(
    "string", "labels_map", None, "A .yaml or .py with a lab's own names and values."
)
OUT = _define("string", "out", None, "The folder to make.")
PRIVATE = _define(
    "string",
    "private",
    None,
    "The folder for what leads back to the files; by default OUT.private.",
)
SIZE = _define(
    "integer",
    "size",
    256,
    "Side of the stored square in pixels.",
    lower_bound=8,
    upper_bound=4096,
)
BITS = _define(
    "enum", "bits", "12", "Bits of the stored pixels.", enum_values=["8", "12"]
)
CODEC = _define(
    "enum", "codec", "htj2k", "Lossless image codec.", enum_values=list(CODECS)
)
KEY_FILE = _define(
    "string", "key_file", None, "Secret key of the pseudonyms; else DDPM_JAX_KEY."
)
MAKE_KEY = _define("string", "make_key", None, "Only make such a key file.")
ID_MODE = _define(
    "enum",
    "id_mode",
    "keyed",
    "random: under a key that is deleted at the end; the map of ids in --private is "
    "then the only way back.",
    enum_values=["keyed", "random"],
)
SPLITS = _define(
    "list",
    "splits",
    ["train=0.8", "validation=0.1", "test=0.1"],
    "Splits and their shares of the patients, with commas between.",
)
RECORDS_PER_SHARD = _define(
    "integer", "records_per_shard", 0, "0: about 32 shards of 32 to 512.", lower_bound=0
)
CONDITIONS = _define(
    "string",
    "conditions",
    "pelvis",
    "Which conditions the table holds: pelvis, or a .yaml or .py that adds others.",
)
NAME = _define("string", "name", "radiographs", "The data set's name in TFDS.")
MAX_CONFLICT = _define(
    "float",
    "max_conflict",
    0.05,
    "Give up where the table contradicts more than this share of the headers.",
    lower_bound=0,
    upper_bound=1,
)
SOP_CLASSES = _define(
    "list", "sop_classes", [], "UIDs that are let in beside CR and DX For Presentation."
)
ACCEPT_GREY_RGB = _define(
    "bool",
    "accept_grey_rgb",
    False,
    "Convert grey that is stored as colour, which is else held back for review.",
)
OCR = _define(
    "bool", "ocr", False, "Hold back images in which text is found; extra [ocr]."
)
IMAGE_BITS = _define(
    "integer",
    "image_bits",
    0,
    "With --images: significant bits of a pixel; 0: all of its type.",
    lower_bound=0,
    upper_bound=16,
)
INVERTED = _define("bool", "inverted", False, "With --images: bone is dark in them.")
WORKERS = _define(
    "integer", "workers", 0, "Decoding processes here; 0: one a core.", lower_bound=0
)
STEP = _define(
    "enum", "step", "all", "One step alone, for clusters.", enum_values=list(STEPS)
)
SHARDS = _define(
    "string", "shards", None, "i/n: write every n-th shard from the i-th, then stop."
)
RUNNER = _define(
    "string", "runner", "local", "local, or a Beam runner: DirectRunner, DaskRunner, …"
)
BEAM_OPTIONS = _define(
    "string", "beam_options", "", "Beam's own options, as on a command line."
)
DRY_RUN = _define("bool", "dry_run", False, "Print the ledger; write nothing.")
OVERWRITE = _define(
    "bool",
    "overwrite",
    False,
    "Make --out anew if it exists; shards that would not change are kept.",
)


def main() -> None:
    if MAKE_KEY.value:
        make_key(Path(MAKE_KEY.value))
        print(f"A new key is in {MAKE_KEY.value}. Keep it secret, and keep it.")
        return
    command_line.require(FLAGS, "labels", "out")
    if (DICOM.value is None) == (IMAGES.value is None):
        raise ValueError("--dicom, --images: expected one of them; see --help.")
    if OCR.value:
        burned_in.check_installed()
    job = _job()
    result = pipeline.run(job)
    if result is None:
        print(_next(job))
        return
    print(manifests.summary(result, splits=not job.dry_run))
    if not result.ledger["written"]:
        raise ValueError("no file could be converted; the table above says why.")
    if job.dry_run:
        print("A dry run: nothing was written.")
        return
    print(f"Which file ended where: {job.private_folder / manifests.AUDIT}.")
    print(f"The data set is in {job.out}; look at {job.out / 'report.html'}.")
    print(f"What leads back to the files is in {job.private_folder}: keep it private.")


def _next(job: Job) -> str:
    """What is left to do after a step that published nothing."""
    index, count = job.shards
    if job.step == "plan":
        return "The plan is made; next --step write, or --shards i/n for each i."
    if count > 1:
        return f"Slice {index}/{count} is written; after all {count}: --step finish."
    return "All shards are written; next --step finish."


def _job() -> Job:
    out, key_file = Path(OUT.value), KEY_FILE.value and Path(KEY_FILE.value)
    private = PRIVATE.value and Path(PRIVATE.value)
    if ID_MODE.value == "random":
        key_file = (private or Job.private_of(out)) / plans.KEY
        if not key_file.exists() and not DRY_RUN.value:
            plans.make_private(key_file.parent)
            make_key(key_file)
    step = "write" if SHARDS.value and STEP.value == "all" else STEP.value
    return Job(
        dicom=Path(DICOM.value or IMAGES.value),
        labels=Path(LABELS.value),
        out=out,
        key=_key(key_file or None, out),
        schema=load_schema(CONDITIONS.value),
        shares=parse_splits(SPLITS.value),
        reading=_reading(),
        codec=CODEC.value,
        name=NAME.value,
        records_per_shard=RECORDS_PER_SHARD.value,
        workers=WORKERS.value,
        max_conflict=MAX_CONFLICT.value,
        overwrite=OVERWRITE.value,
        labels_map=Path(LABELS_MAP.value) if LABELS_MAP.value else None,
        private=private or None,
        key_file=key_file or None,
        step=step,
        shards=parse_slice(SHARDS.value or "0/1"),
        runner=RUNNER.value,
        beam_options=BEAM_OPTIONS.value,
        dry_run=DRY_RUN.value,
        random_ids=ID_MODE.value == "random",
    )


def _key(key_file: Path | None, out: Path) -> bytes:
    if DRY_RUN.value and ID_MODE.value == "random":
        return random_key()
    return load_key(key_file, out)


def _reading() -> Reading:
    if 0 < IMAGE_BITS.value < 8:
        raise ValueError(f"--image_bits = {IMAGE_BITS.value}: expected 8 to 16, or 0.")
    return Reading(
        size=SIZE.value,
        bits=int(BITS.value),
        source="images" if IMAGES.value else "dicom",
        sop_classes=tuple(SOP_CLASSES.value),
        grey_rgb=ACCEPT_GREY_RGB.value,
        ocr=OCR.value,
        image_bits=IMAGE_BITS.value,
        inverted=INVERTED.value,
    )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
