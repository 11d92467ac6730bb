"""What the pages say of the code, made of the code: `python -m scripts.docs` writes it.

A place is `<!-- NAME: WORDS -->` to `<!-- /NAME -->`: `families`, the table of model families; `help`, a
program's own; `source`, a file.
"""
