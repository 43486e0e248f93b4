"""``python -m genscl_lite COMMAND`` is ``genscl COMMAND``."""

import sys

from genscl_lite.tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
