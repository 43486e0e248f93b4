"""The door that ``python -m genscl_lite.reproduce PRESET`` still opens; ``genscl reproduce`` is the same."""

import sys

from genscl_lite.tools.cli import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
