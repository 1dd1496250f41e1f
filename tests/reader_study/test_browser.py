"""The page in headless Chromium: what a reader clicks is what is stored."""

import csv
import random
import threading

import pytest

from ddpm_jax.reader_study import study
from ddpm_jax.reader_study.store import Store
from tests.reader_study.conftest import FORMS, Process, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def tab(browser):
    """tab(link) is a page of its own; no error may reach its console."""
    wrong, contexts = [], []

    def open_tab(link: str, touch: bool = False, **size):
        context = browser.new_context(
            viewport=size or {"width": 1280, "height": 800}, has_touch=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(link)
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not wrong


def reading(page, position: int) -> None:
    page.wait_for_selector(f"body[data-phase=reading][data-position='{position}']")


def begin(page, position: int = 0) -> None:
    page.wait_for_selector("#go")
    page.keyboard.press("Enter")
    reading(page, position)


def give(page, key: str, sure: int, practice: bool = False) -> None:
    page.keyboard.press(key)
    page.keyboard.press(str(sure))
    page.keyboard.press("Enter")
    if practice:
        page.wait_for_selector("body[data-phase=told]")
        page.keyboard.press("Enter")


def link(client) -> str:
    return f"http://127.0.0.1:{client.port}/r/{client.token}"


@pytest.mark.slow
def test_two_readers_a_killed_server_and_the_analysis(
    tab, fresh_study, command, tmp_path
):
    """Anna's server is killed while she reads; Ben closes his browser. All that they
    clicked is in answers.csv, once."""
    folder, moments = fresh_study(), random.Random(3)
    total = len(study.load(folder).sequences["anna"])
    server = Process(folder)
    clicked: dict = {}

    def read(page, reader, positions):
        for position in positions:
            if position == 2:
                page.wait_for_selector("#go")
                page.keyboard.press("Enter")
            reading(page, position)
            side, sure = moments.choice(study.TRUTHS), moments.randint(1, 5)
            clicked[reader, position] = (side, sure)
            give(page, side[0], sure, practice=position < 2)

    anna = tab(server.links["anna"])
    begin(anna)
    read(anna, "anna", range(10))
    reading(anna, 10)
    server.end(kill=True)
    restart: list[Process] = []
    waiting = threading.Timer(1.0, lambda: restart.append(Process(folder, server.port)))
    waiting.start()
    clicked["anna", 10] = ("real", 5)
    give(anna, "r", 5)
    anna.wait_for_selector("#note.warn")
    assert "nothing is lost" in anna.text_content("#note")
    read(anna, "anna", range(11, total))
    anna.wait_for_selector("text=Thank you")
    waiting.join()

    ben = tab(restart[0].links["ben"])
    begin(ben)
    read(ben, "ben", range(7))
    reading(ben, 7)
    ben.keyboard.press("s")
    ben.close()  # the answer to 7 was not given
    ben = tab(restart[0].links["ben"])
    ben.wait_for_selector("#words >> text=7 of 30 answered")
    begin(ben, 7)
    read(ben, "ben", range(7, total))
    ben.wait_for_selector("text=Thank you")
    assert restart[0].end() == 0

    result = command(
        "ddpm_jax.reader_study.analyse", f"--study={folder}", f"--out={tmp_path / 'r'}"
    )
    assert result.status == 0, result.err
    with open(tmp_path / "r" / "answers.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    found = {
        (x["reader"], int(x["position"])): (x["answer"], int(x["confidence"]))
        for x in lines
    }
    assert found == clicked and len(lines) == 2 * total
    assert all(0 < float(x["seconds"]) < 60 for x in lines)


def test_labels_by_keyboard(tab, fresh_study):
    folder = fresh_study(FORMS[1])
    made = study.load(folder)
    with serving(folder) as clients:
        page = tab(link(clients["anna"]))
        begin(page)
        for position in range(3):
            reading(page, position)
            names = list(made.claims[made.sequences["anna"][position].image])
            shown = page.locator(".field b").all_text_contents()
            image = made.sequences["anna"][position].image
            assert shown == list(made.claims[image].values())
            for i in range(len(names)):
                page.keyboard.press("ync"[i % 3])
            page.keyboard.press("ArrowUp")
            page.keyboard.press("4")
            assert page.is_enabled("#next")
            page.keyboard.press("Enter")
            if position < 2:
                page.wait_for_selector("body[data-phase=told]")
                told = page.text_content("#note")
                wrong = made.feedback[image]
                title = dict(made.fields).get(wrong)
                expected = f"Wrong on purpose: {title}." if wrong else "All of this was"
                assert told.startswith(expected)
                page.keyboard.press("Enter")
                if position == 1:
                    begin(page, 2)
        reading(page, 3)
    answers = Store(folder / study.ANSWERS).answers()
    for one in answers:
        names = list(made.claims[one.image])
        said = [one.answer[name] for name in names]
        verdicts = (study.AGREES, study.DIFFERS, study.UNSURE)
        assert said == [verdicts[i % 3] for i in range(len(names))]


def test_hasty_hands_and_two_tabs_count_once(tab, fresh_study):
    folder = fresh_study()
    with serving(folder) as clients:
        one = tab(link(clients["anna"]))
        begin(one)
        two = tab(link(clients["anna"]))
        begin(two)
        one.keyboard.press("r")
        one.keyboard.press("3")
        one.evaluate("() => { for (let i = 0; i < 5; i++) send(); }")
        one.wait_for_selector("body[data-phase=told]")
        give(two, "s", 5, practice=True)  # too late: the first answer stands
        reading(two, 1)
        one.keyboard.press("Enter")
        reading(one, 1)
        give(two, "s", 2, practice=True)
        begin(two, 2)
        one.reload()
        begin(one, 2)
        one.dblclick("#choose-real")
        one.click("#sure-1")
        one.dblclick("#next")
        reading(one, 3)
        two.reload()
        begin(two, 3)
        assert clients["anna"].state()["position"] == 3
    said = [a.answer for a in Store(folder / study.ANSWERS).answers()]
    assert said == ["real", "synthetic", "real"]


def test_zoom_and_window_change_what_is_seen_and_are_reset(tab, fresh_study):
    with serving(fresh_study()) as clients:
        page = tab(link(clients["anna"]))
        begin(page)

        def pixels() -> str:
            return page.evaluate("() => document.getElementById('canvas').toDataURL()")

        plain = pixels()
        page.mouse.move(400, 300)
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(100)
        zoomed = pixels()
        assert zoomed != plain and "%" in page.text_content("#window")
        page.keyboard.press("0")
        assert pixels() == plain
        page.keyboard.down("Shift")
        page.mouse.down()
        page.mouse.move(250, 200, steps=3)
        page.mouse.up()
        page.keyboard.up("Shift")
        page.wait_for_timeout(100)
        assert pixels() != plain and "width" in page.text_content("#window")
        page.keyboard.press("0")
        page.keyboard.press("i")
        assert pixels() != plain
        page.keyboard.press("i")
        assert pixels() == plain


@pytest.mark.parametrize("width, height", [(1280, 800), (1920, 1080)])
@pytest.mark.parametrize("protocol", FORMS)
def test_everything_fits_the_screen(tab, fresh_study, protocol, width, height):
    with serving(fresh_study(protocol)) as clients:
        page = tab(link(clients["anna"]), width=width, height=height)
        begin(page)
        boxes = [
            page.locator(part).bounding_box()
            for part in ("header", "#question", "#confidence", "#next", "footer")
        ]
        for above, below in zip(boxes, boxes[1:], strict=False):
            assert above["y"] + above["height"] <= below["y"] + 0.5
        assert boxes[-1]["y"] + boxes[-1]["height"] <= height
        viewer = page.locator("#viewer").bounding_box()
        assert viewer["height"] == height and viewer["width"] > 0.7 * width
        scroll = "() => document.getElementById('panel').scrollHeight"
        assert page.evaluate(scroll) <= height


@pytest.mark.parametrize("width, height", [(820, 1180), (390, 844)])
def test_held_upright_the_image_is_above_the_question(tab, fresh_study, width, height):
    with serving(fresh_study()) as clients:
        page = tab(link(clients["anna"]), touch=True, width=width, height=height)
        begin(page)
        viewer = page.locator("#viewer").bounding_box()
        assert viewer["width"] == width and viewer["height"] > 0.45 * height
        panel = page.locator("#panel").bounding_box()
        assert panel["y"] >= viewer["y"] + viewer["height"]
        for part in ("#choose-real", "#sure-5", "#next", "#pause"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height and box["height"] >= 40


def test_a_pause_covers_the_image_and_stops_the_clock(tab, fresh_study):
    folder = fresh_study()
    with serving(folder) as clients:
        page = tab(link(clients["anna"]))
        begin(page)
        page.keyboard.press("r")
        page.keyboard.press("p")
        page.wait_for_selector("text=Paused")
        centre = "() => document.elementFromPoint(300, 300).closest('#cover') !== null"
        assert page.evaluate(centre)
        page.keyboard.press("s")  # nothing is answered behind the cover
        page.wait_for_timeout(3000)
        page.keyboard.press("Enter")
        reading(page, 0)
        assert not page.evaluate(centre)
        page.keyboard.press("4")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-phase=told]")
    (one,) = Store(folder / study.ANSWERS).answers()
    assert (one.answer, one.confidence) == ("real", 4)
    assert 0 < one.seconds < 3 < one.time - one.shown


def test_fingers_change_the_window_and_zoom(tab, fresh_study):
    with serving(fresh_study()) as clients:
        page = tab(link(clients["anna"]), touch=True, width=820, height=1180)
        begin(page)
        device = page.context.new_cdp_session(page)

        def fingers(kind, *places):
            points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
            device.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
            )

        fingers("touchStart", (400, 300))
        fingers("touchMove", (300, 300))
        fingers("touchEnd")
        page.wait_for_selector("#window:not(:empty)")
        told = page.text_content("#window")
        assert told.startswith("100 %") and "width 100" not in told
        page.click("#reset")
        page.wait_for_selector("#window:empty", state="attached")
        fingers("touchStart", (380, 300), (420, 300))
        fingers("touchMove", (300, 300), (500, 300))
        fingers("touchEnd")
        told = page.text_content("#window")
        assert told.startswith("500 %") and "width 100" in told


def test_the_truth_is_nowhere_in_the_page(tab, fresh_study):
    """The whole document and all that the page has fetched, after every image."""
    folder = fresh_study()
    truth = study.load_key(folder, f"{folder}.private")
    with serving(folder) as clients:
        page = tab(link(clients["anna"]))
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        begin(page)
        documents = {}
        for position, one in enumerate(study.load(folder).sequences["anna"]):
            if position == 2:
                page.wait_for_selector("#go")
                page.keyboard.press("Enter")
            reading(page, position)
            text = page.content().replace(f'data-position="{position}"', "")
            for part in (
                page.text_content("#count"),
                page.get_attribute("#bar i", "style"),
            ):
                text = text.replace(part, "")
            if position > 2:
                documents.setdefault(text, set()).add(truth[one.image].truth)
            give(page, "r", 1, practice=position < 2)
        page.wait_for_selector("text=Thank you")
    assert len(documents) == 1 and documents.popitem()[1] == set(study.TRUTHS)
    for image, one in truth.items():
        assert not any(image in a or one.source in a for a in addresses)


def test_a_link_that_is_not_known(browser, fresh_study):
    with serving(fresh_study()) as clients:
        page = browser.new_page()
        reply = page.goto(link(clients["anna"])[:-1])
        assert reply.status == 404 and page.text_content("body").strip() == "Not here."
        page.close()
