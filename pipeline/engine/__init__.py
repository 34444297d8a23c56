"""The stage contract: identity, result folder, manifest, lock.

stage        Stage: the Luigi task, and its state
identity     what a result is a function of, and its fingerprint
result       the folder of a result: partial, publication, lock
again        a request to make a finished stage again
manifest     manifest.json and files.csv of a result
digests      digests of external input files
links        the symlink exp/<result path>
trash        exp/.trash
progress     progress bars and log lines
quiet        input errors in Luigi's log without tracebacks
"""
