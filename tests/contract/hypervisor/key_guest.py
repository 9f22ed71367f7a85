"""A guest of 512 octets that obeys at once: it greets on the serial port, waits for a key, and turns itself off.

mov   dx, 0x3f8         ; COM1
…                       ; writes the greeting
xor   ax, ax
int   0x16              ; waits for a key
mov   dx, 0x604         ; PM1a_CNT of QEMU's i440fx, where SeaBIOS puts it
mov   ax, 0x2000        ; SLP_EN, S5 (ACPI 6.5, section 4.8.3.2)
out   dx, ax
"""

from __future__ import annotations

GREETING = b"press a key to turn me off\r\n"
_CODE = bytes.fromhex("31c08ed8be207cbaf803ac84c07403eeebf831c0cd16ba0406b80020eff4ebfd")
_SECTOR = (_CODE + GREETING + b"\0").ljust(510, b"\0") + b"\x55\xaa"

# Raw; QEMU wants a disk of more than one sector.
IMAGE = _SECTOR.ljust(1 << 20, b"\0")
