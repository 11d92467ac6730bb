"""How the page looks: colours, letters of the system, nothing from elsewhere."""

from __future__ import annotations

import json

import gradio as gr

from tokenrank_guidance.app.export import colour_tables, static


def theme() -> gr.themes.Base:
    """Quiet greys, one accent; fonts that every system has."""
    font = gr.themes.Font
    return gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="md",
        font=(font("system-ui"), font("sans-serif")),
        font_mono=(font("ui-monospace"), font("Menlo"), font("monospace")),
    )


def style() -> str:
    """The page's and the stage's CSS."""
    return static("page.css") + static("stage.css")


def script() -> str:
    """What the stage does once it is there."""
    return f"const LUTS = {json.dumps(colour_tables())};\n{static('stage.js')}\n{static('page.js')}"


# A file that came as text: {name, type, data}, data in base64.
DOWNLOAD = """
(text) => {
  if (!text) return;
  const file = JSON.parse(text);
  const data = Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type: file.type }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
"""

# The buttons of `layout._choices`.
CHOOSE = """
element.querySelectorAll("button").forEach((button, index) => {
  button.onclick = () => trigger("choose", { index });
});
"""
