"""Every family of videos."""

from __future__ import annotations

from tokenrank_guidance.families import allegro, cogvideo, hunyuanvideo, ltx, wan

FAMILIES = tuple(
    family for module in (wan, ltx, cogvideo, hunyuanvideo, allegro) for family in module.FAMILIES
)
