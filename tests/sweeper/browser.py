"""A page as Chromium shows it, through Playwright; axe-core judges whether everybody can use it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
WIDTHS = (1400, 390)  # pixels: a desk, a telephone
SCHEMES = ("light", "dark")
PERMISSIONS = ["clipboard-read", "clipboard-write"]
SECONDS = 180  # at most that anything may take, on a machine that has other work


@dataclass
class Opened:
    """A page whose scripts ran, what they wrote to the console, and what it asked for beside itself."""

    page: Any  # playwright.sync_api.Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note(self, url: str, path: Path) -> None:
        if url != path.as_uri() and not url.startswith("data:"):
            self.requests.append(url)

    def violations(self) -> list[str]:
        """What axe-core finds wrong."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {node['html'][:200]} {node['failureSummary']}" for v in found for node in v["nodes"]]

    def overflow(self) -> int:
        """Pixels by which it is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


class Browser:
    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    @contextmanager
    def open(
        self, path: Path, width: int = WIDTHS[0], scheme: str = SCHEMES[0], clock: bool = False
    ) -> Iterator[Opened]:
        """clock: its timers run when the test says so."""
        window = {"width": width, "height": 900}
        with self.chromium.new_context(viewport=window, color_scheme=scheme, permissions=PERMISSIONS) as context:
            context.set_default_timeout(SECONDS * 1000)
            page = context.new_page()
            opened = Opened(page)
            page.on("console", lambda message: opened.console.append(message.text))
            page.on("pageerror", lambda error: opened.console.append(str(error)))
            page.on("request", lambda request: opened.note(request.url, path))
            if clock:
                page.clock.install()
            page.goto(path.as_uri())
            yield opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, timeout=SECONDS * 1000, args=["--disable-gpu"])
        yield Browser(chromium)
        chromium.close()
