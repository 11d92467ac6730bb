"""The arguments of `tokenrank app`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tokenrank_guidance.option_groups import add_device_arguments, refuse_without_effect
from tokenrank_guidance.options import between, file, folder, named

SUMMARY = "Explore attention as a chain on a page in the browser."
HOST, PORT, UPLOAD, MEMORY = "127.0.0.1", 7860, 20, 256
OF_PAGES = ("host", "port", "max_upload", "open")


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        type=named,
        metavar="NAME|PATH|HUB_ID",
        help="shown first: tiny-sd, tiny-flux, a pipeline's or a vision transformer's folder or Hub id",
    )
    add_device_arguments(group)
    group.add_argument(
        "--memory",
        type=between(1, 2**20),
        default=MEMORY,
        metavar="MIB",
        help="of queries and keys; %(default)s",
    )
    group = parser.add_argument_group("page")
    group.add_argument("--host", type=named, help=f"the address to serve; {HOST}, this machine alone")
    group.add_argument("--port", type=between(0, 65535), help=f"{PORT}; 0 for one that is free")
    group.add_argument("--max-upload", type=between(1, 1024), metavar="MIB", help=f"of a picture; {UPLOAD}")
    group.add_argument("--open", action="store_true", help="open the browser")
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--link", type=named, metavar="LINK", help="what an address of the page says after its ?"
    )
    group.add_argument("--image", type=file, help="the picture of a link that was given one")
    group.add_argument(
        "--export", type=folder, metavar="DIR", help="write what LINK shows there, without a page"
    )


def check(arguments: Namespace) -> None:
    """ValueError for options that have no effect together with the others."""
    if arguments.export is not None:
        refuse_without_effect(arguments, OF_PAGES, "--export writes files and serves no page")
