"""What is remembered of calls that name an idempotency key, and for how long."""

from pareta_agent.gateway.admission.idempotency import LARGEST_BYTES, MOST, CachedAnswer, IdempotencyCache


class Clock:
    now_s = 100.0

    def mono_s(self) -> float:
        return self.now_s


def replays(max_bytes: int = 1000, ttl_s: float = 60.0) -> tuple[IdempotencyCache, Clock]:
    clock = Clock()
    return IdempotencyCache(max_bytes, ttl_s, clock), clock


def ask(store: IdempotencyCache, key: str = "a", digest: bytes = b"1") -> str:
    """What a call under this key meets: run, the document, or the code of its refusal."""
    found = store.begin((key,), digest, "req")
    if not isinstance(found, CachedAnswer):
        return found.code
    return "run" if found.document is None else found.document.decode()


def test_a_key_runs_once_and_is_then_answered():
    """In flight it is refused, completed it is the document, as often as it is asked."""
    store, _ = replays()
    assert [ask(store), ask(store)] == ["run", "idempotency_in_flight"]
    store.answered(("a",), b"doc")
    assert [ask(store), ask(store)] == ["doc", "doc"]


def test_another_body_is_another_request():
    """Whether the first still runs or was answered."""
    store, _ = replays()
    ask(store)
    assert ask(store, digest=b"2") == "idempotency_mismatch"
    store.answered(("a",), b"doc")
    assert ask(store, digest=b"2") == "idempotency_mismatch"


def test_what_failed_may_be_tried_again():
    """It cost nothing; another body may have the key then."""
    store, _ = replays()
    ask(store)
    store.failed(("a",))
    assert ask(store, digest=b"2") == "run"


def test_what_is_not_kept_is_known_to_have_been_answered():
    """A stream, a document that is too large, and the oldest of too many bytes."""
    store, _ = replays(max_bytes=10)
    for key, document in (
        ("stream", None),
        ("large", b"x" * (LARGEST_BYTES + 1)),
        ("old", b"x" * 6),
        ("new", b"y" * 6),
    ):
        ask(store, key)
        store.answered((key,), document)
    assert [ask(store, key) for key in ("stream", "large", "old")] == ["idempotency_not_kept"] * 3
    assert ask(store, "new") == "y" * 6


def test_answers_are_forgotten_after_their_time():
    """And their bytes make room; what runs is not forgotten."""
    store, clock = replays(max_bytes=10)
    ask(store, "old")
    store.answered(("old",), b"x" * 10)
    ask(store, "running")
    clock.now_s += 61
    assert [ask(store, "old"), ask(store, "running")] == ["run", "idempotency_in_flight"]
    store.answered(("old",), b"z" * 10)
    assert ask(store, "old") == "z" * 10


def test_there_are_never_more_than_so_many():
    """The oldest go."""
    store, _ = replays()
    for n in range(MOST + 1):
        ask(store, str(n))
        store.answered((str(n),), None)
    assert [ask(store, "0"), ask(store, "1")] == ["run", "idempotency_not_kept"]
