"""What is known of each model family, one file a family.

A family that is like one of these is one entry in its file and one in `registry.FAMILIES`; its functions are
small and pure: they read module names, configurations and the inputs of one call, nothing else.
"""
