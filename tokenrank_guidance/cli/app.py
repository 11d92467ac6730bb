"""`tokenrank app`: the explorer's page, or what a link of it shows as files."""

from __future__ import annotations

from argparse import Namespace

from tokenrank_guidance.app.examples import PICTURES, example
from tokenrank_guidance.app.explorer import Explorer, Settings
from tokenrank_guidance.app.export import numbers_of, write_shown
from tokenrank_guidance.app.state import State, from_link, to_link, unknown_in
from tokenrank_guidance.cli.app_options import HOST, PORT, UPLOAD
from tokenrank_guidance.devices import DTYPES, usable_device
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.files.writing import staged, write_result
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import Json, versions
from tokenrank_guidance.tiny.loader import available_models


def run(arguments: Namespace) -> Json:
    """Serve the page until Ctrl-C, or write what the link shows; returns what was shown."""
    explorer = Explorer(_settings(arguments))
    state = _state(arguments, explorer)
    return (
        _serve(arguments, explorer, state)
        if arguments.export is None
        else _export(arguments, explorer, state)
    )


def _settings(arguments: Namespace) -> Settings:
    """Who is not at this machine chooses from the menu, and makes it load nothing else."""
    asked = [] if arguments.model is None else [arguments.model]
    host = arguments.host or HOST
    return Settings(
        models=tuple(dict.fromkeys([*asked, *available_models()])),
        free=host in (HOST, "localhost", "::1"),
        device=usable_device(arguments.device),
        dtype=DTYPES[arguments.dtype],
        memory=arguments.memory * 2**20,
    )


def _state(arguments: Namespace, explorer: Explorer) -> State:
    state = from_link(arguments.link) if arguments.link is not None else State()
    strange = unknown_in(arguments.link or "")
    if strange:
        raise ValueError(
            f"--link: nothing is called {', '.join(strange)}; expected what the page's address says"
        )
    if arguments.model is not None:
        state = state.of(model=arguments.model)
    if arguments.image is None:
        return state
    digest = explorer.keep_picture(open_picture(arguments.image))
    if state.source.picture not in ("", digest):
        raise ValueError(f"--image: {arguments.image} is not the picture that the link was made with")
    return state.of(picture=digest)


def _serve(arguments: Namespace, explorer: Explorer, state: State) -> Json:
    from tokenrank_guidance.app.serving import gradio, serve

    gradio()
    state = _begun(explorer, state)
    port = PORT if arguments.port is None else arguments.port
    page = serve(explorer, state, arguments.host or HOST, port, (arguments.max_upload or UPLOAD) * 2**20)
    say(f"explorer: {page.url} (Ctrl-C ends it)")
    if arguments.open:
        page.open()
    page.wait()
    return {"command": arguments.command, "url": page.url, "versions": versions()}


def _begun(explorer: Explorer, state: State) -> State:
    """The model loaded. The page comes with an embedded one's picture; who draws none reads an example."""
    model = explorer.model(state.source.model).model
    if model is None and state.source.drawn:
        state = state.of(picture=explorer.keep_picture(open_picture(example(PICTURES[0]))))
    if model is None or model.embedded:
        explorer.captured(state.source)
    return state


def _export(arguments: Namespace, explorer: Explorer, state: State) -> Json:
    with staged(arguments.export) as scratch:
        captured = explorer.captured(state.source)
        scene = explorer.scene(state)
        names = write_shown(scratch, captured, state, scene)
        result = {
            "command": arguments.command,
            "config": {"link": to_link(state), "model": state.source.model, "view": state.view},
            "seed": state.source.seed,
            "n": 1,
            "versions": versions(),
            **numbers_of(scene),
            "files": [str(arguments.export / name) for name in names],
        }
        write_result(scratch, result)
    say(f"picture: {arguments.export / names[0]}")
    return result
