"""From attention maps to segments: one chain, anchors in it, and their maps merged until a label is left."""
