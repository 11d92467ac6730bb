"""The commands of `tokenrank`: a module each with `run(arguments) -> result`, and one of its options.

`NAME_options` has `add_arguments(parser)` and `check(arguments)`, and imports nothing heavy.
"""
