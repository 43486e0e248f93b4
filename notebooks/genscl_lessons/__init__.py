"""What notebooks and pages show with: exercises, pictures, a live curve, sentences and tables about finished runs."""

import warnings

from genscl_lite._checks import require_packages

require_packages("notebooks", "matplotlib", "seaborn", "IPython")
# timm and UMAP would like widgets for progress bars that no notebook shows
warnings.filterwarnings("ignore", message="IProgress not found")
