"""A report's tables: each arm's figures, and what arms differ by."""

from __future__ import annotations

from collections.abc import Mapping

from eval.views import Views
from tokenrank_guidance.markdown import markdown_table, number, signed, with_interval
from tokenrank_guidance.report import Json

NAMES = {
    "fid": "FID ↓",
    "frechet_vit": "Fréchet-ViT ↓",
    "kid": "KID ↓",
    "kid_vit": "KID-ViT ↓",
    "isc": "IS ↑",
    "isc_vit": "IS-ViT ↑",
    "precision": "precision ↑",
    "precision_vit": "precision-ViT ↑",
    "recall": "recall ↑",
    "recall_vit": "recall-ViT ↑",
    "accuracy": "accuracy ↑",
}
PER_CENT = ("accuracy", "precision", "recall")


def arms(report: Json) -> str:
    """A line per arm: its figures, the denoiser's evaluations and the seconds of an image; and the notes."""
    forms = _forms(report)
    rows = [_arm(row, forms) for row in report["results"]]
    notes = [report["stand_in"], *report["notes"]]
    n = f"n = {report['results'][0]['n']} images per arm; 95 % intervals in brackets."
    return "\n\n".join([markdown_table(rows, tuple(rows[0])), n, *(note for note in notes if note)])


def differences(report: Json) -> str:
    """A line per pair of arms of the same prompts and seeds, shares in points; empty where there is none."""
    forms = _forms(report)
    rows = [
        {"difference, paired by seed": f"{one['a']} − {one['b']}"}
        | {
            _name(key): _of_enough(signed(figure, forms[key].replace("%", "p")), figure)
            for key, figure in one["metrics"].items()
        }
        for one in report["differences"]
    ]
    return markdown_table(rows, tuple(rows[0])) if rows else ""


def _arm(row: Json, forms: Mapping[str, str]) -> Json:
    cost = row["cost"]
    return {
        "arm": row["arm"],
        **{
            _name(key): _of_enough(with_interval(figure, forms[key]), figure)
            for key, figure in row["metrics"].items()
        },
        "evaluations": cost.get("denoiser_evaluations"),
        "s/image": _seconds(cost),
    }


def _of_enough(text: str | None, figure: Json) -> str | None:
    """The text of a figure, which says so where its images are too few for an interval."""
    return f"{text} (n = {figure['n']} is too small)" if text and figure["ci"][0] is None else text


def _seconds(cost: Json) -> str | None:
    """Of an image; arms that were drawn before figures had one shape hold a plain number."""
    found = cost.get("seconds_per_image")
    value = found["value"] if isinstance(found, Mapping) else found
    return None if value is None else number(value, ".2g")


def _name(key: str) -> str:
    return NAMES.get(key, key)


def _forms(report: Json) -> dict[str, str]:
    """How each figure is written, the same in all arms and their differences."""
    return {key: _form(key, figure["value"]) for key, figure in report["results"][0]["metrics"].items()}


def _form(key: str, value: float) -> str:
    """Shares in per cent, scores in hundredths, distances by their size."""
    if key.startswith(PER_CENT):
        return ".1%"
    if key.startswith("isc"):
        return ".2f"
    return ".0f" if value >= 300 else ".1f" if value >= 1 else ".4f"


VIEWS = Views({"arms": arms, "differences": differences})
