"""The page in a browser: every control, a prompt, mistakes, the viewer, downloads."""

import base64
import io
import re
import zipfile

import imagecodecs
import numpy as np
import pydicom
import pytest

pytest.importorskip("gradio")

from ddpm_jax.conditions.prompt import parse_prompt  # noqa: E402
from ddpm_jax.outputs import png  # noqa: E402

PROMPT = "lateral left hip, THA, 72F, BMI 31.5"
DONE = '.viewer[data-state="done"]'
SOURCES = "() => [...document.querySelectorAll('canvas')].map((c) => c.source)"


class Visitor:
    """What a person does with the page."""

    def __init__(self, page):
        self.page, self.requests, self.errors = page, [], []
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, address):
        self.page.goto(address)
        self.page.wait_for_selector("#sample")
        self.page.wait_for_function(
            "() => document.querySelector('.viewer output')?.value === '65536'"
        )
        return self

    def sample(self):
        """The sources of the images that Sample brings."""
        self.page.evaluate("document.querySelector('.viewer').dataset.state = ''")
        self.page.click("#sample")
        self.page.wait_for_selector(DONE)
        self.page.wait_for_function(
            "() => document.querySelectorAll('figure.ready').length && "
            "[...document.querySelectorAll('canvas')].every((c) => c.source)"
        )
        return self.page.evaluate(SOURCES)

    def field(self, name, panel="A"):
        return self.page.locator(f"#panel-{panel} .field-{name}").first

    def chosen(self, name, panel="A"):
        return self.field(name, panel).locator("input:checked").get_attribute("value")

    def choose(self, name, value, panel="A"):
        self.field(name, panel).locator(f'input[value="{value}"]').click()

    def number(self, name):
        return self.field(name).locator("input[type=number]")

    def alert(self):
        self.page.wait_for_selector(".alert")
        return self.page.inner_text(".alert")

    def pixels(self):
        return self.page.evaluate("document.querySelector('canvas').toDataURL()")

    def saved(self, selector):
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        download = waiting.value
        with open(download.path(), "rb") as file:
            return download.suggested_filename, file.read()


@pytest.fixture
def visitor(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    visitor = Visitor(page).open(address)
    yield visitor
    page.close()
    assert visitor.errors == []
    foreign = [
        url
        for url in visitor.requests
        if not url.startswith((address, "data:", "blob:"))
    ]
    assert foreign == [], "the page loads nothing from elsewhere"


def test_each_control_changes_what_is_sampled(visitor):
    page = visitor.page
    seen = [visitor.sample()]
    assert seen == [visitor.sample()], "the same settings, the same image"

    def changed(what):
        made = visitor.sample()
        assert made not in seen, what
        seen.append(made)

    for name, value in [
        ("view", "lateral"),
        ("side", "right"),
        ("prosthesis_right", "yes"),
        ("prosthesis_left", "not in view"),
        ("sex", "F"),
    ]:
        visitor.choose(name, value)
        changed(name)
        visitor.choose(name, "not known")
        changed(f"{name} not known")
    for name, value in [("age", "30"), ("bmi", "40")]:
        visitor.number(name).fill(value)
        changed(name)
        visitor.field(name).locator("input[type=checkbox]").click()
        changed(f"{name} not known")
    page.locator("#panel-A .guidance input[type=number]").fill("9")
    visitor.field("view").click()
    visitor.choose("view", "AP")
    changed("guidance, with something to guide")
    page.locator("#panel-A .steps input[value='32']").click()
    changed("steps")
    page.fill("#seed input", "41")
    changed("seed")
    page.fill("#count input", "3")
    assert len(visitor.sample()) == 3


def test_next_seed(visitor):
    visitor.page.fill("#count input", "2")
    first = visitor.sample()
    visitor.page.evaluate("document.querySelector('.viewer').dataset.state = ''")
    visitor.page.keyboard.press("Escape")
    visitor.page.click("#next")
    visitor.page.wait_for_selector(DONE)
    visitor.page.wait_for_function(f"(old) => ({SOURCES})()[0] !== old", arg=first[0])
    assert visitor.page.input_value("#seed input") == "2"


def test_a_prompt_fills_the_fields_before_anything_is_sampled(visitor, studio):
    page = visitor.page
    page.fill("#panel-A .prompt textarea", PROMPT)
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip")
    assert "left prosthesis yes" in page.inner_text("#panel-A .understood")
    row = parse_prompt(PROMPT, studio.sampler.schema).row
    for name in ("view", "side", "prosthesis_right", "prosthesis_left", "sex"):
        assert visitor.chosen(name) == row[name]
    assert visitor.number("age").input_value() == "72"
    assert visitor.number("bmi").input_value() == "31.5"
    assert page.locator("figure").count() == 0
    visitor.sample()
    assert "BMI 31.5" in page.inner_text("figcaption")


def test_a_prompt_that_was_not_entered_is_read_by_sample(visitor):
    visitor.page.fill("#panel-A .prompt textarea", "oblique, 25-year-old man")
    visitor.sample()
    assert (visitor.chosen("view"), visitor.chosen("side")) == ("oblique", "not known")
    assert "oblique" in visitor.page.inner_text("figcaption")
    assert not visitor.field("bmi").locator("input[type=checkbox]").is_checked()


@pytest.mark.parametrize("entered", [True, False])
def test_a_bad_prompt_says_why_and_the_page_goes_on(visitor, entered):
    page = visitor.page
    page.fill("#panel-A .prompt textarea", "AP <img src=x onerror=alert(1)>")
    page.keyboard.press("Enter") if entered else page.click("#sample")
    assert "cannot read" in visitor.alert()
    assert page.locator("figure").count() == 0
    page.fill("#panel-A .prompt textarea", "AP")
    assert len(visitor.sample()) == 1


@pytest.mark.parametrize(
    "selector, value, message",
    [
        ("#count input", "100", "count = 100: expected a whole number from 1 to 4"),
        ("#count input", "", "count = nothing: expected a number"),
        ("#seed input", "", "seed = nothing: expected a number"),
        ("#seed input", "-1", "seed = -1: expected a whole number from 0"),
        ("#seed input", "1.5", "seed = 1.5: expected a whole number"),
    ],
)
def test_numbers_out_of_range(visitor, selector, value, message):
    before = visitor.page.input_value(selector)
    visitor.page.fill(selector, value)
    visitor.page.click("#sample")
    assert message in visitor.alert()
    visitor.page.fill(selector, before)
    assert len(visitor.sample()) == 1


def test_two_settings_side_by_side_with_the_same_seeds(visitor, studio):
    page = visitor.page
    page.fill("#panel-A .prompt textarea", "AP pelvis, both hips, 60-year-old woman")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip")
    page.click("#compare input")
    page.wait_for_selector("#panel-B .field-view", state="visible")
    assert visitor.chosen("view", "B") == "AP" and visitor.chosen("sex", "B") == "F"
    page.fill("#count input", "2")
    same = visitor.sample()
    assert len(same) == 4 and same[0] == same[1] and same[2] == same[3] != same[0]
    visitor.choose("sex", "M", "B")
    made = visitor.sample()
    assert made[0] == same[0] and made[1] != same[1]
    assert page.locator("figure .label").all_inner_texts() == ["A", "B", "A", "B"]
    marked = page.locator("figcaption mark").all_inner_texts()
    assert marked == ["sex: F", "sex: M"] * 2 or marked == ["F", "M"] * 2
    tops = [box["y"] for box in map(bounds, page.locator("figure").all()[:2])]
    assert tops[0] == tops[1]


def stored(source):
    """The uint16 [h, w] image that the browser was given."""
    parts = imagecodecs.png_decode(base64.b64decode(source.split(",")[1]))
    return parts[..., 0].astype(int) * 256 + parts[..., 1]


def bounds(locator):
    return locator.bounding_box()


def test_the_typical_patient_is_sampled_at_once(visitor):
    visitor.page.click("#panel-A .typical")
    visitor.page.wait_for_selector(DONE)
    assert visitor.page.locator("figure").count() == 1


def test_window_level_invert_and_zoom_ask_the_server_nothing(visitor):
    page = visitor.page
    visitor.sample()
    asked = len(visitor.requests)
    looks = [visitor.pixels()]

    def looks_new():
        page.wait_for_function(
            "(old) => document.querySelector('canvas').toDataURL() !== old",
            arg=looks[-1],
        )
        looks.append(visitor.pixels())

    page.locator("figure").first.focus()
    page.keyboard.press("i")
    looks_new()
    page.keyboard.press("i")
    looks_new()
    assert looks[2] == looks[0]
    page.keyboard.press("a")
    values = np.sort(stored(page.evaluate(SOURCES)[0]).ravel())
    held = np.quantile(values, [0.005, 0.995])
    window = float(page.input_value("input.width"))
    assert abs(window - (held[1] - held[0])) < 0.05 * 65536
    box = bounds(page.locator(".frame").first)
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 90, steps=4)
    page.mouse.up()
    looks_new()
    zoom = (
        "getComputedStyle(document.querySelector('.grid')).getPropertyValue('--zoom')"
    )
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"() => Number({zoom}) > 1")
    page.keyboard.press("r")
    looks_new()
    assert looks[-1] == looks[0] and page.evaluate(zoom) == "1"
    new = visitor.requests[asked:]
    assert [url for url in new if "queue" in url or "call" in url] == []


def test_a_full_queue_is_told_in_words(browser, full):
    """Legibly: light on dark, and nothing that says no more than Error."""
    page = browser.new_page()
    try:
        Visitor(page).open(full)
        page.click("#sample")
        page.wait_for_selector(".toast-message-text")
        said = page.inner_text(".toast-message-text")
        assert said == "busy: 1 request waits already; try again in a minute."
        assert not page.locator("#status .error").is_visible()
        style = "(e, name) => getComputedStyle(document.querySelector(e))[name]"
        colours = [
            page.evaluate(f"([e, name]) => ({style})(e, name)", asked)
            for asked in (
                [".toast-message-text", "color"],
                [".toast-body", "backgroundColor"],
            )
        ]
        text, ground = (sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours)
        assert text - ground > 400
    finally:
        page.close()


def test_downloads_are_the_images(visitor, studio):
    page = visitor.page
    page.fill("#panel-A .prompt textarea", PROMPT)
    page.fill("#count input", "2")
    page.fill("#seed input", "9")
    visitor.sample()
    steps, guidance = studio.sampler.steps, studio.sampler.guidance
    expected = studio.sampler.sample(
        PROMPT, range(9, 11), steps=steps, guidance=guidance, batch=studio.batch
    )
    name, content = visitor.saved('figure:nth-of-type(2) [data-format="png"]')
    assert name.endswith("seed_10.png")
    np.testing.assert_array_equal(png.decode(content), expected[1])
    name, content = visitor.saved('figure:nth-of-type(1) [data-format="dicom"]')
    dataset = pydicom.dcmread(io.BytesIO(content))
    assert name.endswith(".dcm") and dataset.PatientAge == "072Y"
    np.testing.assert_array_equal(dataset.pixel_array, expected[0])
    name, content = visitor.saved('[data-all="dicom"]')
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.namelist()) == 3 and "manifest.csv" in archive.namelist()


def test_keyboard_alone(visitor):
    page = visitor.page
    page.fill("#count input", "2")
    page.focus("#panel-A .prompt textarea")
    page.keyboard.type("AP, 50-year-old")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(DONE)
    page.wait_for_function(
        "() => document.querySelectorAll('figure.ready').length == 2"
    )
    page.locator("figure").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelectorAll('figure[hidden]').length == 1"
    )
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelectorAll('figure')[0].hidden")
    page.keyboard.press("Escape")
    page.wait_for_function(
        "() => document.querySelectorAll('figure[hidden]').length == 0"
    )


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
def test_it_fits(browser, address, width, height):
    page = browser.new_page(viewport={"width": width, "height": height})
    visitor = Visitor(page).open(address)
    visitor.sample()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("#banner", "#sample", "canvas", "#seed input"):
        box = bounds(page.locator(selector).first)
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    assert bounds(page.locator("canvas"))["width"] > 0.4 * min(width, height)
    assert "not for diagnosis" in page.inner_text("#banner")
    page.close()
