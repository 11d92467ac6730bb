"""The maps of a head that are measured; nothing here needs torch."""

MAPS = ("row", "column", "bounce", "tokenrank")
