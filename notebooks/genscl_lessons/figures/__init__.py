"""Pictures that belong to one lesson each: arrays in, matplotlib Axes out, in the look of ``plots``."""
