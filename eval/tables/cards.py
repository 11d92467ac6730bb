"""The table of a model card: what `tokenrank_guidance.tiny.evaluate` reports."""

from __future__ import annotations

from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, number, with_interval
from tokenrank_guidance.report import Json


def named(report: Json) -> str:
    """How many images a classifier names rightly: samples, and real ones, as they are and autoencoded."""
    called = {
        "samples": f"samples, classifier-free guidance {report['config']['scale']:g}",
        "held_out": f"real held-out images at {report['resolution']} px",
        "autoencoded": f"the same through the autoencoder ({report['autoencoder_psnr_db']:.1f} dB)",
    }
    rows = [
        {
            "images": called[row["images"]],
            "n": row["n"],
            "named rightly (95 % interval)": with_interval(row["accuracy"], ".1%"),
        }
        for row in report["results"]
    ]
    chance = {"images": "chance", "named rightly (95 % interval)": number(report["chance"], ".0%")}
    return markdown_table([*rows, chance], tuple(rows[0]))


VIEWS = Views({"named": named})
