"""The log of dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): what reached a disk, in order."""
import dataclasses
import os
import struct

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclasses.dataclass(frozen=True)
class Entry:
    sector: int
    sectors: int
    flags: int
    mark: str  # of a MARK, else ""
    position: int  # of its data in the log, in bytes


class Log:
    def __init__(self, path):
        self._file = open(path, "rb", buffering=0)
        magic, version, self._count, self._sector_size = struct.unpack("<QQQI", self._file.read(28))
        assert magic == MAGIC and version == 1, f"{path}: no log of dm-log-writes"

    def close(self):
        self._file.close()

    def entries(self):
        position = self._sector_size
        for _ in range(self._count):
            head = os.pread(self._file.fileno(), self._sector_size, position)
            sector, sectors, flags, data_bytes = struct.unpack("<QQQQ", head[:32])
            position += self._sector_size
            mark = head[32:32 + data_bytes].split(b"\0")[0].decode() if flags & MARK else ""
            yield Entry(sector, sectors, flags, mark, position)
            if not flags & (DISCARD | MARK):
                position += sectors * SECTOR

    def apply(self, entry, image):
        """Does to the file descriptor `image` what the entry did to the disk."""
        if entry.flags & MARK or not entry.sectors:
            return
        size = entry.sectors * SECTOR
        data = bytes(size) if entry.flags & DISCARD else os.pread(self._file.fileno(), size, entry.position)
        assert len(data) == size, "the log is shorter than it says"
        os.pwrite(image, data, entry.sector * SECTOR)
