"""Rows of Helios: chunks of a video, one after another, each drawn beside what was drawn before."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers as d

from tests import tiny_helios as tiny
from tests.matrix.building import Arguments, Row
from tests.matrix.video import built, film, pictures, text_to_video
from tests.tiny_models import Call
from tests.tiny_videos import wan_vae


def helios(**options: Any) -> Any:
    return built(d.HeliosPipeline, wan_vae, tiny.helios, scheduler=tiny.one_stage(**options))


def chunk(call: Call) -> Arguments:
    return text_to_video(call) | {"num_latent_frames_per_chunk": 3}


def after_a_picture(call: Call) -> Arguments:
    return chunk(call) | {"image": pictures(call)}


def after_a_video(call: Call) -> Arguments:
    return chunk(call) | {"video": film(call)}


HELIOS_ROWS: dict[str, Row] = {
    "Helios": Row("video", helios, own=chunk),
    "Helios, Euler": Row("video", partial(helios, scheduler_type="euler"), own=chunk),
    "Helios, after a picture": Row("video", helios, own=after_a_picture),
    "Helios, after a video": Row("video", helios, own=after_a_video),
}
