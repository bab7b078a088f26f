"""Debian's Chromium, without a window, for pages that somebody has to be able to read."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

from playwright.sync_api import Browser, Dialog, Page, sync_playwright

BINARY = shutil.which("chromium")


@contextmanager
def chromium() -> Generator[Browser]:
    """A browser; it is closed at the end."""
    assert BINARY, "chromium is not installed: run `make .venv/.programs`, or apt-get it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BINARY)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """What a page does beside being there: what it asks of the network, and what goes wrong."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.trouble: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()
