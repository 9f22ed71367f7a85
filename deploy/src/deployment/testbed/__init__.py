"""Several hosts on one machine, joined by an underlay, beside an Internet and an office LAN: `make up HOSTS=3`.

`plan` says what there is and how it is called, `wires` makes networks, `boot` and `node` are a host from the inside,
`host` is one from the outside (its power, its cable, what runs in it), `site` all of it. See docs/adr/0024-testbed.md.
"""
