import sys

from genscl_lite.tools.cli import main

sys.exit(main())
