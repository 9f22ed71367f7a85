"""The front door: the public gRPC API, image upload and download; authenticates, authorises, validates, answers."""
