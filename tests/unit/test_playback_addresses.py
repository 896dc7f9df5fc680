from __future__ import annotations

from uuid import UUID

from echo_core.application.playback import PlaybackAddresses
from echo_core.domain.ids import UserId, new_video_id
from tests.fakes.api import OTHER, OWNER, FakeTokens


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_the_same_address_is_given_out_until_its_time_is_up() -> None:
    tokens, now, video_id = FakeTokens(), Now(), new_video_id()
    addresses = PlaybackAddresses(tokens, "http://echo.test", now, keep_s=60)
    first = addresses.posters(OWNER.id)(video_id)
    now.s = 59.9
    assert addresses.posters(OWNER.id)(video_id) == first
    assert addresses.token(OWNER.id, video_id) in first.replace("%3A", ":")
    assert tokens.minted == 1
    now.s = 60.0
    addresses.posters(OWNER.id)(video_id)
    assert tokens.minted == 2


def test_owners_never_share_an_address() -> None:
    addresses = PlaybackAddresses(FakeTokens(), "http://echo.test", Now(), keep_s=60)
    video_id = new_video_id()
    assert addresses.posters(OWNER.id)(video_id) != addresses.posters(OTHER.id)(video_id)


def test_what_is_kept_is_bounded() -> None:
    tokens = FakeTokens()
    addresses = PlaybackAddresses(tokens, "http://echo.test", Now(), keep_s=60, max_kept=3)
    owner = UserId(UUID(int=1))
    videos = [new_video_id() for _ in range(5)]
    for video_id in videos:
        addresses.token(owner, video_id)
    addresses.token(owner, videos[-1])
    assert tokens.minted == 5
    addresses.token(owner, videos[0])
    assert tokens.minted == 6
