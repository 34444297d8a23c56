"""Provide what all stages share: identity, result folder, manifest, lock.

stage        Stage, the base class of all Luigi tasks, and the states of a stage
identity     Identity, everything that a result depends on, and its fingerprint
result       the folder of a result: how it is made, completed and locked
jobs         jobs of Slurm that make a result
nodes        one training on several machines of a Slurm job
again        Luigi tasks that make finished stages again
manifest     manifest.json and files.csv of a result
digests      digests of external input files
links        the symlinks exp/<result path>
trash        exp/.trash
progress     progress bars and log lines
quiet        logging of input errors without tracebacks
"""
