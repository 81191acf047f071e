from pathlib import Path

import pytest

from benchmarks.disk import require_disk
from benchmarks.peers import PeerError

MOUNTS = """/dev/vda / ext4 rw 0 0
tmpfs /var/tmp tmpfs rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/vdb /var/tmp/disk xfs rw 0 0
"""


@pytest.mark.parametrize("folder", ["/", "/home/ann", "/var", "/var/tmp/disk", "/var/tmp/disk/below"])
def test_folders_on_disks_are_accepted(folder: str) -> None:
    require_disk(Path(folder), MOUNTS)


@pytest.mark.parametrize("folder", ["/var/tmp", "/var/tmp/other", "/dev/shm"])
def test_folders_in_memory_are_refused(folder: str) -> None:
    with pytest.raises(PeerError, match=rf"^{folder} is in memory \(tmpfs\)"):
        require_disk(Path(folder), MOUNTS)


def test_the_last_mount_of_a_place_counts() -> None:
    require_disk(Path("/var/tmp"), MOUNTS + "/dev/vdc /var/tmp ext4 rw 0 0\n")
