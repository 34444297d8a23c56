"""The stage contract: identity, result folder, manifest, lock.

stage        Stage: fingerprint, atomic result, state
manifest     manifest.json and files.csv of a result
digests      digests of external input files
links        the symlink exp/<result path>
trash        exp/.trash
progress     progress bars and log lines
quiet        input errors in Luigi's log without tracebacks
"""
