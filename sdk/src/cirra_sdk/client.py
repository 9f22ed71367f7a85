"""The client of a cloud: sub-clients by kind of resource, over one connection."""

from __future__ import annotations

from typing import Any

from cirra_sdk.channel import open_channel
from cirra_sdk.config import Profile, resolve
from cirra_sdk.login import FixedToken, PasswordLogin
from cirra_sdk.resources.aggregate import Aggregates, Placement
from cirra_sdk.resources.compute import Flavors, Instances, KeyPairs
from cirra_sdk.resources.diagnosis import Diagnosing
from cirra_sdk.resources.events import Events, Timelines
from cirra_sdk.resources.identity import Projects, Quotas, Tokens, Users
from cirra_sdk.resources.image import Images
from cirra_sdk.resources.network import Networks, Ports, Subnets
from cirra_sdk.resources.operations import Operations
from cirra_sdk.resources.placement import EnrolmentTokens, Hosts, Services
from cirra_sdk.resources.router import FloatingIps, Routers
from cirra_sdk.resources.security_group import SecurityGroups
from cirra_sdk.resources.server_group import ServerGroups
from cirra_sdk.state import Memory
from cirra_sdk.transport import DEFAULT_RETRY_FOR_S, Transport


class AsyncClient:
    """One user's view of one cloud. Make it with `connect`, inside a running event loop; close it, or use `async with`.

    It reads its own writes, whichever gateway answers: each call says how much of the event log it has seen.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.projects = Projects(transport)
        self.users = Users(transport)
        self.quotas = Quotas(transport)
        self.tokens = Tokens(transport)
        self.flavors = Flavors(transport)
        self.key_pairs = KeyPairs(transport)
        self.instances = Instances(transport)
        self.images = Images(transport)
        self.networks = Networks(transport)
        self.subnets = Subnets(transport)
        self.ports = Ports(transport)
        self.routers = Routers(transport)
        self.floating_ips = FloatingIps(transport)
        self.diagnosis = Diagnosing(transport)
        self.security_groups = SecurityGroups(transport)
        self.operations = Operations(transport)
        self.events = Events(transport)
        self.timeline = Timelines(transport)
        self.server_groups = ServerGroups(transport)
        self.hosts = Hosts(transport)
        self.aggregates = Aggregates(transport)
        self.placement = Placement(transport)
        self.services = Services(transport)
        self.enrolment_tokens = EnrolmentTokens(transport)

    @classmethod
    def connect(
        cls,
        cloud: str = "",
        *,
        endpoint: str = "",
        ca_file: str = "",
        user: str = "",
        password: str = "",
        project: str = "",
        token: str = "",
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
        memory: Memory | None = None,
    ) -> AsyncClient:
        """A client of *cloud*, as `cirra_sdk.config.resolve` finds it. Nothing is sent before the first call.

        *retry_for_s*: how long a call is tried again while the cloud can't be reached. Raises ConfigurationError.
        """
        profile = resolve(
            cloud,
            endpoint=endpoint,
            ca_file=ca_file,
            user=user,
            password=password,
            project=project,
            token=token,
        )
        return cls.of(profile, retry_for_s=retry_for_s, memory=memory)

    @classmethod
    def of(
        cls, profile: Profile, *, retry_for_s: float = DEFAULT_RETRY_FOR_S, memory: Memory | None = None
    ) -> AsyncClient:
        """A client for a profile that is known. Raises ConfigurationError."""
        known = memory or Memory()
        transport = Transport(
            open_channel(profile), profile.endpoint, known, FixedToken(profile.token), retry_for_s=retry_for_s
        )
        if not profile.token:
            login = PasswordLogin(transport, known, profile.user, profile.password, profile.project)
            transport = transport.with_tokens(login)
        return cls(transport)

    def login_as(self, user: str, password: str, project: str = "") -> AsyncClient:
        """Another user's client over this connection, which sees what this one has written until now."""
        memory = Memory()
        memory.saw(self.position)
        login = PasswordLogin(self._transport, memory, user, password, project)
        return AsyncClient(self._transport.with_tokens(login, memory))

    @property
    def position(self) -> int:
        """The highest position in the event log that this client has seen; 0 before the first answer."""
        return self._transport.memory.position

    async def access_token(self) -> str:
        """The token that calls are made with now. Raises Unauthenticated."""
        return await self._transport.tokens.get()

    async def close(self) -> None:
        """Ends the connection, also for the clients of `login_as`; remembers the position where that is wanted."""
        try:
            self._transport.memory.save()
        finally:
            await self._transport.channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()
