"""A headless Chromium that answers questions about a page, and a small sweep to look at."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Experiment, Model, SweepResult, random_variable

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Where it is on this machine; None if it is not."""
_LARGEST = 64 * 2**20


class Chromium:
    """A browser with a profile of its own, for which there is no network but this machine.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-extensions", "--disable-dev-shm-usage"]
        flags += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        with (profile / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen([PROGRAM, *flags, "about:blank"], stdout=log, stderr=log)
        file, deadline = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (file.exists() and file.read_text().count("\n")):
            assert self.process.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.1)
        self.port = int(file.read_text().splitlines()[0])

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)

    def visit(
        self,
        url: str,
        question: str,
        seconds: float,
        *,
        dark: bool = False,
        picture: Path | None = None,
        size: tuple[int, int] = (1400, 1000),
    ) -> Any:
        """Open a page, ask until the answer to a question (JavaScript) is true, and return it.

        After `seconds` the last answer is returned as it is. The `picture` is taken then; `dark` is what its reader
        prefers.
        """
        return asyncio.run(self._visit(url, question, seconds, dark, picture, size))

    async def _visit(
        self, url: str, question: str, seconds: float, dark: bool, picture: Path | None, size: tuple[int, int]
    ) -> Any:
        made = Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urlopen(made, timeout=30) as answer:
            target = json.load(answer)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=_LARGEST) as socket,
        ):
            tab = _Tab(socket)
            screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
            await tab.call("Emulation.setDeviceMetricsOverride", **screen)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await tab.call("Emulation.setEmulatedMedia", features=[scheme])
            await tab.call("Page.navigate", url=url)
            deadline = time.monotonic() + seconds
            while not (found := await tab.ask(question)) and time.monotonic() < deadline:
                await asyncio.sleep(0.3)
            if picture is not None:
                shot = await tab.call("Page.captureScreenshot", format="png")
                picture.write_bytes(base64.b64decode(shot["data"]))
            return found


class _Tab:
    """One page's end of the protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events in between are dropped."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def ask(self, question: str) -> Any:
        """The value of an expression; None while the page is not ready for it."""
        found = await self.call("Runtime.evaluate", expression=question, returnByValue=True)
        return found["result"].get("value")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser."""
    if PROGRAM is None:
        pytest.skip("there is no Chromium here")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def build(data: dict[str, Tensor]) -> Model:
    """Normal data with unknown mean and scale."""

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @random_variable
    def obs() -> Distribution:
        return Normal(mu()[0] + 0.5 * mu()[1], tau()).expand(data["y"].shape)

    return Model([mu(), tau()], {obs(): data["y"]})


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]) -> SweepResult:
    """Twelve configurations that differ in four hyperparameters."""
    return Experiment(build, name="toy", data={"y": [0.3, 1.7, 2.2, 0.9, 1.4, 2.8]}).sweep(
        {
            "guide": ["mean_field", "full_rank"],
            "divergence": ["kl_reverse", "kl_forward"],
            "learning_rate": [0.03, 0.05, 0.1],
        },
        steps=60,
        num_samples=4,
        executor="inline",
        compile="never",
        evaluation={"samples": 128},
        output_dir=with_store(tmp_path_factory.mktemp("out")),
    )
