"""RouterService: routers, their interfaces and gateways."""

from __future__ import annotations

from collections.abc import Mapping

from api_gateway.api.call import Call, Servicer
from api_gateway.api.fields import Fields
from api_gateway.api.forward import forwarded, named, nothing, the
from api_gateway.api.read import getter, lister
from api_gateway.views.network import NETWORK, SUBNET
from api_gateway.views.router import ROUTER
from cirra.network.v1 import router_pb2 as pb
from cirra.network.v1 import router_pb2_grpc
from core.errors import NotFound


async def _prepare_new(command: pb.CreateRouterRequest, call: Call) -> None:
    fields = Fields("router.")
    fields.title("display_name", command.router.display_name)
    if command.router.HasField("external_gateway"):
        await _prepare_external(fields, command.router.external_gateway, call)
    fields.check()


async def _prepare_external(fields: Fields, gateway: pb.ExternalGateway, call: Call) -> None:
    network = await fields.reference(call.reader, NETWORK, "external_gateway.network", gateway.network)
    gateway.network = network.uid if network else ""


async def _prepare_update(command: pb.UpdateRouterRequest, call: Call) -> None:
    """What the mask may name, and which routes may be, is the conductor's to say."""
    try:
        row = await call.reader.find(ROUTER, command.router.name, field="router.name")
    except NotFound as error:
        if not command.request_id:
            raise
        call.missing = error
        command.router.ClearField("name")
        return
    command.router.name = row.resource.name


async def _prepare_interface(
    command: pb.AddRouterInterfaceRequest | pb.RemoveRouterInterfaceRequest, call: Call
) -> None:
    await named(ROUTER)(command, call)
    fields = Fields()
    subnet = await fields.reference(call.reader, SUBNET, "subnet", command.subnet)
    command.subnet = subnet.uid if subnet else ""
    if isinstance(command, pb.AddRouterInterfaceRequest):
        fields.address("ip_address", command.ip_address)
    fields.check()


async def _prepare_gateway(command: pb.SetRouterGatewayRequest, call: Call) -> None:
    await named(ROUTER)(command, call)
    fields = Fields()
    await _prepare_external(fields, command.external_gateway, call)
    fields.check()


async def _filters(request: pb.ListRoutersRequest, call: Call) -> Mapping[str, str]:
    if not request.external_network:
        return {}
    return {"about": (await call.reader.find(NETWORK, request.external_network, field="external_network")).uid}


class RouterService(Servicer, router_pb2_grpc.RouterServiceServicer):
    CreateRouter = forwarded(lambda conductor: conductor.routers.CreateRouter, _prepare_new, the(ROUTER))
    GetRouter = getter(ROUTER)
    ListRouters = lister(ROUTER, pb.ListRoutersResponse, _filters)
    UpdateRouter = forwarded(lambda conductor: conductor.routers.UpdateRouter, _prepare_update, the(ROUTER))
    DeleteRouter = forwarded(
        lambda conductor: conductor.routers.DeleteRouter, named(ROUTER), nothing(pb.DeleteRouterResponse)
    )
    AddRouterInterface = forwarded(
        lambda conductor: conductor.routers.AddRouterInterface, _prepare_interface, the(ROUTER)
    )
    RemoveRouterInterface = forwarded(
        lambda conductor: conductor.routers.RemoveRouterInterface, _prepare_interface, the(ROUTER)
    )
    SetRouterGateway = forwarded(lambda conductor: conductor.routers.SetRouterGateway, _prepare_gateway, the(ROUTER))
    ClearRouterGateway = forwarded(lambda conductor: conductor.routers.ClearRouterGateway, named(ROUTER), the(ROUTER))
