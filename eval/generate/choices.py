"""The names and limits of what is drawn; nothing here needs torch."""

CLASSES, EMPTY = "classes", "empty"  # of --prompts
FORMATS = ("png", "webp")
MOST = 1_000_000  # images of an arm
