"""The libvirt driver: `xml` (spec ⇄ XML, pure), `guest`, `host`, `connection`, and the thin `driver`."""
