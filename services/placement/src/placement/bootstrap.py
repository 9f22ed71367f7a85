"""Wires placement: the one place where its parts meet."""

from __future__ import annotations

import time

from cirra.placement.v1.administration_pb2_grpc import add_HostAdministrationServiceServicer_to_server
from cirra.placement.v1.scheduling_pb2_grpc import add_SchedulingServiceServicer_to_server
from core.bus import PullLoop
from core.bus.streams import ensure_report_consumer, ensure_streams, stream_settings
from core.plane import Plane, open_plane
from core.projection import EventTail
from core.rpc.authorization import services_only
from core.rpc.server import serve
from core.service import Lifetime
from placement.aggregates.administration import HostAdministration
from placement.hosts.epochs import mark_observe_only
from placement.hosts.inventory import FACTS, HostReports
from placement.hosts.live_view import LiveView
from placement.hosts.view import CONCERNED
from placement.liveness.detector import Detector
from placement.liveness.ears import REST_S, Ears
from placement.liveness.outage import Outages
from placement.liveness.roll import Roll
from placement.liveness.tracker import Tracker
from placement.scheduling.scheduler import FILTERS, WEIGHERS, Scheduler, installed
from placement.scheduling.service import SchedulingServicer
from placement.settings import PlacementSettings

CONSUMER = "placement"
SCHEMA = "placement"


async def bootstrap(lifetime: Lifetime, settings: PlacementSettings) -> None:
    plane = await open_plane(lifetime, "placement", settings, news_of=CONCERNED)
    bus = plane.bus
    await ensure_streams(bus, settings=stream_settings(settings))
    await ensure_report_consumer(bus, CONSUMER, FACTS)

    view = LiveView()
    lifetime.start(view.follow(EventTail(bus, plane.log, stream=plane.events)), "view")
    await view.wait_for((await plane.log.head()).position, timeout_s=60.0)

    lifetime.start(mark_observe_only(plane.repository, view), "observe-only hosts")
    tracker = await _start_detector(lifetime, settings, plane, view)
    reports = PullLoop(
        bus,
        bus.subjects.reports_stream,
        CONSUMER,
        HostReports(plane.repository, default=settings.ratios),
        ordered_by=lambda received: received.subject,
        ensure=lambda: ensure_report_consumer(bus, CONSUMER, FACTS),
    )
    lifetime.start(reports.run(), "host reports")

    scheduler = Scheduler(
        installed(FILTERS, without=settings.disabled_filters),
        installed(WEIGHERS, without=settings.disabled_weighers),
        multipliers=settings.multipliers,
    )
    scheduling = SchedulingServicer(
        plane.repository, view, scheduler, tracker, default_zone=settings.default_availability_zone
    )
    administration = HostAdministration(plane.repository, default=settings.ratios)
    server = await serve(
        [
            (add_SchedulingServiceServicer_to_server, scheduling),
            (add_HostAdministrationServiceServicer_to_server, administration),
        ],
        listen=settings.listen,
        tls=plane.tls,
        authorize=services_only,
    )
    lifetime.on_stop(server.stop, "server")
    lifetime.ready(grpc=server.address)


async def _start_detector(lifetime: Lifetime, settings: PlacementSettings, plane: Plane, view: LiveView) -> Tracker:
    """Every replica listens, one declares."""
    window_s = settings.heartbeat_window_s
    tracker = Tracker(window_s=window_s, monotonic=time.monotonic)
    roll = Roll(plane.log.pool, settings.schema_name(SCHEMA), plane.leases)
    await roll.prepare()
    await roll.call(tracker)
    hearing = await plane.bus.another("ears", rest_s=REST_S)
    lifetime.on_stop(hearing.close, "ears' bus")
    lifetime.start(Ears(plane.bus, hearing, tracker).run(), "ears")
    outages = Outages(together_s=window_s * 5, many=settings.mass_outage_hosts, monotonic=time.monotonic)
    detector = Detector(plane.repository, plane.leases, view, tracker, outages, roll, replica=plane.runner)
    lifetime.start(detector.run(), "detector")
    lifetime.start(roll.follow(tracker, every_s=window_s, unless=lambda: detector.declares), "roll")
    return tracker
