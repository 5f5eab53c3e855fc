"""What QXtend's answers mean, and that whatever is answered gives rows or one of our errors, in bounds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad.qxtend import SOAP
from airflow_provider_qadzd.qad.qxtend_answer import NESTED, AnswerReader, Fields, Shape, root_part
from airflow_provider_qadzd.qad.qxtend_settings import COMMON, SERVICES

FACTS = Facts(system="qad", method="POST", path="/qxi")
CUSTOMERS = Shape("customer", "customer", result=f"{{{SERVICES}}}result")
CONTACTS = Shape("customer", "customer", nested="contact", result=f"{{{SERVICES}}}result")


def answer(inner: str, result: str = "success", exceptions: str = "", declaration: str = "") -> bytes:
    """An answer of QXtend with `inner` where the rows are."""
    told = f'<c:dsExceptions xmlns:c="{COMMON}">{exceptions}</c:dsExceptions>' if exceptions else ""
    return (
        f'{declaration}<s:Envelope xmlns:s="{SOAP}"><s:Body><n:xResponse xmlns:n="{SERVICES}">'
        f"<n:result>{result}</n:result>{told}<n:ds>{inner}</n:ds></n:xResponse></s:Body></s:Envelope>"
    ).encode()


def message(number: str, severity: str = "", text: str = "secret text") -> str:
    """One entry of dsExceptions."""
    return (
        f"<c:temp_err_msg><c:tt_msg_desc>{text}</c:tt_msg_desc><c:tt_msg_field>tt_domain</c:tt_msg_field>"
        f"<c:tt_msg_nbr>{number}</c:tt_msg_nbr><c:tt_msg_sev>{severity}</c:tt_msg_sev></c:temp_err_msg>"
    )


def fault(code: str, text: str = "secret text") -> bytes:
    """A SOAP fault."""
    told = f"<faultcode>{code}</faultcode><faultstring>{text}</faultstring>"
    return f'<e:Envelope xmlns:e="{SOAP}"><e:Body><e:Fault>{told}</e:Fault></e:Body></e:Envelope>'.encode()


def read(body: bytes, shape: Shape = CUSTOMERS, chunk: int = 7, **options: Any) -> tuple[list[Fields], AnswerReader]:
    """The rows of an answer that comes in small pieces."""
    reader, rows = AnswerReader(shape, FACTS, "connection qad_qxtend", **options), list[Fields]()
    for start in range(0, len(body), chunk):
        rows += reader.feed(body[start : start + chunk])
    return rows + reader.close(), reader


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
@pytest.mark.parametrize("prefix", ["n:", "", "other:"], ids=["one prefix", "none", "another"])
def test_rows_are_found_by_namespace_whatever_the_prefix(prefix: str, chunk: int) -> None:
    """Prefixes and the pieces that an answer comes in make no difference."""
    space = f'xmlns:{prefix[:-1]}="{SERVICES}"' if prefix else f'xmlns="{SERVICES}"'
    row = f"<{prefix}customer {space}><{prefix}cmAddr>C1</{prefix}cmAddr><{prefix}adLine2/></{prefix}customer>"
    rows, reader = read(answer(row * 3), chunk=chunk)
    assert rows == [{"customer.cmAddr": "C1", "customer.adLine2": None}] * 3
    assert (reader.rows, reader.warnings, reader.more) == (3, [], None)


def test_a_namespace_in_the_setting_is_kept_to() -> None:
    """`{namespace}name` takes only that namespace's rows; a local name takes any."""
    rows = f'<n:customer><n:a>1</n:a></n:customer><customer xmlns="urn:x"><a>2</a></customer><z:c xmlns:z="{COMMON}"/>'
    assert [row["customer.a"] for row in read(answer(rows))[0]] == ["1", "2"]
    strict = Shape("customer", "{urn:x}customer", result=CUSTOMERS.result)
    assert [row["customer.a"] for row in read(answer(rows), strict)[0]] == ["2"]


def test_contacts_within_a_customer_come_with_its_fields() -> None:
    """Each contact is one record that knows its customer; a customer without contacts is a row without records."""
    inner = (
        "<n:customer><n:cmAddr>C1</n:cmAddr><n:people><n:contact><n:Name>A</n:Name></n:contact>"
        "<n:contact><n:Name>B</n:Name></n:contact></n:people></n:customer>"
        "<n:customer><n:cmAddr>C2</n:cmAddr></n:customer>"
    )
    rows, reader = read(answer(inner), CONTACTS)
    assert [(row["customer.cmAddr"], row["contact.Name"]) for row in rows] == [("C1", "A"), ("C1", "B")]
    assert (reader.rows, reader.last) == (2, {"customer.cmAddr": "C2"})


def test_an_attachment_or_a_nested_element_is_not_blank() -> None:
    """A value that cannot be read as text must not look like one that is empty."""
    inner = '<n:customer><n:a><x:Include xmlns:x="urn:xop" href="cid:1"/></n:a><n:b/></n:customer>'
    assert read(answer(inner))[0] == [{"customer.a": NESTED, "customer.b": None}]


def test_of_an_element_that_repeats_the_first_counts() -> None:
    """QAD sends arrays as repeated elements."""
    inner = "<n:customer><n:a>1</n:a><n:a>2</n:a></n:customer>"
    assert read(answer(inner))[0] == [{"customer.a": "1"}]


@pytest.mark.parametrize("chunk", [1, 100_000])
def test_a_field_may_be_called_like_its_row_or_like_the_result(chunk: int) -> None:
    """Only what is not within a row is a row, or says something about the answer."""
    inner = "<n:customer><n:customer>C1</n:customer><n:result>error</n:result><n:b>2</n:b></n:customer>"
    expected = {"customer.customer": "C1", "customer.result": "error", "customer.b": "2"}
    assert read(answer(inner), chunk=chunk)[0] == [expected]


def test_text_in_pieces_is_one_text() -> None:
    """Character data, CDATA, references and comments between them are one value."""
    inner = "<n:customer><n:a>A &amp; <![CDATA[<B>]]><!-- no -->&#233;</n:a></n:customer>"
    assert read(answer(inner), chunk=3)[0] == [{"customer.a": "A & <B>é"}]


@pytest.mark.parametrize(
    ("encoding", "declared", "charset"),
    [
        pytest.param("utf-8", "", "", id="nothing said"),
        pytest.param("utf-8", "UTF-8", "iso-8859-1", id="the declaration knows better"),
        pytest.param("iso-8859-1", "ISO-8859-1", "", id="declared"),
        pytest.param("iso-8859-1", "", "iso-8859-1", id="told by the header"),
        pytest.param("utf-16", "UTF-16", "", id="UTF-16"),
    ],
)
def test_the_encoding_is_what_is_said(encoding: str, declared: str, charset: str) -> None:
    """The XML declaration first, then the header's charset, then UTF-8."""
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = answer("<n:customer><n:a>Åkesson</n:a></n:customer>", declaration=declaration).decode()
    assert read(text.encode(encoding), charset=charset)[0] == [{"customer.a": "Åkesson"}]


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        pytest.param(answer("", "error", message("6135")), FixFirst, "6135", id="error"),
        pytest.param(answer("", "error"), FixFirst, "", id="error without a message"),
        pytest.param(answer("", "success", message("6135", "error")), FixFirst, "6135", id="success with an error"),
        pytest.param(answer("", "success", message("OE-1422")), FixFirst, "OE-1422", id="no severity is an error"),
        pytest.param(answer("", "error", message("TransactionException002")), FixFirst, "TransactionException002",
                     id="bad routing"),
        pytest.param(answer("", "error", message("ProcessException001")), TryLater, "ProcessException001", id="001"),
        pytest.param(answer("", "error", message("ProcessException009")), TryLater, "ProcessException009", id="009"),
        pytest.param(fault("e:Client"), FixFirst, "Client", id="Client"),
        pytest.param(fault("Client.Authentication"), FixFirst, "Client.Authentication", id="a refined Client"),
        pytest.param(fault("e:Server"), TryLater, "Server", id="Server"),
        pytest.param(fault("e:Server.Busy"), TryLater, "Server.Busy", id="a refined Server"),
        pytest.param(fault("e:VersionMismatch"), FixFirst, "VersionMismatch", id="VersionMismatch"),
        pytest.param(fault("e:MustUnderstand"), FixFirst, "MustUnderstand", id="MustUnderstand"),
        pytest.param(fault("e:Client", "ProcessException009"), TryLater, "ProcessException009", id="009 in a fault"),
    ],
)  # fmt: skip
def test_errors_are_named_by_what_to_do_and_hold_no_text(body: bytes, error: type[QadzdError], code: str) -> None:
    """What QAD says is classified by its codes; its texts, which may hold anything, stay behind."""
    with pytest.raises(error) as caught:
        read(body)
    assert caught.value.facts.code == code
    assert "secret" not in f"{caught.value!r}"
    assert caught.value.advice


def test_what_is_no_code_is_not_told() -> None:
    """A text where a number should be stays behind."""
    with pytest.raises(FixFirst) as caught:
        read(answer("", "error", message("Customer Smith owes 3")))
    assert "Smith" not in f"{caught.value!r}"


def test_warnings_are_kept_with_their_rows() -> None:
    """A warning has rows, and its number is known; what is only informational is none."""
    messages = message("6027", "warning") + message("1", "informational")
    rows, reader = read(answer("<n:customer/>", "warning", messages))
    assert (len(rows), reader.warnings) == (1, ["6027"])
    assert read(answer("<n:customer/>", "success", message("6027", "WARNING")))[1].warnings == ["6027"]
    assert read(answer("<n:customer/>", "warning"))[1].warnings == ["warning"]


def test_an_answer_without_a_result_is_not_believed() -> None:
    """Nothing else says that the call went well; a service that has none is configured so."""
    body = answer("<n:customer/>", "maybe")
    with pytest.raises(FixFirst, match="an unknown result"):
        read(body)
    assert len(read(body, Shape("customer", "customer"))[0]) == 1


def test_more_is_what_the_service_says() -> None:
    """`more_element` is true or false; without it nothing is known."""
    shape = Shape("customer", "customer", result=CUSTOMERS.result, more="hasMore")
    assert read(answer("<n:hasMore>true</n:hasMore>"), shape)[1].more is True
    assert read(answer("<n:hasMore>false</n:hasMore>"), shape)[1].more is False
    assert read(answer(""), shape)[1].more is None
    assert read(answer("<n:hasMore/>"), shape)[1].more is None
    with pytest.raises(FixFirst, match="hasMore is neither true nor false"):
        read(answer("<n:hasMore>perhaps</n:hasMore>"), shape)


def test_an_answer_without_rows_tells_its_elements() -> None:
    """So that a mistyped row_element can be found."""
    assert "ttCustomer" in read(answer("<n:ttCustomer/>"))[1].names


LAUGHS = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(answer("", declaration="<!DOCTYPE e>"), "document type", id="a document type"),
        pytest.param(
            answer("<n:customer><n:a>&x;</n:a></n:customer>", declaration='<!DOCTYPE e [<!ENTITY x "y">]>'),
            "document type", id="an entity",
        ),
        pytest.param(
            answer("", declaration='<!DOCTYPE e SYSTEM "file:///etc/passwd">'), "document type", id="an external DTD"
        ),
        pytest.param(answer("&j;", declaration=f"{LAUGHS}]>"), "document type", id="a billion laughs"),
        pytest.param(answer("<a>" * 300 + "</a>" * 300), "nested too deeply", id="depth"),
        pytest.param(answer(f"<n:customer><n:a>{'x' * 9_000_000}"), "MiB of it hold no row", id="one huge text"),
        pytest.param(answer(f"<{'n' * 60_000}/>"), "too large", id="one huge name"),
        pytest.param(answer("<n:junk/>" * 1_000_000), "MiB of it hold no row", id="endless junk between rows"),
        pytest.param(answer("<n:customer/>" * 100_000), "larger than 1 MiB", id="more than is allowed"),
    ],
)  # fmt: skip
def test_hostile_answers_are_refused_cheaply(body: bytes, told: str) -> None:
    """Refused by name, and nothing of it is expanded or fetched."""
    with pytest.raises(FixFirst, match=told):
        read(body, chunk=65_536, max_megabytes=1 if "1 MiB" in told else 1024)


def test_what_is_read_is_let_go() -> None:
    """After many rows, each in a wrapper of its own, the parser holds but a few elements."""
    reader = AnswerReader(CUSTOMERS, FACTS, "here")
    head, tail = answer("|").split(b"|")
    reader.feed(head)
    for _ in range(200):
        reader.feed(b"<n:item><n:customer><n:a>1</n:a></n:customer></n:item>" * 50)
    assert reader.rows == 10_000
    reader.feed(tail)
    assert reader._parser
    assert sum(1 for _ in reader._parser.close().iter()) < 100


# --- MTOM ---


def packed(parts: list[tuple[str, bytes]], boundary: str = "=_B:1") -> bytes:
    """A multipart body of (headers, content)."""
    told = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts)
    return told + f"--{boundary}--\r\n".encode()


def unpacked(body: bytes, kind: str, chunk: int = 5) -> bytes:
    """The root part of a multipart answer that comes in small pieces."""
    part, _ = root_part({"content-type": kind}, FACTS)
    assert part
    found = b"".join(part.feed(body[start : start + chunk]) for start in range(0, len(body), chunk))
    part.close()
    return found


KIND = 'multipart/related; type="application/xop+xml"; start="<r>"; boundary="=_B:1"'


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_the_root_part_is_found_wherever_it_stands(chunk: int) -> None:
    """By `start`, else the first; attachments pass by."""
    parts = [("Content-ID: <log>", b"\0\r\n--=_B"), ("Content-ID: <r>", b"<a>\r\n</a>")]
    assert unpacked(packed(parts), KIND, chunk) == b"<a>\r\n</a>"
    assert unpacked(packed(parts[::-1]), 'multipart/related; boundary="=_B:1"', chunk) == b"<a>\r\n</a>"


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        pytest.param(packed([("Content-ID: <r>", b"<a/>")])[:-12], KIND, TryLater, id="cut off"),
        pytest.param(packed([("Content-ID: <x>", b"<a/>")]), KIND, TryLater, id="no root part"),
        pytest.param(b"no multipart at all", KIND, TryLater, id="something else"),
        pytest.param(b"", KIND, TryLater, id="nothing"),
        pytest.param(b"", "multipart/related", FixFirst, id="no boundary"),
        pytest.param(
            packed([("Content-ID: <r>\r\nContent-Transfer-Encoding: base64", b"PGEvPg==")]), KIND, FixFirst, id="base64"
        ),
    ],
)
def test_a_broken_multipart_answer_is_one_of_our_errors(body: bytes, kind: str, error: type[QadzdError]) -> None:
    """It never counts as an answer without rows."""
    with pytest.raises(error):
        unpacked(body, kind)


# --- Whatever comes ---

SCRAPS = [
    b"<n:customer>", b"</n:customer>", b"<n:cmAddr>C1</n:cmAddr>", b"<n:contact>", b"</n:contact>", b"<n:result>error",
    b"</n:result>", b"<!DOCTYPE x>", b"<!ENTITY", b"&amp;", b"&x;", b"]]>",
    b"<![CDATA[", b"<!--", b"-->", b"<?pi ?>",
    b"\xff\xfe", b"\0", b"<s:Fault>", b"</s:Fault>", b"<n:hasMore>", b"--=_B:1\r\n", b"--=_B:1--", b"\r\n\r\n",
    b"<", b">",
]  # fmt: skip
HEAD, TAIL = answer("|").split(b"|")
BYTES = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(SCRAPS), max_size=12).map(lambda parts: HEAD + b"".join(parts) + TAIL),
    st.tuples(st.binary(max_size=6), st.integers(0, len(HEAD + TAIL))).map(
        lambda cut: (HEAD + TAIL)[: cut[1]] + cut[0] + (HEAD + TAIL)[cut[1] :]
    ),
)


@settings(max_examples=300, deadline=None)
@given(body=BYTES, chunk=st.integers(1, 64), charset=st.sampled_from(["", "utf-8", "no-such", "utf-16", "\x00"]))
@example(body=b"", chunk=1, charset="")
@example(body=HEAD[:-1], chunk=1, charset="")
def test_any_bytes_give_rows_or_one_of_our_errors(body: bytes, chunk: int, charset: str) -> None:
    """Never another exception, whatever comes in whatever pieces."""
    for shape in (CUSTOMERS, CONTACTS):
        try:
            rows, _ = read(body, shape, chunk, charset=charset)
        except QadzdError:
            continue
        assert all(isinstance(name, str) and "." in name for row in rows for name in row)


@settings(max_examples=100, deadline=None)
@given(
    body=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(SCRAPS), max_size=10).map(b"".join)),
    kind=st.one_of(st.just(KIND), st.text(max_size=60).map(lambda text: f"multipart/related; boundary={text}")),
    chunk=st.integers(1, 50),
)
def test_any_multipart_gives_a_part_or_one_of_our_errors(body: bytes, kind: str, chunk: int) -> None:
    """Headers and bodies of whatever make."""
    with suppress(QadzdError):
        unpacked(body, kind, chunk)
