"""Runs a program under a seccomp filter that answers EPERM to io_uring_setup, as container runtimes do.

Usage: deny_io_uring.py PROGRAM ARGUMENT...
"""
import ctypes
import os
import platform
import struct
import sys

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
IO_URING_SETUP = 425
EPERM = 1
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def instruction(code, yes, no, value):
    return struct.pack("=HBBI", code, yes, no, value)


program = b"".join(
    [
        instruction(LOAD, 0, 0, 4),  # the architecture
        instruction(EQUAL, 0, 3, ARCH),
        instruction(LOAD, 0, 0, 0),  # the system call
        instruction(EQUAL, 0, 1, IO_URING_SETUP),
        instruction(RETURN, 0, 0, ERRNO | EPERM),
        instruction(RETURN, 0, 0, ALLOW),
    ]
)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
code = Filter(len(program) // 8, program)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, None, 0, 0) or libc.prctl(
    PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(code), 0, 0
):
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
