r"""Hold synthetic radiographs against real ones.

    python -m ddpm_jax.evaluate --real DATA --workdir runs/first --out report
    python -m ddpm_jax.evaluate --real DATA --synthetic images --out report
    python -m ddpm_jax.evaluate --real DATA --sampler exported --out report \
        --parts fidelity,agreement --features inception --weights inception.pth

Real images of the `test` split, which the model must not have seen, are what synthetic
ones are held against; a labeller learns from the `train` split. `memorization` looks
for copies of what the model was trained on: the `train` split of --training, by default
of --real. The same command goes on after an interruption, and one with other --parts
adds to the report. See docs/evaluation.md.
"""

from pathlib import Path

from absl import flags

from ddpm_jax import command_line, runs
from ddpm_jax.assessment.asked import PARTS as NAMES
from ddpm_jax.assessment.asked import Asked
from ddpm_jax.assessment.assess import assess
from ddpm_jax.evaluation import features

FLAGS = command_line.new_flags()
REAL = flags.DEFINE_string(
    "real",
    None,
    "A data set of `data_prep.convert`; the model did not see its test split.",
    flag_values=FLAGS,
)
TRAINING = flags.DEFINE_string(
    "training",
    None,
    "The data set whose train split the model was trained on; default: --real.",
    flag_values=FLAGS,
)
SYNTHETIC = flags.DEFINE_string(
    "synthetic", None, "The --out folder of `ddpm_jax.sample`.", flag_values=FLAGS
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Or: the folder of a training run.", flag_values=FLAGS
)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    runs.CHECKPOINTS,
    "Of a run: its newest checkpoint, or the best by Fréchet distance.",
    flag_values=FLAGS,
)
SAMPLER = flags.DEFINE_string(
    "sampler", None, "Or: the folder of an exported sampler.", flag_values=FLAGS
)
PARTS = flags.DEFINE_list(
    "parts",
    list(NAMES),
    "What to measure, of " + ", ".join(NAMES) + ".",
    flag_values=FLAGS,
)
COUNT = flags.DEFINE_integer(
    "count",
    None,
    "Synthetic images; default: 1000 from a model (FID-5K: 5000), all of --synthetic.",
    lower_bound=20,
    flag_values=FLAGS,
)
REAL_COUNT = flags.DEFINE_integer(
    "real_count",
    20_000,
    "Real images of a split, at most; drawn where there are more.",
    lower_bound=20,
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the first image.", lower_bound=0, flag_values=FLAGS
)
GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Guidance weight; default: the model's.", flag_values=FLAGS
)
STEPS = flags.DEFINE_integer(
    "steps", None, "Sampler steps; default: the model's.", flag_values=FLAGS
)
EPOCHS = flags.DEFINE_integer(
    "epochs",
    None,
    "Epochs of the labeller; default: 6, and 1000 steps at least.",
    lower_bound=1,
    flag_values=FLAGS,
)
FIELDS = flags.DEFINE_list(
    "fields", [], "Fields to compare; default: all.", flag_values=FLAGS
)
BALANCE = flags.DEFINE_list(
    "balance",
    [],
    "Fields over which usefulness balances; default: sex and prostheses, or all "
    "categorical ones.",
    flag_values=FLAGS,
)
FEATURES = flags.DEFINE_string(
    "features",
    "labeller",
    "What distances are measured in: labeller, inception, or a file.onnx.",
    flag_values=FLAGS,
)
WEIGHTS = flags.DEFINE_string(
    "weights", None, "With inception: the file of its weights.", flag_values=FLAGS
)
LAYER = flags.DEFINE_string(
    "layer",
    None,
    "With an ONNX file: the output; default: the first.",
    flag_values=FLAGS,
)
NORMALISE = flags.DEFINE_enum(
    "normalise",
    "none",
    features.NORMALISE,
    "With an ONNX file: imagenet for DINOv2 and others trained so.",
    flag_values=FLAGS,
)
FEATURE_SIZE = flags.DEFINE_integer(
    "feature_size",
    None,
    "With an ONNX file that takes any: pixels of a side; default: the images' own.",
    lower_bound=8,
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace an evaluation of something else.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)


def main():
    command_line.require(FLAGS, "real", "out")
    asked = Asked(
        real=REAL.value,
        training=TRAINING.value,
        synthetic=SYNTHETIC.value,
        workdir=WORKDIR.value,
        checkpoint=CHECKPOINT.value,
        sampler=SAMPLER.value,
        out=Path(OUT.value),
        parts=tuple(PARTS.value),
        count=COUNT.value,
        real_count=REAL_COUNT.value,
        seed=SEED.value,
        guidance=GUIDANCE.value,
        steps=STEPS.value,
        epochs=EPOCHS.value,
        fields=tuple(FIELDS.value),
        balance=tuple(BALANCE.value),
        features=FEATURES.value,
        weights=WEIGHTS.value,
        layer=LAYER.value,
        normalise=NORMALISE.value,
        feature_size=FEATURE_SIZE.value,
        overwrite=OVERWRITE.value,
    )
    print(assess(asked))


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
