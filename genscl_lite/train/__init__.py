"""Training: methods, configuration, networks, the loop, evaluation."""

from genscl_lite import datasets as datasets  # says what to install if packages are missing
