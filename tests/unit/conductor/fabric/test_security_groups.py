"""Groups go to the hosts of their ports, members to the hosts on which a rule names their group, and to no other."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import security_group_pb2 as public
from tests.harness.fabric_history import ACTIVE, History, uid

INGRESS = public.TRAFFIC_DIRECTION_INGRESS


class Groups(History):
    """With security groups, by names."""

    def group(self, name: str, *rules: tuple[str, str]) -> None:
        """rules: (name, remote group or "")."""
        message = network.SecurityGroupCreated(project_id="p", rules=[rule(*each) for each in rules])
        self.happens("security_group", UUID(uid(name)), message)

    def add_rule(self, group: str, name: str, remote: str = "") -> None:
        message = network.SecurityGroupRuleAdded(project_id="p", rule=rule(name, remote))
        self.happens("security_group", UUID(uid(group)), message)

    def remove_rule(self, group: str, name: str, remote: str = "") -> None:
        message = network.SecurityGroupRuleRemoved(project_id="p", rule=rule(name, remote))
        self.happens("security_group", UUID(uid(group)), message)

    def join(self, port: str, host: str, *groups: str, address: str = "10.0.0.9") -> None:
        """The port is bound there, and in these groups."""
        spec = agent.PortSpec(
            port_id=uid(port),
            network=agent.NetworkSpec(network_id=uid("n")),
            addresses=[agent.PortAddress(subnet_id=uid("s"), ip_address=address)],
            security_group_ids=[uid(group) for group in groups],
        )
        wish = agent.DesiredObject(host=host, agent="net", kind="port", object_id=uid(port), port=spec)
        self.happens("port", UUID(uid(port)), network.PortBindingDesired(host=host, state=ACTIVE, desired=wish))

    def hosts(self, kind: str, name: str) -> set[str]:
        return {host for host, each, object_id in self.present() if (each, object_id) == (kind, uid(name))}

    def members(self, host: str) -> dict[str, tuple[list[str], list[str]]]:
        """port → groups and addresses, as the host knows."""
        found = {}
        for each, kind, object_id in self.present():
            if (each, kind) == (host, "group-member"):
                spec = agent.DesiredObject.FromString(self.present()[each, kind, object_id]).group_member
                found[object_id] = (list(spec.group_ids), list(spec.ip_addresses))
        return found


def rule(name: str, remote: str = "") -> public.SecurityGroupRule:
    return public.SecurityGroupRule(
        uid=uid(name), direction=INGRESS, ethertype=public.ETHERTYPE_IPV4, remote_group=uid(remote) if remote else ""
    )


def test_a_group_goes_to_the_hosts_of_its_ports_with_its_rules_in_order() -> None:
    history = Groups()
    history.group("web", ("r1", ""), ("r2", ""))
    assert history.present() == {}
    history.join("p", "a", "web")
    assert history.hosts("security-group", "web") == {"a"}
    history.add_rule("web", "r3")
    assert history.touched == {("a", "security-group", uid("web"))}
    seen = history.object("a", "security-group", "web")
    assert seen is not None
    assert [each.rule_id for each in seen.security_group.rules] == [uid("r1"), uid("r2"), uid("r3")]
    assert seen.generation == len(history.events)
    history.join("q", "b", "web")
    assert history.touched >= {("b", "security-group", uid("web"))}
    history.unbind("q", "b")
    assert history.hosts("security-group", "web") == {"a"}


def test_members_go_where_a_rule_names_their_group() -> None:
    history = Groups()
    history.group("web", ("r1", ""))
    history.group("db", ("r2", "web"))
    history.join("front", "a", "web", address="10.0.0.5")
    assert history.members("a") == {}, "no rule there names a group"
    history.join("store", "b", "db")
    assert history.members("b") == {uid("front"): ([uid("web")], ["10.0.0.5"])}
    assert history.members("a") == {}
    history.join("front", "a", "web", address="10.0.0.55")
    assert history.members("b") == {uid("front"): ([uid("web")], ["10.0.0.55"])}
    history.join("front2", "c", "web", address="10.0.0.6")
    members = {(host, object_id) for host, kind, object_id in history.touched if kind == "group-member"}
    assert members == {("b", uid("front2"))}
    history.unbind("front", "a")
    assert set(history.members("b")) == {uid("front2")}
    history.remove_rule("db", "r2", "web")
    assert history.members("b") == {}
    history.add_rule("db", "r9", "web")
    assert set(history.members("b")) == {uid("front2")}
    history.unbind("store", "b")
    assert history.members("b") == {}


def test_a_group_that_names_itself_has_its_members_on_all_of_their_hosts() -> None:
    history = Groups()
    history.group("default", ("r", "default"))
    for port, host in (("p", "a"), ("q", "b"), ("r", "b")):
        history.join(port, host, "default")
    assert set(history.members("a")) == set(history.members("b")) == {uid("p"), uid("q"), uid("r")}
    history.join("p", "a")  # it leaves the group
    assert history.members("a") == {}
    assert set(history.members("b")) == {uid("q"), uid("r")}


def test_a_rule_costs_no_more_where_others_have_other_groups() -> None:
    costs = []
    for others in (0, 40):
        history = Groups()
        history.group("web", ("r", ""))
        history.join("p", "a", "web")
        for number in range(others):
            history.group(f"g{number}", (f"gr{number}", f"g{number}"))
            history.join(f"p{number}", f"h{number}", f"g{number}")
        history.add_rule("web", "r2", "web")
        costs.append(history.looked)
    assert costs[0] == costs[1] <= 4


def test_a_port_costs_no_more_in_a_group_with_many_members() -> None:
    costs = []
    for members in (1, 40):
        history = Groups()
        history.group("default", ("r", "default"))
        for number in range(members):
            history.join(f"p{number}", "a", "default")
        history.join("another", "a", "default")
        costs.append(history.looked)
        assert uid("another") in history.members("a")
    assert costs[0] == costs[1] <= 4


PORTS, HOSTS, NAMES = ["p1", "p2", "p3"], ["a", "b", "c"], ["g1", "g2", "g3"]
STEP = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(PORTS), st.sampled_from(HOSTS), st.sets(st.sampled_from(NAMES))),
    st.tuples(st.just("unbind"), st.sampled_from(PORTS), st.sampled_from(HOSTS)),
    st.tuples(st.just("no_port"), st.sampled_from(PORTS)),
    st.tuples(st.just("add_rule"), st.sampled_from(NAMES), st.sampled_from(["", *NAMES])),
    st.tuples(st.just("remove_rule"), st.sampled_from(NAMES), st.sampled_from(["", *NAMES])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_whatever_happens_the_rows_are_those_of_a_fresh_derivation(steps: list[tuple[object, ...]]) -> None:
    history = Groups()
    history.network("n")
    for name in NAMES:
        history.group(name)
    for verb, *arguments in steps:
        match verb:
            case "join":
                port, host, groups = arguments
                history.join(str(port), str(host), *sorted(groups))  # type: ignore[call-overload]
            case "add_rule" | "remove_rule":
                group, remote = map(str, arguments)
                getattr(history, str(verb))(group, f"{group}-{remote}", remote)
            case _:
                getattr(history, str(verb))(*arguments)
        assert history.present() == history.derived_afresh()
    assert history.replayed().rows == history.rows
