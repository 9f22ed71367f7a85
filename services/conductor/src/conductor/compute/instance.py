"""The instance: a guest, what it is made of, where it runs, and who is at work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from cirra.conductor.v1.sagas_pb2 import GuestPower

# Imported for what it registers.
from conductor.compute import instance_quota as _quota  # noqa: F401
from conductor.compute.actions import Action, State, require_allowed, require_unlocked
from conductor.compute.wishes import copy_of, power_of, same_wish, set_power
from conductor.hosts.observation import Observation, ReportClock
from conductor.requests import require_live
from conductor.turn import Turn
from core.aggregate import Aggregate, applies
from core.errors import AlreadyExists, FailedPrecondition, PermissionDenied


class Instance(Aggregate, kind="instance"):
    """`domain`: what its host shall make true; `observation`: what that host last said of it.

    `boots`: how often its guest was to be booted, by a start or a reboot. `leaving`: hosts that shall have nothing of
    it and have not said so yet, with the generation of that wish.
    """

    project_id: str = ""
    user_id: str = ""
    display_name: str = ""
    hostname: str = ""
    flavor: public.FlavorSummary = field(default_factory=public.FlavorSummary)
    image_id: str = ""
    nics: list[public.InstanceNic] = field(default_factory=list)
    availability_zone: str = ""
    server_group_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    locked: pb.InstanceLocked | None = None
    host: str = ""
    virt_type: str = ""
    # The saga that may change desired state; empty: none, reconcile repairs.
    task_id: str = ""
    # Of the task: that in which the host was assigned, and the highest one that was left.
    host_attempt: int = 0
    left_attempt: int = 0
    delete_task_id: str = ""
    active: bool = False
    erred: bool = False
    # Why it is not as it shall be, by the word of its host, while no task is at work.
    ailment: agent.Failure | None = None
    deleted: bool = False
    metadata_fetched: bool = False
    # Of its administrator, as the guest posted it; empty: it has not.
    password: bytes = b""
    domain: agent.DesiredObject | None = None
    observation: Observation[agent.DomainObserved] | None = None
    # Of its guest, as last said; a host that says only that it failed leaves it.
    guest_state: agent.DomainState.ValueType = agent.DOMAIN_STATE_UNSPECIFIED
    boots: int = 0
    leaving: dict[str, int] = field(default_factory=dict)
    report_clock: ReportClock = field(default_factory=ReportClock)

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/instances/{self.id}"

    @property
    def state(self) -> State:
        """The status that the public API shows, as the table of actions has it."""
        if self.deleted:
            return State.DELETED
        if not self.active:
            return State.NOT_BUILT if self.erred else State.BUILD
        if self.erred or self.ailment is not None:
            return State.ERROR
        off = self.guest_state in (agent.DOMAIN_STATE_SHUTOFF, agent.DOMAIN_STATE_CRASHED)
        return State.SHUTOFF if off else State.ACTIVE

    # --- decisions

    def permit(self, action: Action, *, by_admin: bool) -> None:
        """Raises FailedPrecondition where the table of actions says no."""
        what = f"instance {self.id}"
        require_allowed(action, what, self.state, busy=bool(self.task_id or self.delete_task_id))
        if self.locked is not None and not by_admin:
            require_unlocked(action, what, self.locked.reason)

    def update(self, display_name: str, metadata: Mapping[str, str], tags: Sequence[str]) -> None:
        """What it shall be called and labelled; what is so already is no event. Its guest keeps its hostname."""
        event = pb.InstanceUpdated()
        if display_name != self.display_name:
            event.update_mask.paths.append("display_name")
            event.display_name = display_name
        if dict(metadata) != self.metadata:
            event.update_mask.paths.append("metadata")
            event.metadata.update(metadata)
        if [*tags] != self.tags:
            event.update_mask.paths.append("tags")
            event.tags.extend(tags)
        if event.update_mask.paths:
            self.record(event)

    def lock(self, reason: str, *, by_admin: bool) -> None:
        """Raises PermissionDenied for a member while an administrator has locked it."""
        self._require_may_unlock(by_admin)
        wanted = pb.InstanceLocked(reason=reason, by_admin=by_admin)
        if self.locked != wanted:
            self.record(wanted)

    def unlock(self, *, by_admin: bool) -> None:
        """Raises PermissionDenied for a member while an administrator has locked it."""
        self._require_may_unlock(by_admin)
        if self.locked is not None:
            self.record(pb.InstanceUnlocked())

    def _require_may_unlock(self, by_admin: bool) -> None:
        if self.locked is not None and self.locked.by_admin and not by_admin:
            raise PermissionDenied(
                f"instance {self.id} was locked by an administrator", remedy="ask an administrator to unlock it"
            )

    def power_back(self, task_id: str, earlier: GuestPower) -> None:
        """The task gives up: its guest shall be as it was to be before. Then it is another task's turn."""
        if self.task_id != task_id:
            return
        if self.domain is not None and power_of(self.domain.domain) != earlier:
            wanted = copy_of(self.domain)
            set_power(wanted.domain, earlier)
            self._desire_domain(Turn(task_id, 1), wanted)
        self.end_task(task_id)

    def power_done(self, task_id: str) -> None:
        """Its host has done what the task wanted: whatever it could not do before is over."""
        if self.task_id != task_id:
            return
        if self.ailment is not None and self.observation is not None and not self.observation.failed:
            self.record(pb.InstanceRecovered(host=self.host))
        self.end_task(task_id)

    def assign_host(self, turn: Turn, host: str, virt_type: str, availability_zone: str) -> None:
        """The saga has a claim there. Repeating it changes nothing. Raises FailedPrecondition when it left that."""
        self._require_turn(turn)
        if (self.host, self.host_attempt) != (host, turn.attempt):
            self.record(
                pb.InstanceHostAssigned(
                    host=host, virt_type=virt_type, availability_zone=availability_zone, attempt=turn.attempt
                )
            )

    def leave_host(self, turn: Turn) -> None:
        """It is nowhere; an assignment of this attempt or an earlier one that comes later is refused."""
        self._require_task(turn.task_id)
        has_host = bool(self.host) and self.host_attempt <= turn.attempt
        if has_host or turn.attempt > self.left_attempt:
            self.record(pb.InstanceHostReleased(host=self.host, attempt=turn.attempt))

    def desire_domain(self, turn: Turn, wanted: agent.DesiredObject) -> agent.DesiredObject:
        """Sets what the host shall make true; answers it with its generation.

        The same wish again is one wish, unless the host has failed at it: then it is a new one.
        Raises FailedPrecondition for an attempt that was left.
        """
        self._require_turn(turn)
        if self.domain is not None and same_wish(self.domain, wanted) and not self._failed_at_wish:
            return self.domain
        return self._desire_domain(turn, wanted)

    def remove_domain(self, turn: Turn, absent: agent.DesiredObject) -> None:
        """Nothing shall be on that host; what this attempt still wishes later is refused.

        For an attempt that was left before, only what its host has failed at is wished anew: another domain is a later
        attempt's.
        """
        self._require_task(turn.task_id)
        failed = self.domain is not None and same_wish(self.domain, absent) and self._failed_at_wish
        if turn.attempt > self.left_attempt or failed:
            self._desire_domain(turn, absent)

    @property
    def _failed_at_wish(self) -> bool:
        """Its host has said that it could not do what is wished now."""
        said = self.observation
        return (
            self.domain is not None and said is not None and said.failed and said.generation >= self.domain.generation
        )

    def _desire_domain(self, turn: Turn, wanted: agent.DesiredObject) -> agent.DesiredObject:
        desired = agent.DesiredObject()
        desired.CopyFrom(wanted)
        desired.generation = self.domain.generation + 1 if self.domain is not None else 1
        self.record(pb.InstanceDomainDesired(desired=desired, attempt=turn.attempt))
        return desired

    def observe_domain(self, report: agent.Report) -> None:
        """A host's claim; older ones, and ones that change nothing, leave no trace."""
        if self.domain is None or report.host != self.domain.host:
            is_news = self._leaves(report.host, report.generation, report.domain)
        else:
            observed = Observation(report.generation, report.domain, report.failure)
            is_news = self.report_clock.is_news(report) and observed != self.observation
        if not is_news:
            return
        self.record(
            pb.InstanceDomainObserved(
                host=report.host,
                boot_id=report.boot_id,
                sequence=report.sequence,
                generation=report.generation,
                observed=report.domain,
                failure=report.failure if report.HasField("failure") else None,
                effort=report.effort if report.HasField("effort") else None,
            )
        )
        if self.domain is not None and report.host == self.domain.host:
            self._judge(report)

    def _judge(self, report: agent.Report) -> None:
        """What a task meets is the task's to deal with; at any other time a host's failure is the instance's ERROR, for
        as long as it lasts."""
        if not self.active or self.erred or self.task_id:
            return
        failure = report.failure if report.HasField("failure") else None
        if failure is not None and failure != self.ailment:
            fault = public.Fault(
                reason=failure.reason, message=failure.message, remedy=failure.remedy, time=report.time
            )
            self.record(pb.InstanceErred(fault=fault, host=report.host))
        elif failure is None and self.ailment is not None:
            self.record(pb.InstanceRecovered(host=report.host))

    def observed_absent_on(self, host: str) -> bool:
        """Nothing of it is wished for there, and nothing is left."""
        wished = self.domain is not None and self.domain.host == host and not self.domain.absent
        return not wished and host not in self.leaving

    def _leaves(self, host: str, generation: int, observed: agent.DomainObserved) -> bool:
        """Whether this tells that nothing is left where nothing shall be."""
        wanted = self.leaving.get(host)
        return wanted is not None and generation >= wanted and observed.state == agent.DOMAIN_STATE_ABSENT

    def activate(self, task_id: str) -> None:
        """The task has reached its end, and ends. Repeating it changes nothing, whoever is at work by then."""
        if self.active and self.task_id != task_id:
            return
        self._require_task(task_id)
        if not self.active:
            self.record(pb.InstanceActivated())
        self.end_task(task_id)

    def fail(self, task_id: str, fault: public.Fault) -> None:
        """Its saga gave up: ERROR, with a cause that a person can act on."""
        self._require_task(task_id)
        if not self.erred:
            self.record(pb.InstanceErred(fault=fault))

    def start_task(self, task: str, task_id: str) -> None:
        """Raises FailedPrecondition while another task is at work, and when the instance is gone."""
        if self.task_id == task_id:
            return
        if self.deleted:
            raise FailedPrecondition(f"instance {self.id} is deleted", reason="INSTANCE_DELETED")
        if self.task_id:
            raise FailedPrecondition(
                f"instance {self.id} is busy with another task", remedy="wait until its task state is empty"
            )
        self.record(pb.InstanceTaskStarted(task=task, task_id=task_id))

    def end_task(self, task_id: str) -> None:
        if self.task_id == task_id:
            self.record(pb.InstanceTaskEnded(task_id=task_id))

    def request_delete(self, task_id: str) -> None:
        if not self.delete_task_id:
            self.record(pb.InstanceDeleteRequested(task_id=task_id))

    def delete(self, task_id: str) -> None:
        """Everything of it is gone."""
        if self.deleted:
            return
        self._require_task(task_id)
        self.record(
            pb.InstanceDeleted(
                project_id=self.project_id,
                flavor=self.flavor,
                image_id=self.image_id,
                task_id=task_id,
                server_group_id=self.server_group_id,
            )
        )

    def metadata_was_fetched(self, host: str, fetched: agent.MetadataFetched) -> None:
        """Only the first time is an event."""
        if not self.metadata_fetched and not self.deleted:
            self.record(pb.InstanceMetadataFetched(path=fetched.path, user_agent=fetched.user_agent, host=host))

    def post_password(self, host: str, password: bytes) -> None:
        """The guest tells the password of its administrator, once; the same again changes nothing.

        Raises AlreadyExists for another, NotFound when the instance is deleted.
        """
        if require_live(self).password == password:
            return
        if self.password:
            raise AlreadyExists(f"instance {self.id} has posted a password before", reason="PASSWORD_SET")
        self.record(pb.InstancePasswordPosted(password=password, host=host))

    def _require_task(self, task_id: str) -> None:
        if self.task_id != task_id:
            raise FailedPrecondition(f"instance {self.id} is not in the hands of task {task_id}")

    def _require_turn(self, turn: Turn) -> None:
        self._require_task(turn.task_id)
        turn.require_beyond(self.left_attempt)

    # --- what happened

    @applies(pb.InstanceCreated)
    def _created(self, event: pb.InstanceCreated) -> None:
        self.project_id, self.user_id = event.project_id, event.user_id
        self.display_name, self.hostname = event.display_name, event.hostname
        self.flavor, self.image_id = event.flavor, event.image_id
        self.nics = list(event.nics)
        self.availability_zone, self.server_group_id = event.availability_zone, event.server_group_id
        self.metadata, self.tags = dict(event.metadata), list(event.tags)
        self.task_id = event.task_id

    @applies(pb.InstanceUpdated)
    def _updated(self, event: pb.InstanceUpdated) -> None:
        if "display_name" in event.update_mask.paths:
            self.display_name = event.display_name
        if "metadata" in event.update_mask.paths:
            self.metadata = dict(event.metadata)
        if "tags" in event.update_mask.paths:
            self.tags = list(event.tags)

    @applies(pb.InstanceLocked)
    def _locked(self, event: pb.InstanceLocked) -> None:
        self.locked = event

    @applies(pb.InstanceUnlocked)
    def _unlocked(self, event: pb.InstanceUnlocked) -> None:
        self.locked = None

    @applies(pb.InstanceHostAssigned)
    def _host_assigned(self, event: pb.InstanceHostAssigned) -> None:
        self.host, self.virt_type = event.host, event.virt_type
        self.host_attempt = event.attempt
        self.observation = None

    @applies(pb.InstanceHostReleased)
    def _host_released(self, event: pb.InstanceHostReleased) -> None:
        self.host = ""
        self.guest_state = agent.DOMAIN_STATE_UNSPECIFIED
        self.left_attempt = max(self.left_attempt, event.attempt)

    @applies(pb.InstanceNicAttached)
    def _nic_attached(self, event: pb.InstanceNicAttached) -> None:
        self.nics.append(event.nic)

    @applies(pb.InstanceNicDetached)
    def _nic_detached(self, event: pb.InstanceNicDetached) -> None:
        self.nics = [nic for nic in self.nics if nic.port != event.port]

    @applies(pb.InstanceDomainDesired)
    def _domain_desired(self, event: pb.InstanceDomainDesired) -> None:
        self.domain = event.desired
        self.boots = max(self.boots, event.desired.domain.boot)
        if event.desired.absent:
            self.leaving[event.desired.host] = event.desired.generation
            self.left_attempt = max(self.left_attempt, event.attempt)

    @applies(pb.InstanceDomainObserved)
    def _domain_observed(self, event: pb.InstanceDomainObserved) -> None:
        if self._leaves(event.host, event.generation, event.observed):
            del self.leaving[event.host]
        if self.domain is not None and event.host == self.domain.host:
            self.report_clock = self.report_clock.after(event.host, event.boot_id, event.sequence)
            self.observation = Observation(event.generation, event.observed, event.failure, event.effort)
            self.guest_state = event.observed.state or self.guest_state

    @applies(pb.InstanceActivated)
    def _activated(self, event: pb.InstanceActivated) -> None:
        self.active = True

    @applies(pb.InstanceErred)
    def _erred(self, event: pb.InstanceErred) -> None:
        if event.host:
            assert self.observation is not None  # whose failure it is
            self.ailment = self.observation.failure
        else:
            self.erred = True

    @applies(pb.InstanceRecovered)
    def _recovered(self, event: pb.InstanceRecovered) -> None:
        self.ailment = None

    @applies(pb.InstanceTaskStarted)
    def _task_started(self, event: pb.InstanceTaskStarted) -> None:
        self.task_id = event.task_id
        self.host_attempt = self.left_attempt = 0

    @applies(pb.InstanceTaskEnded)
    def _task_ended(self, event: pb.InstanceTaskEnded) -> None:
        self.task_id = ""

    @applies(pb.InstanceDeleteRequested)
    def _delete_requested(self, event: pb.InstanceDeleteRequested) -> None:
        self.delete_task_id = event.task_id

    @applies(pb.InstanceMetadataFetched)
    def _metadata_fetched(self, event: pb.InstanceMetadataFetched) -> None:
        self.metadata_fetched = True

    @applies(pb.InstancePasswordPosted)
    def _password_posted(self, event: pb.InstancePasswordPosted) -> None:
        self.password = event.password

    @applies(pb.InstanceDeleted)
    def _deleted(self, event: pb.InstanceDeleted) -> None:
        self.deleted, self.task_id = True, ""
