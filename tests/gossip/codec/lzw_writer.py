"""LZW as Go writes it, to have something to read: the product only reads."""


def compress(data: bytes) -> bytes:
    """`data` in codes of 9 to 12 bits, least significant first, with a clear when the table is full."""
    bits = held = 0
    out = bytearray()

    def put(code: int, width: int) -> None:
        nonlocal bits, held
        bits |= code << held
        held += width
        while held >= 8:
            out.append(bits & 0xFF)
            bits >>= 8
            held -= 8

    table = {bytes((value,)): value for value in range(256)}
    width, high = 9, 257
    word = b""
    put(256, width)
    for value in data:
        longer = word + bytes((value,))
        if longer in table:
            word = longer
            continue
        put(table[word], width)
        high += 1
        if high == 1 << width:
            width += 1
        if high == 4095:
            put(256, min(width, 12))
            table = {bytes((one,)): one for one in range(256)}
            width, high = 9, 257
        else:
            table[longer] = high
        word = bytes((value,))
    if word:
        put(table[word], width)
        high += 1
        if high == 1 << width:
            width += 1
    put(257, min(width, 12))
    if held:
        out.append(bits & 0xFF)
    return bytes(out)
