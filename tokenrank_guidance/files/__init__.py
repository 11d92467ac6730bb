"""Files: read within limits, or refused in one line that says why; written whole, or not at all."""
