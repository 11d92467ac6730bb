"""The arms of a comparison: no guidance, SAG, TokenRank, and diffusers' PAG, each with its settings."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sag.kinds import NONE, PAG, PAG_SCALE, TITLES
from sag.scorers import SCORERS, unread_by
from sag.settings import GuidanceSettings
from tokenrank_guidance.option_groups import warn_once
from tokenrank_guidance.options import finite, layer

if TYPE_CHECKING:
    from sag.guidance import SelfAttentionGuidance

GUIDED = tuple(SCORERS)
ARMS = tuple(TITLES)
SHORT = {"scale": "sag_scale", "heads": "head_weights", "sigma": "blur_sigma", "kernel": "blur_kernel"}
SHORT_OF = {long: short for short, long in SHORT.items()}
PAG_DEFAULTS = {"scale": PAG_SCALE, "layers": ""}  # each pipeline's own layers
OWN = {"quantile": 0.0, "direction": "outgoing"}
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way of guiding: a name of `ARMS`, and the settings that differ from that guidance's defaults.

    As text it is `tokenrank:scale=0.5:layers=0+1`. Guided arms take the fields of `SelfAttentionGuidance`
    (scale, heads, sigma, kernel, layers, threshold, start, stop, every, damping, mask, reuse,
    keep_contrast) and two more: `quantile=q` blurs the 1 − q of the tokens that score highest in place of a
    threshold, and `direction=incoming` ranks by the chain of who attends to a token. PAG takes scale and
    layers.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The arm as it is written; equal arms are written alike."""
        return ":".join([self.name, *(f"{key}={_written(value)}" for key, value in self.settings)])

    def to_json(self) -> str:
        """What a report calls it."""
        return self.text

    @property
    def folder(self) -> str:
        """The text with whatever a file system may not like replaced."""
        return re.sub(r"[^\w.+=-]", "_", self.text)

    @property
    def all_settings(self) -> dict[str, Any]:
        """Every setting that the arm takes, defaults too: these may change from version to version."""
        return _known(self.name) | dict(self.settings)

    @property
    def _given(self) -> dict[str, Any]:
        """The settings that are fields of the guidance, by their names there."""
        return {SHORT.get(key, key): value for key, value in self.settings if key not in OWN}

    def check(self) -> None:
        """ValueError for settings of a guided arm outside their ranges, found without torch."""
        GuidanceSettings(scorer=self.name, **self._given)  # pyright: ignore[reportArgumentType]

    def guidance(self) -> SelfAttentionGuidance:
        """The guidance of a guided arm; ValueError for settings outside their ranges."""
        from eval.generate.scorers import quantiles
        from sag.guidance import SelfAttentionGuidance

        given = self._given
        own = OWN | {key: value for key, value in self.settings if key in OWN}
        name = "tokenrank-incoming" if own["direction"] == "incoming" else self.name
        plain = SelfAttentionGuidance(scorer=name, **given)
        if own["quantile"] == 0:
            return plain
        given["threshold"] = 2 * own["quantile"]
        return SelfAttentionGuidance(scorer=lambda record: quantiles(plain.score(record)), **given)


def parse_arm(text: str) -> Arm:
    """Read `NAME[:KEY=VALUE]…`; ArgumentTypeError for an unknown name or key, or a value out of range."""
    name, *pairs = text.strip().split(":")
    if name not in ARMS:
        raise ArgumentTypeError(f"no arm {name!r}; expected {', '.join(ARMS)}, as in tokenrank:scale=0.5")
    known = _known(name)
    given = [_setting(name, pair, known) for pair in pairs]
    settings = dict(given)
    if len(settings) < len(given):
        raise ArgumentTypeError(f"arm {text.strip()} gives a setting twice")
    arm = Arm(name, tuple((key, settings[key]) for key in known if key in settings))
    _check(arm)
    return arm


def parse_arms(text: str) -> tuple[Arm, ...]:
    """Read a comma-separated list of different arms."""
    return tuple(dict.fromkeys(parse_arm(part) for part in text.split(",")))


def _known(name: str) -> dict[str, Any]:
    """The keys that an arm takes, with values of the types that theirs have."""
    if name == NONE:
        return {}
    if name == PAG:
        return dict(PAG_DEFAULTS)
    own = {
        SHORT_OF.get(field.name, field.name): field.default
        for field in fields(GuidanceSettings)
        if field.name != "scorer"
    }
    return own | OWN


def _setting(name: str, pair: str, known: Settings) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if key == "rescale":
        key = "keep_contrast"
        warn_once("warning: rescale is now called keep_contrast")
    if key not in known or not equals:
        takes = ", ".join(known) or "no settings"
        raise ArgumentTypeError(f"arm {name} has no setting {pair!r}; it takes {takes}, each as KEY=VALUE")
    if key == "layers":
        names = tuple(layer(part) for part in value.split("+"))
        return key, names[0] if len(names) == 1 else names
    try:
        kind = type(known[key])
        return key, finite(value) if kind is float else kind(value)
    except (ValueError, ArgumentTypeError):
        expected = type(known[key]).__name__
        raise ArgumentTypeError(f"{key} of arm {name} is {value!r}; expected {expected}") from None


def _check(arm: Arm) -> None:
    settings = dict(arm.settings)
    if settings.get("direction", "outgoing") not in ("outgoing", "incoming"):
        raise ArgumentTypeError(f"direction is {settings['direction']!r}; expected outgoing or incoming")
    if not 0 <= settings.get("quantile", 0) < 1:
        raise ArgumentTypeError(f"quantile is {settings['quantile']!r}; expected a number in [0, 1)")
    if arm.name != "tokenrank" and "direction" in settings:
        raise ArgumentTypeError(f"direction is tokenrank's; {arm.name} has none")
    if arm.name == "rollout" and "quantile" in settings:
        raise ArgumentTypeError("rollout ranks all layers together: give it a threshold, not a quantile")
    if arm.name in GUIDED:
        unread = [SHORT_OF.get(name, name) for name in unread_by(arm.name)]
        ignored = [key for key in unread if key in settings]
        if ignored:
            raise ArgumentTypeError(f"{arm.name} does not read {' and '.join(ignored)}: no effect")
    if "quantile" in settings and "threshold" in settings:
        raise ArgumentTypeError("quantile takes the place of threshold: give one of them")
    if arm.name in GUIDED:
        try:
            arm.check()
        except ValueError as error:
            raise ArgumentTypeError(f"arm {arm.text}: {error}") from error


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
