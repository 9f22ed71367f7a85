from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cirra.identity.v1.events_pb2 import EnrolmentTokenIssued
from conductor.enrolment.enrolment import Enrolment, EnrolmentToken
from core.errors import FailedPrecondition, Unauthenticated
from core.eventlog.types import UniqueClaim
from core.sealing import sensitive_paths
from tests.unit.conductor.facts import constrained, happened, saved

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = EnrolmentToken.generate(uuid4())


def make() -> Enrolment:
    return Enrolment.issue(TOKEN, host="h1", availability_zone="nova", expires_at=NOW + timedelta(hours=1))


def test_a_token_is_found_by_its_text_and_proves_itself() -> None:
    assert EnrolmentToken.parse(TOKEN.text) == TOKEN
    make().admit("h1", EnrolmentToken.parse(TOKEN.text), NOW)
    assert len(TOKEN.secret) == 32


def test_only_the_hash_is_kept_and_it_is_secret() -> None:
    [issued] = happened(make())
    assert TOKEN.secret not in issued.SerializeToString()
    assert sensitive_paths(EnrolmentTokenIssued.DESCRIPTOR)


@pytest.mark.parametrize("text", ["", ".", "x.y", "AAAA.AAAA", "{id}.!!", "ä.ö"])
def test_what_is_no_token_is_refused_like_a_wrong_one(text: str) -> None:
    text = text.replace("{id}", TOKEN.text.partition(".")[0])
    with pytest.raises(Unauthenticated) as caught:
        make().admit("h1", EnrolmentToken.parse(text), NOW)
    assert caught.value.reason == "ENROLMENT_TOKEN_INVALID"


def test_a_token_is_for_one_host_and_for_a_time() -> None:
    enrolment = make()
    with pytest.raises(Unauthenticated):
        enrolment.admit("h2", TOKEN, NOW)
    with pytest.raises(Unauthenticated):
        enrolment.admit("h1", EnrolmentToken.generate(TOKEN.enrolment_id), NOW)
    with pytest.raises(Unauthenticated) as caught:
        enrolment.admit("h1", TOKEN, NOW + timedelta(hours=1))
    assert caught.value.reason == "ENROLMENT_TOKEN_EXPIRED"


def test_the_same_keys_may_ask_again_and_others_not() -> None:
    enrolment = make()
    saved(enrolment)
    enrolment.use(keys_sha256="k1", certificate_sha256="c1")
    assert constrained(enrolment) == [UniqueClaim("enrolment-token", str(enrolment.id), "k1")]
    enrolment.use(keys_sha256="k1", certificate_sha256="c2")
    with pytest.raises(FailedPrecondition) as caught:
        enrolment.use(keys_sha256="k2", certificate_sha256="c3")
    assert caught.value.reason == "ENROLMENT_TOKEN_USED"
