"""Serving the page: to this machine alone unless told otherwise, and nothing to or from elsewhere."""

from __future__ import annotations

import os
import socket
import threading
import warnings
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenrank_guidance.app.explorer import Explorer
from tokenrank_guidance.app.state import State
from tokenrank_guidance.extras import require

if TYPE_CHECKING:
    import gradio as gr

INSTALL = "pip install 'tokenrank-guidance[app]'"
MOST_SESSIONS = 64


@dataclass(frozen=True, eq=False)
class Served:
    """A page that is served at `url`."""

    blocks: gr.Blocks
    url: str

    def open(self) -> None:
        """Show it in the browser."""
        webbrowser.open(self.url)

    def wait(self) -> None:
        """Until Ctrl-C."""
        try:
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        finally:
            self.close()

    def close(self) -> None:
        """Stop serving."""
        self.blocks.close(verbose=False)


def gradio() -> Any:
    """Gradio, without what it would send home; ImportError without it, ValueError where it is too old."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    require("app")
    import gradio

    if int(gradio.__version__.split(".")[0]) < 6:
        raise ValueError(f"the explorer needs Gradio 6, found {gradio.__version__}: {INSTALL}")
    return gradio


def serve(explorer: Explorer, state: State, host: str, port: int, upload: int) -> Served:
    """Serve the page in the background; `upload` is bytes of a file, port 0 is one that is free.

    Raises ImportError without Gradio, and OSError for an address that cannot be served at.
    """
    port = _free(host, port)
    gradio()
    from tokenrank_guidance.app.page import build_page
    from tokenrank_guidance.app.theme import style, theme

    warnings.simplefilter("ignore", ResourceWarning)  # of event loops that Gradio leaves
    blocks = build_page(explorer, state)
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        max_file_size=upload,
        state_session_capacity=MOST_SESSIONS,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css=style(),
    )
    return Served(blocks, url)


def _free(host: str, port: int) -> int:
    """The port, or for 0 one that is free; OSError in one line where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return probe.getsockname()[1]
    except OSError as error:
        raise OSError(f"cannot serve at {host}:{port}: {error.strerror or error}; choose a --port") from error
