"""What the notebooks show with: exercises that check themselves, pictures, a live curve."""

import warnings

from genscl_lite._checks import require_packages

require_packages("notebooks", "matplotlib", "seaborn", "IPython")
# timm and UMAP would like widgets for progress bars that no notebook shows
warnings.filterwarnings("ignore", message="IProgress not found")
