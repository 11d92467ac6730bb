"""Every family of videos."""

from __future__ import annotations

from tokenrank_guidance.families import allegro, cogvideo, cosmos, hunyuanvideo, ltx, wan

FAMILIES = tuple(
    family for module in (wan, ltx, cogvideo, hunyuanvideo, allegro, cosmos) for family in module.FAMILIES
)
