"""Wires enrolment: the authority and the keys that sign hosts' identities."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from conductor.clock import postgres_clock
from conductor.enrolment.commands import Advertised, HostCommands
from conductor.enrolment.credentials import HostCredentials
from conductor.settings import ConductorSettings
from core.bus import CommandConsumers
from core.natsauth.keys import AccountName, UserSigner
from core.pki.authority import Authority
from core.plane import Plane

if TYPE_CHECKING:
    # A class of the stubs' types alone: at run time there is one stub for both kinds of channel.
    from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub


def host_commands(plane: Plane, placement: SchedulingServiceAsyncStub, settings: ConductorSettings) -> HostCommands:
    """The servicer. Reads the files that the settings name; raises what reading them raises."""
    credentials = HostCredentials(
        authority=Authority.load(settings.ca_directory),
        signer=UserSigner.load(settings.nats_keys_directory, AccountName.HOSTS),
        cell=settings.cell,
        metadata_key=base64.b64decode(settings.metadata_key_file.read_text()),
    )
    advertised = Advertised(
        nats_urls=settings.advertised_nats_urls,
        conductor_address=settings.advertised_conductor_address,
        metadata_url=settings.metadata_url,
        image_download_url=settings.image_download_url,
    )
    return HostCommands(
        plane.repository,
        credentials=credentials,
        advertised=advertised,
        consumers=CommandConsumers(plane.bus),
        placement=placement,
        clock=postgres_clock(plane.log),
    )
