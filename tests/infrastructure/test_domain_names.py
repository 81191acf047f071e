"""Domain names in ASCII, by IDNA 2008."""

import pytest

from infrastructure.domain_names import to_ascii


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("Example.COM", "example.com"),
        ("my_host.example", "my_host.example"),
        ("example.com.", "example.com."),
        ("straße.de", "xn--strae-oqa.de"),
        ("STRAẞE.de", "xn--strae-oqa.de"),
        ("XN--STRAE-oqa.de", "xn--strae-oqa.de"),
        ("strasse.de", "strasse.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("bücher。example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com", "xn--mgba3gch31f060k.com"),
    ],
)
def test_name_has_one_form_in_ascii(name: str, encoded: str) -> None:
    assert to_ascii(name) == encoded
    assert to_ascii(encoded) == encoded


@pytest.mark.parametrize(
    "name", ["a..b", ".a", "a" * 64, "ü" * 64 + ".de", "i♥.example", "xn--.de", "xn--a.de", "ü..de", "\u0301a.de"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UnicodeError):
        to_ascii(name)
