"""Laws of the report: nothing small is told, nothing is run, nothing is fetched."""

import itertools
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from data_prep import disclosure, report
from data_prep.conflicts import Tally
from data_prep.dicom import Header
from data_prep.disclosure import SPREAD
from data_prep.report import Facts, render
from ddpm_jax.conditions import small_cells
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema
from ddpm_jax.conditions.small_cells import LEAST
from ddpm_jax.data import records

AGE = PELVIS["age"]
COUNT = st.sampled_from([0, 0, 1, 2, 5, 9, 10, 11, 12, 30, 200])


def make_facts(rows, schema=PELVIS, name="pelvis", **changes):
    ledger = {
        "listed": len(rows) + 7,
        "written": len(rows),
        "duplicate": 0,
        "excluded": 4,
        "quarantined": 0,
        "dead": 3,
        "codes": {"WRITTEN": len(rows), "COLOR": 4, "BLANK": 3},
        "flags": {"MIRRORED": 2},
        "labels": {"rows": 90, "without_image": 1, "conflicts": {}},
    }
    shard = records.Shard("secret-00000", len(rows), "ab" * 32)
    manifest = records.Manifest(
        name, schema, 64, 64, 12, "png", {"train": (shard,)}, ledger, {"key_id": "k1"}
    )
    return Facts(manifest, {"train": rows}, {"train": len(rows)}, **changes)


def random_rows(count, seed=0):
    """Conditions with rare values, and every field missing now and then."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = {
            f.name: f.values[min(rng.geometric(0.8), len(f.values)) - 1]
            for f in PELVIS
            if isinstance(f, Categorical)
        }
        row |= {"age": float(min(90, rng.gamma(30, 2))), "bmi": rng.gamma(30, 1) + 10}
        rows.append({k: v for k, v in row.items() if rng.random() > 0.02})
    return rows


class Page(HTMLParser):
    """The tags of a page, and the words of its sections and of its table cells."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.section, self.open = [], None, []
        self.words, self.cells = Counter(), {}
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name == "section":
            self.section = dict(attributes)["id"]
        if name in ("td", "th"):
            self.cells.setdefault(self.section, []).append("")
        self.open.append(name)

    def handle_endtag(self, name):
        while self.open and self.open.pop() != name:
            pass

    def handle_data(self, words):
        if {"td", "th"} & set(self.open):
            self.cells[self.section][-1] += words

    def numbers(self, section):
        texts = (re.sub(r"[\s\u202f]", "", t) for t in self.cells.get(section, ()))
        return [int(text) for text in texts if text.isdigit()]


def span(counts, hidden, cell):
    """The least and the largest value of a cell that all else allows: what is shown,
    and the sums over each value of each field. By linear programming."""
    unknown = sorted(hidden)
    sums, targets = [], []
    for i in range(len(cell)):
        for value in {c[i] for c in counts}:
            sums.append([float(c[i] == value) for c in unknown])
            targets.append(sum(counts[c] for c in unknown if c[i] == value))
    goal = np.array([float(c == cell) for c in unknown])
    ends = [
        linprog(sign * goal, A_eq=np.array(sums), b_eq=targets).fun * sign
        for sign in (1, -1)
    ]
    return ends


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), COUNT, min_size=1))
def test_values_counted_together_can_each_be_anything_up_to_11(counts):
    keys = small_cells.group(counts)
    assert set(keys) == set(counts)
    for key in set(keys.values()):
        total = sum(counts[value] for value in key)
        if len(key) == 1 and keys[key[0]] == key and len(counts) > 1:
            assert total == 0 or total >= LEAST
        elif len(key) < len(counts):
            assert all(counts[value] for value in key)
            assert total - (len(key) - 1) >= LEAST
    if not any(0 < n < LEAST for n in counts.values()):
        assert all(key == (value,) for value, key in keys.items())


@settings(deadline=None)
@given(st.lists(COUNT, min_size=12, max_size=12), st.sampled_from([(3, 4), (2, 3, 2)]))
def test_no_hidden_cell_of_a_table_can_be_worked_out(numbers, shape):
    cells = itertools.product(*map(range, shape))
    counts = dict(zip(cells, numbers, strict=True))
    hidden = disclosure.protect(counts)
    small = {cell for cell, n in counts.items() if 0 < n < LEAST}
    if hidden is None:
        assert small
        return
    assert small <= hidden
    if not small:
        assert not hidden
    for cell in small:
        low, high = span(counts, hidden, cell)
        assert high - low >= SPREAD - 1e-6


def test_a_table_that_cannot_be_protected_is_not_shown(monkeypatch):
    assert disclosure.protect({("a", "x"): 3, ("b", "y"): 40}) is None
    assert disclosure.protect({}) == set()
    facts = make_facts(random_rows(1500))
    assert "cannot be protected" not in render(facts)
    monkeypatch.setattr(report, "protect", lambda counts: None)
    assert render(facts).count("cannot be protected") == 5


def test_tables_form_no_ring_and_share_one_field_at_most():
    page = render(make_facts(random_rows(1500)))
    section = page[page.index('id="combinations"') : page.index('id="splits"')]
    captions = re.findall(r"<caption>([^<]* × [^<]*)", section)
    tables = [set(caption.split(" × ")) for caption in captions]
    assert len(tables) >= 3
    joined = tables[0]
    for table in sorted(tables[1:], key=lambda t: not t & joined):
        assert len(table & joined) == 1
        joined = joined | table


@given(st.lists(st.floats(0, 120), max_size=60))
def test_bins_hold_every_value_and_never_a_few(ages):
    ends = small_cells.join_bins(AGE, ages)
    held = [sum(a <= v < b or v == b == 120 for v in ages) for a, b in ends]
    assert sum(held) == len(ages)
    assert all(n >= LEAST for n in held) or len(held) == 1
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(ends))
    assert all(a % 5 == 0 == b % 5 for a, b in ends)


@given(
    st.lists(st.none() | st.floats(0, 120) | st.just(float("nan")), max_size=80),
    st.integers(1, 40),
)
def test_an_axis_counts_every_record_once_and_so_do_its_decades(ages, repeat):
    axis = small_cells.make_axis(AGE, [*ages, *([61.0] * repeat)])
    for each in (axis, disclosure.widen(axis)):
        assert sum(each.counts.values()) == len(ages) + repeat
        assert Counter(each.keys) == Counter(
            {k: n for k, n in each.counts.items() if n}
        )
        if len(each.counts) > 1:
            assert not any(0 < n < LEAST for n in each.counts.values())
    wide = disclosure.widen(axis).bins
    assert sum(n for *_, n in wide) == sum(n for *_, n in axis.bins)


@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["F", "M", None]), st.sampled_from(["F", "M", "other"])
        ),
        COUNT,
    ),
    st.integers(0, 15),
)
def test_no_small_disagreement_of_label_and_header_can_be_worked_out(pairs, more):
    labels = [label for (label, _), n in pairs.items() for _ in range(n)]
    axis = small_cells.make_axis(PELVIS["sex"], labels + ["F"] * more)
    for label, row in disclosure.confusion_table(pairs, axis).items():
        shown = [n for n in row.values() if n is not None]
        unknown = axis.counts[label] - sum(shown)
        k = len(row) - len(shown)
        assert not any(0 < n < LEAST for n in shown) or len(row) == 1
        assert k == 0 == unknown or k == len(row) or unknown - (k - 1) >= LEAST


@pytest.mark.parametrize("seed", range(3))
def test_no_small_count_of_conditions_is_on_the_page(seed):
    rows = random_rows(1500, seed)
    pairs = Counter((r.get("sex"), r.get("sex")) for r in rows)
    pairs["F", "M"] = 3
    page = Page(render(make_facts(rows, confusion={"sex": pairs})))
    for section in ("fields", "combinations"):
        found = page.numbers(section)
        assert len(found) > 20
        assert not [n for n in found if 0 < n < LEAST]
    sex = render(make_facts(rows, confusion={"sex": {("F", "M"): 3}}))
    assert ">3<" not in sex[sex.index('id="labels"') : sex.index('id="spectrum"')]


def test_tooltips_bars_and_pictures_tell_what_is_printed():
    page = render(make_facts(random_rows(1500)))
    fields = page[page.index('id="fields"') : page.index('id="splits"')]
    printed = set(re.findall(r">([\d\u202f]+)<", fields))
    for title in re.findall(r"<title>[^<]*: ([^<]*)</title>", fields):
        assert title in printed
    assert "hatched" in fields


def test_the_ledger_is_exact_and_complete():
    page = Page(render(make_facts(random_rows(40))))
    found = page.numbers("ledger")
    assert {40, 4, 3, 47, 2} <= set(found)


def test_text_of_the_data_is_inert():
    evil = "<script>alert(1)</script>"
    schema = Schema((Categorical("view", (evil, '"><img src=x>'), evil),))
    rows = [{"view": evil}] * 30
    facts = make_facts(rows, schema, name=evil, confusion={evil: {(evil, evil): 30}})
    facts.manifest.settings["versions"] = {evil: evil}
    facts.manifest.ledger["flags"][evil] = 12
    facts.manifest.ledger["codes"][evil] = 0
    page = render(facts)
    assert evil not in page and "&lt;script&gt;" in page
    assert not {"script", "img", "link", "iframe"} & {
        name for name, _ in Page(page).tags
    }


def test_nothing_is_fetched_and_no_id_is_told():
    spectrum = {"images": 9, "size": 8, "power": [3.0, 1.0, 0.1, 0.0]}
    spectrum |= {"logsnr_low": -5.1, "logsnr_high": 6.3}
    page = render(make_facts(random_rows(300), spectrum=spectrum))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    for _, attributes in Page(page).tags:
        assert not {"src", "srcset", "onload"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert "secret-00000" not in page and "abab" not in page
    assert "\N{MINUS SIGN}5.1 to 6.3" in page


@pytest.mark.parametrize(
    "rows, schema",
    [
        ([], PELVIS),
        ([{}] * 20, PELVIS),
        ([{"sex": "F"}] * 3, PELVIS),
        ([{"sex": "F", "age": None}] * 30, PELVIS),
        ([{}] * 4, Schema(())),
        ([{"dose": 0.3}] * 30, Schema((Continuous("dose", "", 0, 1, 0, 1, "dose"),))),
    ],
)
def test_sparse_and_empty_data_sets_have_a_report(rows, schema):
    page = Page(render(make_facts(rows, schema)))
    assert not [n for n in page.numbers("combinations") if 0 < n < LEAST]


def test_fields_of_another_lab_are_paired_with_the_first():
    values = ("0", "1")
    schema = Schema(
        tuple(Categorical(f"f{i}", values, f"title {i}") for i in range(20))
    )
    page = render(make_facts([{"f0": "1", "f1": "0"}] * 50, schema))
    assert "title 0 × title 1<" in page and "title 1 × title 2<" not in page
    assert f"The first {report.MOST_PAIRS} of 19 pairs" in page


def test_few_patients_of_a_split_are_hidden_and_so_is_their_total():
    facts = make_facts(random_rows(300))
    facts.manifest.splits["test"] = ()
    page = render(Facts(facts.manifest, facts.rows, {"train": 123, "test": 4}))
    splits = page[page.index('id="splits"') : page.index('id="labels"')]
    assert ">123<" in splits and ">4<" not in splits and ">127<" not in page


def test_ages_that_were_compared_are_shown():
    tally = Tally()
    for i in range(60):
        years = "067Y" if i < 40 else "050Y"
        header = Header("", "", "F", years, "", "")
        tally.add(header, {"age": 67.0, "sex": "F"})
    page = render(make_facts([{"age": 67.0}] * 60, confusion=tally.confusion))
    assert "within 1" in page and "over 10 below" in page
    assert "not compared" not in page
