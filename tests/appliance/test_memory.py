"""HAProxy's memory, before a stand-in worker: what is kept, for whom, and what is forgotten."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from entrepot.edge.cache_epoch import CacheEpoch
from tests.appliance.front import Answer, Front, eventually, worker
from tests.appliance.standin import Worker

FROM_MEMORY = "entrepot; hit; detail=memory"
ALICE = "Authorization: Basic YWxpY2U6c2VzYW1l"
CAROL = "Authorization: Basic Y2Fyb2w6c2VzYW1l"
BOB = "Authorization: Basic Ym9iOmJ1aWxkZXI="
SOME, OTHER = "1.2.3.1", "1.2.4.1"

_numbers = count()


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def behind(run: Path) -> Iterator[Worker]:
    """Return the worker, which says what a test tells it to."""
    with worker(run, 1) as started:
        yield started


@pytest.fixture(scope="module")
def before(run: Path, behind: Worker) -> Iterator[Front]:
    """Return HAProxy before the worker."""
    assert behind.seen == []
    with Front(run, 1) as started:
        yield started


@pytest.fixture
def front(before: Front, behind: Worker) -> Front:
    """Return HAProxy before a worker that allows everything to be kept."""
    behind.seen.clear()
    behind.headers = {
        "X-Entrepot-Generation": CacheEpoch(before.run).now(),
        "X-Entrepot-Keep": "60",
        "X-Entrepot-Repository": "one.test/app",
        "X-Entrepot-Kind": "manifest",
        "Docker-Content-Digest": "sha256:abc",
        "ETag": '"sha256:abc"',
        "Cache-Status": "entrepot; hit",
    }
    return before


@pytest.fixture
def path() -> str:
    """Return a path that nobody asked for before."""
    return f"/v2/one.test/app/manifests/{next(_numbers)}"


def remembers(answer: Answer) -> bool:
    """Whether an answer came from memory."""
    assert answer.status in (200, 304)
    return answer.headers["cache-status"] == FROM_MEMORY


def login(front: Front, behind: Worker, credential: str, rights: str = SOME) -> None:
    """Have a credential remembered with these rights."""
    behind.headers["X-Entrepot-Rights"] = rights
    front.ask("/v2/", credential)
    del behind.headers["X-Entrepot-Rights"]


def test_what_may_be_kept_is_asked_for_once(front: Front, behind: Worker, path: str) -> None:
    """The second answer is the first one's headers and body, and says where it came from."""
    first, second = front.ask(path), front.ask(path)

    assert [f"GET {path}"] == behind.seen
    assert (first.headers["cache-status"], remembers(second)) == ("entrepot; hit", True)
    assert second.body == first.body
    without = {"cache-status", "age", "connection"}
    assert {k: v for k, v in first.headers.items() if k not in without} == {
        k: v for k, v in second.headers.items() if k not in without
    }
    assert not [name for name in second.headers if name.startswith("x-entrepot-")]
    assert "cache-control" not in second.headers


def test_an_answer_from_memory_is_a_line_like_any_other(front: Front, path: str) -> None:
    """Digest, repository and kind are told to the log; nothing of it lies in the URI."""
    front.ask(path)
    front.ask(path)

    lines = eventually(lambda: front.lines(path)[1:] and front.lines(path))
    assert [line.cache for line in lines] == ["entrepot; hit", FROM_MEMORY]
    assert {(line.digest, line.repository, line.kind) for line in lines} == {
        ("sha256:abc", "one.test/app", "manifest")
    }


def test_head_is_answered_by_what_a_get_has_left(front: Front, path: str) -> None:
    """The length is told, and no body comes; a HEAD itself leaves nothing."""
    assert not remembers(front.ask(path, method="HEAD"))
    got = front.ask(path)
    answer = front.ask(path, method="HEAD")

    assert remembers(answer)
    assert (answer.headers["content-length"], answer.body) == (str(len(got.body)), b"")


def test_who_has_it_is_told_so(front: Front, path: str) -> None:
    """If-None-Match is answered 304."""
    front.ask(path)

    answer = front.ask(path, 'If-None-Match: "sha256:abc"')
    assert (remembers(answer), answer.status, answer.body) == (True, 304, b"")


def test_a_range_is_the_workers_business(front: Front, behind: Worker, path: str) -> None:
    """Memory would send all of it."""
    front.ask(path)

    assert not remembers(front.ask(path, "Range: bytes=1-2"))
    assert len(behind.seen) == 2


@pytest.mark.parametrize(
    "change",
    [{"X-Entrepot-Keep": ""}, {"X-Entrepot-Generation": "0000000000"}],
    ids=["nobody allows it", "of another generation"],
)
def test_what_may_not_be_kept_is_not(
    front: Front, behind: Worker, path: str, change: dict[str, str]
) -> None:
    """It needs the worker's leave, given in the generation that the request was looked up in."""
    behind.headers = {k: v for k, v in (behind.headers | change).items() if v}
    front.ask(path)

    assert not remembers(front.ask(path))


def test_an_answer_without_a_generation_is_not_kept(
    front: Front, behind: Worker, path: str
) -> None:
    """A worker that can't say what it knew is not believed."""
    del behind.headers["X-Entrepot-Generation"]
    front.ask(path)

    assert not remembers(front.ask(path))


def test_a_new_generation_has_forgotten_everything(front: Front, behind: Worker, path: str) -> None:
    """Once `rise` has returned nothing older is found, neither answers nor credentials."""
    front.ask(path)
    login(front, behind, ALICE)
    generation = CacheEpoch(front.run)

    generation.increment()
    assert not remembers(front.ask(path))
    assert "x-entrepot-verified" not in _told(front, path, ALICE)
    behind.headers["X-Entrepot-Generation"] = generation.now()
    front.ask(path)
    assert remembers(front.ask(path))


def test_the_age_goes_on_from_the_workers(front: Front, behind: Worker, path: str) -> None:
    """A tag that was confirmed 40 s ago is not young again because it was remembered."""
    behind.headers |= {"Age": "40", "X-Entrepot-Keep": "20"}

    assert front.ask(path).headers["age"] == "40"
    again = front.ask(path)
    assert remembers(again)
    assert int(again.headers["age"]) in (40, 41, 42)


def test_a_blob_may_be_kept_by_clients_longer_than_by_us(
    front: Front, behind: Worker, path: str
) -> None:
    """Cache-Control is the worker's, from memory too."""
    behind.headers["Cache-Control"] = "max-age=31536000"
    front.ask(path)

    answer = front.ask(path)
    assert remembers(answer)
    assert answer.headers["cache-control"] == "max-age=31536000"


def _told(front: Front, path: str, *headers: str) -> dict[str, str]:
    """Return what the worker was told, by a request that memory does not answer."""
    answer = front.ask(path, *headers, "Range: bytes=0-")
    return dict(json.loads(answer.body))


def test_a_credential_is_looked_at_once(front: Front, behind: Worker, path: str) -> None:
    """From then on the worker is told in which generation it is known; Authorization stays."""
    assert "x-entrepot-verified" not in _told(front, path, ALICE)
    login(front, behind, ALICE)

    told = _told(front, path, ALICE)
    assert told["x-entrepot-verified"] == CacheEpoch(front.run).now()
    assert f"Authorization: {told['authorization']}" == ALICE
    assert told["host"] == "localhost"


def test_another_password_is_another_credential(front: Front, behind: Worker, path: str) -> None:
    """What is remembered is the whole header: the user's name alone opens nothing."""
    login(front, behind, ALICE)

    assert "x-entrepot-verified" not in _told(front, path, "Authorization: Basic YWxpY2U6Z3Vlc3M=")


def test_a_verdict_of_another_generation_is_not_remembered(
    front: Front, behind: Worker, path: str
) -> None:
    """A worker that has not seen the new password file yet can't let the old password in."""
    behind.headers["X-Entrepot-Generation"] = "0000000000"
    login(front, behind, BOB)

    assert "x-entrepot-verified" not in _told(front, path, BOB)


@pytest.mark.parametrize(
    ("other", "shares"),
    [((CAROL, SOME), True), ((BOB, OTHER), False), (None, False)],
    ids=["with the same rights", "with other rights", "nobody"],
)
def test_memory_is_shared_by_who_has_the_same_rights(
    front: Front, behind: Worker, path: str, other: tuple[str, str] | None, *, shares: bool
) -> None:
    """And by nobody else."""
    CacheEpoch(front.run).increment()
    behind.headers["X-Entrepot-Generation"] = CacheEpoch(front.run).now()
    login(front, behind, ALICE, SOME)
    if other:
        login(front, behind, *other)
    front.ask(path, ALICE)

    assert remembers(front.ask(path, ALICE))
    assert remembers(front.ask(path, *(other or ())[:1])) is shares


def test_a_credential_that_nobody_looked_at_gets_nothing_from_memory(
    front: Front, path: str
) -> None:
    """Not even what anybody may have: the worker decides, and it may say 401."""
    front.ask(path)

    assert not remembers(front.ask(path, "Authorization: Basic eDp5"))


@pytest.mark.parametrize(
    "spelled",
    [
        "GET {path} HTTP/1.1\r\nHost: 1-2-3-1.{generation}\r\n",
        "GET http://1-2-3-1.{generation}{path} HTTP/1.1\r\nHost: 1-2-3-1.{generation}\r\n",
        "GET https://1-2-3-1.{generation}{path} HTTP/1.1\r\nHost: 1-2-3-1.{generation}\r\n",
        "GET http://x@1-2-3-1.{generation}{path} HTTP/1.1\r\nHost: x@1-2-3-1.{generation}\r\n",
        "GET {path} HTTP/1.1\r\nHost: 1-2-3-1.{generation}@\r\n",
        "GET http://1-2-3-1.{generation}@{path} HTTP/1.1\r\nHost: 1-2-3-1.{generation}@\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Entrepot-Verified: {generation}\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Entrepot-Rights: 1.2.3.1\r\n",
    ],
    ids=[
        *("as host", "as authority", "with TLS", "with a user", "as a user", "as an authority's"),
        *("verified", "with rights"),
    ],
)
def test_nobody_can_spell_somebody_elses_key(
    front: Front, behind: Worker, path: str, spelled: str
) -> None:
    """Host and the URI's authority are the client's to choose, the key is not."""
    login(front, behind, ALICE)
    generation = CacheEpoch(front.run).now()
    for form in (path, f"http://localhost{path}"):
        front.ask(form, ALICE)
        assert remembers(front.ask(form, ALICE))

    said = spelled.format(path=path, generation=generation) + "Connection: close\r\n\r\n"
    answer = front.say(said.encode())
    assert answer.status == 400 or not remembers(answer)


def test_every_spelling_of_our_name_shares_one_memory(front: Front, path: str) -> None:
    """A host has many names, an answer has none."""
    front.ask(path)

    said = f"GET {path} HTTP/1.1\r\nHost: other.test:5000\r\nConnection: close\r\n\r\n"
    assert remembers(front.say(said.encode()))


def test_the_user_in_the_log_is_who_asked(front: Front, behind: Worker, path: str) -> None:
    """Not the one whose answer it was that memory kept."""
    login(front, behind, ALICE, SOME)
    login(front, behind, CAROL, SOME)
    behind.headers["X-Entrepot-User"] = "alice"
    front.ask(path, ALICE)
    front.ask(path, CAROL)

    lines = eventually(lambda: front.lines(path)[1:] and front.lines(path))
    assert [(line.user, line.cache) for line in lines] == [
        ("alice", "entrepot; hit"),
        ("carol", FROM_MEMORY),
    ]


def test_many_guesses_are_marked_and_nothing_else_is(
    front: Front, behind: Worker, path: str
) -> None:
    """By address and user. A worker checks them behind all others; no right password is refused."""
    login(front, behind, "Authorization: Basic bWFyeTpyaWdodA==")  # mary:right
    guess = "Authorization: Basic bWFyeTp3cm9uZw=="  # mary:wrong
    guesses = [threading.Thread(target=front.ask, args=("/status/401", guess)) for _ in range(62)]
    for each in guesses:
        each.start()
    for each in guesses:
        each.join()

    def marked(authorization: str) -> list[str]:
        got = json.loads(front.ask("/echo", authorization).body)
        return [value for name, value in got if name == "x-entrepot-guesses"]

    assert marked(guess) == ["many"]
    assert marked("Authorization: Basic bWFyeTphZ2Fpbg==") == ["many"]
    assert marked("Authorization: Basic bWFyeTpyaWdodA==") == []
    assert marked("Authorization: Basic bm9yYTp3cm9uZw==") == []
    assert front.ask(path, "Authorization: Basic bWFyeTpyaWdodA==").status == 200


def test_wrong_passwords_where_none_is_needed_are_guesses_too(front: Front, behind: Worker) -> None:
    """Strangers may pull: whoever sends a wrong password there finds out as much as by a 401."""
    wrong = "Authorization: Basic a2F0ZTp3cm9uZw=="  # kate:wrong
    behind.headers["X-Entrepot-Mistaken"] = "1"
    for _ in range(61):
        answer = front.ask("/status/200", wrong)
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("x-entrepot")]
    del behind.headers["X-Entrepot-Mistaken"]

    got = json.loads(front.ask("/echo", "Authorization: Basic a2F0ZTpvdGhlcg==").body)
    assert ["x-entrepot-guesses", "many"] in got


def test_the_first_wrong_passwords_reach_the_worker(front: Front, behind: Worker) -> None:
    """Who mistypes is told so, as often as people do."""
    typo = "Authorization: Basic YW5uYTpvb3Bz"

    assert [front.ask("/status/401", typo).status for _ in range(5)] == [401] * 5
    assert behind.seen == ["GET /status/401"] * 5


def test_haproxy_starts_with_the_number_that_is_in_force() -> None:
    """What rose while HAProxy was away is not below what it begins with."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, worker(Path(folder), 1) as behind:
        with Front(Path(folder), 1):
            generation = CacheEpoch(Path(folder))
        generation.increment()
        behind.headers = {"X-Entrepot-Generation": generation.now(), "X-Entrepot-Keep": "60"}
        behind.headers |= {"ETag": '"x"', "Cache-Status": "entrepot; hit"}

        with Front(Path(folder), 1) as again:
            again.ask("/v2/")
            assert remembers(again.ask("/v2/"))
