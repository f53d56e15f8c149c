"""Start the kernel of somebody else's notebook: launch.py LIMITS PACKAGE [arguments of ipykernel].

The process limits itself before anything else runs. The companion comes from PACKAGE. A file beside the notebook can be
imported if nothing else has its name, so that it stands in for nothing.
"""

import contextlib
import json
import os
import sys

with contextlib.suppress(ImportError):  # Windows has none
    import resource

    for name, value in json.loads(sys.argv[1]).items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not known, or above what is allowed here
            resource.setrlimit(getattr(resource, name), (value, value))

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
__import__(f"{os.path.basename(here)}.answers")
sys.path[0] = sys.argv[2]
sys.path.append(os.getcwd())

from ipykernel.kernelapp import IPKernelApp  # noqa: E402, after the limits

IPKernelApp.launch_instance(argv=["--InteractiveShellApp.ignore_cwd=True", *sys.argv[3:]])
