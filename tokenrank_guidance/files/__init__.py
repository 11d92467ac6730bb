"""What comes from outside, within limits or refused in one line that says why; what goes out, whole or not."""
