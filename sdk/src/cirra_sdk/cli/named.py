"""Arguments that say which thing is meant; the shell completes each with the names of what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cirra_sdk.cli.completing import EVERYTHING, names_of


def _one(*kinds: str) -> Any:
    return typer.Argument(metavar="NAME", help="A name, a uid or a resource name.", autocompletion=names_of(*kinds))


def _several(*kinds: str) -> Any:
    return typer.Argument(metavar="NAME...", help="Names, uids or resource names.", autocompletion=names_of(*kinds))


Server = Annotated[str, _one("instances")]
Servers = Annotated[list[str], _several("instances")]
ServerGroup = Annotated[str, _one("server_groups")]
ServerGroups = Annotated[list[str], _several("server_groups")]
SecurityGroup = Annotated[str, _one("security_groups")]
SecurityGroups = Annotated[list[str], _several("security_groups")]
Image = Annotated[str, _one("images")]
Images = Annotated[list[str], _several("images")]
Flavor = Annotated[str, _one("flavors")]
Flavors = Annotated[list[str], _several("flavors")]
KeyPair = Annotated[str, _one("key_pairs")]
KeyPairs = Annotated[list[str], _several("key_pairs")]
Network = Annotated[str, _one("networks")]
Networks = Annotated[list[str], _several("networks")]
Subnet = Annotated[str, _one("subnets")]
Subnets = Annotated[list[str], _several("subnets")]
Port = Annotated[str, _one("ports")]
Ports = Annotated[list[str], _several("ports")]
Router = Annotated[str, _one("routers")]
Routers = Annotated[list[str], _several("routers")]
FloatingIp = Annotated[str, _one("floating_ips")]
FloatingIps = Annotated[list[str], _several("floating_ips")]
Operation = Annotated[str, _one("operations")]
Project = Annotated[str, _one("projects")]
Projects = Annotated[list[str], _several("projects")]
User = Annotated[str, _one("users")]
Users = Annotated[list[str], _several("users")]
Host = Annotated[str, _one("hosts")]
Aggregate = Annotated[str, _one("aggregates")]
Aggregates = Annotated[list[str], _several("aggregates")]
Resource = Annotated[
    str, typer.Argument(metavar="RESOURCE", help="A name, or a uid.", autocompletion=names_of(*EVERYTHING))
]
