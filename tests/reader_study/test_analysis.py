"""From answers to figures: what was answered is what is told."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from ddpm_jax.reader_study import analysis, report, study
from ddpm_jax.reader_study import statistics as st
from ddpm_jax.reader_study.store import Answer, Store
from tests.reader_study.conftest import FORMS
from tests.test_command_line import assert_refused


def observers(accuracies, seed=0, count=100):
    """Answers of readers of given accuracies to `count` real and synthetic images, the
    truth, and what each said by image."""
    rng = np.random.default_rng(seed)
    names = [(f"{side}{i}", side) for side in study.TRUTHS for i in range(count)]
    truth = {name: study.Truth(side, "") for name, side in names}
    answers = []
    for reader, accuracy in accuracies.items():
        shown = [(i, study.COUNTED) for i in rng.permutation(list(truth))]
        shown += [(i, study.REPEAT) for i, _ in shown[:20]]
        for position, (image, kind) in enumerate(shown):
            right = rng.uniform() < accuracy
            side = truth[image].truth
            other = study.TRUTHS[1 - study.TRUTHS.index(side)]
            said, sure = (side if right else other), int(rng.integers(1, 6))
            seconds = float(rng.lognormal(2, 0.3))
            answers.append(
                Answer(reader, position, str(image), kind, said, sure, seconds, 0.0)
            )
    return answers, truth


def figure(figures, who, what, method=None) -> analysis.Figure:
    found = [
        f
        for f in figures
        if (f.who, f.what) == (who, what) and method in (None, f.method)
    ]
    assert found, (who, what)
    return found[0]


def test_figures_of_one_reader_by_hand():
    answers, truth = observers({"anna": 0.7})
    figures = analysis.real_or_synthetic(answers, truth, np.random.default_rng(0))
    counted = [a for a in answers if a.kind == study.COUNTED]
    actual = np.array([truth[a.image].truth == "synthetic" for a in counted])
    said = np.array([a.answer == "synthetic" for a in counted])
    (specific, alarms), (misses, hits) = metrics.confusion_matrix(actual, said)
    assert figure(figures, "anna", "accuracy").count == specific + hits
    assert figure(figures, "anna", "sensitivity").value == hits / 100
    assert figure(figures, "anna", "specificity").value == specific / 100
    d = stats.norm.ppf((hits + 0.5) / 101) - stats.norm.ppf((alarms + 0.5) / 101)
    assert figure(figures, "anna", "d'").value == pytest.approx(d)
    scores = np.where(said, 1, -1) * [a.confidence for a in counted]
    area = figure(figures, "anna", "AUC of confidence")
    assert area.value == pytest.approx(metrics.roc_auc_score(actual, scores))
    assert area.low < area.value < area.high
    again = {a.image: a.answer for a in answers if a.kind == study.REPEAT}
    first = {a.image: a.answer for a in counted if a.image in again}
    kappa = metrics.cohen_kappa_score([first[i] for i in again], list(again.values()))
    own = figure(figures, "anna", "kappa, first and second time")
    assert own.value == pytest.approx(kappa) and own.total == 20
    quarters = [figure(figures, "anna", f"accuracy, quarter {i}") for i in range(1, 5)]
    assert sum(q.count for q in quarters) == specific + hits
    seconds = np.median([a.seconds for a in counted])
    assert figure(figures, "anna", "seconds an image").value == pytest.approx(seconds)


def test_the_published_figure_comes_out_as_it_was():
    """124 right of 200 is the paper's 62 %, no difference from itself."""
    answers, truth = observers({"anna": 1.0})
    wrong = 0
    for i, a in enumerate(answers):
        if a.kind == study.COUNTED and wrong < 76:
            other = study.TRUTHS[1 - study.TRUTHS.index(a.answer)]
            answers[i], wrong = a._replace(answer=other), wrong + 1
    figures = analysis.real_or_synthetic(answers, truth, np.random.default_rng(0))
    found = figure(figures, "anna", "accuracy", "Wilson")
    assert (found.count, found.total) == (124, 200)
    assert (round(found.low, 3), round(found.high, 3)) == (0.551, 0.684)
    p = figure(figures, "anna", analysis.GUESSING).value
    assert p == pytest.approx(8.5e-4, rel=0.02)
    apart = figure(figures, "anna", "accuracy minus the paper's")
    assert apart.value == 0 and apart.low == pytest.approx(-apart.high)


def test_readers_who_guess_agree_by_chance_and_copies_always():
    answers, truth = observers({"anna": 0.5, "ben": 0.5, "carl": 0.5})
    answers += [a._replace(reader="dora") for a in answers if a.reader == "anna"]
    figures = analysis.real_or_synthetic(answers, truth, np.random.default_rng(0))
    chance = figure(figures, "anna and ben", "Cohen's kappa")
    assert chance.low < 0 < chance.high
    copied = figure(figures, "anna and dora", "Cohen's kappa")
    assert (copied.value, copied.low, copied.high) == (1, 1, 1)
    everybody = figure(figures, analysis.ALL, "Fleiss' kappa")
    assert everybody.low < 1 / 6 < everybody.high  # one pair of six agrees always


def test_pooling_counts_images_and_not_answers():
    """Four copies of one reader know no more than he does."""
    answers, truth = observers({"anna": 0.7})
    copies = [a._replace(reader=f"copy{i}") for i in range(4) for a in answers]
    figures = analysis.real_or_synthetic(copies, truth, np.random.default_rng(0))
    pooled = figure(figures, analysis.ALL, "accuracy")
    one = figure(figures, "copy0", "accuracy", "Wilson")
    assert pooled.value == one.value and pooled.total == 4 * one.total
    assert pooled.high - pooled.low == pytest.approx(one.high - one.low, rel=0.1)


def test_learning_is_seen():
    answers, truth = observers({"anna": 0.5})
    late = [
        a._replace(answer=truth[a.image].truth)
        if a.kind == study.COUNTED and a.position > 100
        else a
        for a in answers
    ]
    figures = analysis.real_or_synthetic(late, truth, np.random.default_rng(0))
    assert figure(figures, "anna", "trend of accuracy, z").value > 4
    assert figure(figures, "anna", "accuracy, quarter 4").value == 1


# ---- the command ----


def answer_all(folder, wrong=()) -> dict:
    """Every reader answers everything, labels right but for the planted ones, which
    anna finds and ben does not; (reader, position) -> what was said."""
    made, store = study.load(folder), Store(folder / study.ANSWERS)
    truth = study.load_key(folder, f"{folder}.private")
    rng, given = np.random.default_rng(0), {}
    for reader, members in made.sequences.items():
        for position, one in enumerate(members):
            if made.protocol == FORMS[0]:
                said = study.TRUTHS[rng.integers(2)]
            else:
                said = dict.fromkeys(made.claims[one.image], study.AGREES)
                if "age" in said:
                    said["age"] = study.UNSURE
                if truth[one.image].planted and reader == "anna":
                    said[truth[one.image].planted] = study.DIFFERS
            given[reader, position] = said
            store.show(reader, position)
            new = Answer(reader, position, one.image, one.kind, said, 2, 1.25, 1e9)
            assert store.add(new)
    return given


@pytest.fixture
def analyse(command, tmp_path):
    def run(folder, *flags):
        out = f"--out={tmp_path / 'result'}"
        return command(
            "ddpm_jax.reader_study.analyse", f"--study={folder}", out, *flags
        )

    return run


@pytest.mark.parametrize("protocol", FORMS)
def test_analysed_is_what_was_answered(analyse, fresh_study, tmp_path, protocol):
    folder = fresh_study(protocol)
    given = answer_all(folder)
    result = analyse(folder)
    assert result.status == 0, result.err
    with open(tmp_path / "result" / "answers.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    found: dict = {}
    for line in lines:
        key = line["reader"], int(line["position"])
        if line["field"]:
            found.setdefault(key, {})[line["field"]] = line["answer"]
        else:
            found[key] = line["answer"]
    assert found == given
    page = (tmp_path / "result" / "report.html").read_text()
    assert "<script" not in page and "http://" not in page.replace(
        "http://www.w3.org", ""
    ).replace("http://purl.org", "").replace("http://creativecommons.org", "")
    assert_refused(analyse(folder), 1, "not empty", "--overwrite")
    assert analyse(folder, "--overwrite").status == 0


def test_figures_of_the_file_are_those_of_the_answers(analyse, fresh_study, tmp_path):
    folder = fresh_study()
    given = answer_all(folder)
    truth = study.load_key(folder, f"{folder}.private")
    members = study.load(folder).sequences["anna"]
    right = sum(
        given["anna", i] == truth[one.image].truth
        for i, one in enumerate(members)
        if one.kind == study.COUNTED
    )
    assert f"{right} of 24" in analyse(folder).out
    with open(tmp_path / "result" / "figures.csv", newline="") as file:
        lines = [x for x in csv.DictReader(file) if x["reader"] == "anna"]
    accuracy = {x["method"]: x for x in lines if x["what"] == "accuracy"}
    assert set(accuracy) == {"Wilson", "exact"}
    assert {x["count"] for x in accuracy.values()} == {str(right)}


def test_discrepancies_planted_ones_and_what_cannot_be_told(
    analyse, fresh_study, tmp_path
):
    folder = fresh_study(FORMS[1])
    answer_all(folder)
    assert analyse(folder).status == 0
    with open(tmp_path / "result" / "figures.csv", newline="") as file:
        lines = list(csv.DictReader(file))

    def one(reader, what):
        found = [x for x in lines if (x["reader"], x["what"]) == (reader, what)]
        return found[-1]

    any_field = one("anna", "discrepancy: any field")
    assert (any_field["count"], any_field["total"]) == ("0", "12")
    most = float(one("anna", "discrepancy: any field, at most")["value"])
    assert most == pytest.approx(1 - 0.05 ** (1 / 12))
    assert one("anna", "planted errors found")["count"] == "3"
    assert one("ben", "planted errors found")["count"] == "0"
    ages = one("anna", "cannot tell: age")
    assert ages["count"] == ages["total"]
    assert one("anna", "discrepancy: age")["total"] == "0"
    assert one("anna", "discrepancy: age")["value"] == ""


@pytest.mark.parametrize("protocol", FORMS)
def test_a_study_that_is_not_finished(analyse, fresh_study, tmp_path, protocol):
    folder = fresh_study(protocol)
    assert_refused(analyse(folder), 1, "answers.sqlite", "nobody has read yet")
    members = study.load(folder).sequences["anna"]
    store = Store(folder / study.ANSWERS)
    assert_refused(analyse(folder, "--partial"), 1, "no answers that count")
    claims = study.load(folder).claims
    for position, one in enumerate(members[:5]):
        said = "real"
        if protocol == FORMS[1]:
            said = dict.fromkeys(claims[one.image], study.UNSURE)
        new = Answer("anna", position, one.image, one.kind, said, 1, 1.0, 0.0)
        store.add(new)
    assert_refused(analyse(folder), 1, "anna 5 of", "ben 0 of", "--partial")
    result = analyse(folder, "--partial")
    assert result.status == 0, result.err
    total = len(members)
    page = (tmp_path / "result" / "report.html").read_text()
    assert f"Not finished: anna 5 of {total}, ben 0 of {total}." in page
    assert "1 reader, 3 answers that count. " in page


def test_who_only_practised_takes_nothing_from_the_others():
    """Two have finished, the third has seen practice images: the figures of all are
    those of the two."""
    answers, truth = observers({"anna": 0.7, "ben": 0.6}, count=20)
    practice = answers[0]._replace(reader="carl", kind=study.TRAINING)
    figures, more = (
        analysis.real_or_synthetic(list_, truth, np.random.default_rng(0))
        for list_ in (answers, [*answers, practice])
    )
    assert repr(figures) == repr(more)
    assert figure(more, "all readers", "accuracy").total == 2 * len(truth)


def test_a_report_takes_every_name_and_says_what_was_found():
    names = ("_anna", "a$b$ <i>", "c")
    answers, truth = observers(dict(zip(names, (0.9, 0.5, 0.5), strict=True)), count=40)
    figures = analysis.real_or_synthetic(answers, truth, np.random.default_rng(0))
    sequences = {
        who: tuple(study.Showing(a.image, a.kind) for a in answers if a.reader == who)
        for who in names
    }
    made = study.Study(FORMS[0], 4, 4, 256, (), {}, {}, sequences)
    page = report.render(made, figures, answers, analysis.curves(answers, truth))
    assert "3 readers, 240 answers that count and 60 to repeated images. " in page
    assert "Not finished" not in page and "<i>" not in page
    roc = page[page.index("ROC curve") :]
    assert "_anna" in roc and "a$b$ &lt;i" in roc
    assert page.count("differs from guessing, p &lt; 0.001") == 1
    assert page.count("does not differ from guessing, p = ") == 2


def test_the_key_of_another_study(analyse, fresh_study):
    folder = fresh_study()
    answer_all(folder)
    key = folder.parent / f"{folder.name}.private" / study.KEY
    content = json.loads(key.read_text())
    key.write_text(json.dumps(content | {"study_sha256": "0"}))
    assert_refused(analyse(folder), 1, "the key of another study")
    left = dict(list(content["truth"].items())[1:])
    key.write_text(json.dumps(content | {"truth": left}))
    assert_refused(analyse(folder), 1, "changed since", "1 images missing")
    key.write_text("[]")
    assert_refused(analyse(folder), 1, "not the key of a study")
    shutil.rmtree(key.parent)
    assert_refused(analyse(folder), 1, "key.json", "not there")


def test_answers_of_another_study(analyse, fresh_study):
    folder = fresh_study()
    Store(folder / study.ANSWERS).add(
        Answer("anna", 0, "0123", "training", "real", 1, 1.0, 0.0)
    )
    assert_refused(analyse(folder, "--partial"), 1, "answers of another study")


def test_nothing_to_say_is_said_as_nothing():
    assert math.isnan(st.against_chance(0, 0))
    assert math.isnan(st.upper_bound(0, 0)) and st.upper_bound(4, 4) == 1
    assert math.isnan(st.detection(0, 0, 1, 2).d_prime)
    assert math.isnan(st.trend(np.array([True]), np.array([0])).z)
