"""NATS identities by signed tokens: who may publish and read what, without a user list on the server.

``keys`` holds the key pairs, ``permissions`` says what an identity may do, ``tokens`` signs that.
See docs/adr/0003-nats-identities.md.
"""
