"""The cache of external files' digests, which several commands may use at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor

from datasets.progress import silent
from pipeline.engine.digests import Digests


def test_no_digest_is_lost_when_several_commands_add_theirs(tmp_path):
    """A lost digest would have to be computed again, which is impossible if the archive has been deleted."""
    paths = [tmp_path / f"{number}.tar" for number in range(30)]
    for path in paths:
        path.write_bytes(path.name.encode())
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda path: Digests(tmp_path / "exp/memory.json", silent, "").of_file(path), paths))
    cached = json.loads((tmp_path / "exp/memory.json").read_text())
    assert {path: entry["sha256"] for path, entry in cached.items()} == {
        str(path): digest for path, digest in zip(paths, found, strict=True)
    }
    assert len(set(found)) == 30
