import pytest

from simulations.registers import Kind, Operation, Registers, carry_out, encode_operation


def operation(kind: Kind, word: str = "x", expected: str = "", request: str = "r1") -> Operation:
    return Operation(request=request, key="k", kind=kind, word=word, expected=expected)


@pytest.mark.parametrize(
    ("before", "wanted", "after", "is_done"),
    [
        ("a", operation(Kind.READ), "a", True),
        ("a", operation(Kind.WRITE), "x", True),
        ("", operation(Kind.APPEND), "x", True),
        ("a", operation(Kind.APPEND), "a x", True),
        ("a", operation(Kind.SWAP, expected="a"), "x", True),
        ("b", operation(Kind.SWAP, expected="a"), "b", False),
    ],
)
def test_an_operation_does_what_it_says(before: str, wanted: Operation, after: str, is_done: bool) -> None:
    outcome = carry_out(before, wanted)
    assert (outcome.value, outcome.is_done) == (after, is_done)


def test_a_request_is_carried_out_once() -> None:
    registers = Registers()
    payload = encode_operation(operation(Kind.APPEND))
    assert registers.apply(payload) == registers.apply(payload)
    assert registers.read("k") == "x"


def test_a_snapshot_holds_values_requests_and_digest() -> None:
    registers = Registers()
    registers.apply(encode_operation(operation(Kind.APPEND)))
    copy = Registers.decode(registers.encode())
    assert (copy.values, copy.answers, copy.digest) == (registers.values, registers.answers, registers.digest)


def test_the_digest_depends_on_the_order() -> None:
    first, second = Registers(), Registers()
    payloads = [encode_operation(operation(Kind.WRITE, word, request=word)) for word in ("x", "y")]
    for payload in payloads:
        first.apply(payload)
    for payload in reversed(payloads):
        second.apply(payload)
    assert first.digest != second.digest
