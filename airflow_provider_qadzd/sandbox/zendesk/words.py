"""The texts of errors in the language of the acting user: clients must go by codes, never by these.

https://developer.zendesk.com/api-reference/introduction/requests/
Spanish and Chinese texts were seen in the field, and details without their inner `error`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..web import Reply, encode

if TYPE_CHECKING:
    from ..state import Settings

LANGUAGES = ("en", "es", "zh")
SPOKEN = {
    "es": (
        ("Record validation errors", "Errores de validación del registro"),
        ("already been taken", "El valor ya está en uso"),
        ("already being used", "Otro usuario ya usa esta dirección"),
        ("already a member", "El usuario ya es miembro de esta organización"),
        ("not properly formatted", "El formato no es correcto"),
        ("cannot be blank", "No puede estar en blanco"),
        ("Not found", "No se ha encontrado"),
        ("", "No se puede procesar la solicitud"),
    ),
    "zh": (
        ("Record validation errors", "记录验证错误"),
        ("already been taken", "该值已被使用"),
        ("already being used", "该地址已被其他用户使用"),
        ("already a member", "该用户已是此组织的成员"),
        ("not properly formatted", "格式不正确"),
        ("cannot be blank", "不能为空"),
        ("Not found", "未找到"),
        ("", "无法处理请求"),
    ),
}


def spoken(text: str, language: str) -> str:
    """An English text in that language, more or less."""
    return next((said for part, said in SPOKEN.get(language, ()) if part in text), text)


def localised(reply: Reply, settings: Settings) -> Reply:
    """An error answer as the acting user's language and `detail_codes` have it; its codes stay as they are."""
    if (settings.language == "en" and settings.detail_codes) or not reply.content_type.startswith("application/json"):
        return reply
    body = msgspec.json.decode(reply.body)
    _translate(body, settings.language)
    for problems in (body.get("details") or {}).values():
        for problem in problems:
            _translate(problem, settings.language)
            if not settings.detail_codes:
                problem.pop("error", None)
    reply.body = encode(body)
    return reply


def _translate(said: dict[str, Any], language: str) -> None:
    if isinstance(said.get("description"), str):
        said["description"] = spoken(said["description"], language)
