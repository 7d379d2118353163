"""The example applications, as `make example-...` starts them: two users change things, and see who did what."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
SERVED = re.compile(r"http://127\.0\.0\.1:(\d+)")
USERS = ("maya", "tom")


@contextmanager
def example(name: str) -> Iterator[str]:
    """Start an example in this environment, give its address, and end it as Ctrl-C does."""
    command = ["make", "--old-file", f"{sys.prefix}/ready-for-{name}", f"venv={sys.prefix}", "port=0", name]
    others = ("DJANGO_SETTINGS_MODULE", "MAKEFLAGS", "MAKELEVEL")  # of the process that runs the tests
    environment = {key: value for key, value in os.environ.items() if key not in others}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # so that the account that runs PostgreSQL for root may enter it
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1", "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            assert process.stdout
            said = []
            for line in process.stdout:
                said.append(line)
                if served := SERVED.search(line):
                    break
            else:
                pytest.fail("".join(said))
            try:
                yield f"http://127.0.0.1:{served[1]}"
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.communicate()
        assert list(Path(folder).iterdir()) == []


@pytest.fixture
def client() -> Iterator[Callable[[str], httpx.Client]]:
    """Call `client(address)` for a browser of one's own."""
    with ExitStack() as clients:
        yield lambda address: clients.enter_context(httpx.Client(base_url=address, timeout=30))


def test_fastapi_shows_which_of_its_users_did_what(client: Callable[[str], httpx.Client]) -> None:
    with example("example-fastapi") as address:
        stranger, maya, tom = (client(address) for _ in range(3))
        wrong = {"username": "maya", "password": "tom"}
        assert stranger.post("/login", json=wrong).status_code == 401
        for name, browser in zip(USERS, (maya, tom), strict=True):
            credentials = {"username": name, "password": name}
            assert browser.post("/login", json=credentials).status_code == 204

        assert stranger.patch("/products/1", json={"price": "1"}).status_code == 401
        assert maya.patch("/products/1", json={"price": "3.50"}).json()["price"] == "3.50"
        assert tom.patch("/products/1", json={"price": "4"}).status_code == 200
        mate = maya.post("/products", json={"name": "mate", "price": "6"}).json()["id"]
        assert tom.delete(f"/products/{mate}").status_code == 204
        assert [product["name"] for product in stranger.get("/products").json()] == ["tea", "coffee"]

        assert stranger.get("/products/1/history").status_code == 401
        tea, removed = (tom.get(f"/products/{number}/history").json() for number in (1, mate))

    assert [(it["who"], it["operation"], it["changed"], it["why"]) for it in tea] == [
        ("tom", "changed", {"price": [3.5, 4]}, {"user": "tom", "method": "PATCH", "url": "/products/1"}),
        ("maya", "changed", {"price": [3, 3.5]}, {"user": "maya", "method": "PATCH", "url": "/products/1"}),
        (None, "added", None, {"reason": "opening"}),
    ]
    assert [(it["who"], it["operation"]) for it in removed] == [("tom", "removed"), ("maya", "added")]


def posted(browser: httpx.Client, page: str, url: str, **values: str) -> httpx.Response:
    """Send a form of a page, as a browser does."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(page).text)
    assert token
    return browser.post(url, data={"csrfmiddlewaretoken": token[1], **values}, follow_redirects=True)


def rows(page: str) -> list[list[str]]:
    """The cells of a page's table but for the times."""
    table = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [[cell.strip() for cell in re.findall(r"<td>(.*?)</td>", row)[1:]] for row in table]


def test_django_shows_which_of_its_users_did_what(client: Callable[[str], httpx.Client]) -> None:
    with example("example-django") as address:
        stranger, maya, tom = (client(address) for _ in range(3))
        assert stranger.get("/").headers["location"].startswith("/login")
        assert (
            "correct username" in posted(stranger, "/login", "/login", username="maya", password="tom").text
        )
        for name, browser in zip(USERS, (maya, tom), strict=True):
            assert name in posted(browser, "/login", "/login", username=name, password=name).text

        assert posted(stranger, "/login", "/products/1/price", price="1").url.path == "/login"
        posted(maya, "/", "/products/1/price", price="3.50")
        posted(tom, "/", "/products/2/price", price="6")
        assert posted(tom, "/", "/products/2/price", price="cheap").status_code == 400
        shown = rows(maya.get("/").text)
        admin = maya.get("/admin/shop/product/2/history/").text
        assert tom.get("/admin/shop/product/2/history/").status_code == 302

    assert shown == [
        ["tom", "changed coffee", "price: 5.0 &rarr; 6.0"],
        ["maya", "changed tea", "price: 3.0 &rarr; 3.5"],
        ["opening", "added coffee", ""],
        ["opening", "added tea", ""],
    ]
    assert "price: 5.0 &rarr; 6.0" in admin
