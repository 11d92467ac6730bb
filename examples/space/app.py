"""The explorer as a Hugging Face Space: the embedded models alone, on a CPU."""

from tokenrank_guidance.app.explorer import Explorer, Settings
from tokenrank_guidance.app.serving import gradio
from tokenrank_guidance.app.state import State

gradio()

from tokenrank_guidance.app.page import build_page  # noqa: E402 - Gradio is told first to send nothing home
from tokenrank_guidance.app.theme import style, theme  # noqa: E402

MOST_UPLOAD = 5 * 2**20  # bytes
explorer = Explorer(Settings(models=("tiny-sd", "tiny-flux"), free=False, memory=2**27))
if __name__ == "__main__":
    explorer.captured(State().source)  # the page comes with it
demo = build_page(explorer, State())

if __name__ == "__main__":
    demo.launch(theme=theme(), css=style(), max_file_size=MOST_UPLOAD, footer_links=[], ssr_mode=False)
