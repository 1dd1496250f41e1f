r"""Turn an archive of DICOM radiographs and a label table into training data.

    python -m data_prep.convert --make_key key.txt
    python -m data_prep.convert --dicom archive --labels labels.csv --out data \
        --size 256 --key_file key.txt

The label table is a CSV or Parquet with a column sop_instance_uid, or file (the path
below --dicom), and one column per condition. One bad file is counted and the rest goes
on; the table at the end says where every file went.
"""

from pathlib import Path

from absl import flags

from data_prep import manifest as manifests
from data_prep import pipeline
from data_prep.deidentify import load_key, make_key, random_key
from data_prep.splits import parse_splits
from ddpm_jax import command_line
from ddpm_jax.conditions.presets import PRESETS
from ddpm_jax.data.records import CODECS

FLAGS = command_line.new_flags()
DICOM = flags.DEFINE_string(
    "dicom", None, "The folder of the DICOM archive.", flag_values=FLAGS
)
LABELS = flags.DEFINE_string(
    "labels", None, "The label table, CSV or Parquet.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
SIZE = flags.DEFINE_integer(
    "size",
    256,
    "Side of the stored square images in pixels.",
    lower_bound=8,
    flag_values=FLAGS,
)
KEY_FILE = flags.DEFINE_string(
    "key_file",
    None,
    "The secret key of the pseudonyms; else DDPM_JAX_KEY is read.",
    flag_values=FLAGS,
)
MAKE_KEY = flags.DEFINE_string(
    "make_key", None, "Only make such a key file.", flag_values=FLAGS
)
ID_MODE = flags.DEFINE_enum(
    "id_mode",
    "keyed",
    ["keyed", "random"],
    "random: under a key that nobody keeps; --audit is then the only way back.",
    flag_values=FLAGS,
)
SPLITS = flags.DEFINE_list(
    "splits",
    ["train=0.8", "validation=0.1", "test=0.1"],
    "Splits and their shares of the patients, with commas between.",
    flag_values=FLAGS,
)
RECORDS_PER_SHARD = flags.DEFINE_integer(
    "records_per_shard",
    0,
    "0: about 32 shards of 32 to 512.",
    lower_bound=0,
    flag_values=FLAGS,
)
CODEC = flags.DEFINE_enum(
    "codec", "htj2k", list(CODECS), "Lossless image codec.", flag_values=FLAGS
)
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes; 0: one a core.", lower_bound=0, flag_values=FLAGS
)
CONDITIONS = flags.DEFINE_enum(
    "conditions",
    "pelvis",
    list(PRESETS),
    "Which conditions the table holds.",
    flag_values=FLAGS,
)
NAME = flags.DEFINE_string(
    "name", "radiographs", "The data set's name in TFDS.", flag_values=FLAGS
)
MAX_CONFLICT = flags.DEFINE_float(
    "max_conflict",
    0.05,
    "Give up where the table contradicts more than this share of the headers.",
    lower_bound=0,
    upper_bound=1,
    flag_values=FLAGS,
)
AUDIT = flags.DEFINE_string(
    "audit",
    None,
    "Also write the private map from ids to files, outside --out.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Make --out anew if it exists; shards that would not change are kept.",
    flag_values=FLAGS,
)


def main() -> None:
    if MAKE_KEY.value:
        make_key(Path(MAKE_KEY.value))
        print(f"A new key is in {MAKE_KEY.value}. Keep it secret, and keep it.")
        return
    command_line.require(FLAGS, "dicom", "labels", "out")
    result = pipeline.run(_job())
    print(manifests.summary(result))
    if not result.ledger["written"]:
        raise ValueError("no file could be converted; the table above says why.")
    print(f"The data set is in {OUT.value}.")


def _job() -> pipeline.Job:
    out = Path(OUT.value)
    if ID_MODE.value == "random" and not AUDIT.value:
        raise ValueError("--id_mode = random: expected --audit FILE with it.")
    key_file = KEY_FILE.value and Path(KEY_FILE.value)
    keyed = ID_MODE.value == "keyed"
    return pipeline.Job(
        dicom=Path(DICOM.value),
        labels=Path(LABELS.value),
        out=out,
        key=load_key(key_file or None, out) if keyed else random_key(),
        schema=PRESETS[CONDITIONS.value],
        shares=parse_splits(SPLITS.value),
        size=SIZE.value,
        codec=CODEC.value,
        name=NAME.value,
        records_per_shard=RECORDS_PER_SHARD.value,
        workers=WORKERS.value,
        max_conflict=MAX_CONFLICT.value,
        audit=Path(AUDIT.value) if AUDIT.value else None,
        overwrite=OVERWRITE.value,
    )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
