"""What the notebooks show with: exercises that check themselves, pictures, a live curve."""

from genscl_lite._checks import require_packages

require_packages("notebooks", "matplotlib", "seaborn", "IPython")
