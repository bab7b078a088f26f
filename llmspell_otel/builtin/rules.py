"""The rules: what a secret, personal data or an attack looks like.

A rule is a few literals of which one must occur, then one regular expression whose repetitions
are bounded or anchored, then, for some, a check of digits.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Family = Literal["secrets", "personal", "sql", "shell", "path", "markup", "prompt", "patterns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing to find. *literals* are in lower case; one of them must occur."""

    name: str
    family: Family
    pattern: re.Pattern[str]
    literals: tuple[str, ...] = ()
    check: Callable[[str], bool] | None = None
    group: int = 0
    windowed: bool = False


def _digits(text: str) -> str:
    return "".join(each for each in text if each.isdigit())


def luhn(text: str) -> bool:
    """Whether the digits of *text* are those of a payment card."""
    digits = [int(each) for each in _digits(text)]
    if len(set(digits)) < _VARIED:
        return False
    doubled = [each * 2 - 9 * (each > 4) for each in digits[-2::-2]]  # noqa: PLR2004 - of the algorithm
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_VARIED: Final = 2


def iban(text: str) -> bool:
    """Whether *text* has the check digits of an international bank account number."""
    plain = text.replace(" ", "").upper()
    turned = plain[4:] + plain[:4]
    return turned.isalnum() and int("".join(str(int(each, 36)) for each in turned)) % 97 == 1


def telling(text: str) -> bool:
    """Whether *text* is a value, and not a word that stands for one."""
    word = text.strip("\"'").lower()
    return not (word in _STANDINS or word.startswith(("${", "{{", "<", "[redacted", "***", "os.")))


_STANDINS: Final = frozenset(
    {"none", "null", "true", "false", "string", "required", "optional", "password", "changeme",
     "undefined", "hidden", "redacted", "example", "token", "secret"}
)  # fmt: skip

_DIGITS: Final = tuple("0123456789")
_START = r"(?<![A-Za-z0-9_-])"
_ROWS: Final[tuple[tuple[Family, str, str, tuple[str, ...]], ...]] = (
    ("secrets", "anthropic_key", rf"{_START}sk-ant-[A-Za-z0-9_-]{{16,200}}", ("sk-ant-",)),
    ("secrets", "openai_key", rf"{_START}sk-(?!ant-)[A-Za-z0-9_-]{{20,200}}", ("sk-",)),
    ("secrets", "aws_key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
     ("akia", "asia")),
    ("secrets", "github_token", r"(?<![A-Za-z0-9])gh[opsur]_[A-Za-z0-9]{30,255}", ("gh",)),
    ("secrets", "github_token", r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{40,255}",
     ("github_pat_",)),
    ("secrets", "gitlab_token", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,64}", ("glpat-",)),
    ("secrets", "google_key", r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}", ("aiza",)),
    ("secrets", "slack_token", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,255}", ("xox",)),
    ("secrets", "stripe_key", r"(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{16,200}",
     ("k_live_", "k_test_")),
    ("secrets", "npm_token", r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}", ("npm_",)),
    ("secrets", "hugging_face_token", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,64}", ("hf_",)),
    ("secrets", "sendgrid_key", r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}",
     ("sg.",)),
    ("secrets", "json_web_token",
     rf"{_START}eyJ[A-Za-z0-9_-]{{8,4000}}\.[A-Za-z0-9_-]{{8,4000}}\.[A-Za-z0-9_-]{{0,2000}}",
     ("eyj",)),
    ("secrets", "bearer_token", (r"(?i)(?<![a-z0-9])bearer\s{1,4}(?=[a-z._~+/-]{0,200}[0-9])"
     r"[a-z0-9._~+/-]{16,2000}={0,2}"), ("bearer",)),
    ("secrets", "private_key",
     (r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?:[A-Za-z0-9+/=\s\\:,]|-(?!----)){0,8000}"
     r"-----END [A-Z ]{0,40}PRIVATE KEY-----)?"), ("private key-----",)),
    ("secrets", "url_password", (r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,64}:"
     r"([^\s/@]{3,200})@"), ("://",)),
    ("secrets", "assigned_secret",
     (r"(?i)(?<![a-z])(?:api[_-]?key|secret(?:[_-]key)?|access[_-]?token|auth[_-]?token|"
     r"client[_-]secret|private[_-]key|passw(?:or)?d|pwd)\\?[\"']?\s{0,4}[:=]\s{0,4}"
     r"(\\?\"[^\"\\\s]{6,500}|\\?'[^'\\\s]{6,500}|[^\s\"'\\,;}{)(<>]{8,500})"),
     ("key", "secret", "token", "passw", "pwd")),
    ("personal", "email",
     r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}(?![\w-])",
     ("@",)),
    ("personal", "payment_card", r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w-])",
     _DIGITS),
    ("personal", "payment_card", r"(?<![\w.-])3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?![\w-])", _DIGITS),
    ("personal", "us_social_security_number",
     r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", ("-",)),
    ("personal", "bank_account", (r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}"
     r"(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"), _DIGITS),
    ("personal", "phone_number", r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .()-]{0,2}\d{2,4}){2,5}(?![\w])",
     ("+",)),
    ("sql", "tautology", (r"(?i)['\")]\s{0,8}(?:or|and)\s{1,8}(?:['\"(]?(\w{1,20})['\")]?"
     r"\s{0,4}=\s{0,4}['\"(]?\1|true\b|not\s{1,4}false\b)"),
     (" or", " and", "'or", "\tor", "\nor")),
    ("sql", "tautology", (r"(?i)\b(?:and|or|having|where)\s{1,8}[('\"]{0,4}\d{1,10}[)'\"]{0,4}"
     r"\s{0,4}=\s{0,4}['\"(]{0,3}\d{1,10}|['\")]\s{0,8}(?:and|or)\s{1,8}['\"][\w%]{0,20}['\"]\s{0,4}="
     r"|\bcase\s{1,8}when\s{1,8}\(?\d{1,10}\s{0,4}="), ("=",)),
    ("sql", "union", r"(?i)\bunion(?:[\s(*/+!0-9]|all\b|distinct\b){1,24}select\b", ("union",)),
    ("sql", "subquery", (r"(?i)(?:^|[=,+(|*/-]\s{0,4}|\b(?:and|or|in|where|div)\s{0,8})"
     r"\(\s{0,4}select\b"), ("select",)),
    ("sql", "order_by_column",
     r"(?i)[\d'\")]\s{1,8}order\s{1,4}by\s{1,4}\d{1,4}\s{0,4}(?:--|#|/\*|$)", ("order",)),
    ("sql", "probing", (r"(?i)\b(?:updatexml|extractvalue|group_concat|concat_ws)\s{0,4}\("
     r"|\binformation_schema\b|@@(?:version|hostname|datadir)|\bdbms_lock\.|\bcha?r\(\d{1,3}\)"),
     ("updatexml", "extractvalue", "concat", "information_schema", "@@", "dbms_lock", "chr(",
      "char(")),
    ("sql", "stacked_query", (r"(?i);\s{0,8}(?:drop|truncate|alter|create)\s{1,8}"
     r"(?:table|database|schema|user|view|index)\b|;\s{0,8}(?:delete\s{1,8}from|"
     r"insert\s{1,8}into|update\s{1,8}\w{1,64}\s{1,8}set|exec(?:ute)?\s{0,8}[\s(]|"
     r"select\s{1,8}\w{1,40}\s{0,4}\()"), (";",)),
    ("sql", "comment_out", r"'\s{0,8}(?:--(?:\s|$)|/\*|#\s{0,4}$)", ("'",)),
    ("sql", "blind", (r"(?i)(?<![\w.])(?:sleep|benchmark|pg_sleep|load_file)\s{0,4}\(\s{0,4}['\"\d]"
     r"|waitfor\s{1,8}delay|xp_cmdshell|\binto\s{1,8}outfile\b"),
     ("sleep", "benchmark", "waitfor", "xp_cmdshell", "load_file", "outfile")),
    ("shell", "chained_command", (r"(?:;|&&|\|\|?|\n|&)\s{0,8}(?:sudo\s{1,4})?(?:/[\w/]{1,40}/)?"
     r"(?:rm|curl|wget|nc|ncat|bash|sh|zsh|python[23]?|perl|chmod|chown|dd|mkfs|kill|cat|eval|"
     r"base64|crontab|reboot|shutdown|scp|ssh)\s{1,8}[-/~.'\"$\w]"), (";", "&", "|", "\n")),
    ("shell", "piped_to_shell", r"\|\s{0,8}(?:sudo\s{1,4})?(?:/[\w/]{1,40}/)?(?:ba|z|da|k)?sh\b",
     ("|",)),
    ("shell", "substitution", (r"\$\(\s{0,8}[a-z/.]|`\s{0,4}(?:rm|curl|wget|cat|id|whoami|ls|nc|"
     r"bash|sh|uname|env)\b[^`]{0,200}`|\$\{IFS\}"), ("$(", "`", "${ifs}")),
    ("shell", "destructive", (r"(?<![\w-])rm\s{1,8}-[a-zA-Z]{0,8}[rf][a-zA-Z]{0,8}\s{1,8}[~/.*$]"
     r"|:\(\)\s{0,4}\{\s{0,4}:\|:&|>\s{0,4}/dev/(?:sd|nvme|tcp)"), ("rm", ":()", "/dev/")),
    ("path", "traversal", (r"(?i)(?<![\w.])(?:\.\.|%2e%2e|\.%2e|%2e\.|%252e%252e)"
     r"(?:[/\\]|%2f|%5c|%252f|%255c)"), ("..", "%2e", "%252e")),
    ("path", "system_file", (r"(?i)(?<![\w.])(?:/etc/(?:passwd|shadow|sudoers)|/proc/self/|"
     r"c:\\windows\\system32|\\\\[.?]\\)|/\.(?:ssh/|aws/credentials|git/config|env(?![\w-]))"),
     ("/etc/", "/proc/", "/root/", "/.", "\\")),
    ("path", "null_byte", r"\x00|%00", ("\x00", "%00")),
    ("markup", "script", (r"(?i)<\s{0,8}(?:script|iframe|object|embed)\b|javascript:"
     r"(?=[\w(])|<[a-z]{1,20}\b[^<>]{0,500}[\s/]on[a-z]{3,20}[^\w<>='\"]{0,30}="),
     ("<", "javascript")),
    ("markup", "active_content", (r"(?i)\bvbscript:(?=[\w(])|[\s\"';:/*]expression\("
     r"|-moz-binding\s{0,4}:|\bbehavior\s{0,4}:\s{0,4}url|@im\\?port\b|&#(?:x0{0,6}6a|0{0,6}106)(?![0-9a-f])"
     r"|jav(?:\s|%00|&#x?[0-9a-d]{1,7};?){1,8}ascript|<\s{0,4}base\b"
     r"|<(?:meta|link)\b[^<>]{0,200}\b(?:http-equiv|stylesheet)"),
     ("vbscript", "expression(", "-moz-binding", "behavior", "@im", "&#", "jav", "<")),
    ("prompt", "override", (r"(?i)\b(?:ignore|disregard|forget|override|bypass|do not follow)"
     r"\s{1,4}(?:(?:all|any|every|the|your|my|of|these|those|previous|prior|above|earlier|preceding|"
     r"system|safety|original|initial|existing)\s{1,4}){1,6}(?:instruction|prompt|rule|direction|"
     r"guideline|command|polic(?:y|ies)|constraint|message|context|training)s?"),
     ("ignore", "disregard", "forget", "override", "bypass", "do not follow")),
    ("prompt", "role_change", (r"(?i)\byou\s{1,4}are\s{1,4}(?:now|no\s{1,4}longer)\s{1,4}"
     r"(?:in\s{1,4})?(?:(?:an?|the|bound|restricted|limited|DAN|developer|unrestricted|jailbroken)\b)|"
     r"\b(?:DAN|developer|jailbreak|god)\s{1,4}mode\b|\bpretend\s{1,4}(?:that\s{1,4})?you\s{1,4}"
     r"(?:have|are|can)\s{1,4}(?:no|not|unrestricted|without)\b"), ("you are", "mode", "pretend")),
    ("prompt", "prompt_theft", (r"(?i)\b(?:reveal|show|print|repeat|output|leak|display|"
     r"tell\s{1,4}me)"
     r"\s{1,4}(?:(?:me|us|all|of|the|your|full|exact|entire|hidden|original|initial)\s{1,4}){1,5}"
     r"(?:system\s{1,4}(?:prompt|message|instructions?)|(?:hidden|initial)\s{1,4}"
     r"(?:prompt|instructions?))"), ("system", "hidden", "initial")),
    ("prompt", "false_turn", (r"(?i)<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|"
     r"\[/?INST\]|<</?SYS>>|(?:^|\n)\s{0,4}#{2,3}\s{0,4}(?:system|new instructions?)\s{0,4}:?"
     r"\s{0,4}(?:\n|$)|</?(?:system|system_prompt|instructions)>"),
     ("<|", "inst]", "sys>>", "##", "system", "instructions>")),
    ("prompt", "exfiltration", (r"(?i)!\[[^\]\n]{0,100}\]\(https?://[^\s)?]{1,200}\?[^\s)]{1,500}\)|"
     r"\b(?:send|post|forward|upload|exfiltrate|email)\s{1,4}(?:(?:all|the|your|any|"
     r"user|every|this|conversation|chat|it)\s{1,4}){1,5}(?:history|data|secrets?|passwords?|"
     r"credentials?|keys?|files?|contents?|messages?)\s{1,4}to\b"),
     ("![", "send", "post", "forward", "upload", "exfiltrate", "email")),
)  # fmt: skip
_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "payment_card": luhn,
    "bank_account": iban,
    "assigned_secret": telling,
    "url_password": telling,
}
_GROUPED: Final = frozenset({"assigned_secret", "url_password"})

# One look at a short text instead of one for every rule. Wherever a rule fits a text, this fits it
# in lower case: by a character, by what a mark or a number begins, by a word's beginning or a word.
SUSPECT: Final = re.compile(
    r"[@=+<>\[\]`$%\\|&{#\x00]"
    r"|['\")]\s{0,8}(?:(?:or|and)\s|--|/\*)|\(\s{0,4}select|\.\./|/etc/|/proc/|/\.[saeg]|-----b"
    r"|;\s{0,8}(?:drop|truncate|alter|create|delete|insert|update|exec|select)"
    r"|[;\n]\s{0,8}(?:sudo|/|rm|curl|wget|nc|ba|sh|zsh|python|perl|ch|dd|mkfs|kill|cat|eval"
    r"|crontab|reboot|scp|ssh)"
    r"|[3-6]\d{3}[ -]?\d{4}|\d-\d\d-\d"
    r"|(?<![a-z])(?:sk-|[sr]k_|gh[opsur]_|github_pat|glpat-|npm_|hf_|sg\.|xox|aiza|eyj|bearer\s"
    r"|a[ks]ia[a-z0-9]{16}|[a-z]{2}\d{2} ?[a-z0-9]{4}"
    r"|(?:api|secret|access|auth|client|private|passw|pwd)[a-z_-]{0,12}\s{0,4}:"
    r"|union|order\s{1,4}by\s{1,4}\d|information_schema|dbms_lock|into\s{1,8}outfile"
    r"|(?:sleep|benchmark|pg_sleep|load_file|updatexml|extractvalue|group_concat|concat_ws|cha?r"
    r"|expression)\s{0,4}\(|rm\s{1,8}-|vbscript:|behavior\s{0,4}:"
    r"|(?:ignore|disregard|forget|override|bypass|follow|pretend)\s|you\s{1,4}are\s{1,4}no"
    r"|(?:dan|developer|jailbreak|god)\s{1,4}mode"
    r"|(?:reveal|show|print|repeat|output|leak|display|tell\s{1,4}me)\s{1,4}(?:me|us|all|of|the|your|"
    r"full|exact|entire|hidden|original|initial)\s"
    r"|(?:send|post|forward|upload|exfiltrate|email)\s{1,4}(?:all|the|your|any|user|every|this|conv|"
    r"chat|it)\s)"
    r"|waitfor|xp_cmdshell|javascript:|jav\s|-moz-b"
)


RULES: Final = tuple(
    Rule(
        name=name,
        family=family,
        pattern=re.compile(pattern),
        literals=literals,
        check=_CHECKS.get(name),
        group=1 if name in _GROUPED else 0,
    )
    for family, name, pattern, literals in _ROWS
)
"""The built-in rules."""
