"""The conductor's settings; the common ones are in `core.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from conductor.network.segments import (
    MAX_MTU,
    MIN_MTU,
    NUMBERS,
    TYPES,
    VXLAN,
    VXLAN_OVERHEAD,
    Segments,
    parse_ranges,
    parse_vlans,
)
from core.settings import ServiceSettings, split_list


class ConductorSettings(ServiceSettings):
    placement_addresses: Annotated[tuple[str, ...], NoDecode]
    # The authority that signs hosts' certificates, and the keys that sign their NATS identities.
    ca_directory: Path
    nats_keys_directory: Path
    # 32 bytes in base64 each.
    ticket_key_file: Path
    metadata_key_file: Path
    # What an enrolled host is told.
    image_download_url: str
    metadata_url: str
    advertised_conductor_addresses: Annotated[tuple[str, ...], NoDecode]
    advertised_nats_urls: Annotated[tuple[str, ...], NoDecode]
    # The password of user `admin`, who is made at the first start.
    admin_password_file: Path
    # Of networks whose type nobody tells: "flat", "vlan" or "vxlan".
    tenant_network_type: Literal["flat", "vlan", "vxlan"] = "flat"
    # What the wires between hosts carry, in octets: the MTU of networks unless told, less what VXLAN adds.
    underlay_mtu: int = Field(default=1500, ge=MIN_MTU + VXLAN_OVERHEAD, le=MAX_MTU)
    # Of which a network's number is chosen: "1:16777215"; "physnet1:100:199,physnet2:300:399". Any may be asked for.
    vni_ranges: str = f"{NUMBERS[VXLAN][0]}:{NUMBERS[VXLAN][-1]}"
    vlan_ranges: str = ""
    # Of a password's Argon2id hash (RFC 9106): passes over its memory, and how much that is.
    password_time_cost: int = Field(default=3, ge=1)
    password_memory_kib: int = Field(default=64 * 1024, ge=64)

    @property
    def segments(self) -> Segments:
        return Segments(
            tenant_type=TYPES[self.tenant_network_type],
            underlay_mtu=self.underlay_mtu,
            vnis=parse_ranges(self.vni_ranges, NUMBERS[VXLAN]),
            vlans=parse_vlans(self.vlan_ranges),
        )

    @field_validator("vni_ranges")
    @classmethod
    def _are_vnis(cls, value: str) -> str:
        parse_ranges(value, NUMBERS[VXLAN])
        return value

    @field_validator("vlan_ranges")
    @classmethod
    def _are_vlans(cls, value: str) -> str:
        parse_vlans(value)
        return value

    @field_validator("placement_addresses", "advertised_conductor_addresses", "advertised_nats_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_list(value)
