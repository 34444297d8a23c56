"""Load a page in a browser, to test the contents of the page and the page's scripts."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def dump(page: Path, profile: Path, *options: str) -> str:
    """Return the page's elements as text after its load event; skip the test if no browser is installed.

    profile: a folder for the browser's own files; options: further browser options. The browser has no access to the network.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"the page needs a browser, and none is installed: {', '.join(BROWSERS)}")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", *options,
        f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shown.stdout, shown.stderr[-500:]
    return shown.stdout
