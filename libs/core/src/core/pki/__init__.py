"""The certificate authority of a Cirra deployment and the TLS identities that it signs.

``authority`` signs, ``identity`` says who a peer is, ``tls`` turns key files into credentials.
See docs/adr/0004-pki.md.
"""
