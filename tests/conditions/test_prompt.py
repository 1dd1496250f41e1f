"""Laws of the prompt: a row said in words is read as that row, or it is refused."""

import dataclasses
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ddpm_jax.conditions.lexicon import SYNONYMS, lexicon
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.prompt import LONGEST, parse_prompt
from ddpm_jax.conditions.schema import ANSWERS, Categorical, Continuous, Schema

quick = settings(max_examples=35, deadline=None)

NO_YES = ("no", "yes")
LAB = Schema(
    (
        Categorical("kl_grade", ("0", "1", "2", "3", "4"), "KL"),
        Categorical("brand", ("Brand A", "Brand B-2"), "maker"),
        Categorical("fracture", NO_YES, "broken bone"),
        Categorical("osteophytes", ("absent", "present"), "osteophytes"),
        Categorical("cyst_right", NO_YES, "right cyst"),
        Categorical("cyst_left", NO_YES, "left cyst"),
        Categorical("pain", ("mild", "severe"), "pain"),
        Categorical("swelling", ("mild", "severe"), "swelling"),
        Categorical("side", ("R", "L"), "side"),
        Categorical("sex", ("female", "male"), "sex"),
        Continuous("age", "months", 0, 200, 60, 30, "age"),
        Continuous("dose", "mGy", 0, 50, 5, 3, "entrance dose"),
    )
)
"""A schema that no one here foresaw, with months where the preset has years."""

OTHER_SIDE = {"right": "prosthesis_left", "left": "prosthesis_right"}


def full(schema=PELVIS, **row):
    return schema.parse(row)


def read(text, schema=PELVIS):
    return parse_prompt(text, schema).row


@st.composite
def rows(draw):
    """Canonical rows in which the side out of view is not in view."""
    row = {}
    for field in PELVIS:
        if isinstance(field, Categorical):
            known = st.sampled_from(field.values)
        else:
            known = st.floats(field.low, field.high).map(lambda x: float(f"{x:.6g}"))
        row[field.name] = draw(st.none() | known)
    if row["side"] in OTHER_SIDE:
        row[OTHER_SIDE[row["side"]]] = "not in view"
    return row


def amounts(name, low, high, *templates):
    return {
        template.format(number): {name: float(number)}
        for number in (low, high)
        for template in templates
    }


ages = ("age {}", "aged {}", "{} y/o", "{}yo", "{}-year-old", "{} years", "age={}")
bmis = ("BMI {}", "bmi of {} kg/m2", "BMI={}", "{} kg/m²", "body mass index: {}")
PHRASES = (
    {
        "AP": {"view": "AP"},
        "frontal view": {"view": "AP"},
        "anteroposterior projection": {"view": "AP"},
        "A-P pelvis": {"view": "AP"},
        "cross-table lateral": {"view": "lateral"},
        "view=lateral": {"view": "lateral"},
        "a lateral radiograph of the hip": {"view": "lateral"},
        "Judet view": {"view": "oblique"},
        "unknown view": {"view": None},
    },
    {
        "both hips": {"side": "both"},
        "bilateral pelvis": {"side": "both"},
        "right and left hips": {"side": "both"},
        "side: both": {"side": "both"},
        "side unknown": {},
    },
    {
        "right hip prosthesis": {"prosthesis_right": "yes"},
        "prosthesis on the right": {"prosthesis_right": "yes"},
        "R THA": {"prosthesis_right": "yes"},
        "no right THR": {"prosthesis_right": "no"},
        "native right hip": {"prosthesis_right": "no"},
        "prosthesis_right=no": {"prosthesis_right": "no"},
        "right prosthesis not visible": {"prosthesis_right": "not in view"},
        "right implant unknown": {},
    },
    {
        "Lt. total hip replacement": {"prosthesis_left": "yes"},
        "left-sided arthroplasty": {"prosthesis_left": "yes"},
        "implant in the left hip": {"prosthesis_left": "yes"},
        "without left hip implant": {"prosthesis_left": "no"},
        "w/o left THA": {"prosthesis_left": "no"},
        "left hip native": {"prosthesis_left": "no"},
        "left prosthesis: no": {"prosthesis_left": "no"},
    },
    amounts("age", 67, 81.5, *ages)
    | {"in the sixties": {"age": 65.0}, "age unknown": {"age": None}},
    {
        **dict.fromkeys(("woman", "lady", "F", "female sex", "sex=F"), {"sex": "F"}),
        **dict.fromkeys(("a man", "gentleman", "M", "gender: male"), {"sex": "M"}),
        "sex other": {"sex": "other"},
    },
    amounts("bmi", 31, 22.5, *bmis)
    | {"obese": {"bmi": 32.5}, "overweight": {"bmi": 27.5}}
    | {"normal weight": {"bmi": 22.0}, "underweight": {"bmi": 17.0}},
)
"""For each field phrases that are complete in themselves, with what they state."""

sentences = st.permutations(PHRASES).flatmap(
    lambda groups: st.tuples(*(st.sampled_from([*group]) for group in groups))
)
STATED = {phrase: row for group in PHRASES for phrase, row in group.items()}


@quick
@given(rows())
def test_a_caption_is_read_back(row):
    assert read(PELVIS.caption(row)) == row


@quick
@given(rows(), st.sampled_from((" ", ", ", "\n")), st.sampled_from("=:"))
def test_field_equals_value_is_read_back(row, separator, equals):
    known = {name: "unknown" if v is None else v for name, v in row.items()}
    text = separator.join(f"{name}{equals}{v}" for name, v in known.items())
    assert read(text) == row


@quick
@given(sentences, st.integers(1, 7), st.sampled_from((", ", "; ", ",\n\t", " , and ")))
def test_phrases_between_commas_add_up_in_any_order(phrases, count, separator):
    said = phrases[:count]
    stated = {name: v for phrase in said for name, v in STATED[phrase].items()}
    assert read(separator.join(said)) == full(**stated)
    assert read(separator.join(reversed(said))) == full(**stated)


@quick
@given(sentences, st.randoms(use_true_random=False))
def test_case_space_and_empty_clauses_do_not_matter(phrases, random):
    text = ", ".join(phrases)
    mixed = "".join(random.choice((c.lower(), c.upper())) for c in text)
    loose = mixed.replace(" ", " \t ").replace(",", " ,,\n")
    assert read(f"  {loose}.\n") == read(text)


@pytest.mark.parametrize("text", ("", " ,. ", "nothing stated", "pelvis radiograph"))
def test_nothing_said_is_nothing_known(text):
    prompt = parse_prompt(text, PELVIS)
    assert prompt.row == full() and prompt.understood == ()
    assert prompt.describe() == "nothing stated"


HIP = {"view": "lateral", "side": "left", "prosthesis_right": "not in view"}
EXAMPLES = {
    "AP pelvis, both hips, right hip prosthesis, 67-year-old woman, BMI 31": dict(
        view="AP", side="both", prosthesis_right="yes", sex="F", age=67, bmi=31
    ),
    "lateral left hip, THA, 72F, obese": dict(
        HIP, prosthesis_left="yes", sex="F", age=72, bmi=32.5
    ),
    "lateral left hip with THA": dict(HIP, prosthesis_left="yes"),
    "lateral left hip, no prosthesis": dict(HIP, prosthesis_left="no"),
    "lateral left hip, right prosthesis unknown": dict(HIP, prosthesis_right=None),
    "bilateral THA": dict(prosthesis_right="yes", prosthesis_left="yes"),
    "right and left hip replacements": dict(
        prosthesis_right="yes", prosthesis_left="yes"
    ),
    "both hips, without implant": dict(
        side="both", prosthesis_right="no", prosthesis_left="no"
    ),
    "no left THA, right THA": dict(prosthesis_left="no", prosthesis_right="yes"),
    "native left hip": dict(prosthesis_left="no"),
    "no right hip prosthesis": dict(prosthesis_right="no"),
    "AP, without any implant": dict(
        view="AP", prosthesis_right="no", prosthesis_left="no"
    ),
    "prosthesis unknown": {},
    "an X-ray of both hips in AP projection of a man in his sixties with a BMI of 31.5 "
    "and a right THA": dict(
        side="both", view="AP", sex="M", age=65, bmi=31.5, prosthesis_right="yes"
    ),
    "AP pelvis. Both hips. No implants.": dict(
        view="AP", side="both", prosthesis_right="no", prosthesis_left="no"
    ),
    "72yoF": dict(age=72, sex="F"),
    "M/67 (status post left THR)": dict(age=67, sex="M", prosthesis_left="yes"),
    "view=AP side=both prosthesis_right=yes age=67": dict(
        view="AP", side="both", prosthesis_right="yes", age=67
    ),
    "age 67, 67yo": dict(age=67),
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples(text):
    assert read(text) == full(**EXAMPLES[text])


def test_it_tells_what_was_understood_in_the_words_of_the_prompt():
    prompt = parse_prompt("Lateral LEFT hip; total  hip replacement, 72F", PELVIS)
    assert prompt.understood == (
        ("Lateral", "view", "lateral"),
        ("LEFT hip", "side", "left"),
        ("total  hip replacement", "prosthesis_left", "yes"),
        ("72F", "age", 72.0),
        ("72F", "sex", "F"),
        ("LEFT hip", "prosthesis_right", "not in view"),
    )
    assert prompt.describe() == (
        "view = lateral ('Lateral'), side = left ('LEFT hip'), prosthesis_left = yes "
        "('total  hip replacement'), age = 72 ('72F'), sex = F ('72F'), "
        "prosthesis_right = not in view ('LEFT hip')"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompt.row = {}


REFUSED = {
    "axial": "cannot read 'axial'; view can be AP, lateral, oblique; side can be right",
    "AP frog-leg hip, knee": "cannot read 'frog-leg', 'knee'; view can be",
    "view = axial": "cannot read '= axial'",
    "not AP": "cannot read 'not'",
    "no AP": "cannot read 'no'",
    "right or left THA": "cannot read 'or'",
    "67": "cannot read '67'; .*age can be a number from 0 to 120 years",
    "age 67-72": "cannot read '72'",
    "BMI >30": "cannot read 'BMI >30'; .*bmi can be a number from 10 to 80 kg/m²",
    "age 67 months": "cannot read 'months'",
    "yes": "cannot read 'yes'",
    "AP lateral": "'AP' and 'lateral' contradict .*: view = AP or view = lateral",
    "age 67, aged 68": "'age 67' and 'aged 68' contradict each other: age = 67 or",
    "BMI 31,5 kg/m2": "bmi = '5': expected a number from 10 to 80",
    "right THA, no prosthesis": "'right THA' and 'no prosthesis' contradict",
    "age unknown, 67F": "'age unknown' and '67F' contradict .*: age = not known or",
    "age -5": "age = '-5': expected a number from 0 to 120 years",
    "BMI 300": "bmi = '300': expected a number from 10 to 80 kg/m²",
    "AP, both hips, THA": "'THA' is on which side\\? Say right, left or bilateral",
    "hip replacement": "'hip replacement' is on which side",
    "right hip, left THA": "'left THA' cannot be seen in 'right hip', a view of the ri",
    "bilateral THA, left hip": "'bilateral THA' cannot be seen in 'left hip'",
    "left prosthesis right": "can mean side = left, prosthesis_right = yes or prosthes",
    "right THA no left THA": "can mean .*; separate its phrases by commas",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals_say_what_and_what_is_allowed_in_one_line(text):
    with pytest.raises(ValueError, match=REFUSED[text]) as caught:
        parse_prompt(text, PELVIS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ("woman", "72F", "obese", "right THA", "no implant"))
def test_a_field_that_the_model_lacks_is_refused_by_name(word):
    few = PELVIS.select(["view", "side"])
    assert read("AP, both hips", few) == {"view": "AP", "side": "both"}
    message = "this model is not conditioned on .*: it knows view, side"
    with pytest.raises(ValueError, match=message):
        parse_prompt(f"AP, both hips, {word}", few)


LAB_EXAMPLES = {
    "KL 2, right side": dict(kl_grade="2", side="R"),
    "kl_grade=4; Brand A": dict(kl_grade="4", brand="Brand A"),
    "maker: brand b-2": dict(brand="Brand B-2"),
    "no fracture, osteophytes": dict(fracture="no", osteophytes="present"),
    "broken bone, without osteophytes": dict(fracture="yes", osteophytes="absent"),
    "bilateral cyst": dict(cyst_right="yes", cyst_left="yes"),
    "left side, cyst": dict(side="L", cyst_left="yes"),
    "cyst on the left, no right cyst": dict(cyst_left="yes", cyst_right="no"),
    "mild pain, swelling: severe": dict(pain="mild", swelling="severe"),
    "72 months, woman": dict(age=72, sex="female"),
    "entrance dose 4.5 mGy": dict(dose=4.5),
    "dose=1e-05": dict(dose=1e-05),
    "4.5 mGy": dict(dose=4.5),
}


@pytest.mark.parametrize("text", LAB_EXAMPLES)
def test_any_schema_speaks_through_its_own_words(text):
    assert read(text, LAB) == full(LAB, **LAB_EXAMPLES[text])


@pytest.mark.parametrize(
    "text, message",
    (
        ("mild", "can mean pain = mild or swelling = mild"),
        ("67-year-old", "cannot read '67-year-old'"),
        ("67F", "cannot read '67'"),
        ("AP", "not conditioned on view: it knows kl_grade, brand"),
        ("left side, right cyst", "'right cyst' cannot be seen in 'left side'"),
        ("2", "cannot read '2'"),
    ),
)
def test_words_of_another_schema_are_not_misread(text, message):
    with pytest.raises(ValueError, match=message):
        parse_prompt(text, LAB)


vocabulary = sorted(
    {" ".join(words) for words in lexicon(PELVIS)} | {"67", "?", "knee"}
)


@quick
@given(st.text(max_size=60) | st.lists(st.sampled_from(vocabulary)).map(" ".join))
def test_any_text_is_read_into_a_canonical_row_or_refused_in_one_line(text):
    for schema in (PELVIS, LAB, Schema(())):
        try:
            prompt = parse_prompt(text, schema)
        except ValueError as refusal:
            assert len(str(refusal).splitlines()) == 1
        else:
            assert prompt.row == schema.parse(prompt.row)
            stated = {name: value for _, name, value in prompt.understood}
            assert prompt.row == schema.parse(stated)


@quick
@given(sentences, st.sampled_from(("knee", "maybe", "not", "or", "?", "12", "axial")))
def test_no_word_is_lost(phrases, stray):
    assume(read(", ".join(phrases)))
    with pytest.raises(ValueError, match="cannot read"):
        parse_prompt(", ".join((*phrases, stray)), PELVIS)


def test_a_word_means_one_value_of_a_field_of_the_preset():
    for words, terms in lexicon(PELVIS).items():
        bare = [term for term in terms if term.kind == "bare"]
        assert len(bare) < 2, words


def test_answers_need_the_name_of_their_field():
    yes, no = (set(group.split("|")) for group in SYNONYMS[""][:2])
    assert yes | no == set(ANSWERS)


@pytest.mark.parametrize(
    "text, said",
    [
        ("AP pelvis, " * 5000, "prompt of 55000 characters: expected 2000 at most"),
        ("x" * 10**6, "prompt of 1000000 characters: expected 2000 at most"),
        ("blue and green, " * 100, "cannot read 'blue', 'green'; view can be"),
        (" ".join(f"w{chr(97 + i % 26)}{'x' * i}." for i in range(40)), "and 34 more;"),
    ],
)
def test_an_overlong_prompt_is_not_told_back(text, said):
    with pytest.raises(ValueError, match=said) as raised:
        parse_prompt(text, PELVIS)
    assert len(str(raised.value)) < 700
    assert "\n" not in str(raised.value)


def test_the_longest_prompt_is_read_soon():
    started = time.monotonic()
    for phrase in (
        "AP, ",
        "right hip prosthesis, ",
        "67-year-old woman, ",
        "the a an ",
    ):
        parse_prompt(phrase * (LONGEST // len(phrase)), PELVIS)
    assert time.monotonic() - started < 20
