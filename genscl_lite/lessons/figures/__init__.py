"""Pictures that belong to one lesson each (notebooks 01 to 06): arrays in, matplotlib Axes out, in the look of ``plots``."""
