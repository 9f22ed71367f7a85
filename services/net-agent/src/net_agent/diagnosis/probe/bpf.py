"""What a listening socket lets through to us: answers to probes, not a guest's gigabits.

Sources: bpf(4), socket(7) SO_ATTACH_FILTER. A classic BPF program, run by the kernel before a frame is copied: ARP; of
IPv4 ICMP, TCP segments that open, accept or refuse a connection, and UDP of DHCP and DNS; of IPv6 the same, but for
DHCP. Pure, but for `attach`.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_FILTER = 26

# linux/bpf_common.h: class | size | mode.
_LDH_ABS, _LDB_ABS, _LDXB_MSH, _LDH_IND, _LDB_IND = 0x28, 0x30, 0xB1, 0x48, 0x50
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false (instructions to skip), operand."""

_ALL, _NOTHING = 0x40000, 0

ANSWERS: tuple[Instruction, ...] = (
    (_LDH_ABS, 0, 0, 12),
    (_JEQ, 16, 0, 0x0806),  # ARP: take it
    (_JEQ, 0, 17, 0x0800),  # not IPv4: perhaps IPv6
    (_LDB_ABS, 0, 0, 23),
    (_JEQ, 13, 0, 1),  # ICMP: take it
    (_LDXB_MSH, 0, 0, 14),  # X: octets of the IPv4 header
    (_JEQ, 0, 3, 6),
    (_LDB_IND, 0, 0, 27),  # TCP's flags
    (_JSET, 9, 0, 0x06),  # SYN or RST: take it
    (_RET, 0, 0, _NOTHING),
    (_JEQ, 0, 8, 17),
    (_LDH_IND, 0, 0, 14),  # UDP's source port
    (_JEQ, 5, 0, 53),
    (_JEQ, 4, 0, 67),
    (_LDH_IND, 0, 0, 16),  # UDP's destination port
    (_JEQ, 2, 0, 53),
    (_JEQ, 1, 0, 67),
    (_RET, 0, 0, _NOTHING),
    (_RET, 0, 0, _ALL),
    (_RET, 0, 0, _NOTHING),
    (_JEQ, 0, 10, 0x86DD),  # not IPv6: leave it
    (_LDB_ABS, 0, 0, 20),
    (_JEQ, 9, 0, 58),  # ICMPv6: take it
    (_JEQ, 0, 2, 6),
    (_LDB_ABS, 0, 0, 67),  # TCP's flags
    (_JSET, 6, 5, 0x06),  # SYN or RST: take it
    (_JEQ, 0, 4, 17),
    (_LDH_ABS, 0, 0, 54),  # UDP's source port
    (_JEQ, 3, 0, 53),
    (_LDH_ABS, 0, 0, 56),  # UDP's destination port
    (_JEQ, 1, 0, 53),
    (_RET, 0, 0, _NOTHING),
    (_RET, 0, 0, _ALL),
)


def attach(listener: socket.socket, program: Sequence[Instruction] = ANSWERS) -> None:
    octets = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(octets)
    # struct sock_fprog: how many, and where; the kernel copies them.
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(buffer)))
