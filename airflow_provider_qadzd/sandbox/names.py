"""Words for invented people and companies. Every mail domain ends in `.example`, which nobody can own."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from random import Random


def _words(text: str) -> list[str]:
    return text.split(", ")


FIRST = _words(
    "Priya, Åsa, José, Zoë, Łukasz, Renée, Søren, Ingrid, Mateo, Chloé, Björn, Aoife, Siobhán, Nuño, Jürgen, Anaïs, "
    "Tomáš, Elif, Kenji, Amara, Noah, Olivia, Ravi, Hannah, Dmitri, Fatima, Pedro, Grace, Viktor, Leila, Marek, "
    "Sofia, Owen, Yuki, Carla, Hugo, Nadia, Emil, Bea, Theo, Mina, Ivan, Rosa, Karl, Dina, Felix, Greta, Omar, "
    "Paula, Quentin"
)
LAST = _words(
    "Nair, Åkesson, O'Brien, Müller, García, Łukaszewicz, D'Angelo, Nguyễn, Sørensen, Dvořák, Çelik, Tanaka, "
    "Okafor, Smith, Laurent, Peña, Ó'Neill, Björklund, Kovács, Petrov, Haddad, Silva, Hughes, Novák, Rahimi, "
    "Wójcik, Rossi, Evans, Sato, Conti, Weber, Costa, Lind, Horváth, Moreau, Walsh, Jansen, Fischer, Ferreira, "
    "Brandt, Castillo, McKay, Bauer, Eriksson, Fontaine, Galli, Hofmann, Iversen, Jacobs, Keller"
)
PLACES = _words(
    "Northwind, Harrow, Brightwater, Ashford, Kestrel, Ironbridge, Falkirk, Redcar, Thornbury, Calder, Glenmoor, "
    "Sandviken, Österby, Norrköping, Málaga, Coimbra, Besançon, Tübingen, Göppingen, Białystok, Plzeň, Győr, "
    "Ostrava, Tampere, Aalborg, Drammen, Haarlem, Liège, Modena, Bergamo, Vigo, Setúbal, Akron, Dayton, Peoria, "
    "Moline, Rockford, Canton, Gary, Toledo, Leeds, Selkirk, Dunmore, Whitby, Penrith, Keswick, Alnwick, Skipton, "
    "Otley, Ripon"
)
TRADES = _words(
    "Pumps, Valves, Castings, Forgings, Bearings, Gears, Hydraulics, Fasteners, Tooling, Springs, Seals, Motors, "
    "Drives, Couplings, Pumps & Valves, Gears & Sons, Wire & Cable, Sheet Metal, Precision Parts, Plastics, "
    "Compressors, Filters, Conveyors, Boilers, Switchgear, Sensors, Robotics, Coatings, Instruments, Machine Works"
)
FORMS = ("Ltd", "AB", "GmbH", "S.A.", "Inc.", "B.V.", "S.p.A.", "Oy", "& Co.", "plc", "Kft", "Sp. z o.o.")
CITIES = (
    ("Leeds", "LS1 4AP", "GBR"),
    ("Göteborg", "411 04", "SWE"),
    ("Stuttgart", "70173", "DEU"),
    ("Lyon", "69002", "FRA"),
    ("Akron", "44308", "USA"),
    ("Rotterdam", "3011 AA", "NLD"),
    ("Bergamo", "24121", "ITA"),
    ("Vigo", "36201", "ESP"),
    ("Kraków", "31-042", "POL"),
    ("Aarhus", "8000", "DNK"),
)
STREETS = ("Foundry Way", "Station Road", "Canal Street", "Mill Lane", "Harbour Drive", "Industriegatan", "Werkstraße")
FUNCTIONS = ("Purchasing", "Quality", "Maintenance", "Accounts payable", "Logistics", "Engineering", "Production")
TITLES = ("Ms", "Mr", "Dr", "")
SUBJECTS = (
    "Order confirmation missing",
    "Seal kit leaks after 200 hours",
    "Wrong thread on the delivered fittings",
    "Need the certificate of conformity",
    "Delivery date moved again?",
    "Drawing revision C for part 40-118",
    "Bearing runs hot at 1,450 rpm",
    "Invoice address has changed",
    "Return of two pallets",
    "Spare parts for the old gearbox",
)
SENTENCES = (
    "We have received the goods but the packing list does not match what is on the pallet.",
    "The unit has been running in two shifts since March and shows no other fault.",
    "Could you please check the revision of the drawing and tell us which one applies?",
    "Our production stops on Thursday unless the replacement reaches us by then.",
    "I attach the measurements that our quality department has taken this morning.",
    "The part number on the label is 40-118-7, the one on the order is 40-118-9.",
    "Please let us know whom to talk to about the delivery schedule for next quarter.",
    "Many thanks for the quick answer last time; this one looks similar.",
)

FOOTER = (
    "\n\nKind regards\n\n--\nPlease consider the environment before printing this message. This message and any files "
    "sent with it are confidential and meant solely for the use of the person or company that they are addressed to. "
    "If you have received it in error, please tell the sender and delete it; you may not copy it, use it for any "
    "purpose, or disclose its contents to anybody else. Our general terms of purchase apply to all orders, as they "
    "stand on our website on the day of the order; terms of the supplier that differ from them are not accepted, even "
    "where we take goods without objection. Registered office, managing directors and the number in the commercial "
    "register are named on our letterhead and under the legal notice of our website."
)
"""What company mail ends with; it brings a ticket to the size of a real one."""


def ascii_slug(text: str) -> str:
    """Small letters, digits and hyphens only."""
    plain = unicodedata.normalize("NFKD", text.replace("ł", "l").replace("Ł", "L").replace("ø", "o").replace("ß", "ss"))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode().lower().replace("'", "")).strip("-")


def person(draw: Random) -> str:
    """A person's name."""
    return f"{draw.choice(FIRST)} {draw.choice(LAST)}"


def company(index: int) -> str:
    """The n-th company's name; no two are the same."""
    total = len(PLACES) * len(TRADES) * len(FORMS)
    turn, spot = divmod(index, total)
    trade_and_form, place = divmod(spot * 7919 % total, len(PLACES))
    form, trade = divmod(trade_and_form, len(TRADES))
    name = f"{PLACES[place]} {TRADES[trade]} {FORMS[form]}"
    return name if not turn else f"{name} ({turn + 1})"


@lru_cache(maxsize=4096)
def mailbox(name: str) -> str:
    """The part of an address before the @."""
    return ascii_slug(name).replace("-", ".")
