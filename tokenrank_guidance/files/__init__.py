"""What comes from outside: read within limits, or refused in one line that says why."""
