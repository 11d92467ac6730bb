"""The Hub's cache, and a Hub that has nothing, for tests without network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0" * 40


def cached(home: Path, name: str, folder: Path) -> None:
    """Put a model's folder under HF_HOME as if `OWNER/NAME` had been downloaded."""
    root = home / "hub" / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, root / "snapshots" / COMMIT)


class _Nothing(BaseHTTPRequestHandler):
    """Answers as the Hub does where there is no repository, or one that must be asked for."""

    def do_HEAD(self) -> None:
        gated = "/gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""


@contextmanager
def empty_hub() -> Iterator[str]:
    """The address of a Hub for HF_ENDPOINT: `OWNER/gated` is gated, all else is not there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
