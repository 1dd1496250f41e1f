"""Say what the readers found.

    python -m ddpm_jax.reader_study analyse --study study --out result

Writes report.html, figures.csv and answers.csv. Needs the truth that `design` put into
the private folder, so the blind ends here: a study that some reader has not finished is
refused unless --partial says otherwise.
"""

from pathlib import Path

import numpy as np
from absl import flags

from ddpm_jax import command_line
from ddpm_jax.reader_study import analysis, discrepancy, report, study
from ddpm_jax.reader_study.store import Answer, Store, answers_to

FLAGS = command_line.new_flags()
STUDY = flags.DEFINE_string(
    "study", None, "Folder of `design`, with the answers.", flag_values=FLAGS
)
PRIVATE = flags.DEFINE_string(
    "private", None, "Folder of the truth; default: STUDY.private.", flag_values=FLAGS
)
PARTIAL = flags.DEFINE_bool(
    "partial", False, "Analyse what there is; nobody reads on after.", flag_values=FLAGS
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of the bootstrap.", lower_bound=0, flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Write into --out if it exists.", flag_values=FLAGS
)


def main():
    command_line.require(FLAGS, "study", "out")
    out = Path(OUT.value)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out.is_dir() and OVERWRITE.value):
            raise ValueError(f"--out {out}: not empty; expected another, --overwrite.")
    content = study.load(STUDY.value)
    private = study.private_folder(STUDY.value, PRIVATE.value)
    truth = study.load_key(STUDY.value, private)
    answers = read_answers(Path(STUDY.value) / study.ANSWERS, content)
    figures, curves = analyse(content, answers, truth)
    out.mkdir(parents=True, exist_ok=True)
    page = report.render(content, figures, answers, curves)
    (out / "report.html").write_text(page, encoding="utf-8")
    report.write_figures(out / "figures.csv", figures)
    report.write_answers(out / "answers.csv", answers, truth)
    say(content, figures)
    print(f"see {out / 'report.html'}, figures.csv and answers.csv")


def analyse(content: study.Study, answers: list[Answer], truth):
    """All figures, and the corners of the ROC curves by reader."""
    rng = np.random.default_rng(SEED.value)
    if content.protocol == study.LABELS:
        return discrepancy.label_discrepancy(content, answers, truth, rng), {}
    figures = analysis.real_or_synthetic(answers, truth, rng)
    return figures, analysis.curves(answers, truth)


def read_answers(path: Path, content: study.Study) -> list[Answer]:
    """The answers; ValueError where there are none, too few, or of another study."""
    if not path.is_file():
        raise ValueError(f"{path}: not there; nobody has read yet.")
    answers = answers_to(content, Store(path))
    sequences = content.sequences
    counts = {who: sum(a.reader == who for a in answers) for who in sequences}
    missing = [
        f"{who} {count} of {len(sequences[who])}"
        for who, count in counts.items()
        if count < len(sequences[who])
    ]
    if missing and not PARTIAL.value:
        raise ValueError(
            f"{path}: not finished ({', '.join(missing)}). Looking now would unblind; "
            "expected a finished study or --partial."
        )
    if not any(a.kind == study.COUNTED for a in answers):
        raise ValueError(f"{path}: no answers that count yet.")
    return answers


def say(content: study.Study, figures) -> None:
    labels = content.protocol == study.LABELS
    wanted = "discrepancy: any field" if labels else "accuracy"
    for f in figures:
        if f.what == wanted and f.method != "Wilson":
            print(
                f"{f.who}: {wanted} {f.value:.1%} ({f.low:.1%} to {f.high:.1%}, "
                f"{f.method}), {f.count} of {f.total}"
            )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
