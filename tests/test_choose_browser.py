"""choose.html in a real browser: the same answers as `pick` to questions drawn by lot, and what a person does with it."""

from __future__ import annotations

import argparse
import datetime
import os
import random
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from choosing import HELD, OPTIONS, STACKS, Asked, ask, clauses, observations
from fake_report import fake_report
from playwright.sync_api import Browser, Page, expect, sync_playwright

from builder import pick, pick_ask, pick_cli, pick_evidence, versions
from builder.facts_records import CATALOG
from builder.pick_judge import Question
from builder.project import Project
from builder.report import build_report, choose

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no chromium on this machine", allow_module_level=True)

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone.utc)
DESKTOP, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
SEEN = observations(random.Random(7))
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
LINKED = pick.pick(Question(), SEEN, now=NOW).choices[0].evidence.latest.cell  # type: ignore[union-attr]
"""The cell of the first stack's evidence, which the report has."""
QUESTIONS, EACH = 12, 25


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI must have a browser (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = Project(matrix=tmp_path_factory.mktemp("choose") / "matrix.yaml")
    project.report.mkdir(parents=True)
    report = fake_report()
    report["cells"][0]["id"] = LINKED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pick_evidence, "read", lambda path: SEEN)
        choose.write(project, report)
    build_report(report, project.report, choose=True)
    yield (project.report / choose.NAME).as_uri()


class Watched:
    """A page that remembers every error, and every address it asked for."""

    def __init__(self, page: Page) -> None:
        self.page, self.problems, self.asked = page, list[str](), list[str]()
        page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.problems.append(str(e)))
        page.on("request", lambda r: self.asked.append(r.url))
        page.clock.set_fixed_time(NOW)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:
    context = browser.new_context(viewport=request.param, color_scheme="dark" if request.param is PHONE else "light")
    watched = Watched(context.new_page())
    yield watched
    context.close()
    assert watched.problems == []
    assert {url.split(":")[0] for url in watched.asked} <= {"file", "data"}


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP)
    watched = Watched(context.new_page())
    watched.page.goto(address)
    yield watched.page
    context.close()
    assert watched.problems == []


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"))


# The same as pick ---------------------------------------------------------------------------------------------------

READ = """async fragment => {
    if (location.hash !== fragment) {
        const done = new Promise(resolve => addEventListener("hashchange", resolve, {once: true}));
        location.hash = fragment; await done;
    }
    const text = node => node ? node.textContent : "";
    return {
        command: text(document.querySelector(".asked code")),
        error: text(document.querySelector("#main .error")), head: text(document.querySelector("h1")),
        picks: [...document.querySelectorAll(".picks .pick")].map(d => [d.dataset.stack, d.dataset.class, d.dataset.states]),
        says: [...document.querySelectorAll(".pick[open] .verdicts dd")]
            .map(d => text(d.querySelector(".say")) + d.childNodes[1].data),
        notes: [...document.querySelectorAll(".pick[open] .run .doubt")].map(text),
        open: [...document.querySelectorAll(".open a")].map(text),
        nothing: [...document.querySelectorAll(".nothing > ol > li")]
            .map(li => [li.dataset.key, li.dataset.relax, li.dataset.stack, text(li.querySelector(":scope > p:not(.relax)"))]),
    };
}"""
SAYS = {"supported": "yes", "unsupported": "no", "unknown": "unknown"}


def wanted(asked: Asked) -> dict[str, Any]:
    """What the page must show, by pick."""
    found = pick.pick(asked.question, SEEN, now=NOW)
    first = found.choices[0] if found.choices else None
    return {
        "error": "",
        "picks": [
            [item.stack.id, item.evidence.of, " ".join(verdict.state for verdict in item.verdicts)] for item in found.choices
        ],
        "says": [
            f"{SAYS[verdict.state]}{', inferred' if verdict.inferred and verdict.state == 'supported' else ''} {verdict.because}"
            for verdict in (first.verdicts if first else ())
        ],
        "notes": list(first.evidence.notes) if first else [],
        "open": list(found.open),
        "nothing": [
            [item.requirement.key, item.relax, item.stack if item.relax else "", item.verdict.because if item.verdict else ""]
            for item in found.conflicts
        ],
    }  # fmt: skip


def read_back(command: str) -> Question:
    """What the command line takes the page's command for."""
    parser = argparse.ArgumentParser()
    pick_cli.add(parser)
    name, verb, *words = shlex.split(command)
    assert (name, verb) == ("enginematrix", "pick")
    return pick_ask.question(parser.parse_args(words), Project(matrix=Path("nosuch/matrix.yaml")), set())


@pytest.mark.parametrize("seed", range(QUESTIONS))
def test_questions_by_lot_have_the_answers_of_pick(page: Page, seed: int) -> None:
    lot = random.Random(seed)
    classes, nothing = set(), 0
    for _ in range(EACH):
        asked = ask(lot)
        shown = page.evaluate(READ, (asked.fragment if asked.fragment != "#" else "#") + "&all=1")
        head, command = shown.pop("head"), shown.pop("command")
        expected = wanted(asked)
        assert asked.gpu == 1 or read_back(command) == asked.question
        assert shown == expected, asked.fragment
        assert head.startswith("Nothing fits" if not expected["picks"] else f"{len(expected['picks'])} stack")
        classes |= {of for _, of, _ in expected["picks"]}
        nothing += not expected["picks"]
    assert nothing and len(classes) > 2, "the questions are worth asking"


def test_each_stack_that_ran_shows_what_pick_says_of_its_runs(page: Page) -> None:
    """With the GPU, driver, precision and Python of its runs, and near them."""
    lot = random.Random(5)
    seen = [items[0] for items in SEEN.values()]
    taken = 0
    for run in lot.sample(seen, 40):
        name = run.gpus[0][0] if run.gpus else ""
        gpu = next((at for at, item in enumerate(OPTIONS) if item.hardware and pick.hardware(name) and item.name
                    and item.name in name), lot.choice([0, 1])) if name else 0  # fmt: skip
        fields = {
            "driver": lot.choice([run.driver, "", "560.28.03"]), "precision": lot.choice([run.precision, ""]),
            "python": lot.choice([run.fields.get("python", ""), ""]),
        }  # fmt: skip
        given: dict[str, Any] = {key: value for key, value in fields.items() if value}
        asked = Asked(question=Question(gpu=OPTIONS[gpu].hardware, **given), gpu=gpu, fields=fields)
        shown = page.evaluate(READ, asked.fragment + "&all=1")
        del shown["head"], shown["command"]
        expected = wanted(asked)
        assert shown == expected, asked.fragment
        taken += sum("it ran on" in text for text in expected["says"])
    assert taken, "observation beat documentation somewhere"


def test_version_clauses_mean_what_they_mean_elsewhere(page: Page, address: str) -> None:
    """Thousands of clauses of which the answer is one bit, put to the page's own functions."""
    lot = random.Random(11)
    held = sorted({version for items in HELD.values() for version in items})
    cases = [(clauses(lot, held), lot.choice(held)) for _ in range(6000)]
    cases = [(clause, version) for clause, version in cases if clause and not versions.problem(clause)]
    cases += [
        (f"{operator}{left}", right)
        for left in (
            "1.0",
            "1.0.post1",
            "1.0rc1",
            "1.0.dev2",
            "1!1.0",
            "1.0.0",
            "01.0",
            "1",
            "v1.0",
            "1.0a1.dev1",
            "1.0-2",
        )
        for right in (
            "1.0",
            "1.0.post1",
            "1.0.post2",
            "1.0rc1",
            "1.0rc2",
            "1.0.dev2",
            "1!1.0",
            "1.0+local.1",
            "0.9",
            "1.0.1",
        )
        for operator in (">=", "<=", ">", "<", "==", "!=")
    ]
    js = (Path(choose.__file__).parent / "templates" / "choose.js").read_text()
    part = js[js.index("const RELEASE") : js.index("function ordered")]
    found = page.evaluate(
        f"cases => {{ {part}; return cases.map(([c, v]) => [wrong(c), coarse(v, c), matches(c, v)]); }}", cases
    )
    from builder.pick_judge import _coarse

    assert [case for case, item in zip(cases, found, strict=True) if item[0]] == []
    for (clause, version), (_, coarse, matches) in zip(cases, found, strict=True):
        assert (coarse, matches) == (_coarse(version, clause), versions.matches(clause, version)), (clause, version)


# What a person does -------------------------------------------------------------------------------------------------

FRAGMENTS = [
    "", "#gpu=RTX%204090", "#gpu=none", "#gpu=sm120&all=1", "#gpu=8.9", "#framework=torch&python=3.12",
    "#stack=tensorrt:24.01-py3",
    "#gpu=RTX+4090&driver=470.57.02&need=tensorrt>=10.13", "#gpu=GTX+9999", "#driver=<b>", "#need=%00", "#python=9.9", "#%",
    "#need=cuda&need=cudnn&need=tensorrt>=8", "#stack=nosuch", "#gpu=%F0%9F%8D%8B&driver=5..5&need=tensorrt=10&precision=fp1",
]  # fmt: skip


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_every_address_opens_and_fits(view: Watched, address: str, fragment: str) -> None:
    view.page.goto(address + fragment)
    expect(view.page.locator("main h1")).to_have_count(1)
    assert fits(view.page)


@pytest.mark.parametrize(
    ("fragment", "text"),
    [
        ("gpu=GTX+9999", 'the catalog has no GPU of the name "GTX 9999"'), ("driver=5..5", "numbers with dots"),
        ("driver=12.4", "==12.4.*"),
        ("need=tensort>=10", 'no stack has a "tensort"'), ("need=tensorrt=10", "is not a version clause"),
        ("need=tensorrt>=ten", 'that >= compares with'), ("need=tensorrt10", "no stack has"), ("need=>=10", "begin with a name"),
        ("need=tensorrt+10", "write tensorrt==10"), ("framework=torch===2", "=== compares texts"),
        ("precision=fp1", 'no precision "fp1"'),
        ("python=2.7.1", 'no python "2.7.1"'), ("platform=windows", 'no platform "windows"'),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_and_nothing_is_answered(
    page: Page, address: str, fragment: str, text: str
) -> None:
    page.goto(f"{address}#{fragment}")
    expect(page.locator("h1")).to_have_text("Not answered")
    expect(page.locator("#main .error")).to_contain_text(text)
    assert page.locator(".pick").count() == 0


def test_a_choice_has_an_address_that_gives_it_again(page: Page, address: str) -> None:
    page.locator("#gpu").fill("4090")
    page.get_by_role("option", name="RTX 4090 geforce", exact=False).first.click()
    page.locator("#driver").fill("550.54.14")
    page.locator("#driver").press("Enter")
    page.locator("#framework").select_option("TensorRT")
    page.locator("#framework-version").fill(">=10")
    page.locator("#framework-version").press("Enter")
    page.get_by_text("fp16", exact=True).click()
    page.locator("#python").select_option("3.10")
    page.locator("label", has_text="amd64").click()
    expect(page).to_have_url(
        re.compile(r"#gpu=RTX\+4090&driver=550\.54\.14&framework=tensorrt%3E%3D10&precision=fp16&python=3\.10&")
    )
    before = page.locator(".picks .pick").evaluate_all("all => all.map(d => d.dataset.stack)")
    asked = Question(gpu=pick.hardware("RTX 4090"), driver="550.54.14", needs={"tensorrt": ">=10"}, precision="fp16",  # type: ignore[arg-type]
                     python="3.10", platform="linux/amd64")  # fmt: skip
    assert before == [item.stack.id for item in pick.pick(asked, SEEN, now=NOW).choices[: len(before)]]
    expect(page.locator(".asked code")).to_have_text(
        "enginematrix pick --gpu 'RTX 4090' --driver 550.54.14 --need 'tensorrt>=10' --precision fp16 --python 3.10"
        " --platform linux/amd64"
    )
    url = page.url
    page.goto("about:blank")
    page.goto(url)
    assert page.locator(".picks .pick").evaluate_all("all => all.map(d => d.dataset.stack)") == before
    for box, value in (
        ("#gpu", "RTX 4090"),
        ("#driver", "550.54.14"),
        ("#framework-version", ">=10"),
        ("#python", "3.10"),
    ):
        expect(page.locator(box)).to_have_value(value)
    expect(page.locator("#precision-3")).to_be_checked()
    page.get_by_role("link", name="Start over").click()
    expect(page.locator("h1")).to_have_text(f"{len(STACKS)} stacks fit")
    expect(page.locator("#gpu")).to_have_value("")
    page.go_back()
    assert page.locator(".picks .pick").evaluate_all("all => all.map(d => d.dataset.stack)") == before


def test_keys_alone_choose(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "gpu":
            break
    page.keyboard.type("l40s")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("gpu=L40S"))
    page.keyboard.press("Tab")
    page.keyboard.type("535.104.05")
    page.keyboard.press("Tab")
    expect(page).to_have_url(re.compile(r"driver=535\.104\.05"))
    assert page.evaluate("document.activeElement.id") == "framework"
    page.keyboard.type("PyT")
    page.keyboard.press("Tab")
    page.keyboard.type(">=2.3")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("framework=torch%3E%3D2.3"))
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "precision":
            break
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("precision=fp32"))
    page.locator(".pick > summary").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".pick").nth(1).locator(".verdicts")).to_be_visible()
    expect(page).to_have_url(re.compile("stack="))
    # The list of GPUs: arrows, Escape, nothing chosen by leaving.
    page.locator("#gpu").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("ArrowDown")
    assert page.locator("#gpu").get_attribute("aria-activedescendant")
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(page.locator("#gpu")).to_have_value("L40S")
    # A name that is none is asked, and said to be none.
    page.locator("#gpu").fill("rtx 50")
    page.keyboard.press("Tab")
    expect(page.locator("#error-gpu")).to_contain_text('no GPU of the name "rtx 50"; perhaps RTX 50')
    expect(page.locator("#gpu")).to_have_value("rtx 50")


def test_components_are_added_and_removed(page: Page) -> None:
    page.locator("#need0").select_option("cuda")
    page.locator("#clause0").fill(">=12,<13")
    page.locator("#clause0").press("Enter")
    page.get_by_role("button", name="Add a component").click()
    page.locator("#need1").select_option("cudnn")
    expect(page).to_have_url(re.compile("need=cuda%3E%3D12,%3C13&need=cudnn$"))
    expect(page.locator(".asked code")).to_contain_text("--need 'cuda>=12,<13,cudnn'")
    page.get_by_role("button", name="Remove component 1").click()
    expect(page).to_have_url(re.compile("#need=cudnn$"))
    expect(page.locator("#need0")).to_have_value("cudnn")
    page.locator("#clause0").fill(">9<")
    page.locator("#clause0").press("Enter")
    expect(page.locator("#error-need0")).to_contain_text("is no version that > compares with")
    expect(page.locator("#clause0")).to_have_attribute("aria-invalid", "true")


def test_where_nothing_fits_a_way_out_is_one_click(page: Page, address: str) -> None:
    page.goto(address + "#gpu=RTX+3090&driver=470.57.02&framework=tensorrt>=10.13")
    expect(page.locator("h1")).to_have_text("Nothing fits")
    expect(page.locator(".nothing")).to_contain_text("525.60.13")
    expect(page.locator(".nothing details").first).to_contain_text("facts and sources")
    page.get_by_role("link", name="move the driver to 525.60.13 or newer").click()
    expect(page.locator("#driver")).to_have_value("525.60.13")
    expect(page.locator(".picks .pick").first).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="accept tensorrt 10.12.0.36").click()
    expect(page.locator("#framework-version")).to_have_value("==10.12.0.36")
    expect(page.locator(".picks .pick").first).to_be_visible()
    page.goto(address + "#gpu=V100&need=tensorrt&precision=bf16")
    page.locator(".nothing a", has_text="use a GPU").click()
    expect(page.locator(".picks .pick").first).to_be_visible()


def test_evidence_leads_to_its_cell_and_sources_are_links(view: Watched, address: str) -> None:
    links = view.page.locator(".run a")
    view.page.goto(f"{address}#all=1")
    view.page.locator("details.pick").evaluate_all("all => all.forEach(d => { d.open = true; })")
    expect(links).not_to_have_count(0)
    assert set(links.evaluate_all("all => all.map(a => a.getAttribute('href'))")) == {f"report.html#/cell/{LINKED}"}
    links.first.click()
    expect(view.page.locator("body")).to_contain_text("Run it again")
    view.page.goto(f"{address}#gpu=RTX+4090&framework=tensorrt>=10&stack=tensorrt:24.09-py3")
    card = view.page.locator(".pick[open]")
    expect(card).to_have_attribute("data-stack", "tensorrt:24.09-py3")
    card.locator(".verdicts summary").first.click()
    link = card.locator(".src a").first
    assert link.get_attribute("href").startswith("https://") and link.get_attribute("rel") == "noreferrer noopener"
    expect(card.locator(".fetch")).to_contain_text("docker pull")


def test_the_report_leads_here_and_back(page: Page, address: str) -> None:
    page.get_by_role("link", name="Report", exact=True).click()
    page.get_by_role("link", name="Choose a stack").click()
    expect(page.locator("h1")).to_have_text(f"{len(STACKS)} stacks fit")


def test_copying(browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(address + "#gpu=T4&need=onnxruntime")
    page.get_by_role("button", name="Copy the command").last.click()
    expect(page.locator(".asked .btn")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "enginematrix pick --gpu T4 --need onnxruntime"
    context.close()


def test_hostile_text_is_shown_and_does_nothing(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(matrix=tmp_path / "matrix.yaml")
    project.report.mkdir(parents=True)
    report = fake_report()
    report["run"]["matrix"]["name"] = HOSTILE
    known = choose.judged(CATALOG)
    known = {**known, "facts": [(text + HOSTILE, HOSTILE, sources) for text, _, sources in known["facts"]],
             "sources": [HOSTILE + f" - javascript:{source}" for source in known["sources"]],
             "texts": [text + HOSTILE + "\u2028" for text in known["texts"]],
             "branches": [[HOSTILE, HOSTILE]]}  # fmt: skip
    run = replace(next(item for items in SEEN.values() for item in items if item.verified), cpu=HOSTILE, gpus=((HOSTILE, "7.5"),),
                  model=HOSTILE, cell=f"../{HOSTILE}", driver=HOSTILE, latency=0.1)  # fmt: skip
    seen = {pick_evidence.key(run.family, run.fields): [run]}
    monkeypatch.setattr(pick_evidence, "read", lambda path: seen)
    (project.report / choose.NAME).write_text(choose.render(choose.data(project, report, known)))
    context = browser.new_context()
    watched = Watched(context.new_page())
    for fragment in (
        "#",
        "#driver=550.54.14",
        "#gpu=T4&need=tensorrt",
        f"#gpu={HOSTILE}",
        f"#need={HOSTILE}",
        "#gpu=V100&precision=bf16&stack=" + HOSTILE,
    ):
        watched.page.goto("about:blank")
        watched.page.goto((project.report / choose.NAME).as_uri() + fragment)
        watched.page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
        watched.page.wait_for_timeout(50)
        assert watched.page.evaluate("window.pwned") is None
        assert len(fragment) > 20 or HOSTILE in watched.page.locator(".run").first.inner_text()
        assert watched.page.locator("img, main script, a[href^='javascript:']").count() == 0
    assert watched.problems == []
    context.close()


def test_it_prints_the_answer_and_no_form(page: Page, address: str) -> None:
    page.goto(address + "#gpu=T4&need=tensorrt")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#ask").is_visible()
    expect(page.locator(".pick[open] .facts").first).to_be_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".pick[open] .facts").first).to_be_hidden()


def test_without_javascript_it_says_how_to_ask(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("noscript p")).to_contain_text("enginematrix pick --help")
    context.close()


def test_an_answer_comes_at_once(page: Page, address: str) -> None:
    took = page.evaluate(
        """async () => {
            const out = [];
            for (const hash of ["#gpu=T4", "#gpu=RTX+4090&driver=550.54.14&need=tensorrt>=10", "#need=cuda&all=1", "#"]) {
                const start = performance.now();
                const done = new Promise(resolve => addEventListener("hashchange", resolve, {once: true}));
                location.hash = hash; await done; document.body.offsetHeight;
                out.push(performance.now() - start);
            }
            return out;
        }"""
    )
    assert max(took) < 1500, took


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_evidence_has_shape_text_and_contrast(browser: Browser, address: str, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""
    page = browser.new_page(viewport=DESKTOP, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    for badge in page.locator(".legend .st").all():
        assert badge.inner_text().strip() and badge.locator("svg path").count()
    ratios = page.evaluate(
        """classes => {
            const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = (name, css) => {
                const probe = document.createElement("i");
                probe.className = name; probe.style.color = css; document.body.append(probe);
                const rgb = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
                probe.remove();
                return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
            };
            return Object.fromEntries(classes.map(name => {
                const [x, y] = [light(name, "var(--c)"), light("", "var(--surface)")].sort((p, q) => q - p);
                return [name, (x + 0.05) / (y + 0.05)];
            }));
        }""",
        [f"e-{name.replace(' ', '-')}" for name in pick.CLASSES] + ["v-supported", "v-unknown", "v-unsupported"],
    )
    page.close()
    assert {name: round(ratio, 2) for name, ratio in ratios.items() if ratio < 4.5} == {}
