"""The front door: the public gRPC API, image upload and download, authentication, authorisation."""
