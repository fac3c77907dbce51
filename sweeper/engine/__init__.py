"""Where the work is done: jobs, the workers that take them, and the engines that place the workers.

base.py is the seam, crew.py what all engines have in common, engines.py the list of them.
"""
