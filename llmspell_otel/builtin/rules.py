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
    """Whether *text* is a value, and not a word, a template or code that stands for one."""
    word = text.strip("\\\"'").lower()
    if word in _STANDINS or word.startswith(("${", "<", "[redacted", "***", "os.")):
        return False
    plain = text[:1] not in "\\\"'"
    return _TEMPLATE.fullmatch(word) is None and not (plain and _ATTRIBUTE.fullmatch(word))


_TEMPLATE: Final = re.compile(r"\{\{[\s\w.|-]{0,100}\}{0,2}")
_ATTRIBUTE: Final = re.compile(r"[a-z_$]{1,40}(?:\.[a-z_$]{1,40}){1,8}")
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
    ("secrets", "gitlab_token",
     r"(?<![A-Za-z0-9])gl(?:pat|dt|soat|rt|cbt|ptt|ft|imt|agent|oas)-[A-Za-z0-9_-]{20,64}",
     ("gl",)),
    ("secrets", "google_key", r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}", ("aiza",)),
    ("secrets", "slack_token", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,255}", ("xox",)),
    ("secrets", "stripe_key", r"(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{16,200}",
     ("k_live_", "k_test_")),
    ("secrets", "npm_token", r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}", ("npm_",)),
    ("secrets", "hugging_face_token", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,64}", ("hf_",)),
    ("secrets", "sendgrid_key", r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}",
     ("sg.",)),
    ("secrets", "vendor_token",
     (r"(?<![A-Za-z0-9_-])(?:pypi-AgE[A-Za-z0-9_-]{50,1000}|dop_v1_[a-f0-9]{64}|"
     r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dapi[a-f0-9]{32}|lin_api_[A-Za-z0-9]{40}|"
     r"gl(?:c|sa)_[A-Za-z0-9_+/=]{32,400}|hvs\.[A-Za-z0-9_-]{24,200}|ATATT3[A-Za-z0-9_=-]{60,300}|"
     r"NRAK-[A-Z0-9]{27}|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,43}|GOCSPX-[A-Za-z0-9_-]{28}|"
     r"ya29\.[A-Za-z0-9_-]{20,500}|gsk_[A-Za-z0-9]{40,60}|pplx-[A-Za-z0-9]{40,60}|"
     r"xai-[A-Za-z0-9]{60,90}|r8_[A-Za-z0-9]{37}|sbp_[a-f0-9]{40}|figd_[A-Za-z0-9_-]{30,60}|"
     r"PMAK-[a-f0-9-]{50,70}|pul-[a-f0-9]{40}|rubygems_[a-f0-9]{48}|AGE-SECRET-KEY-1[0-9A-Z]{58}|"
     r"ntn_[A-Za-z0-9]{40,50}|SK[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}|"
     r"(?:bot)?\d{8,10}:AA[A-Za-z0-9_-]{33})(?![A-Za-z0-9])"),
     ("pypi-age", "dop_v1_", "shpat_", "shpca_", "shppa_", "shpss_", "dapi", "lin_api_", "glc_",
      "glsa_", "hvs.", "atatt3", "nrak-", "sq0", "gocspx-", "ya29.", "gsk_", "pplx-", "xai-", "r8_",
      "sbp_", "figd_", "pmak-", "pul-", "rubygems_", "age-secret-key-1", "ntn_", "sk", "-us",
      ":aa")),
    ("secrets", "webhook", (r"https://(?:hooks\.slack\.com/services/T\w{8,12}/B\w{8,12}/\w{20,30}|"
     r"(?:\w{1,20}\.)?discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,70})"),
     ("hooks.slack.com", "/api/webhooks/")),
    ("secrets", "azure_storage_key", r"(?i)AccountKey=[A-Za-z0-9+/]{86}==", ("accountkey=",)),
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
     r"client[_-]secret|private[_-]key|passw(?:or)?d|pwd)\\?[\"']?\]?\s{0,4}(?::=|=>|[:=])\s{0,4}"
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
     r"\s{0,4}=\s{0,4}['\"(]{0,3}\d{1,10}|['\")]\s{0,8}(?:and"
     r"|or)\s{1,8}['\"][\w%]{0,20}['\"]\s{0,4}=|\bcase\s{1,8}when\s{1,8}\(?\d{1,10}\s{0,4}="),
     ("=",)),
    ("sql", "union", (r"(?i)(?<![a-z_-])(?:0x|\d[\de]{0,8}[fd]?)?union(?:[\s(*/+!0-9]|all\b|"
     r"distinct\b"
     r"|#[^\n]{0,60}\n|--[^\n]{0,60}\n|%[0-9a-f]{2}){1,24}select(?![a-z_])"), ("union",)),
    ("sql", "breakout", (r"(?im)^(?:[^'\"\n]{0,79}(?:[\w)\\.]['\"]"
     r"|\d\s['\"])\)?\s{0,4}(?:[*/%+~-](?=[^\n]{0,120}?(?:[=<>!@]|\b(?:or|and|xor|is|in|r?like"
     r"|regexp|null)\b))|[<>^|&])|[^'\"\n]{0,79}[\w)\\.]['\"]\)?\s{0,4}(?:[!=]|(?:or|and|xor"
     r"|r?like|regexp|sounds\s{1,4}like|in|is|between|div|mod)(?=[\W\d]))"
     r"|\s{0,4}['\"]\s{0,4}(?:(?:or|and|xor|is|in)(?=[\W\d])"
     r"|[!=|]))[^\n]{0,120}?(?:['\"][^\s'\"]{1,12}\s{0,4}$|[=<>!|&^~]\s{0,4}['\"]\s{0,4}$"
     r"|\#[^\n]{0,40}$|--[^\n]{0,10}$)"), ("'", '"')),
    ("sql", "breakout", (r"(?im)^(?:[^'\"\n]{0,79}[\w)\\.])?\s{0,1}['\"]\)?\s{0,4}(?:or|and|"
     r"xor|\|\||&&)"
     r"\s{0,4}(?:[!~@+(-]{1,4}\s{0,4}['\"\w(]|[\w.]{1,30}\(|[`\w.@]{1,40}\s{0,4}(?:[=<>^]|!=|"
     r"is\s{1,4}(?:not\s{1,4})?(?:null|\\n|\d|true|false)|r?like\s{1,4}['\"(\d]|regexp\b|div\b)|"
     r"(?:true|false|null)\s{0,4}(?:--|\#|is\b|=|$))"), ("'", '"')),
    ("sql", "bare_condition", (r"(?im)^[-+(\s]{0,6}\d[\w.)]{0,12}\s{0,4}(?<!\w)(?:or|and"
     r"|xor)\s{0,4}[(+!~@'-]{0,3}\w{1,30}['\")]{0,2}(?:\([^)\n]{0,30}\))?\s{0,4}(?:!?=|<>|[<>^]"
     r"|r?like\s{1,4}['\"(\d]|is\s{1,4}(?:not\s{1,4})?null)|^\s{0,8}(?:or"
     r"|and)\s{1,4}\w{2,30}\([^)\n]{0,40}\)"), ("or", "and")),
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
     r"select\s{1,8}\w{1,40}\s{0,4}\(|shutdown\b|declare\s{1,4}@|waitfor\s|(?:if|while)\s{1,4}\d|"
     r"begin\s{1,4}(?:shutdown|exec|drop)|drop\s{1,4}\w{1,40}\s{0,4}--|"
     r"select\s{1,4}(?:\*|null|[\w`.]{1,30}\s{0,2},)[^;\n]{0,100}\sfrom\s)"), (";",)),
    ("sql", "run_text", (r"(?i)\bexec(?:ute)?\s{0,4}\(\s{0,4}@|\border\s{1,4}by\s{1,4}(?:if|ifnull|"
     r"nullif|rand|sleep|updatexml)\s{0,2}\("), ("exec", "order")),
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
     r"|-moz-binding\s{0,4}:|\bbehavior\s{0,4}:\s{0,4}url|@im\\?port\b|&#(?:x0{0,6}6a|0{0,6}"
     r"106)(?![0-9a-f])"
     r"|jav(?:\s|%00|&#x?[0-9a-d]{1,7};?){1,8}ascript|<\s{0,4}base\b"
     r"|<(?:meta|link)\b[^<>]{0,200}\b(?:http-equiv|stylesheet)"),
     ("vbscript", "expression(", "-moz-binding", "behavior", "@im", "&#", "jav", "<")),
    ("prompt", "override", (r"(?i)\b(?:ignore|disregard|forget|override|bypass"
     r"|do not follow)\s{1,4}(?:(?:all|any|every|the|your|my|of|these|those|previous|prior|above"
     r"|earlier|preceding|other|evidence|and|system|safety|original|initial"
     r"|existing)\s{1,4}){1,6}(?:instruction|prompt|rule|direction|guideline|command|polic(?:y"
     r"|ies)|constraint|message|context|training|text)s?\b|\b(?:ignore|disregard"
     r"|forget)\s{1,4}(?:everything|anything|all|what)\s{1,4}(?:that\s{1,4}|you\s{1,4}(?:were"
     r"|have\s{1,4}been)\s{1,4}told\s{1,4}|was\s{1,4}said\s{1,4})?(?:above|before|so\s{1,4}far)\b"
     r"|\b(?:ignore|disregard|forget)\s{1,4}(?:the\s{1,4})above\b|previous\s{1,4}(?:instruction"
     r"|rule|direction|prompt)s?\s{1,4}(?:are|were|is)\s{1,4}(?:false|void|wrong|outdated"
     r"|obsolete|cancel)"),
     ("ignore", "disregard", "forget", "override", "bypass", "do not follow", "previous")),
    ("prompt", "role_change", (r"(?i)\byou\s{1,4}are\s{1,4}(?:now"
     r"|no\s{1,4}longer)\s{1,4}(?:in\s{1,4})?(?:(?:an?|the|bound|restricted|limited|DAN|developer"
     r"|unrestricted|jailbroken)\b)|\b(?:DAN|developer|jailbreak|god)\s{1,4}mode\b"
     r"|\bpretend\s{1,4}(?:that\s{1,4})?you\s{1,4}(?:have|are|can)\s{1,4}(?:no|not|unrestricted"
     r"|without)\b|\bact\s{1,4}as\s{1,4}(?:an?\s{1,4}|the\s{1,4})?(?:DAN|unrestricted|jailbroken"
     r"|uncensored|evil)\b|\bunrestricted\s{1,4}(?:AI|bot|assistant|language\s{1,4}model)\b"
     r"|\bsecret\s{1,4}agenda\b|\b(?:not|no\s{1,4}longer)\s{1,4}(?:restricted|bound"
     r"|limited)\s{1,4}by\s{1,4}(?:the|any|your|its)\s{1,4}(?:rule|guideline|polic)"),
     ("you are", "mode", "pretend", "act as", "unrestricted", "agenda", "restricted", "bound",
      "limited")),
    ("prompt", "prompt_theft", (r"(?i)\b(?:reveal|show|print|repeat|output|leak|display|recite"
     r"|list|tell\s{1,4}me|respond\s{1,4}with|what\s{1,4}(?:is|are|was|were))\s{1,4}(?:(?:me|us"
     r"|all|every|of|the|your|full|exact|entire|hidden|original"
     r"|initials?)\s{1,4}){1,5}(?:system\s{1,4}(?:prompt|message|instructions?)"
     r"|(?<=hidden\s)(?:prompt|instructions?)|(?<=initial\s)(?:prompt|instructions?)"
     r"|(?<=initials\s)instructions|instructions?\s{1,4}(?:that\s{1,4})?you\s{1,4}(?:were"
     r"|have\s{1,4}been|got))"),
     ("system", "hidden", "initial", "instruction")),
    ("prompt", "false_turn", (r"(?i)<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|"
     r"\[/?INST\]|<</?SYS>>|(?:^|\n)\s{0,4}#{2,3}\s{0,4}(?:system|new instructions?)\s{0,4}:?"
     r"\s{0,4}(?:\n|$)|</?(?:system|system_prompt|instructions)>"),
     ("<|", "inst]", "sys>>", "##", "system", "instructions>")),
    ("prompt", "exfiltration", (r"(?i)!\[[^\]\n]{0,100}\]\(https?://[^\s)?]{1,200}\?"
     r"(?:[^\s)&]{1,100}&){0,4}(?:(?:d|p|q|data|payload|text|msg|message|content|secret|info"
     r"|history|chat|conversation|prompt|leak|exfil\w{0,10}|password|summary)="
     r"|\w{1,20}=(?:[{\[<$]|%7b|%5b|%3c))|\b(?:send|post|forward|upload|exfiltrate"
     r"|email)\s{1,4}(?:(?:all|the|your|any|user|every|this|conversation|chat"
     r"|it)\s{1,4}){1,5}(?:history|data|secrets?|passwords?|credentials?|keys?|files?|contents?"
     r"|messages?)\s{1,4}to\b"),
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
    r"(?m)[@=+<>\[\]`$%\\|&{#\x00]|['\")]\s{0,8}(?:or|and|xor|r?like|regexp|sounds|in|is|between"
    r"|div|mod|[-*/^~!])|\d[\w.)]{0,12}\s{1,4}(?:or|and|xor)[^a-z]|^\s{0,8}(?:or|and)\s{1,4}\w"
    r"|\d{8}:aa|-us\d|\(\s{0,4}select|\.\./|/etc/|/proc/|/\.[saeg]|-----b|;\s{0,8}(?:drop"
    r"|truncate|alter|create|delete|insert|update|exec|select|shutdown|declare|waitfor|if\s"
    r"|while\s|begin)|[;\n]\s{0,8}(?:sudo|/|rm|curl|wget|nc|ba|sh|zsh|python|perl|ch|dd|mkfs|kill"
    r"|cat|eval|crontab|reboot|scp|ssh)|[3-6]\d{3}[ -]?\d{4}|\d-\d\d-\d|(?<![a-z])(?:sk-|[sr]k_"
    r"|gh[opsur]_|github_pat|gl[a-z]{2,5}-|npm_|hf_|sg\.|xox|aiza|eyj|bearer\s|pypi-a|dop_v"
    r"|shp(?:at|ca|pa|ss)_|dapi[a-f0-9]|lin_api|glc_|glsa_|hvs\.|atatt3|nrak-|sq0|gocspx|ya29\."
    r"|gsk_|pplx-|xai-|r8_|sbp_|figd_|pmak-|pul-|rubygems_|age-se|ntn_|sk[0-9a-f]{8}"
    r"|https://(?:hooks|\w{1,20}\.discord|discord)|a[ks]ia[a-z0-9]{16}|[a-z]{2}\d{2} ?[a-z0-9]{4}"
    r"|(?:api|secret|access|auth|client|private|passw|pwd)[a-z_-]{0,12}\s{0,4}:"
    r"|order\s{1,4}by\s{1,4}(?:\d|\w{2,9}\s{0,2}\()|exec(?:ute)?\s{0,4}\(|information_schema"
    r"|dbms_lock|into\s{1,8}outfile|(?:sleep|benchmark|pg_sleep|load_file|updatexml|extractvalue"
    r"|group_concat|concat_ws|cha?r|expression)\s{0,4}\(|rm\s{1,8}-|vbscript:|behavior\s{0,4}:"
    r"|(?:ignore|disregard|forget|override|bypass|follow|pretend)\s|you\s{1,4}are\s{1,4}no"
    r"|act\s{1,4}as\s|unrestricted\s|secret\s{1,4}agenda|(?:not|longer)\s{1,4}(?:restr|bound"
    r"|limit)|(?:dan|developer|jailbreak|god)\s{1,4}mode|(?:reveal|show|print|repeat|output|leak"
    r"|display|recite|list|tell\s{1,4}me|respond\s{1,4}with|what\s{1,4}(?:is|are|was"
    r"|were))\s{1,4}(?:me|us|all|every|of|the|your|full|exact|entire|hidden|original|initial)"
    r"|(?:send|post|forward|upload|exfiltrate|email)\s{1,4}(?:all|the|your|any|user|every|this"
    r"|conv|chat|it)\s)|union|previous\s|waitfor|xp_cmdshell|javascript:|jav\s|-moz-b"
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
