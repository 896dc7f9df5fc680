from __future__ import annotations

import pytest

from echo_core.application.realtime_access import RefusedError, authenticate, issue_ticket
from echo_core.application.realtime_frames import ClientMessage, decoded
from tests.fakes.realtime import ManualClock, MemoryTickets, TableTokens, user

OWNER, STRANGER = user(1), user(2)
TOKENS = TableTokens({"good": OWNER, "other": STRANGER})


async def refusal(message: ClientMessage, tickets: MemoryTickets, user_id: str = str(OWNER.id)) -> int:
    with pytest.raises(RefusedError) as refused:
        await authenticate(message, user_id, tokens=TOKENS, tickets=tickets)
    return refused.value.close_code


async def test_token_of_the_user_in_the_path_is_accepted_in_any_case() -> None:
    message = ClientMessage(type="auth", token="good")
    tickets = MemoryTickets(ManualClock())
    assert await authenticate(message, str(OWNER.id).upper(), tokens=TOKENS, tickets=tickets) == OWNER


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (ClientMessage(type="auth", token="bad"), 4401),
        (ClientMessage(type="auth", ticket="never issued"), 4401),
        (ClientMessage(type="auth", token="other"), 4403),
        (ClientMessage(type="auth"), 4400),
        (ClientMessage(type="auth", token="good", ticket="both"), 4400),
        (ClientMessage(type="ping", token="good"), 4400),
    ],
)
async def test_everybody_else_is_refused(message: ClientMessage, code: int) -> None:
    assert await refusal(message, MemoryTickets(ManualClock())) == code


async def test_path_that_is_no_user_id_is_as_foreign_as_any_other() -> None:
    assert await refusal(ClientMessage(type="auth", token="good"), MemoryTickets(ManualClock()), "../etc") == 4403


async def test_ticket_opens_one_connection_and_no_second() -> None:
    clock = ManualClock()
    tickets = MemoryTickets(clock)
    ticket = await issue_ticket(tickets, OWNER, clock=clock, expires_in_s=30)
    message = ClientMessage(type="auth", ticket=ticket.ticket)
    assert await authenticate(message, str(OWNER.id), tokens=TOKENS, tickets=tickets) == OWNER
    assert await refusal(message, tickets) == 4401


async def test_ticket_expires() -> None:
    clock = ManualClock()
    tickets = MemoryTickets(clock)
    ticket = await issue_ticket(tickets, OWNER, clock=clock, expires_in_s=30)
    clock.advance(30)
    assert await refusal(ClientMessage(type="auth", ticket=ticket.ticket), tickets) == 4401


async def test_ticket_is_spent_by_a_foreign_path_too() -> None:
    clock = ManualClock()
    tickets = MemoryTickets(clock)
    ticket = await issue_ticket(tickets, OWNER, clock=clock, expires_in_s=30)
    message = ClientMessage(type="auth", ticket=ticket.ticket)
    assert await refusal(message, tickets, str(STRANGER.id)) == 4403
    assert await refusal(message, tickets) == 4401


async def test_store_does_not_see_the_ticket() -> None:
    clock = ManualClock()
    tickets = MemoryTickets(clock)
    ticket = await issue_ticket(tickets, OWNER, clock=clock, expires_in_s=30)
    assert ticket.ticket not in str(tickets.kept)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "auth",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"auth","lastEventId":-1}',
        '{"type":"auth","lastEventId":true}',
        '{"type":"auth","lastEventId":1.5}',
        '{"type":"auth","lastEventId":99999999999999999999}',
        "\ud800",
        "[" * 8000,
        '{"type":"ping","x":' + "[" * 8000,
    ],
)
def test_what_is_not_a_message_is_none(text: str) -> None:
    assert decoded(text) is None


def test_unknown_fields_are_ignored() -> None:
    assert decoded('{"type":"auth","token":"t","lastEventId":7,"new":[]}') == ClientMessage(
        type="auth", token="t", last_event_id=7
    )
