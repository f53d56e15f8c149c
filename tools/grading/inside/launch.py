"""Start the kernel of somebody else's notebook: launch.py LIMITS PACKAGE [arguments of ipykernel].

The process limits itself before anything else runs. The companion comes from PACKAGE. A file beside the notebook can be
imported if nothing else has its name, so that it stands in for nothing.
"""

import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
__import__(os.path.basename(here)).limit(json.loads(sys.argv[1]))
__import__(f"{os.path.basename(here)}.answers")
sys.path[0] = sys.argv[2]
sys.path.append(os.getcwd())

from ipykernel.kernelapp import IPKernelApp  # noqa: E402, after the limits

IPKernelApp.launch_instance(argv=["--InteractiveShellApp.ignore_cwd=True", *sys.argv[3:]])
