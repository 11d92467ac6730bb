"""The names that what is measured is chosen by; nothing here needs torch."""

METRICS = ("fid", "isc", "kid", "prc", "accuracy")
NATIVE = "native"  # of --resolution
INCEPTION, DOWNLOADED, VIT = "inception", "inception-download", "vit:"  # of --extractor
WITHOUT_WEIGHTS = (
    "without Inception's weights there is no FID: give their file with --inception FILE, let torch-fidelity "
    f"fetch them with --extractor {DOWNLOADED}, or use {VIT}PATH as a stand-in"
)


def unknown_extractor(text: str) -> str | None:
    """What to say of a name that is no extractor's; None where it is one's."""
    if text in (INCEPTION, DOWNLOADED) or text.startswith(VIT):
        return None
    return f"extractor {text!r} is unknown; expected {INCEPTION}, {DOWNLOADED} or {VIT}PATH"
