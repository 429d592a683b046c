"""What client and agent say to each other over one virtio-serial port: frames of a kind, a length and a payload."""

import struct

HEAD = struct.Struct(">cI")
CHUNK = 1 << 16
WINDOW = 1 << 20  # bytes of stdin that may be under way

# client to agent
HELLO = b"H"  # 16 random bytes: ends whatever ran on this port before
START = b"S"  # a dict by marshal, which costs no import: argv, cwd, env, umask, tty (rows and columns, or None)
STDIN = b"I"  # data; empty: end of file
SIGNAL = b"G"  # number, as one byte, for the process group of the command
RESIZE = b"W"  # rows and columns
KILL = b"K"  # every process of the command

# agent to client
READY = b"R"  # the bytes of HELLO
TAKEN = b"T"  # so many bytes of stdin were passed on (u32)
STDOUT = b"O"
STDERR = b"E"
EXIT = b"X"  # the exit code, as one byte; 128 + n for signal n


def frame(kind, payload=b""):
    return HEAD.pack(kind, len(payload)) + payload


class Parser:
    """Cuts a byte stream into frames."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """The frames, as (kind, payload), that `data` completes."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= HEAD.size:
            kind, length = HEAD.unpack_from(self._buffer)
            end = HEAD.size + length
            if len(self._buffer) < end:
                break
            frames.append((kind, bytes(self._buffer[HEAD.size:end])))
            del self._buffer[:end]
        return frames
