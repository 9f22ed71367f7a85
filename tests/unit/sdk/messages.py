"""Messages that several tests need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from cirra.compute.v1 import compute_pb2 as compute

BEGIN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> Timestamp:
    """So long after the begin of the story."""
    timestamp = Timestamp()
    timestamp.FromDatetime(BEGIN + timedelta(seconds=seconds))
    return timestamp


def running_instance() -> compute.Instance:
    """One that got all it should have."""
    return compute.Instance(
        name="projects/p1/instances/i1",
        uid="i1",
        display_name="web",
        image="img-1",
        status=compute.INSTANCE_STATUS_ACTIVE,
        power_state=compute.POWER_STATE_RUNNING,
        flavor_summary=compute.FlavorSummary(display_name="small", vcpus=1, memory_mib=512, disk_gib=5),
        nics=[
            compute.InstanceNic(
                port="port-1",
                network="net-1",
                mac_address="fa:16:3e:00:00:01",
                fixed_ip="10.0.0.5",
                leased_ip="10.0.0.5",
                seen_ip="10.0.0.5",
            )
        ],
        launch_time=at(10),
        metadata_fetch_time=at(12),
        update_time=at(12),
    )
