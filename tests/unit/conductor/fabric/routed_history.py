"""A log with routers, floating IPs and gateways of hosts."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.agent.v1 import fabric_pb2 as fabric
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1.router_pb2 import StaticRoute
from tests.harness.fabric_history import History, uid


class RoutedHistory(History):
    """Things are called by names; a subnet `s` of network `n` is `n-s`."""

    def router(self, name: str) -> None:
        self.happens("router", UUID(uid(name)), network.RouterCreated(project_id="p"))

    def interface(self, router: str, on: str, address: str = "10.0.0.1", cidr: str = "10.0.0.0/24") -> None:
        added = network.RouterInterfaceAdded(
            network_id=uid(on), subnet_id=uid(f"{on}-s"), cidr=cidr, ip_address=address, mac_address="fa:16:3e:aa:00:01"
        )
        self.happens("router", UUID(uid(router)), added)

    def no_interface(self, router: str, on: str) -> None:
        removed = network.RouterInterfaceRemoved(network_id=uid(on), subnet_id=uid(f"{on}-s"))
        self.happens("router", UUID(uid(router)), removed)

    def gateway(self, router: str, to: str, *, snat: bool = True) -> None:
        self.happens("router", UUID(uid(router)), network.RouterGatewaySet(network_id=uid(to), enable_snat=snat))

    def no_gateway(self, router: str, to: str) -> None:
        self.happens("router", UUID(uid(router)), network.RouterGatewayCleared(network_id=uid(to)))

    def snat(self, router: str, *, enabled: bool) -> None:
        self.happens("router", UUID(uid(router)), network.RouterSnatSet(enable_snat=enabled))

    def routes(self, router: str, *routes: tuple[str, str]) -> None:
        message = network.RouterUpdated(
            routes=[StaticRoute(destination=to, next_hop=hop) for to, hop in routes],
            update_mask=FieldMask(paths=["routes"]),
        )
        self.happens("router", UUID(uid(router)), message)

    def no_router(self, router: str) -> None:
        self.happens("router", UUID(uid(router)), network.RouterDeleted(project_id="p"))

    def floating_ip(self, name: str, of: str, address: str = "203.0.113.7") -> None:
        created = network.FloatingIpCreated(project_id="p", network_id=uid(of), floating_ip_address=address)
        self.happens("floating_ip", UUID(uid(name)), created)

    def associate(self, name: str, port: str, router: str = "r", fixed_ip: str = "10.0.0.9") -> None:
        message = network.FloatingIpAssociated(port_id=uid(port), fixed_ip_address=fixed_ip, router_id=uid(router))
        self.happens("floating_ip", UUID(uid(name)), message)

    def disassociate(self, name: str) -> None:
        self.happens("floating_ip", UUID(uid(name)), network.FloatingIpDisassociated())

    def no_floating_ip(self, name: str) -> None:
        self.happens("floating_ip", UUID(uid(name)), network.FloatingIpDeleted())

    def host_gateway(self, host: str, on: str, address: str = "") -> None:
        gateway_id = UUID(uid(f"{host}/{on}"))
        opened = network.HostGatewayOpened(host=host, network_id=uid(on), mac_address="fa:16:3e:bb:00:01")
        self.happens("host_gateway", gateway_id, opened)
        if address:
            ip_address, _, length = address.partition("/")
            allocated = network.HostGatewayAddressAllocated(
                host=host, network_id=uid(on), ip_address=ip_address, prefix_length=int(length)
            )
            self.happens("host_gateway", gateway_id, allocated)

    def no_host_gateway(self, host: str, on: str) -> None:
        gateway_id = UUID(uid(f"{host}/{on}"))
        self.happens("host_gateway", gateway_id, network.HostGatewayAddressReleased(host=host, network_id=uid(on)))
        self.happens("host_gateway", gateway_id, network.HostGatewayClosed(host=host, network_id=uid(on)))

    def spec(self, host: str, router: str) -> fabric.RouterSpec:
        found = self.object(host, "router", router)
        assert found is not None and not found.absent
        return found.router

    def hosts_with(self, kind: str, name: str) -> str:
        """Their names, one after the other."""
        return "".join(sorted(host for host, *of in self.present() if of == [kind, uid(name)]))
